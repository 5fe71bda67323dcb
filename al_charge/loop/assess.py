"""Assess: the hull after a round, how sure it is, and what comes next."""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from al_charge.loop.calibration import USUAL, Checked, calibrate_bars, coverage, held_out_error
from al_charge.loop.campaign import Campaign
from al_charge.loop.committee import load_committee, member_energies, newest_candidates
from al_charge.loop.convergence import LARGEST_CHANCE, HullState, criteria, rounds_held
from al_charge.loop.energies import LabelledHull, Weighed, calibration_of, labelled_hull
from al_charge.loop.outlook import Ahead, look_ahead
from al_charge.loop.posterior import weigh
from al_charge.loop.predicted import compare_with_labels
from al_charge.loop.reference import label_metal
from al_charge.loop.request_ledger import request_ledger, requests_of_round
from al_charge.loop.select import labels_left
from al_charge.loop.verify import is_verification, outcome_of, verification_of
from al_charge.store.documents import (
    Assessment,
    Calibration,
    CampaignState,
    Criterion,
    PredictedLabel,
    Prospective,
    Vertex,
    WeighedPredictions,
)
from al_charge.store.labels import SUMMARY
from al_charge.thermo.hull import Hull, max_hull_shift

Array = NDArray[np.float64]

_log = logging.getLogger("al_charge.loop")


def assess(
    campaign: Campaign,
    round_number: int,
    directory: Path,
    *,
    lock: Callable[[str], AbstractContextManager[None]] = lambda _: nullcontext(),
) -> CampaignState:
    """Store a round's assessment, once, and the campaign's state with it.

    Parameters
    ----------
    campaign
        The campaign.
    round_number
        Round whose committee is trained.
    directory
        Folder for the engine's files, should the working-ion metal have no energy yet.
    lock
        Reserves a name for one process; campaigns may want the same metal at once.

    Returns
    -------
    CampaignState
        ``running`` when another round is due.
    """
    record = campaign.store.rounds.get(campaign.name, round_number)
    if record is None or record.assessment is None:
        label_metal(campaign, directory, round_number=round_number, lock=lock)
        started = time.monotonic()
        weighed = weigh(campaign, round_number)
        campaign.store.rounds.record_assessment(
            campaign.name,
            round_number,
            *_assessment(campaign, round_number, weighed),
            weighed.told,
        )
        campaign.store.rounds.add_seconds(
            campaign.name, round_number, "assess", time.monotonic() - started
        )
    state, reason = next_state(campaign, round_number)
    _log.info("%s round %d: %s%s", campaign.name, round_number, state, reason and f", {reason}")
    if state is not CampaignState.RUNNING:
        campaign.store.campaigns.set_state(campaign.name, state, reason)
    return state


