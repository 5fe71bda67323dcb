"""The status of a campaign: its tasks, labels, criteria, and estimated time left."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from fireworks import LaunchPad

from al_charge.fw.lost_runs import HANDED_BACK
from al_charge.fw.restarts import restarting
from al_charge.fw.retraining import waiting
from al_charge.fw.vitals import Vitals, vitals
from al_charge.labelers.plugin import LABELERS
from al_charge.loop.campaign import Campaign
from al_charge.loop.convergence import rounds_held
from al_charge.loop.ground_state import Electrons, Solution, electrons
from al_charge.loop.verify import outcome_of
from al_charge.store.documents import Assessment, LabelDoc, Refusal, RoundDoc
from al_charge.store.fields import now
from al_charge.store.labels import SUMMARY, WITHOUT_FRAMES
from al_charge.store.ledger import Sums


def status_document(launchpad: LaunchPad, campaign: Campaign) -> dict[str, Any]:
    """Return the status of a campaign as a document that JSON can hold.

    Parameters
    ----------
    launchpad
        LaunchPad of the campaign's database.
    campaign
        The campaign.

    Returns
    -------
    dict
        What ``al-charge campaign status --json`` prints.
    """
    store = campaign.store
    document = store.campaigns.get(campaign.name)
    rounds = store.rounds.all(campaign.name)
    assessed = [record for record in rounds if record.assessment is not None]
    last = assessed[-1].assessment if assessed else None
    judged = _judged(assessed)
    labels = store.labels.read(WITHOUT_FRAMES, campaign=campaign.name, refused=True)
    used = store.ledger.sums(campaign.name)
    refused = sorted(labels, key=lambda label: (label.created, label.key))
    return {
        "campaign": campaign.name,
        "state": document.state.value,
        "reason": document.reason,
        "labeler_remark": LABELERS.of(campaign.spec.labeler).remark(campaign.spec.labeler),
        "round": rounds[-1].number if rounds else None,
        "tasks": tasks_by_state(launchpad, campaign.name),
        "workers": [_worker(one) for one in vitals(launchpad.db, campaign.name)],
        "restarting": [
            {"task": one.task, "restarts": one.restarts, "reason": one.reason}
            for one in restarting(launchpad, store, campaign.name)
        ],
        "labels_used": store.labels.count(campaign.name),
        "labels_made": store.attempts.count_made(campaign.name),
        "labels_requested_twice": len(store.attempts.made_twice(campaign.name)),
        "max_labels": campaign.spec.convergence.max_labels,
        "ambiguous": _refused(one for one in refused if one.refusal is Refusal.AMBIGUOUS),
        "delocalised": sum(
            1 for _ in store.labels.read(SUMMARY, campaign=campaign.name, delocalised=True)
        ),
        "unusable": _refused(one for one in refused if one.refusal is not Refusal.AMBIGUOUS),
        "charge_orders": _charge_orders(campaign, rounds),
        "failures": [
            {"label": failure.key, "round": failure.round, "reason": failure.reason}
            for failure in store.failures.all(campaign.name)
        ],
        "criteria": [one.model_dump() for one in judged[-1].criteria] if judged else [],
        "verification": _verification(last),
        "electrons": [found for one in rounds for found in _electrons(campaign, one.number)],
        "rounds_held": held(assessed),
        "rounds_needed": campaign.spec.convergence.rounds,
        "rounds": [_round_line(campaign, one, used.get(one.number, {})) for one in rounds],
        "used": _used(used),
        "progress": rounds[-1].progress if rounds and rounds[-1].closed is None else {},
        "seconds_left": seconds_left(campaign, rounds),
    }


def _worker(one: Vitals) -> dict[str, Any]:
    """Return what is known of a worker, as a document."""
    return {
        "worker": one.worker,
        "host": one.host,
        "categories": list(one.categories),
        "seen": one.seen.isoformat(timespec="seconds"),
        "seconds_silent": round(one.silent, 1),
        "silent": one.is_silent,
        "state": one.state,
    }


def tasks_by_state(launchpad: LaunchPad, name: str) -> dict[str, int]:
    """Count a campaign's Fireworks by their state.

    Parameters
    ----------
    launchpad
        LaunchPad of the campaign's database.
    name
        Name of the campaign.

    Returns
    -------
    dict
        Number of Fireworks by state, such as ``READY``.
    """
    counted = launchpad.fireworks.aggregate(
        [
            {"$match": {"spec.campaign": name}},
            {"$group": {"_id": "$state", "number": {"$sum": 1}}},
            {"$sort": {"_id": 1}},
        ]
    )
    return {group["_id"]: group["number"] for group in counted}


def blocking_failure(launchpad: LaunchPad, name: str) -> str | None:
    """Return why a campaign cannot continue: a task failed, and nothing runs or is ready.

    Every later step of a round waits for all tasks of the step before, so nothing more will become
    ready. Nor will those be run that wait for a model whose training has failed.

    Parameters
    ----------
    launchpad
        LaunchPad of the campaign's database.
    name
        Name of the campaign.

    Returns
    -------
    str or None
        The failed task and its error in one line; None while work goes on.
    """
    fireworks = launchpad.fireworks
    failed = fireworks.find_one({"spec.campaign": name, "state": "FIZZLED"})
    if failed is None:
        return None
    active = {
        "spec.campaign": name,
        "state": {"$in": ["READY", "RUNNING", "RESERVED"]},
        "fw_id": {"$nin": list(waiting(launchpad, name))},
    }
    if fireworks.find_one(active, {"_id": 1}) is not None:
        return None
    return f"{failed['name']}: {failure_of(launchpad, failed)}"


def failure_of(launchpad: LaunchPad, firework: Mapping[str, Any]) -> str:
    """Return why a Firework is FIZZLED: its error, or how its process ended.

    Parameters
    ----------
    launchpad
        LaunchPad of the campaign's database.
    firework
        The Firework's document.

    Returns
    -------
    str
        One line.
    """
    launch = launchpad.launches.find_one(
        {"launch_id": {"$in": firework["launches"]}}, sort=[("launch_id", -1)]
    )
    stored = ((launch or {}).get("action") or {}).get("stored_data") or {}
    if stored.get(HANDED_BACK):
        return str(stored["_message"])
    # There is no launch if it could not even be read.
    found = stored.get("_exception") or firework["spec"].get("_exception_details") or {}
    lines = [line.strip() for line in (found.get("_stacktrace") or "").splitlines()]
    last = next((line for line in reversed(lines) if line), "its process ended")
    return re.sub(r"^[\w.]*Error: ", "", last)


def held(assessed: list[RoundDoc]) -> int:
    """Return for how many rounds in a row every criterion has held.

    Parameters
    ----------
    assessed
        Assessed rounds, in order.

    Returns
    -------
    int
        Rounds that verify the hull do not count.
    """
    return rounds_held([found.criteria for found in _judged(assessed)])


def _judged(rounds: list[RoundDoc]) -> list[Assessment]:
    """Return the assessments of rounds that judge the criteria: verifications do not."""
    found = [record.assessment for record in rounds if record.assessment is not None]
    return [one for one in found if one.verification is None]


def seconds_left(campaign: Campaign, rounds: list[RoundDoc]) -> float | None:
    """Estimate the time to convergence, once it is in sight.

    How many rounds it takes until the criteria hold cannot be known. Once they hold, the rounds
    that they still have to hold for are counted, each as long as the longest so far.

    Parameters
    ----------
    campaign
        The campaign.
    rounds
        Its rounds, in order.

    Returns
    -------
    float or None
        If every criterion goes on to hold, s; None while one does not, and where the hull is yet
        to be verified by relaxations, whose length is not known.
    """
    met = held([record for record in rounds if record.assessment is not None])
    needed = campaign.spec.convergence.rounds - met
    verifies = campaign.static_labels and campaign.spec.convergence.verify is not False
    if not met or verifies:
        return None
    lengths = [(r.closed - r.created).total_seconds() for r in rounds if r.closed is not None]
    last = rounds[-1]
    begun = (now() - last.created).total_seconds() if last.closed is None else 0.0
    return max(0.0, needed * max(lengths, default=0.0) - begun)


def _verification(assessment: Assessment | None) -> dict[str, Any] | None:
    """Return the result of the hull's verification, also in words; None without one."""
    if assessment is None or assessment.verification is None:
        return None
    found = assessment.verification
    return found.model_dump(mode="json") | {"outcome": outcome_of(found)}


