"""Labels with what a committee had predicted of them before they were made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from al_charge.loop.campaign import Campaign, label_key
from al_charge.store.documents import CandidateDoc
from al_charge.store.labels import LabelSummary


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