def _assessment(
    campaign: Campaign, round_number: int, weighed: Weighed
) -> tuple[Assessment, list[str], Array]:
    """Return what is found, the keys of the labels, and each member's energies of them, eV/f.u."""
    from al_charge.potentials.committee import Committee

    summaries = list(campaign.store.labels.read(SUMMARY, campaign=campaign.name))
    found = labelled_hull(campaign, up_to=round_number, summaries=summaries)
    committee = load_committee(campaign, round_number)
    keys = sorted(found.labels)
    members = member_energies(
        campaign, round_number, committee, [found.labels[key] for key in keys]
    )
    verifies = is_verification(campaign, round_number)
    shown, committee_alone = (
        [] if verifies else compare_with_labels(campaign, round_number, found, known)
        for known in (weighed, None)
    )
    prospective = _prospective(committee_alone)
    calibration = calibrate_bars(
        _checked(campaign, round_number, prospective),
        held_out_error(_held_out_residuals(campaign, round_number, found, keys, members)),
    )
    before = None
    if round_number:
        before = labelled_hull(campaign, up_to=round_number - 1, summaries=summaries)
    ahead = None
    if round_number > 0 and not verifies:
        ledger = request_ledger(campaign, summaries)
        newest = Committee(committee.members, calibration.scale)
        relaxed = newest_candidates(campaign, round_number, newest, ledger, found.labels.values())
        rng = campaign.rng("assess", round_number)
        ahead = look_ahead(campaign, found, ledger, relaxed, calibration, rng)
    state = HullState(
        vertices=[Vertex(str(vertex.x), vertex.config_hash) for vertex in found.hull.vertices],
        shift=max_hull_shift(before.hull, found.hull) if before is not None else None,
        unlabelled_vertices=(
            None if ahead is None else _unlabelled_vertices(campaign, found.hull, ahead)
        ),
        p_below_hull=None if ahead is None else ahead.p_below_hull,
        gained=before is None or bool(found.labels.keys() - before.labels.keys()),
        asked=_asked(campaign, round_number),
    )
    met = criteria(state, _earlier_state(campaign, round_number), campaign.spec.convergence)
    assessment = Assessment(
        spread_scale=calibration.scale,
        vertices=list(state.vertices),
        labels=len(found.labels),
        criteria=met,
        hull_shift=state.shift,
        p_below_hull=state.p_below_hull,
        unlabelled_vertices=None if ahead is None else list(state.unlabelled_vertices or ()),
        compositions=None if ahead is None else ahead.compositions,
        voltages=None if ahead is None else ahead.voltages,
        exhaustive=None if ahead is None else ahead.exhaustive,
        prospective=prospective,
        calibration=calibration,
        weighed=WeighedPredictions(
            predictions=shown, calibration=_calibrate_weighed(campaign, round_number, shown)
        ),
        coverage=None if verifies or not round_number else coverage(shown),
        requests=requests_of_round(campaign, round_number, summaries),
        verify_next=_is_to_be_verified(campaign, round_number, met),
        verification=verification_of(campaign, round_number, found) if verifies else None,
    )
    return assessment, keys, members


def _asked(campaign: Campaign, round_number: int) -> bool:
    """Return whether a round has requested any label."""
    record = campaign.store.rounds.get(campaign.name, round_number)
    return record is not None and bool(record.selected)


def _checked(campaign: Campaign, round_number: int, prospective: Prospective) -> list[Checked]:
    """Return the labels of rounds up to one, with what the round before had predicted of them."""
    found = {
        record.number: record.assessment.prospective.predictions
        for record in campaign.store.rounds.all(campaign.name)
        if record.number < round_number and record.assessment is not None
    } | {round_number: prospective.predictions}
    checked = []
    for number, predictions in sorted(found.items()):
        if predictions:
            known = calibration_of(campaign, number - 1)
            checked.append(Checked(known.held_out or known.floor or USUAL, predictions))
    return checked


def _calibrate_weighed(
    campaign: Campaign, round_number: int, newest: Sequence[PredictedLabel]
) -> Calibration:
    """Return what makes error bars of what committee and surrogate together say next."""
    found = {
        record.number: record.assessment.weighed.predictions
        for record in campaign.store.rounds.all(campaign.name)
        if record.number < round_number and record.assessment and record.assessment.weighed
    } | {round_number: newest}
    return calibrate_bars(
        Checked(0.0, [one for one in some if one.spread > 0]) for _, some in sorted(found.items())
    )


def _held_out_residuals(
    campaign: Campaign,
    round_number: int,
    found: LabelledHull,
    keys: list[str],
    members: Array,
) -> list[float]:
    """Return errors of members for labels that they were not trained on, eV per formula unit."""
    cells = campaign.cells
    columns: dict[str, list[int]] = defaultdict(list)
    for i, key in enumerate(keys):
        # Not learnt, or learnt from the same ions in another charge order.
        if not found.labels[key].delocalised:
            columns[cells.order_of(found.labels[key])].append(i)
    labels = [found.labels[key] for key in keys]
    energies = [cells.energy_of(label) for label in labels]
    return [
        float(members[model.member, i] - energies[i])
        for model in campaign.store.models.all(campaign.name, round_number)
        for group in model.held_out
        for i in columns[group]
    ]


