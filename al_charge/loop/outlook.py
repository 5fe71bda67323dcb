"""What may still lie below a campaign's hull: all that has no label of its minimum, ranked."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from al_charge.crystal.configuration import Configuration
from al_charge.crystal.enumeration import LARGEST_LISTED, distinct_occupations
from al_charge.crystal.host import Host
from al_charge.crystal.identity import held
from al_charge.crystal.symmetry import canonical
from al_charge.loop.campaign import Campaign
from al_charge.loop.cells import Cells, configuration_of
from al_charge.loop.energies import LabelledHull
from al_charge.loop.posterior import fit_posterior, of_minima, predicted_together
from al_charge.loop.request_ledger import MISSES, RequestLedger
from al_charge.search.random_occupation import random_occupation
from al_charge.store.documents import Calibration, CandidateDoc, Forecast, VoltageForecast
from al_charge.store.labels import LabelSummary
from al_charge.surrogate.polynomial import occupations_of
from al_charge.surrogate.posterior import Posterior, part_of, together
from al_charge.surrogate.surrogate import Prediction
from al_charge.thermo.hull import Hull
from al_charge.thermo.uncertainty import Unlabelled, outlook

Occupations = NDArray[np.int8]

SAMPLED = 5_000
"""Configurations that are drawn at random where there are more."""
MOST_JOINT = 20_000
"""Configurations, of all compositions, whose energies are drawn together."""
DOUBT = 0.002
"""Accepted probability, for each composition, that a configuration that is not relaxed lies below
the hull."""
MOST_IN_DOUBT = 12
"""Configurations of one composition and cell that are relaxed at most for that reason."""
NEGLIGIBLE = 1e-6
"""Probability to lie below the lowest label, under which one is not among these."""


@dataclass(frozen=True)
class Ahead:
    """What an assessment says of the configurations without a label.

    Attributes
    ----------
    p_below_hull
        Probability that any lies below the hull by more than the tolerance.
    compositions
        What is known by composition.
    voltages
        What follows for the voltages.
    exhaustive
        Whether every configuration was ranked.
    """

    p_below_hull: float
    compositions: list[Forecast] = field(repr=False)
    voltages: VoltageForecast = field(repr=False)
    exhaustive: bool


def look_ahead(
    campaign: Campaign,
    found: LabelledHull,
    ledger: RequestLedger,
    candidates: Sequence[CandidateDoc],
    calibration: Calibration,
    rng: np.random.Generator,
) -> Ahead:
    """Return what is known of all configurations without a label.

    Left out are those whose labels were requested in vain and will not be requested again. One
    whose only label is static and of ideal sites is ranked, unless the committee has relaxed it:
    then it counts if it is predicted lower than its label.

    Parameters
    ----------
    campaign
        The campaign.
    found
        Its labels and their hull.
    ledger
        What was requested.
    candidates
        Those that the round has relaxed, with energies by the newest committee.
    calibration
        What makes error bars of its spreads.
    rng
        Source of all random choices.

    Returns
    -------
    Ahead
        Energies in eV per formula unit, voltages in V.
    """
    cells, hull = campaign.cells, found.hull
    still_open = ledger.needing_label(candidates)
    posterior = fit_posterior(campaign, found.labels.values(), still_open, calibration)
    relaxed = predicted_together(campaign, posterior, still_open)
    of_x = np.array([candidate.composition for candidate in still_open], dtype=str)
    # Those that are ranked: not labelled, not given up, and not relaxed, which say more.
    settled = of_minima(campaign, found.labels.values())
    passed = [cells.home_of(one) for one in settled]
    for one in [*candidates, *_given_up(campaign, settled, ledger)]:
        passed.append((cells.of(one), configuration_of(one.colours)))
    left_out = [
        _rows(host, [canonical(*one) for one in passed if one[0] is host]) for host in cells.hosts
    ]
    unlabelled, exhaustive = [], True
    for x in cells.compositions:
        ranked = []
        for cell, host in enumerate(cells.hosts):
            if not (number := cells.numbers[cell].get(x)):
                continue
            whole, n_ions = number <= LARGEST_LISTED, host.n_ions(x)
            exhaustive &= whole
            rows = distinct_occupations(host, n_ions) if whole else _some(host, n_ions, rng)
            ranked.append((host, _without(rows, cells, cell, left_out[cell])))
        known = part_of(relaxed, of_x == str(x))
        unlabelled.append(_unlabelled(posterior, len(cells.compositions), hull, x, ranked, known))
    tolerance = float(campaign.spec.convergence.hull_tolerance)
    ahead = outlook(hull, unlabelled, tolerance, rng)
    lowest: dict[Fraction, float] = {}
    for entry in hull.entries:  # by x, then by energy
        lowest.setdefault(entry.x, hull.formation_energy(entry))
    bands, errors = ahead.bands(), ahead.voltage_errors(hull)
    return Ahead(
        p_below_hull=ahead.p_below_hull,
        compositions=[
            Forecast(
                x=str(x),
                lowest_labelled=lowest.get(x),
                lowest_predicted=_finite(one.lowest),
                p_lower=float(p_lower),
                lower_by=_finite(float(lower_by)),
                band_95=band_95,
                band_68=band_68,
            )
            for x, one, p_lower, lower_by, band_95, band_68 in zip(
                ahead.x,
                sorted(unlabelled, key=lambda one: one.x),
                ahead.p_lower,
                ahead.lower_by,
                bands["band_95"],
                bands["band_68"],
                strict=True,
            )
        ],
        voltages=VoltageForecast(
            errors=errors[0], mean_error=errors[1], **ahead.voltage_bands(hull)
        ),
        exhaustive=exhaustive,
    )


def in_doubt(
    campaign: Campaign,
    found: LabelledHull,
    posterior: Posterior,
    x: Fraction,
    relaxed: Sequence[CandidateDoc],
) -> list[tuple[Host, Configuration]]:
    """Return the configurations that a committee should relax, whatever a search says of them.

    A search knows how sure it is of what the committee would say. How far energies of labels
    scatter about a surrogate is another matter.

    Parameters
    ----------
    campaign
        The campaign.
    found
        Its labels and their hull.
    posterior
        What is known, with what is relaxed.
    x
        A composition.
    relaxed
        Its candidates.

    Returns
    -------
    list of tuple
        The likeliest to lie below the hull by more than the tolerance, in cells whose
        configurations are listed: `MOST_IN_DOUBT`, or those but for which the chance is less than
        `DOUBT`.
    """
    from scipy.stats import norm

    cells, hull = campaign.cells, found.hull
    settled = [cells.home_of(one) for one in of_minima(campaign, found.labels.values())]
    settled += [(cells.of(one), configuration_of(one.colours)) for one in relaxed]
    level = hull.reference(x) + hull.lower(x) - campaign.spec.convergence.hull_tolerance
    some: list[tuple[float, Host, Configuration]] = []
    total = 0.0
    for cell, host in enumerate(cells.hosts):
        if not 0 < cells.numbers[cell].get(x, 0) <= LARGEST_LISTED:
            continue
        rows = distinct_occupations(host, host.n_ions(x))
        known = _rows(host, [canonical(*one) for one in settled if one[0] is host])
        rows = _without(rows, cells, cell, known)
        mean, deviation = posterior.screen(host, rows)
        chance = norm.cdf((level - mean) / deviation)
        total += float(chance.sum())
        likeliest = np.argsort(-chance, kind="stable")[:MOST_IN_DOUBT]
        some += [
            (float(chance[i]), host, Configuration(tuple(rows[i].tolist()))) for i in likeliest
        ]
    some.sort(key=lambda one: -one[0])
    above = np.cumsum([0.0, *(chance for chance, _, _ in some)])[:-1]
    return [
        (host, config)
        for (_, host, config), before in zip(some, above, strict=True)
        if total - before > DOUBT
    ]


def _unlabelled(
    posterior: Posterior,
    compositions: int,
    hull: Hull,
    x: Fraction,
    ranked: Sequence[tuple[Host, Occupations]],
    relaxed: Prediction,
) -> Unlabelled:
    """Return one composition's configurations: those that may matter jointly, and the rest.

    Of so many compositions; they are in several cells.
    """
    from scipy.stats import norm

    line = hull.reference(x)
    found = [posterior.screen(*one) for one in ranked]
    mean, deviation = (np.concatenate([one[i] for one in found]) for i in (0, 1))
    mean = mean - line
    labels = [hull.formation_energy(entry) for entry in hull.entries if entry.x == x]
    reached = min(labels, default=hull.lower(x))
    chance = norm.cdf((reached - mean) / deviation)
    order = np.argsort(-chance, kind="stable")
    number = min(MOST_JOINT // compositions, int((chance > NEGLIGIBLE).sum()), len(order))
    few, many = order[:number], order[number:]
    guessed = [relaxed]
    start = 0
    for host, rows in ranked:
        mine = few[(few >= start) & (few < start + len(rows))] - start
        guessed.append(posterior.predict(host, rows[mine]))
        start += len(rows)
    likely = together(guessed)
    return Unlabelled(
        x=x,
        likely=Prediction(likely.mean - line, likely.root, likely.own),
        mean=mean[many],
        deviation=deviation[many],
    )


def _given_up(
    campaign: Campaign, settled: Sequence[LabelSummary], ledger: RequestLedger
) -> list[CandidateDoc]:
    """Return those without a label that will not be requested again."""
    rounds = campaign.store.rounds.all(campaign.name)
    ids = [key for record in rounds for key in record.selected or []]
    labelled = {campaign.cells.order_of(label) for label in settled}
    return [
        one
        for one in campaign.store.candidates.stream(ids)
        if one.config_hash not in labelled
        and (not campaign.static_labels or ledger.missed[one.config_hash] >= MISSES)
    ]


def _some(host: Host, n_ions: int, rng: np.random.Generator) -> Occupations:
    """Return distinct configurations that were drawn at random."""
    drawn = {canonical(host, random_occupation(host, n_ions, rng)) for _ in range(SAMPLED)}
    return occupations_of(sorted(drawn, key=lambda one: one.occupation), host)


def _rows(host: Host, configs: Iterable[Configuration]) -> NDArray[np.void]:
    return _as_items(occupations_of(list(configs), host))


def _without(rows: Occupations, cells: Cells, cell: int, known: NDArray[np.void]) -> Occupations:
    """Leave out configurations of a cell that smaller cells hold, or that are known."""
    if cell:
        rows = rows[~held(cells.hosts[cell], rows, cells.smaller(cell))]
    return rows[~np.isin(_as_items(rows), known)]


def _as_items(rows: Occupations) -> NDArray[np.void]:
    """Return each row as one item, so that rows can be looked up."""
    rows = np.ascontiguousarray(rows)
    return rows.view(np.dtype((np.void, rows.shape[1]))).ravel()


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None
