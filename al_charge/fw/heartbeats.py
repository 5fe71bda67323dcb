"""Heartbeats: for how long a run has been silent, although clocks differ."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from fireworks import LaunchPad

from al_charge.fw import registry


def heartbeat(launch: Mapping[str, Any]) -> str:
    """Return when a launch last gave a sign of life, as its worker's clock had it."""
    last = launch["state_history"][-1]
    return str(last.get("updated_on") or last["created_on"])


def silence(launch: Mapping[str, Any], time: datetime, offsets: Mapping[str, float]) -> float:
    """Return for how long a launch has been silent by the server's clock, in s.

    Parameters
    ----------
    time
        Of the server.
    offsets
        From `clock_offsets`.
    """
    last = _aware(datetime.fromisoformat(heartbeat(launch)))
    return (time - last).total_seconds() + offsets.get(launch["fworker"]["name"], 0.0)


def clock_offsets(launchpad: LaunchPad) -> dict[str, float]:
    """Return how far the registered workers' clocks are ahead of the server's, in s."""
    return {
        worker["_id"]: float(worker.get("clock_offset") or 0.0)
        for worker in launchpad.db[registry.COLLECTION].find({}, {"clock_offset": 1})
    }


def server_time(launchpad: LaunchPad) -> datetime:
    """Return the time by the server's clock."""
    return datetime.now(UTC) - timedelta(seconds=registry.clock_offset(launchpad.db))


def _aware(time: datetime) -> datetime:
    return time if time.tzinfo is not None else time.replace(tzinfo=UTC)
