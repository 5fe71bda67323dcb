"""Select: which of a round's candidates are worth a label."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from al_charge.acquisition.selection import Candidate, select, select_diverse
from al_charge.crystal.correlations import all_pair_correlations
from al_charge.loop.answers import answers_of
from al_charge.loop.campaign import Campaign, configuration_of
from al_charge.loop.energies import LabelledHull, candidate_entry, labelled_hull
from al_charge.loop.verify import verifications
from al_charge.store.documents import CandidateDoc
from al_charge.store.labels import LabelHead

_log = logging.getLogger("al_charge.loop")


def select_candidates(campaign: Campaign, round_number: int) -> list[str]:
    """Store, once, which candidates of a round are to be labelled, best first.

    Configurations that are answered are left out, and the campaign's label budget is never
    exceeded. In the first round the end members come first.

    Returns
    -------
    list of str
        Ids of the selected candidates: those of the first run, if this is a second one.
    """
    store = campaign.store
    record = store.rounds.get(campaign.name, round_number)
    if record is not None and record.selected is not None:
        return list(record.selected)
    started = time.monotonic()
    heads = list(store.labels.heads(campaign.name))
    proposed = store.candidates.all(campaign.name, round_number)
    candidates = answers_of(campaign, heads).unanswered(proposed)
    features = _features(campaign, candidates)
    room = label_room(campaign)
    settings = campaign.spec.acquisition
    if round_number == 0:
        pool = [
            _described(candidate, 0.0, 0.0, feature)
            for candidate, feature in zip(candidates, features, strict=True)
        ]
        picked = select_diverse(pool, min(settings.first_round, room))
    else:
        found = labelled_hull(campaign, heads=heads)
        pool = []
        for candidate, feature in zip(candidates, features, strict=True):
            entry = candidate_entry(campaign, candidate)
            energy = found.hull.formation_energy(entry)
            pool.append(_described(candidate, energy, entry.error_bar or 0.0, feature))
        vertices = [(v.x, found.hull.formation_energy(v)) for v in found.hull.vertices]
        count = min(settings.labels_per_round, room)
        picked = select(pool, vertices, settings, count, _labelled(campaign, found))
    by_hash = {candidate.config_hash: candidate.doc_id for candidate in candidates}
    reasons = {by_hash[selection.key]: selection.reason for selection in picked}
    chosen = store.rounds.record_selection(campaign.name, round_number, reasons)
    where = f"{campaign.name} round {round_number}"
    _log.info("%s: %d of %d candidates selected", where, len(chosen), len(proposed))
    store.rounds.add_seconds(campaign.name, round_number, "select", time.monotonic() - started)
    return chosen


def label_room(campaign: Campaign) -> int:
    """Return how many labels the campaign may still select; those of verifications come on top."""
    rounds = campaign.store.rounds.all(campaign.name)
    verifying = verifications(rounds)
    used = sum(len(one.selected or []) for one in rounds if one.number not in verifying)
    return max(0, campaign.spec.convergence.max_labels - used)


def _labelled(campaign: Campaign, found: LabelledHull) -> list[Candidate]:
    entries = found.hull.entries
    features = _features(campaign, [found.labels[entry.key] for entry in entries])
    return [
        Candidate(
            key=entry.key,  # a static label leaves its configuration open to another
            x=entry.x,
            energy=found.hull.formation_energy(entry),
            spread=0.0,
            features=feature,
        )
        for entry, feature in zip(entries, features, strict=True)
    ]


def _described(
    candidate: CandidateDoc, energy: float, spread: float, features: NDArray[np.float64]
) -> Candidate:
    return Candidate(
        key=candidate.config_hash,
        x=Fraction(candidate.composition),
        energy=energy,
        spread=spread,
        features=features,
    )


def _features(
    campaign: Campaign, described: Sequence[CandidateDoc | LabelHead]
) -> NDArray[np.float64]:
    return all_pair_correlations(
        campaign.host, [configuration_of(one.colours) for one in described]
    )
