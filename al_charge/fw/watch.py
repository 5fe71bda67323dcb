"""What parents of workers check regularly: silent workers, lost runs, half-written states."""

from __future__ import annotations

import logging
from datetime import datetime
from time import monotonic

from fireworks import LaunchPad
from fireworks.fw_config import PING_TIME_SECS

from al_charge.errors import AlChargeError
from al_charge.fw.launchpad import store_of
from al_charge.fw.lost_runs import (
    gone_runs,
    make_ready,
    release,
    reserved_without_run,
    silent_runs,
)
from al_charge.fw.vitals import end_worker, vitals
from al_charge.fw.worker_registry import is_alive
from al_charge.fw.workflow_states import inconsistent_workflows, refresh_states
from al_charge.store.ledger import LOST

_log = logging.getLogger("al_charge.fw")
_INTERVAL = 1.5 * PING_TIME_SECS


class Watch:
    """Ends silent workers, hands back lost runs, and recomputes states that were half written.

    Parameters
    ----------
    launchpad
        LaunchPad of the campaign's database.
    campaign
        Name of the campaign.
    interval
        Time between two checks, s; longer than that between two heartbeats.
    """

    def __init__(self, launchpad: LaunchPad, campaign: str, interval: float = _INTERVAL) -> None:
        self._launchpad = launchpad
        self._campaign = campaign
        self._interval = interval
        self._next = 0.0
        self._silent: dict[int, str] = {}
        self._reserved: dict[int, str] = {}
        self._inconsistent: dict[str, tuple[int, ...]] = {}
        self._workers: dict[str, datetime] = {}
        self._entries: dict[str, datetime] = {}

    def look(self) -> int:
        """Mend what is as it was in the previous check, if another check is due.

        Returns
        -------
        int
            Number of Fireworks that were handed back.
        """
        if monotonic() < self._next:
            return 0
        self._next = monotonic() + self._interval
        released = self._hand_back()
        found = dict(inconsistent_workflows(self._launchpad, self._campaign))
        for workflow, wrong in found.items():
            if self._inconsistent.get(workflow) == wrong:
                refresh_states(self._launchpad, wrong)
        self._inconsistent = found
        self._close_entries()
        return released

    def _hand_back(self) -> int:
        self._end_silent()
        gone = gone_runs(self._launchpad, self._campaign)
        released = release(self._launchpad, gone, "its worker is gone")
        silent = silent_runs(self._launchpad, self._campaign)
        lost = [run for run, beat in silent.items() if self._silent.get(run) == beat]
        self._silent = silent
        released += release(self._launchpad, lost, "its worker has fallen silent")
        reserved = reserved_without_run(self._launchpad, self._campaign)
        for fw_id in [one for one in reserved if self._reserved.get(one) == reserved[one]]:
            released += make_ready(self._launchpad, fw_id, None)
        self._reserved = reserved
        return released

    def _close_entries(self) -> None:
        """Close entries of the ledger whose worker was gone when nobody of its own looked."""
        ledger = store_of(self._launchpad).ledger
        silent: dict[str, datetime] = {}
        for entry in ledger.unclosed(self._campaign):
            alive = is_alive(entry.worker)
            if alive is False or (alive is None and self._entries.get(entry.entry) == entry.seen):
                ledger.close(entry.worker, LOST, "its worker is gone")
            else:
                silent[entry.entry] = entry.seen
        self._entries = silent

    def _end_silent(self) -> None:
        """End workers of this machine that are there and silent, also those of other parents."""
        silent = {
            one.worker: one
            for one in vitals(self._launchpad.db, self._campaign)
            if one.is_silent and one.state
        }
        for name, one in silent.items():
            if self._workers.get(name) == one.seen:
                _log.error("worker %s: %s; it is killed", name, one)
                try:
                    end_worker(name)
                except AlChargeError as error:
                    _log.warning("%s", error)
        self._workers = {name: one.seen for name, one in silent.items()}
