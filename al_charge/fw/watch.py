"""What the parent of workers looks for again and again, so that nobody else has to."""

from __future__ import annotations

from time import monotonic

from fireworks import LaunchPad
from fireworks.fw_config import PING_TIME_SECS

from al_charge.fw.lost_runs import (
    gone_runs,
    make_ready,
    release,
    reserved_without_run,
    silent_runs,
)
from al_charge.fw.workflow_states import inconsistent_workflows, refresh_states

_INTERVAL = 1.5 * PING_TIME_SECS


class Watch:
    """Hands back runs that are lost, and works out states anew that were half written.

    Parameters
    ----------
    campaign
        Whose.
    interval
        s between two looks; more than a heartbeat takes.
    """

    def __init__(self, launchpad: LaunchPad, campaign: str, interval: float = _INTERVAL) -> None:
        self._launchpad = launchpad
        self._campaign = campaign
        self._interval = interval
        self._next = 0.0
        self._silent: dict[int, str] = {}
        self._reserved: dict[int, str] = {}
        self._at_odds: dict[str, tuple[int, ...]] = {}

    def look(self) -> int:
        """Mend what is as it was in the look before, if another one is due.

        Returns
        -------
        int
            How many Fireworks were handed back.
        """
        if monotonic() < self._next:
            return 0
        self._next = monotonic() + self._interval
        released = self._hand_back()
        found = dict(inconsistent_workflows(self._launchpad, self._campaign))
        for workflow, wrong in found.items():
            if self._at_odds.get(workflow) == wrong:
                refresh_states(self._launchpad, wrong)
        self._at_odds = found
        return released

    def _hand_back(self) -> int:
        gone = gone_runs(self._launchpad, self._campaign)
        released = release(self._launchpad, gone, "its worker is gone")
        silent = silent_runs(self._launchpad, self._campaign)
        lost = [run for run, beat in silent.items() if self._silent.get(run) == beat]
        self._silent = silent
        released += release(self._launchpad, lost, "its worker fell silent")
        reserved = reserved_without_run(self._launchpad, self._campaign)
        for fw_id in [one for one in reserved if self._reserved.get(one) == reserved[one]]:
            released += make_ready(self._launchpad, fw_id, None)
        self._reserved = reserved
        return released
