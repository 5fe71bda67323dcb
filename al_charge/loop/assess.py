"""Assess: the hull after a round, how sure it is, and what comes next."""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from al_charge.crystal.enumeration import count_distinct
from al_charge.loop.campaign import Campaign, atoms_of, label_key
from al_charge.loop.committee import load_committee, member_energies
from al_charge.loop.convergence import HullState, criteria, rounds_held
from al_charge.loop.energies import (
    LabelledHull,
    candidate_entry,
    labelled_hull,
)
from al_charge.loop.reference import label_metal
from al_charge.loop.request_ledger import RequestLedger, request_ledger, requests_of_round
from al_charge.loop.select import labels_left
from al_charge.loop.verify import is_verification, outcome_of, verification_of
from al_charge.store.documents import (
    Assessment,
    CampaignState,
    CandidateDoc,
    Criterion,
    Prospective,
    Vertex,
)
from al_charge.store.labels import SUMMARY
from al_charge.thermo.hull import Hull, max_hull_shift
from al_charge.thermo.uncertainty import chance_below

if TYPE_CHECKING:
    from al_charge.potentials.committee import Committee

Array = NDArray[np.float64]

_log = logging.getLogger("al_charge.loop")


def assess(campaign: Campaign, round_number: int, directory: Path) -> CampaignState:
    """Store a round's assessment, once, and the campaign's state with it.

    Parameters
    ----------
    campaign
        The campaign.
    round_number
        Round whose committee is trained.
    directory
        Folder for the engine's files, should the working-ion metal have no energy yet.

    Returns
    -------
    CampaignState
        ``running`` when another round is due.
    """
    record = campaign.store.rounds.get(campaign.name, round_number)
    if record is None or record.assessment is None:
        label_metal(campaign, directory)
        started = time.monotonic()
        campaign.store.rounds.record_assessment(
            campaign.name, round_number, *_assessment(campaign, round_number)
        )
        campaign.store.rounds.add_seconds(
            campaign.name, round_number, "assess", time.monotonic() - started
        )
    state, reason = next_state(campaign, round_number)
    _log.info("%s round %d: %s%s", campaign.name, round_number, state, reason and f", {reason}")
    if state is not CampaignState.RUNNING:
        campaign.store.campaigns.set_state(campaign.name, state, reason)
    return state


def _assessment(campaign: Campaign, round_number: int) -> tuple[Assessment, list[str], Array]:
    """Return what is found, the keys of the labels, and each member's energies of them, eV/f.u."""
    from al_charge.potentials.committee import Committee

    summaries = list(campaign.store.labels.read(SUMMARY, campaign=campaign.name))
    found = labelled_hull(campaign, up_to=round_number, summaries=summaries)
    committee = load_committee(campaign, round_number)
    keys = sorted(found.labels)
    members = member_energies(campaign, round_number, committee, keys)
    scale = _calibration(campaign, round_number, found, keys, members)
    before = None
    if round_number:
        before = labelled_hull(campaign, up_to=round_number - 1, summaries=summaries).hull
    predicted = None
    verifies = is_verification(campaign, round_number)
    if round_number > 0 and not verifies:
        ledger = request_ledger(campaign, summaries)
        candidates = _open_candidates(campaign, round_number, ledger)
        again = _predict_again(Committee(committee.members, scale), candidates)
        predicted = ledger.needing_label(again)
    state = HullState(
        vertices=[Vertex(str(vertex.x), vertex.config_hash) for vertex in found.hull.vertices],
        shift=max_hull_shift(before, found.hull) if before is not None else None,
        unlabelled_vertices=(
            None if predicted is None else _unlabelled_vertices(campaign, found.hull, predicted)
        ),
        p_below_hull=(
            None if predicted is None else _chance_below(campaign, found.hull, predicted)
        ),
    )
    met = criteria(state, _earlier_state(campaign, round_number), campaign.spec.convergence)
    assessment = Assessment(
        spread_scale=scale,
        vertices=list(state.vertices),
        labels=len(found.labels),
        criteria=met,
        hull_shift=state.shift,
        p_below_hull=state.p_below_hull,
        unlabelled_vertices=None if predicted is None else list(state.unlabelled_vertices or ()),
        prospective=Prospective() if verifies else _prospective(campaign, round_number, found),
        requests=requests_of_round(campaign, round_number, summaries),
        verify_next=_is_to_be_verified(campaign, round_number, met),
        verification=verification_of(campaign, round_number, found) if verifies else None,
    )
    return assessment, keys, members


def _calibration(
    campaign: Campaign,
    round_number: int,
    found: LabelledHull,
    keys: list[str],
    members: Array,
) -> float:
    """Return the factor that brings the members' spread to the size of their held-out errors."""
    from al_charge.potentials.committee import calibrate

    columns: dict[str, list[int]] = defaultdict(list)
    for i, key in enumerate(keys):
        if not found.labels[key].delocalised:  # which no potential has learnt
            columns[found.labels[key].config_hash].append(i)
    residuals, spreads = [], []
    spread = members.std(axis=0, ddof=1)
    for model in campaign.store.models.all(campaign.name, round_number):
        for group in model.held_out:
            for i in columns[group]:
                energy = found.labels[keys[i]].energy / campaign.host.formula_units
                residuals.append(members[model.member, i] - energy)
                spreads.append(spread[i])
    return calibrate(residuals, spreads)


