"""Workflows whose states were half written: whoever wrote them was killed, or the database was."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from fireworks import LaunchPad

from al_charge.fw.locks import free_lock
from al_charge.fw.lost import BUSY


def at_odds(launchpad: LaunchPad, campaign: str | None) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Find workflows whose states are not those of their Fireworks, or not what follows of them.

    One look does not tell: every worker is for a moment between two writes.

    Parameters
    ----------
    campaign
        Whose workflows; of all campaigns when None.

    Yields
    ------
    str, tuple of int
        The workflow's name, and the ids of those Fireworks; never of one that a worker has taken.
        Workflows that are incomplete are left out.
    """
    whose = campaign or {"$exists": True}
    states = {
        firework["fw_id"]: firework["state"]
        for firework in launchpad.fireworks.find({"spec.campaign": whose}, {"fw_id": 1, "state": 1})
    }
    fields = dict.fromkeys(("nodes", "links", "fw_states", "name"), 1)
    for workflow in launchpad.workflows.find({"metadata.campaign": whose}, fields):
        if set(workflow["nodes"]) <= states.keys() and (wrong := _wrong(workflow, states)):
            yield workflow["name"], wrong


def _wrong(workflow: dict[str, Any], states: dict[int, str]) -> tuple[int, ...]:
    told = {int(node): state for node, state in workflow["fw_states"].items()}
    # What a worker has taken the workflow learns of a moment later, or when it is handed back.
    settled = [node for node in workflow["nodes"] if states[node] not in BUSY]
    wrong = {node for node in settled if told.get(node) != states[node]}
    parents: dict[int, set[int]] = {node: set() for node in workflow["nodes"]}
    for parent, children in workflow["links"].items():
        for child in children:
            parents[child].add(int(parent))
    for node, above in parents.items():
        done = all(states[parent] == "COMPLETED" for parent in above)
        wrong |= {node} if states[node] == ("WAITING" if done else "READY") else set()
    return tuple(sorted(wrong))


def refresh(launchpad: LaunchPad, wrong: Sequence[int]) -> None:
    """Work out the states anew of Fireworks that are at odds, parents first, and what follows.

    Others are left alone: somebody may just be taking them, or handing them back.
    """
    free_lock(launchpad, wrong[0])
    for fw_id in sorted(wrong, reverse=True):
        launchpad._refresh_wf(fw_id)