def _electrons(campaign: Campaign, number: int) -> list[dict[str, Any]]:
    """Return what a round's runs in other spin states and magnetic orders have shown."""
    return [
        {
            "round": number,
            "x": one.x,
            "hash": one.config_hash,
            "runs": [_solution(one, run) for run in one.others],
            "failed": one.failed,
            "pending": list(one.pending),
            "left_out": list(one.left_out),
            "magnetic_correction": one.correction,
            "outcome": one.outcome,
        }
        for one in electrons(campaign, number)
    ]


def _solution(of: Electrons, run: Solution) -> dict[str, Any]:
    """Return what a run has ended in, its energy in eV per formula unit against the label's."""
    return {
        "asked": run.asked,
        "found": ", ".join(filter(None, (run.spins, run.order))),
        "energy": None if of.label is None else run.energy - of.label.energy,
    }


def _charge_orders(campaign: Campaign, rounds: list[RoundDoc]) -> dict[str, int] | None:
    """Count the candidates whose own potentials disagree with their charge order.

    They are those of the last round with candidates; None if none of them could be compared.
    """
    for record in reversed(rounds):
        found = [p.statistics for p in campaign.store.proposals.all(campaign.name, record.number)]
        compared = sum(statistics.compared for statistics in found)
        if compared:
            flagged = sum(statistics.flagged for statistics in found)
            return {"round": record.number, "compared": compared, "flagged": flagged}
        if found:
            return None
    return None


