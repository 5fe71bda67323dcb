"""What is known of the energies of all configurations of a campaign together.

Labels are exact, but for static ones below which the committee finds a minimum; what a committee
says of others is weighed against them (`al_charge.surrogate.posterior`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from al_charge.labelers.protocol import Relax
from al_charge.loop.calibration import LEAST
from al_charge.loop.campaign import Campaign
from al_charge.loop.cells import configuration_of
from al_charge.loop.energies import Weighed, calibration_of, candidate_entry, lowest_labels, usable
from al_charge.loop.verify import is_verification
from al_charge.store.documents import Calibration, CandidateDoc, RoundDoc
from al_charge.store.labels import SUMMARY, LabelSummary
from al_charge.surrogate.polynomial import occupations_of
from al_charge.surrogate.posterior import Posterior, combine, predict_all
from al_charge.surrogate.surrogate import Observation, Prediction, Surrogate, fit_surrogate
from al_charge.thermo.hull import Entry

Array = NDArray[np.float64]


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
        Fitted to the labels that the committee has learnt from. Without it, error bars leave out
        how much it knows of each candidate.

    Returns
    -------
    labelled : list of Observation
        In eV per formula unit; exact, but for such static labels.
    predicted : list of Observation
        Candidates without a label, with their error bars as noise.
    """
    cells, tolerance = campaign.cells, campaign.spec.convergence.hull_tolerance
    known = {cells.order_of(one): one for one in lowest_labels(campaign, filter(usable, labels))}
    energies = {key: cells.energy_of(one) for key, one in known.items()}
    noise = dict.fromkeys(known, 0.0)
    predicted = []
    relaxed = [candidate for candidate in candidates if candidate.energy is not None]
    alone = predicted_together(campaign, learnt, relaxed) if learnt else None
    entries = _entries(campaign, relaxed, calibration, alone)
    for candidate, entry in zip(relaxed, entries, strict=True):
        key, error_bar = cells.order_of(candidate), entry.error_bar or 0.0
        label = known.get(key)
        if label is None:
            host, config = cells.of(candidate), configuration_of(candidate.colours)
            predicted.append(Observation(host, config, entry.energy, error_bar))
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
    learnt = fit_surrogate(known)
    return combine(*observations(campaign, minima, candidates, calibration, learnt), learnt)


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
    cells = campaign.cells
    if not candidates:
        return posterior.predict(cells.hosts[0], occupations_of([], cells.hosts[0]))
    return predict_all(
        posterior, [(cells.of(one), configuration_of(one.colours)) for one in candidates]
    )


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
