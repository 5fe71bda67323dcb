"""Labels with what had been predicted of them before they were made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fractions import Fraction

from al_charge.loop.calibration import wide_band
from al_charge.loop.campaign import Campaign, label_key
from al_charge.loop.energies import LabelledHull, Weighed, calibration_of, candidate_entry
from al_charge.loop.posterior import labels_alone, predicted_together
from al_charge.store.documents import CandidateDoc, PredictedLabel
from al_charge.store.labels import LabelSummary


def compare_with_labels(
    campaign: Campaign,
    round_number: int,
    found: LabelledHull,
    weighed: Weighed | None = None,
) -> list[PredictedLabel]:
    """Compare the labels of a round with what had been predicted of them.

    Parameters
    ----------
    campaign
        The campaign.
    round_number
        Number of the round that selected them.
    found
        Usable labels, and the hull that tells which of them decide it.
    weighed
        What `al_charge.loop.posterior.weighed` returns for the round; the committee's own energies
        and error bars count where it has none.

    Returns
    -------
    list of PredictedLabel
        In the order of selection.
    """
    calibration = calibration_of(campaign, round_number - 1)
    tolerance = campaign.spec.convergence.hull_tolerance
    some = list(predicted_labels(campaign, round_number, found.labels))
    alone = [0.0] * len(some)
    if some and weighed is None:
        candidates = [candidate for _, candidate in some]
        learnt = labels_alone(campaign, round_number - 1)
        alone = predicted_together(campaign, learnt, candidates).deviation.tolist()
    compared = []
    for (label, candidate), deviation in zip(some, alone, strict=True):
        entry = candidate_entry(campaign, candidate, calibration, weighed, deviation=deviation)
        energy, x = campaign.cells.energy_of(label), Fraction(candidate.composition)
        bar = entry.error_bar or 0.0
        if weighed is not None and candidate.config_hash in weighed.told:
            _, spread = weighed.told[candidate.config_hash]
            wide = wide_band(weighed.calibration)
        else:  # by the committee alone
            units = campaign.cells.of(candidate).formula_units
            spread = (candidate.spread or 0.0) / units / calibration.scale
            wide = wide_band(calibration)
        compared.append(
            PredictedLabel(
                x=candidate.composition,
                error=entry.energy - energy,
                spread=spread,
                bar=bar,
                deciding=energy - found.hull.reference(x) < found.hull.lower(x) + tolerance,
                band_95=wide * bar,
                deviation=deviation,
            )
        )
    return compared


def predicted_labels(
    campaign: Campaign, round_number: int, labels: Mapping[str, LabelSummary]
) -> Iterator[tuple[LabelSummary, CandidateDoc]]:
    """Yield the labels of a round of which the committee before it gave an energy.

    Parameters
    ----------
    campaign
        The campaign.
    round_number
        Number of the round that selected them.
    labels
        Usable labels by key.

    Yields
    ------
    LabelSummary
        The label. It has the charge order that was predicted; one with another was not predicted.
    CandidateDoc
        The candidate, with its predicted energy, in the order of selection.
    """
    record = campaign.store.rounds.get(campaign.name, round_number)
    for key in (record.selected if record is not None else None) or []:
        candidate = campaign.store.candidates.get(key)
        if candidate is None or candidate.energy is None:
            continue
        label = labels.get(label_key(campaign, candidate))
        if label is not None and _is_what_was_predicted(campaign, label, candidate):
            yield label, candidate


def _is_what_was_predicted(
    campaign: Campaign, label: LabelSummary, candidate: CandidateDoc
) -> bool:
    """Return whether a label has the charge order of which the committee gave an energy.

    A committee that knows no charge states predicts that of the ions, whoever has the charge.
    """
    same = campaign.cells.order_of(label) == candidate.config_hash
    return same and not (campaign.spec.potential.charge_aware and label.delocalised)
