"""Labels and candidates on one energy scale: the campaign's hull and formation energies."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cached_property
from typing import TypeVar

from al_charge.errors import AlChargeError, InputError
from al_charge.loop.calibration import bar
from al_charge.loop.campaign import Campaign
from al_charge.loop.known_labels import Orders, Pair, by_order, entries_of
from al_charge.store.documents import Assessment, Calibration, CandidateDoc, LabelDoc, RoundDoc
from al_charge.store.labels import SUMMARY, LabelSummary
from al_charge.thermo.hull import Entry, Hull, build_hull

L = TypeVar("L", LabelDoc, LabelSummary)


@dataclass(frozen=True)
class Weighed:
    """What committee and surrogate together predict of candidates, in eV per formula unit.

    Attributes
    ----------
    told
        Mean and standard deviation of their posterior, by the hash of the configuration.
    calibration
        What makes error bars of the deviations.
    """

    told: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    calibration: Calibration = field(default_factory=Calibration)

    def bar(self, candidate: CandidateDoc) -> float:
        """Return the error bar of a candidate.

        Parameters
        ----------
        candidate
            One that something is told of.

        Returns
        -------
        float
            Half width of the band that should hold 68 % of errors, eV per formula unit.
        """
        _, deviation = self.told[candidate.config_hash]
        return bar(self.calibration, candidate.composition, self.calibration.scale * deviation)


@dataclass(frozen=True)
class LabelledHull:
    """The hull of a campaign's usable labels.

    Attributes
    ----------
    hull
        Built from the lowest usable label of each configuration.
    lowest
        Those labels, by key.
    round
        Round whose assessment saw these labels; None if that was not asked for.
    """

    hull: Hull
    lowest: dict[str, LabelSummary]
    _list: Callable[[], dict[str, LabelSummary]] = field(repr=False, compare=False)
    round: int | None = None

    @cached_property
    def labels(self) -> dict[str, LabelSummary]:
        """Every usable label, by key; there may be many, and the hull alone needs few of them."""
        return self._list()


def usable(label: LabelDoc | LabelSummary) -> bool:
    """Return whether a label may be on a hull: comparable, converged, charge states no doubt.

    Parameters
    ----------
    label
        The label, or its summary.

    Returns
    -------
    bool
        Whether there is no reason to refuse it.
    """
    return label.refusal is None


def labelled_hull(
    campaign: Campaign,
    *,
    up_to: int | None = None,
    summaries: Iterable[LabelSummary] | None = None,
) -> LabelledHull:
    """Build the hull of a campaign's labels: of each configuration, the lowest.

    Parameters
    ----------
    campaign
        The campaign.
    up_to
        Last round whose labels count; all of them when None.
    summaries
        Summaries of the campaign's labels; None to read them.

    Returns
    -------
    LabelledHull
        The hull and its labels.

    Raises
    ------
    AlChargeError
        If the end members or the working-ion metal are not labelled yet.
    """
    if summaries is None:
        summaries = campaign.store.labels.read(SUMMARY, campaign=campaign.name, up_to=up_to)
    known = entries_of(campaign.cells, summaries)
    some = [one for one in known if up_to is None or (one[1].used or 0) <= up_to]
    return _hull_of(campaign, some, by_order(some).values())


def _hull_of(
    campaign: Campaign,
    known: Sequence[Pair],
    orders: Iterable[Sequence[Pair]],
    counts: Callable[[LabelSummary], bool] = lambda _: True,
) -> LabelledHull:
    """Build the hull of those labels that count, given all of them and those of each order."""
    found = (next((one for one in some if counts(one[1])), None) for some in orders)
    lowest = [one for one in found if one is not None]
    cells = campaign.cells
    hull = build_hull(
        [entry for entry, _ in lowest],
        framework=campaign.framework,
        working_ion=campaign.spec.host.working_ion,
        metal_energy=campaign.metal_energy,
        working_ion_charge=campaign.host.working_ion_charge,
        ends=(Fraction(cells.ends[0]), Fraction(cells.ends[1])),
    )
    return LabelledHull(
        hull,
        {label.key: label for _, label in lowest},
        lambda: {one.key: one for _, one in known if counts(one)},
    )


def present_hull(campaign: Campaign) -> LabelledHull:
    """Return the hull of all labels that an open campaign has now; only new ones are read.

    Parameters
    ----------
    campaign
        The campaign.

    Returns
    -------
    LabelledHull
        What `labelled_hull` returns.

    Raises
    ------
    AlChargeError
        If the end members or the working-ion metal are not labelled yet.
    """
    return campaign.known_labels.kept(
        "present hull", lambda known, orders: _hull_of(campaign, known, orders.values())
    )


def label_entries(campaign: Campaign, labels: Iterable[LabelSummary]) -> list[Entry]:
    """Return usable labels as entries of a hull: of each configuration, the lowest.

    Parameters
    ----------
    campaign
        The campaign.
    labels
        Summaries of its usable labels.

    Returns
    -------
    list of Entry
        Energies in eV per formula unit of the campaign.
    """
    known = entries_of(campaign.cells, labels)
    return list({entry.config_hash: entry for entry, _ in reversed(known)}.values())


def assessed_round(campaign: Campaign, number: int | None = None) -> tuple[RoundDoc, Assessment]:
    """Return an assessed round.

    Parameters
    ----------
    campaign
        The campaign.
    number
        Of the round; the last that was assessed when None.

    Returns
    -------
    RoundDoc
        The round.
    Assessment
        What its assessment has found.

    Raises
    ------
    InputError
        If this round has not been assessed.
    AlChargeError
        If no round has been assessed yet.
    """
    rounds = campaign.store.rounds
    last = rounds.last(campaign.name, assessed=True)
    if last is None:
        raise AlChargeError(
            "no round has been assessed yet",
            where=campaign.name,
            remedy=f"follow it with 'al-charge campaign watch {campaign.name}'",
        )
    found = last if number is None else rounds.get(campaign.name, number)
    if found is None or found.assessment is None:
        raise InputError(
            f"round {number} has not been assessed",
            where=campaign.name,
            remedy=f"the last that was is round {last.number}",
        )
    return found, found.assessment


def assessed_hull(campaign: Campaign, number: int | None = None) -> tuple[LabelledHull, Assessment]:
    """Return the hull of an assessed round, and what the round has found.

    Parameters
    ----------
    campaign
        The campaign.
    number
        Of the round; the last that was assessed when None.

    Returns
    -------
    LabelledHull
        The hull and its labels.
    Assessment
        That of the round.

    Raises
    ------
    InputError
        If this round has not been assessed.
    AlChargeError
        If no round has been assessed yet.
    """
    record, assessment = assessed_round(campaign, number)

    def build(known: list[Pair], orders: Orders) -> LabelledHull:
        keys, _ = campaign.store.rounds.predictions(record)
        seen = frozenset(keys)  # a label that came meanwhile counts in the next round

        def counts(label: LabelSummary) -> bool:
            return (label.used or 0) <= record.number and label.key in seen

        found = _hull_of(campaign, known, orders.values(), counts)
        return replace(found, round=record.number)

    found = campaign.known_labels.kept((record.number, assessment.predictions_file), build)
    return found, assessment


def calibration_of(campaign: Campaign, round_number: int) -> Calibration:
    """Return what makes error bars of the spreads of a round's committee.

    Parameters
    ----------
    campaign
        The campaign.
    round_number
        Round that has trained the committee.

    Returns
    -------
    Calibration
        Of a round that is not assessed, or was by an earlier version: bars are spreads times the
        scale that was found then.
    """
    record = campaign.store.rounds.get(campaign.name, round_number)
    assessment = record.assessment if record is not None else None
    if assessment is None:
        return Calibration()
    return assessment.calibration or Calibration(scale=assessment.spread_scale)


def candidate_entry(
    campaign: Campaign,
    candidate: CandidateDoc,
    calibration: Calibration,
    weighed: Weighed | None = None,
    *,
    deviation: float = 0.0,
) -> Entry:
    """Return a candidate's predicted energy as an entry of a hull.

    Parameters
    ----------
    campaign
        The campaign.
    candidate
        A candidate with a predicted energy.
    calibration
        Of the committee that predicts it.
    weighed
        What `al_charge.loop.posterior.weighed` returns, which counts for more than the committee
        alone.
    deviation
        That of a surrogate that knows the labels alone, which the bar of a committee grows with.

    Returns
    -------
    Entry
        Energy and error bar in eV per formula unit.
    """
    assert candidate.energy is not None
    units = campaign.cells.of(candidate).formula_units
    spread = (candidate.spread or 0.0) / units
    energy = candidate.energy / units
    error_bar = bar(calibration, candidate.composition, spread, deviation)
    if weighed is not None and candidate.config_hash in weighed.told:
        (energy, _), error_bar = weighed.told[candidate.config_hash], weighed.bar(candidate)
    return Entry(
        key=candidate.doc_id,
        config_hash=candidate.config_hash,
        x=Fraction(candidate.composition),
        energy=energy,
        error_bar=error_bar,
        remark=(
            f"the committee predicts other states at {len(candidate.drifted)} of its sites"
            if candidate.drifted
            else ""
        ),
    )


def lowest_labels(campaign: Campaign, labels: Iterable[L]) -> list[L]:
    """Return the label of lowest energy of each configuration.

    Parameters
    ----------
    campaign
        The campaign.
    labels
        Labels or summaries of them, their energies comparable.

    Returns
    -------
    list
        One label for each configuration, whatever supercells it has labels in.
    """
    cells = campaign.cells

    def by_energy(label: L) -> tuple[float, str]:
        return cells.energy_of(label), label.key

    ordered = sorted(labels, key=by_energy, reverse=True)
    return list({cells.order_of(label): label for label in ordered}.values())
