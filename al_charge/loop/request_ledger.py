"""The request ledger: which labels were requested, and which configurations still need one."""

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
"""Requests of a configuration at relaxed geometries that may miss (give another charge order, an
ambiguous one, or no result) before it is not requested again."""


@dataclass(frozen=True)
class RequestLedger:
    """What a campaign has requested and found.

    Attributes
    ----------
    campaign
        The campaign.
    configurations
        Hashes of the configurations that were requested or found.
    keys
        Keys of the labels that were requested or found; empty where labels are not static.
    lowest
        Energy of the lowest usable label of each configuration, eV per formula unit.
    missed
        How many requests of a configuration at a relaxed geometry have missed.
    relaxed
        Hashes of the configurations that the labeler has relaxed.
    tolerance
        eV per formula unit by which a geometry must be predicted lower to be worth another label.
    """

    campaign: Campaign
    configurations: frozenset[str]
    keys: frozenset[str]
    lowest: dict[str, float]
    missed: Counter[str]
    relaxed: frozenset[str]
    tolerance: float

    def needs_label(self, candidate: CandidateDoc) -> bool:
        """Tell whether a candidate needs a label.

        A relaxed label is valid for its configuration. A static label is valid for its geometry,
        and for the configuration as long as no geometry is predicted lower.

        Parameters
        ----------
        candidate
            The candidate, with the committee's energy if there is one.

        Returns
        -------
        bool
            False if what was requested already covers it.
        """
        key = candidate.config_hash
        if not self.campaign.static_labels:
            return key not in self.configurations
        if key in self.relaxed or self.missed[key] >= MISSES:
            return False
        if label_key(self.campaign, candidate) in self.keys:
            return False
        if candidate.energy is None:
            return key not in self.configurations
        best, host = self.lowest.get(key), self.campaign.cells.of(candidate)
        return best is None or candidate.energy / host.formula_units < best - self.tolerance

    def may_need_label(self, candidate: CandidateDoc) -> bool:
        """Tell whether a candidate would need a label if it were predicted low enough.

        Parameters
        ----------
        candidate
            The candidate; its own energy does not count.

        Returns
        -------
        bool
            False if it needs none, whatever a committee predicts.
        """
        return self.needs_label(candidate.model_copy(update={"energy": -float("inf")}))

    def needing_label(self, candidates: Iterable[CandidateDoc]) -> list[CandidateDoc]:
        """Return the candidates that need a label.

        Parameters
        ----------
        candidates
            Candidates to choose from.

        Returns
        -------
        list of CandidateDoc
            In the order given.
        """
        return [candidate for candidate in candidates if self.needs_label(candidate)]


def request_ledger(
    campaign: Campaign, summaries: Iterable[LabelSummary] | None = None
) -> RequestLedger:
    """Return what a campaign has requested and found so far.

    Parameters
    ----------
    campaign
        The campaign.
    summaries
        Summaries of its labels; None to read them.

    Returns
    -------
    RequestLedger
        Requests of verifications left out, since they are labels of labelled configurations.
    """
    store = campaign.store
    if summaries is None:
        summaries = store.labels.read(SUMMARY, campaign=campaign.name)
    labels, cells = list(summaries), campaign.cells
    lowest: dict[str, float] = {}
    for label in filter(usable, labels):
        order, energy = cells.order_of(label), cells.energy_of(label)
        lowest[order] = min(energy, lowest.get(order, energy))
    rounds = store.rounds.all(campaign.name)
    verifying = verifications(rounds)
    rounds = [record for record in rounds if record.number not in verifying]
    ids = [key for record in rounds for key in record.selected or []]
    relaxed = {
        cells.order_of(one) for one in filter(usable, labels) if one.relax != Relax.NONE.value
    }
    requested = {cells.order_of(one) for one in labels} | {key.rsplit("/", 1)[-1] for key in ids}
    keys, missed = _keys_and_misses(campaign, rounds, labels)
    tolerance = float(campaign.spec.convergence.hull_tolerance)
    return RequestLedger(
        campaign, frozenset(requested), keys, lowest, missed, frozenset(relaxed), tolerance
    )


def requests_of_round(
    campaign: Campaign, number: int, labels: Iterable[LabelSummary]
) -> list[Request] | None:
    """Return the requests of a round, and which of them have missed.

    Parameters
    ----------
    campaign
        The campaign.
    number
        Number of the round.
    labels
        Summaries of the campaign's labels.

    Returns
    -------
    list of Request or None
        None where labels are not static, or there is no such round.
    """
    record = campaign.store.rounds.get(campaign.name, number)
    if not campaign.static_labels or record is None:
        return None
    return _requests(campaign, record.selected or [], labels)


def _requests(
    campaign: Campaign, ids: Sequence[str], labels: Iterable[LabelSummary]
) -> list[Request]:
    """Return the requests of candidates with some ids."""
    made = {label.key: label for label in labels}
    requested = {label_key(campaign, one): one for one in campaign.store.candidates.stream(ids)}
    failed = campaign.store.failures.among(requested.keys() - made.keys())
    requests = []
    for key, candidate in requested.items():
        label = made.get(key)
        found = (
            label is not None
            and usable(label)
            and campaign.cells.order_of(label) == candidate.config_hash
        )
        ended = label is not None or key in failed
        missed = ended and not found and candidate.energy is not None
        requests.append(Request(candidate.config_hash, key, missed))
    return requests


def _keys_and_misses(
    campaign: Campaign, rounds: Sequence[RoundDoc], labels: list[LabelSummary]
) -> tuple[frozenset[str], Counter[str]]:
    """Return the keys of requested labels, and how many requests of a configuration missed."""
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
    requests |= {one.key: one for one in _requests(campaign, ids, labels)}
    for one in requests.values():
        missed[one.config_hash] += one.missed
    return frozenset(requests | {label.key: None for label in labels}), missed