def _open_candidates(
    campaign: Campaign, round_number: int, ledger: RequestLedger
) -> list[CandidateDoc]:
    """Return the candidates that need a label, or would if a committee predicts them low enough."""
    return [
        candidate
        for candidate in campaign.store.candidates.all(campaign.name, round_number)
        if candidate.energy is not None and ledger.may_need_label(candidate)
    ]


def _predict_again(committee: Committee, candidates: list[CandidateDoc]) -> list[CandidateDoc]:
    """Return candidates with the new committee's energies at their geometries."""
    predictions = committee.predict([atoms_of(candidate.geometry) for candidate in candidates])
    return [
        candidate.model_copy(update={"energy": p.energy, "spread": p.spread})
        for candidate, p in zip(candidates, predictions, strict=True)
    ]


def _unlabelled_vertices(
    campaign: Campaign, hull: Hull, predicted: list[CandidateDoc]
) -> tuple[str, ...]:
    """Return the vertex compositions where an open candidate is predicted lower.

    Within the tolerance of the hull two configurations count as one.
    """
    tolerance = campaign.spec.convergence.hull_tolerance
    missing = set()
    for vertex in hull.vertices:
        for candidate in predicted:
            entry = candidate_entry(campaign, candidate)
            if entry.x == vertex.x and entry.energy < vertex.energy - tolerance:
                missing.add(str(vertex.x))
    return tuple(sorted(missing))


def _chance_below(campaign: Campaign, hull: Hull, predicted: list[CandidateDoc]) -> float:
    """Return the probability that an open candidate lies below the hull by its tolerance."""
    tolerance = campaign.spec.convergence.hull_tolerance
    entries = [candidate_entry(campaign, candidate) for candidate in predicted]
    return chance_below(hull, entries, tolerance)


def _prospective(campaign: Campaign, round_number: int, found: LabelledHull) -> Prospective:
    """Compare what was predicted of this round's labels with what they turned out to be."""
    record = campaign.store.rounds.get(campaign.name, round_number)
    errors, ratios = [], []
    for key in (record.selected if record is not None else None) or []:
        candidate = campaign.store.candidates.get(key)
        if candidate is None or candidate.energy is None:
            continue
        label = found.labels.get(label_key(campaign, candidate))
        if label is None or label.delocalised:
            continue
        if label.config_hash == candidate.config_hash:
            error = (candidate.energy - label.energy) / campaign.host.formula_units
            errors.append(error)
            if candidate.spread:
                ratios.append(error * campaign.host.formula_units / candidate.spread)
    if not errors:
        return Prospective()
    return Prospective(
        labels=len(errors),
        rmse=float(np.sqrt(np.mean(np.square(errors)))),
        error_over_spread=float(np.sqrt(np.mean(np.square(ratios)))) if ratios else None,
    )


def _earlier_state(campaign: Campaign, round_number: int) -> HullState | None:
    record = campaign.store.rounds.get(campaign.name, round_number - 1) if round_number else None
    if record is None or record.assessment is None:
        return None
    return HullState(record.assessment.vertices, None, None, None)


def _history(campaign: Campaign, round_number: int) -> list[list[Criterion]]:
    """Return the criteria of every assessed round up to one."""
    return [
        record.assessment.criteria
        for record in campaign.store.rounds.all(campaign.name)
        if record.assessment is not None and record.number <= round_number
    ]


def _is_to_be_verified(campaign: Campaign, round_number: int, met: list[Criterion]) -> bool:
    """Return whether the next round relaxes what the hull rests on: all criteria hold now."""
    settings = campaign.spec.convergence
    held = rounds_held([*_history(campaign, round_number - 1), met])
    return settings.verify and campaign.static_labels and held >= settings.rounds


def next_state(campaign: Campaign, round_number: int) -> tuple[CampaignState, str]:
    """Return the state that an assessed round puts its campaign in.

    Parameters
    ----------
    campaign
        The campaign.
    round_number
        The last round that was assessed.

    Returns
    -------
    CampaignState
        ``running`` when another round is due.
    str
        Why the campaign has ended; empty while it runs.
    """
    settings = campaign.spec.convergence
    record = campaign.store.rounds.get(campaign.name, round_number)
    assessment = record.assessment if record is not None else None
    if assessment is not None and assessment.verify_next:
        return CampaignState.RUNNING, ""
    verified = assessment.verification if assessment is not None else None
    held = rounds_held(_history(campaign, round_number - (verified is not None)))
    reason = f"every criterion held for {held} rounds"
    if verified is not None and verified.same_vertices:
        return CampaignState.CONVERGED, f"{reason}; {outcome_of(verified)}"
    if verified is None and held >= settings.rounds:
        return CampaignState.CONVERGED, reason
    if _all_labelled(campaign):
        return CampaignState.CONVERGED, "every distinct configuration is labelled"
    if round_number + 1 >= settings.max_rounds:
        return CampaignState.EXHAUSTED, f"{settings.max_rounds} rounds without convergence"
    if labels_left(campaign) == 0:
        return CampaignState.EXHAUSTED, f"{settings.max_labels} labels without convergence"
    return CampaignState.RUNNING, ""


def _all_labelled(campaign: Campaign) -> bool:
    """Return whether no configuration is left that could change the hull.

    With static labels the criteria alone decide: every geometry may have a lower one beside it.
    """
    if campaign.static_labels:
        return False
    distinct = sum(count_distinct(campaign.host).values())
    if len(campaign.store.labels.uses(campaign.name)) < distinct:
        return False
    labels = campaign.store.labels.read(SUMMARY, campaign=campaign.name, refused=False)
    return len({label.config_hash for label in labels}) == distinct
