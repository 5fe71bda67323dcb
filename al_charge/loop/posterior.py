"""What is known of the energies of all configurations together: their joint distribution.

It is the surrogate's, fitted to labels and to what a committee says of the configurations that it
has relaxed. Labels are exact, but for static ones below which the committee finds a minimum. The
size of a committee's errors is that of its calibrated bars.
They are alike for alike configurations, as those of a surrogate are that knows the labels alone,
for these are what a committee has learnt from, and they are the larger the less sure that surrogate
is. So they vanish at a label, do not average out between candidates, and a committee that is unsure
of a candidate is believed less than the surrogate.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from al_charge.crystal.host import Host
from al_charge.labelers.protocol import Relax
from al_charge.loop.calibration import LEAST
from al_charge.loop.campaign import Campaign
from al_charge.loop.cells import configuration_of
from al_charge.loop.energies import Weighed, calibration_of, candidate_entry, lowest_labels, usable
from al_charge.loop.verify import is_verification
from al_charge.store.documents import Calibration, CandidateDoc, RoundDoc
from al_charge.store.labels import SUMMARY, LabelSummary
from al_charge.surrogate.polynomial import occupations_of
from al_charge.surrogate.surrogate import Observation, Prediction, Surrogate, fit_surrogate
from al_charge.thermo.hull import Entry

Array = NDArray[np.float64]

WIDER = 1.3
"""How much larger errors are, of those that turn out to be the lowest of many, than of labels that
are left out. Measured: with it, the chance below the hull is as large as it is told
(``benchmarks/table_campaigns.py``)."""


def observations(
    campaign: Campaign,
    labels: Iterable[LabelSummary],
    candidates: Sequence[CandidateDoc] = (),
    calibration: Calibration | None = None,
    learnt: Surrogate | None = None,
) -> tuple[list[Observation], list[Observation]]:
    """Return what is known of energies, for a surrogate to be fitted to.

    A static label bounds the energy of its configuration from above: its forces may lead to a lower
    minimum. Where a committee that has learnt it predicts one that is lower by more than the
    tolerance, the energy is the lower of the two, the predicted one being normally distributed.

    Parameters
    ----------
    campaign
        The campaign.
    labels
        Of each configuration the lowest usable one counts.
    candidates
        Those with a committee's energy count.
    calibration
        Of the committee that predicts them, which their own round has trained; None for that of the
        round before.
    learnt
        Fitted to the labels that the committee has learnt from: where and how its errors are alike.

    Returns
    -------
    labelled : list of Observation
        In eV per formula unit; exact, but for such static labels.
    predicted : list of Observation
        Candidates without a label, with their error bars as noise, or as `alike` divides them.
    """
    cells, tolerance = campaign.cells, campaign.spec.convergence.hull_tolerance
    known = {cells.order_of(one): one for one in lowest_labels(campaign, filter(usable, labels))}
    energies = {key: cells.energy_of(one) for key, one in known.items()}
    noise = dict.fromkeys(known, 0.0)
    predicted = []
    relaxed = [candidate for candidate in candidates if candidate.energy is not None]
    alone = predicted_together(campaign, learnt, relaxed) if learnt else None
    entries = _entries(campaign, relaxed, calibration, alone)
    for place, (candidate, entry) in enumerate(zip(relaxed, entries, strict=True)):
        key, error_bar = cells.order_of(candidate), entry.error_bar or 0.0
        label = known.get(key)
        if label is None:
            host, config = cells.of(candidate), configuration_of(candidate.colours)
            one = Observation(host, config, entry.energy, error_bar)
            predicted.append(alike(one, alone, place) if alone else one)
        elif campaign.static_labels and label.relax == Relax.NONE.value:
            has_learnt = (label.used or 0) <= candidate.round - (calibration is None)
            if has_learnt and entry.energy < energies[key] - tolerance:
                bar = max(error_bar, LEAST)
                energies[key], noise[key] = lower_one(energies[key], entry.energy, bar)
    labelled = [
        Observation(*cells.home_of(one), energies[key], noise[key]) for key, one in known.items()
    ]
    return labelled, predicted


def lower_one(bound: float, energy: float, deviation: float) -> tuple[float, float]:
    """Return mean and deviation of the lower of a number and a normally distributed one.

    Parameters
    ----------
    bound
        The number.
    energy, deviation
        Mean and standard deviation of the other one; the deviation is above 0.

    Returns
    -------
    tuple of float
        Mean and standard deviation.
    """
    from scipy.stats import norm

    depth = bound - energy
    below = float(norm.cdf(depth / deviation))
    density = deviation * float(norm.pdf(depth / deviation))
    mean = depth * below + density
    square = (depth**2 + deviation**2) * below + depth * density
    return bound - mean, float(np.sqrt(max(square - mean**2, 0.0)))


def of_minima(campaign: Campaign, labels: Iterable[LabelSummary]) -> list[LabelSummary]:
    """Return the labels that are at minima, of the labeler or of a committee.

    Parameters
    ----------
    campaign
        The campaign.
    labels
        Some of its labels.

    Returns
    -------
    list of LabelSummary
        All but static ones of round 0, which are of ideal sites, far above any minimum.
    """
    if not campaign.static_labels:
        return list(labels)
    return [one for one in labels if one.used or one.relax != Relax.NONE.value]


@dataclass(frozen=True, eq=False)
class Posterior:
    """The joint distribution of energies; made by `fit_posterior`.

    Attributes
    ----------
    surrogate
        Fitted to labels of minima and to candidates.
    """

    surrogate: Surrogate = field(repr=False)

    def predict(self, host: Host, occupations: NDArray[np.int8]) -> Prediction:
        """Return the energies of any configurations.

        Parameters
        ----------
        host
            A cell of the crystal.
        occupations
            The configurations, shape (n_configs, n_variable_sites).

        Returns
        -------
        Prediction
            Of several calls they are one joint distribution.
        """
        found = self.surrogate.predict(host, occupations)
        return Prediction(found.mean, self.widening * found.root, self.widening * found.own)

    def screen(self, host: Host, occupations: NDArray[np.int8]) -> tuple[Array, Array]:
        """Return the means and deviations of `predict` for any number of configurations.

        Parameters
        ----------
        host
            A cell of the crystal.
        occupations
            The configurations, shape (n_configs, n_variable_sites).

        Returns
        -------
        tuple of ndarray
            eV per formula unit, shape (n_configs,).
        """
        mean, deviation = self.surrogate.screen(host, occupations)
        return mean, self.widening * deviation

    @cached_property
    def widening(self) -> float:
        """How much larger errors are than the surrogate thinks.

        It is `WIDER`, times what is found by leaving out one label at a time if that is above 1.
        """
        error, deviation = self.surrogate.left_out()
        exact = np.array([one.noise == 0 for one in self.surrogate.observations])
        if not exact.any():
            return WIDER
        return WIDER * max(1.0, float(np.sqrt(np.mean((error / deviation)[exact] ** 2))))


def fit_posterior(
    campaign: Campaign,
    labels: Iterable[LabelSummary],
    candidates: Sequence[CandidateDoc],
    calibration: Calibration | None = None,
) -> Posterior:
    """Return what is known of the energies of a campaign's configurations.

    Parameters
    ----------
    campaign
        The campaign.
    labels
        Its labels, at least one of them usable.
    candidates
        Those that its committee has relaxed.
    calibration
        As in `observations`.

    Returns
    -------
    Posterior
        eV per formula unit, on the scale of the labels.
    """
    labels = list(labels)
    known, _ = observations(campaign, labels)
    minima = of_minima(campaign, labels)
    labelled, predicted = observations(
        campaign, minima, candidates, calibration, fit_surrogate(known)
    )
    return Posterior(fit_surrogate([*labelled, *predicted] or known))


def labels_alone(campaign: Campaign, up_to: int) -> Surrogate:
    """Return the surrogate of what is labelled, which knows nothing of any committee.

    Parameters
    ----------
    campaign
        The campaign.
    up_to
        Last round whose labels count; of them at least one is usable.

    Returns
    -------
    Surrogate
        eV per formula unit, on the scale of the labels.
    """
    labels = campaign.store.labels.read(SUMMARY, campaign=campaign.name, up_to=up_to)
    return fit_surrogate(observations(campaign, filter(usable, labels))[0])


def alike(noisy: Observation, alone: Prediction, place: int) -> Observation:
    """Return what a committee says, with what its error has in common with others.

    Parameters
    ----------
    noisy
        An energy that a committee predicts, with its bar as noise.
    alone
        Predictions of a surrogate that has learnt from the same labels as the committee.
    place
        Which of them is of this configuration.

    Returns
    -------
    Observation
        With the same error in all. What is labelled errs for itself: it is another geometry.
    """
    if not (deviation := float(alone.deviation[place])):
        return noisy
    size = noisy.noise / deviation
    return replace(noisy, noise=size * float(alone.own[place]), common=size * alone.root[place])


def predicted_together(
    campaign: Campaign, posterior: Posterior | Surrogate, candidates: Sequence[CandidateDoc]
) -> Prediction:
    """Return the joint distribution of candidates.

    Parameters
    ----------
    campaign
        The campaign.
    posterior
        What is known, with what a committee says of them or without.
    candidates
        Of any cells.

    Returns
    -------
    Prediction
        Total energies, eV per formula unit.
    """
    parts, order = [], list[int]()
    for cell in sorted({candidate.cell for candidate in candidates}) or [0]:
        some = [place for place, one in enumerate(candidates) if one.cell == cell]
        configs = [configuration_of(candidates[place].colours) for place in some]
        host = campaign.cells.hosts[cell]
        parts.append(posterior.predict(host, occupations_of(configs, host)))
        order += some
    return part_of(together(parts), np.argsort(order))


def weighed(campaign: Campaign, record: RoundDoc) -> Weighed:
    """Return what committee and surrogate together said of a round's candidates.

    Parameters
    ----------
    campaign
        The campaign.
    record
        The round.

    Returns
    -------
    Weighed
        What `weigh` returns; empty for rounds that earlier versions have assessed.
    """
    if record.assessment is None:
        return weigh(campaign, record.number)
    told = campaign.store.rounds.weighed(record)
    return Weighed(told, _calibration_before(campaign, record.number))


def weigh(campaign: Campaign, round_number: int) -> Weighed:
    """Weigh committee and surrogate together, as the selection of a round does.

    Parameters
    ----------
    campaign
        The campaign.
    round_number
        Number of the round.

    Returns
    -------
    Weighed
        What is predicted of each candidate that the committee before has relaxed, by labels of
        earlier rounds. Empty for verifications, whose candidates have the energies of labels.
    """
    if is_verification(campaign, round_number):
        return Weighed()
    candidates = [
        one
        for one in campaign.store.candidates.all(campaign.name, round_number)
        if one.energy is not None
    ]
    known = campaign.store.labels.read(SUMMARY, campaign=campaign.name, up_to=round_number - 1)
    labels = list(filter(usable, known))
    if not candidates or not labels:
        return Weighed()
    posterior = fit_posterior(campaign, labels, candidates)
    found = predicted_together(campaign, posterior, candidates)
    hashes = [one.config_hash for one in candidates]
    energies = zip(found.mean.tolist(), found.deviation.tolist(), strict=True)
    told = dict(zip(hashes, energies, strict=True))
    return Weighed(told, _calibration_before(campaign, round_number))


def _calibration_before(campaign: Campaign, round_number: int) -> Calibration:
    """Return what makes error bars of a round's candidates, as found a round before.

    In earlier versions error bars were deviations.
    """
    before = campaign.store.rounds.get(campaign.name, round_number - 1)
    found = before.assessment.weighed if before and before.assessment else None
    return found.calibration if found else Calibration()


def together(parts: Sequence[Prediction]) -> Prediction:
    """Return predictions as one.

    Parameters
    ----------
    parts
        By one posterior, such as of several cells; at least one.

    Returns
    -------
    Prediction
        In the order given.
    """
    return Prediction(
        np.concatenate([part.mean for part in parts]),
        np.vstack([part.root for part in parts]),
        np.concatenate([part.own for part in parts]),
    )


def part_of(found: Prediction, some: NDArray[np.bool_] | NDArray[np.int64]) -> Prediction:
    """Return the prediction of some of the configurations.

    Parameters
    ----------
    found
        Of all of them.
    some
        Which ones.

    Returns
    -------
    Prediction
        In the order of ``some``.
    """
    return Prediction(found.mean[some], found.root[some], found.own[some])


def _entries(
    campaign: Campaign,
    candidates: Sequence[CandidateDoc],
    calibration: Calibration | None,
    alone: Prediction | None,
) -> list[Entry]:
    rounds = {candidate.round for candidate in candidates}
    known = {one: calibration or calibration_of(campaign, one - 1) for one in rounds}
    deviations = np.zeros(len(candidates)) if alone is None else alone.deviation
    return [
        candidate_entry(campaign, one, known[one.round], deviation=deviation)
        for one, deviation in zip(candidates, deviations.tolist(), strict=True)
    ]
