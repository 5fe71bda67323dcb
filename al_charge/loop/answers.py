"""Answers: which configurations need no label, or no further one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from al_charge.labelers.protocol import Relax
from al_charge.loop.campaign import Campaign, label_key
from al_charge.loop.energies import usable
from al_charge.loop.verify import verifications
from al_charge.store.documents import CandidateDoc, Request, RoundDoc
from al_charge.store.labels import SUMMARY, LabelSummary

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
        if not self.campaign.static_labels:
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


def answers_of(campaign: Campaign, summaries: Iterable[LabelSummary] | None = None) -> Answers:
    """Return what a campaign has asked for and found so far.

    Parameters
    ----------
    summaries
        Of the campaign's labels, where they were read already.
    """
    store = campaign.store
    if summaries is None:
        summaries = store.labels.read(SUMMARY, campaign=campaign.name)
    labels = list(summaries)
    lowest: dict[str, float] = {}
    for label in filter(usable, labels):
        lowest[label.config_hash] = min(label.energy, lowest.get(label.config_hash, label.energy))
    rounds = store.rounds.all(campaign.name)
    verifying = verifications(rounds)
    rounds = [record for record in rounds if record.number not in verifying]
    ids = [key for record in rounds for key in record.selected or []]
    relaxed = {one.config_hash for one in filter(usable, labels) if one.relax != Relax.NONE.value}
    asked = {label.config_hash for label in labels} | {key.rsplit("/", 1)[-1] for key in ids}
    keys, missed = _requests(campaign, rounds, labels)
    units = campaign.host.formula_units
    tolerance = float(campaign.spec.convergence.hull_tolerance) * units
    return Answers(campaign, frozenset(asked), keys, lowest, missed, frozenset(relaxed), tolerance)


def requests_of(
    campaign: Campaign, number: int, labels: Iterable[LabelSummary]
) -> list[Request] | None:
    """Return what became of what a round has asked for; None where labels are not static."""
    record = campaign.store.rounds.get(campaign.name, number)
    if not campaign.static_labels or record is None:
        return None
    return _requests_of(campaign, record.selected or [], labels)


def _requests_of(
    campaign: Campaign, ids: Sequence[str], labels: Iterable[LabelSummary]
) -> list[Request]:
    made = {label.key: label for label in labels}
    asked = {label_key(campaign, one): one for one in campaign.store.candidates.stream(ids)}
    failed = campaign.store.failures.among(asked.keys() - made.keys())
    requests = []
    for key, candidate in asked.items():
        label = made.get(key)
        found = label is not None and usable(label) and label.config_hash == candidate.config_hash
        given_up = label is not None or key in failed
        missed = given_up and not found and candidate.energy is not None
        requests.append(Request(candidate.config_hash, key, missed))
    return requests


def _requests(
    campaign: Campaign, rounds: Sequence[RoundDoc], labels: list[LabelSummary]
) -> tuple[frozenset[str], Counter[str]]:
    """Return the keys of the labels asked for, and how often relaxed geometries were in vain."""
    missed: Counter[str] = Counter()
    if not campaign.static_labels:
        return frozenset(), missed
    known = [one.assessment.requests if one.assessment else None for one in rounds]
    requests = {one.key: one for found in known for one in found or []}
    # Rounds that are not assessed, or were by an earlier version.
    ids = [
        doc_id
        for one, found in zip(rounds, known, strict=True)
        if found is None
        for doc_id in one.selected or []
    ]
    requests |= {one.key: one for one in _requests_of(campaign, ids, labels)}
    for one in requests.values():
        missed[one.config_hash] += one.missed
    return frozenset(requests), missed