def _unlabelled_vertices(campaign: Campaign, hull: Hull, ahead: Ahead) -> tuple[str, ...]:
    """Return the vertex compositions where anything without a label is predicted lower.

    Within the tolerance of the hull two configurations count as one.
    """
    tolerance = campaign.spec.convergence.hull_tolerance
    lowest = {Fraction(one.x): one.lowest_predicted for one in ahead.compositions}
    return tuple(
        str(vertex.x)
        for vertex in hull.vertices
        if (energy := lowest[vertex.x]) is not None
        and energy < hull.formation_energy(vertex) - tolerance
    )


def _prospective(some: list[PredictedLabel]) -> Prospective:
    """Return how good predictions were, with each of them."""
    if not some:
        return Prospective()
    errors = np.array([one.error for one in some])
    ratios = [one.error / one.bar for one in some if one.bar > 0]
    return Prospective(
        labels=len(some),
        rmse=float(np.sqrt(np.mean(errors**2))),
        error_over_spread=float(np.sqrt(np.mean(np.square(ratios)))) if ratios else None,
        predictions=some,
    )


def _earlier_state(campaign: Campaign, round_number: int) -> HullState | None:
    record = campaign.store.rounds.get(campaign.name, round_number - 1) if round_number else None
    if record is None or record.assessment is None:
        return None
    return HullState(record.assessment.vertices)


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
    wanted = campaign.static_labels and settings.verify is not False  # every engine can relax
    return wanted and held >= settings.rounds


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
    reason = f"every criterion held for {_counted(held, 'round')}"
    judged = _last_judged(campaign, round_number)
    ended = CampaignState.CONVERGED
    if judged is not None and judged.exhaustive is False:
        ended, reason = CampaignState.SAMPLED, f"{reason}, but only a sample was ranked"
    if verified is not None and verified.same_vertices:
        return ended, f"{reason}; {outcome_of(verified)}"
    if verified is None and held >= settings.rounds:
        return ended, reason
    if _all_labelled(campaign):
        return CampaignState.CONVERGED, "every distinct configuration is labelled"
    if round_number + 1 >= settings.max_rounds:
        spent = _counted(settings.max_rounds, "round")
    # Not what later rounds asked for; and what holds may be held without another label.
    elif not held and labels_left(campaign, up_to=round_number) == 0:
        spent = _counted(settings.max_labels, "label")
    else:
        return CampaignState.RUNNING, ""
    return CampaignState.EXHAUSTED, f"{spent} without convergence{_what_is_open(judged)}"


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


def _last_judged(campaign: Campaign, round_number: int) -> Assessment | None:
    """Return the last assessment, up to a round's, that judges the criteria."""
    for record in reversed(campaign.store.rounds.all(campaign.name)):
        found = record.assessment
        if found is not None and found.verification is None and record.number <= round_number:
            return found
    return None


def _what_is_open(judged: Assessment | None) -> str:
    """Return what is not known when a budget is spent, as the rest of a sentence."""
    if judged is None:
        return ""
    told = [f"not met: {one.name} ({one.value})" for one in judged.criteria if not one.met]
    lower = [one.x for one in judged.compositions or [] if one.p_lower > LARGEST_CHANCE]
    if lower:
        told.append(f"lower states may lie at x = {', '.join(lower)}")
    return "".join(f"; {one}" for one in told)


def _all_labelled(campaign: Campaign) -> bool:
    """Return whether no configuration is left that could change the hull.

    With static labels the criteria alone decide: every geometry may have a lower one beside it.
    """
    if campaign.static_labels:
        return False
    distinct = sum(sum(some.values()) for some in campaign.cells.numbers)
    if len(campaign.store.labels.uses(campaign.name)) < distinct:
        return False
    labels = campaign.store.labels.read(SUMMARY, campaign=campaign.name, refused=False)
    return len({campaign.cells.order_of(label) for label in labels}) == distinct
