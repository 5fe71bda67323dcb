"""Answers: which configurations need no label, or no further one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from al_charge.labelers.protocol import Relax
from al_charge.loop.campaign import Campaign, label_key
from al_charge.loop.energies import usable
from al_charge.loop.verify import is_verification
from al_charge.store.documents import CandidateDoc, LabelDoc

MISSES = 2
"""How often a configuration is asked for at a geometry that a committee relaxed, if what is found
there is another charge order, an uncertain one or nothing at all."""


@dataclass(frozen=True)
class Answers:
    """What a campaign has asked for and found.

    Attributes
    ----------
    asked
        Hashes of the configurations that were selected or found.
    keys
        Of the labels that were asked for.
    lowest
        Energy of the lowest usable label of each configuration, eV per cell.
    missed
        How often a configuration was asked for at a relaxed geometry in vain.
    relaxed
        Hashes of the configurations that the labeler has relaxed.
    tolerance
        eV per cell by which a geometry must be predicted lower to be worth another label.
    """

    campaign: Campaign
    asked: frozenset[str]
    keys: frozenset[str]
    lowest: dict[str, float]
    missed: Counter[str]
    relaxed: frozenset[str]
    tolerance: float

    def answers(self, candidate: CandidateDoc) -> bool:
        """Return whether a candidate needs no label.

        A labeler that relaxes answers for a configuration for good. A static label answers for
        its geometry, and for the configuration as long as no geometry is predicted lower.
        """
        key = candidate.config_hash
        if self.campaign.relaxes:
            return key in self.asked
        if key in self.relaxed or self.missed[key] >= MISSES:
            return True
        if label_key(self.campaign, candidate) in self.keys:
            return True
        if candidate.energy is None:
            return key in self.asked
        best = self.lowest.get(key)
        return best is not None and candidate.energy >= best - self.tolerance

    def closed(self, candidate: CandidateDoc) -> bool:
        """Return whether a candidate needs no label whatever a committee predicts of it."""
        return self.answers(candidate.model_copy(update={"energy": -float("inf")}))

    def unanswered(self, candidates: Iterable[CandidateDoc]) -> list[CandidateDoc]:
        """Return the candidates that may be worth a label."""
        return [candidate for candidate in candidates if not self.answers(candidate)]


def answers_of(campaign: Campaign) -> Answers:
    """Return what a campaign has asked for and found so far."""
    store = campaign.store
    labels = store.labels_of_campaign(campaign.name)
    lowest: dict[str, float] = {}
    for label in filter(usable, labels):
        lowest[label.config_hash] = min(label.energy, lowest.get(label.config_hash, label.energy))
    ids = [
        key
        for record in store.rounds(campaign.name)
        if not is_verification(campaign, record.number)
        for key in record.selected or []
    ]
    relaxed = {one.config_hash for one in filter(usable, labels) if one.relax != Relax.NONE.value}
    asked = {label.config_hash for label in labels} | {key.rsplit("/", 1)[-1] for key in ids}
    keys, missed = _requests(campaign, ids, labels)
    units = campaign.host.formula_units
    tolerance = float(campaign.spec.convergence.hull_tolerance) * units
    return Answers(campaign, frozenset(asked), keys, lowest, missed, frozenset(relaxed), tolerance)


def _requests(
    campaign: Campaign, ids: list[str], labels: list[LabelDoc]
) -> tuple[frozenset[str], Counter[str]]:
    """Return the keys of the labels asked for, and how often relaxed geometries were in vain."""
    missed: Counter[str] = Counter()
    if campaign.relaxes:
        return frozenset(), missed
    made = {label.key: label for label in labels}
    keys = set()
    for candidate in filter(None, map(campaign.store.candidate, ids)):
        key = label_key(campaign, candidate)
        keys.add(key)
        label = made.get(key)
        found = label is not None and usable(label) and label.config_hash == candidate.config_hash
        given_up = label is not None or campaign.store.failure(key) is not None
        missed[candidate.config_hash] += given_up and not found and candidate.energy is not None
    return frozenset(keys), missed