def _refused(labels: Iterable[LabelDoc]) -> list[dict[str, str]]:
    """Return why labels are on no hull."""
    return [
        {"label": label.key, "x": label.composition, "reason": label.refused} for label in labels
    ]


def _used(sums: Sums) -> dict[str, dict[str, float]]:
    """Return what workers have used as a whole, and all rounds together by kind of task."""
    total: dict[str, Counter[str]] = {}
    for kinds in sums.values():
        for kind, of in kinds.items():
            total.setdefault(kind, Counter()).update(of)
    return {kind: {name: round(of[name], 1) for name in of} for kind, of in sorted(total.items())}


def _round_line(
    campaign: Campaign, record: RoundDoc, used: Mapping[str, Mapping[str, float]]
) -> dict[str, Any]:
    found = record.assessment
    proposals = campaign.store.proposals.all(campaign.name, record.number)
    shares = [p.statistics.screened for p in proposals if p.statistics.screened is not None]
    return {
        "round": record.number,
        "screened": min(shares, default=None),
        "relaxed": sum(p.statistics.evaluated for p in proposals),
        "selected": len(record.selected or []),
        "labels": found.labels if found else None,
        "hull_shift": found.hull_shift if found else None,
        "vertices": [vertex.x for vertex in found.vertices] if found else [],
        "criteria_met": sum(one.met for one in found.criteria) if found else 0,
        "p_below_hull": found.p_below_hull if found else None,
        "spread_scale": found.spread_scale if found else None,
        "compositions": [
            one.model_dump(exclude={"band_95", "band_68"})
            for one in (found.compositions if found else None) or []
        ],
        "coverage": found.coverage.model_dump() if found and found.coverage else None,
        "calibration": found.calibration.model_dump() if found and found.calibration else None,
        "prospective": (
            found.prospective.model_dump(exclude_none=True, exclude={"predictions"})
            if found
            else None
        ),
        "verification": found is not None and found.verification is not None,
        # Every run counts, those that were cut off as well; rounds before the ledger have none.
        "stage_seconds": record.stage_seconds
        | {kind: round(of["seconds"], 1) for kind, of in used.items()},
    }
