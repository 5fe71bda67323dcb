"""The parent of worker processes, which hands back their tasks when they end, and replaces them."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from multiprocessing.context import SpawnProcess
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, NamedTuple, Self

from fireworks import LaunchPad
from pymongo.errors import PyMongoError

from al_charge.errors import AlChargeError, InputError, one_line
from al_charge.fw import worker, worker_registry
from al_charge.fw.account import Account
from al_charge.fw.allocation import job_end
from al_charge.fw.launchpad import connect_launchpad, store_of
from al_charge.fw.lost_runs import release_runs_of
from al_charge.fw.pulse import HANGING_SECONDS, HANGS, SILENT_SECONDS, Pulse
from al_charge.fw.task_run import OUTAGE
from al_charge.fw.vitals import state_of
from al_charge.fw.watch import Watch
from al_charge.fw.worker_registry import worker_name
from al_charge.logs import LogSettings
from al_charge.stopping import ENDING, EXIT_CODE, SIGNALS, batch_seconds_left
from al_charge.store.fields import now
from al_charge.store.settings import DatabaseSettings

SAVE_SECONDS = 150.0
"""Time that worker processes have to save their work when they are told to stop, s."""

KILL_SECONDS = 10.0
"""Time after which a process that was killed and is still there is replaced all the same, s."""

_PAUSE = 0.5
_LONGEST_PAUSE = 60.0
_SHORT_LIFE = 20.0
_MOST_SHORT_LIVES = 8

_log = logging.getLogger("al_charge.fw")


@dataclass
class _Slot:
    """A worker process, and those that it has replaced."""

    process: SpawnProcess | None = None
    name: str = ""
    started: float = 0.0
    due: float | None = 0.0
    """When the next process is to be started; None for never."""
    short_lives: int = 0
    """How many processes in a row have ended soon after their start."""
    exit_code: int = 0
    """Exit code of the process that ended last."""
    pulse: Pulse = field(default_factory=Pulse)
    silence: str = ""
    """Why the process was killed, if it was silent."""
    killed: float = 0.0


class _Ended(NamedTuple):
    """How a process ended: why, whether it crashed, and when."""

    reason: str
    crashed: bool
    time: datetime


class WorkerPool:
    """Worker processes that end with the process that started them.

    As a context manager it starts them, lets SIGTERM and SIGUSR1 end this process by `SystemExit`,
    and stops them at the end. In between, `tend` has to be called repeatedly.

    Parameters
    ----------
    settings
        The database; None for the embedded server.
    campaign
        Name of the campaign.
    runs
        Folder for the files of jobs.
    processes
        Number of processes.
    categories
        Which Fireworks they take: of ``cpu``, ``dft`` and ``gpu``.
    until_idle
        Whether they end as soon as nothing is ready.
    patience
        How long to wait for a database that does not answer, s.
    logs
        How the processes write their logs.
    """

    def __init__(
        self,
        settings: DatabaseSettings | None,
        campaign: str,
        runs: Path,
        *,
        processes: int,
        categories: Sequence[str],
        until_idle: bool = False,
        patience: float = worker.PATIENCE,
        logs: LogSettings = LogSettings(),  # noqa: B008
    ) -> None:
        self._settings = settings
        self._campaign = campaign
        self._patience = patience
        self._arguments = (
            settings,
            campaign,
            runs,
            tuple(categories),
            until_idle,
            patience,
            processes,
            os.getpid(),
            logs,
        )
        self._slots = [_Slot() for _ in range(processes)]
        self._unreleased: dict[str, _Ended] = {}
        self._account: Account | None = None
        self._silent_since: float | None = None
        self._launchpad: LaunchPad | None = None
        self._watch: Watch | None = None
        self._signalled: datetime | None = None
        self._handlers: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        """Start every process."""
        # Each worker computes on one thread: on a busy machine more are slower.
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        for number in SIGNALS:
            self._handlers[number] = signal.signal(number, self._told_to_end)
        self._start_due()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop every process."""
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        try:
            self._stop()
        finally:
            for number, handler in self._handlers.items():
                signal.signal(number, handler)

    def wait(self) -> None:
        """Tend the processes until all have ended for good."""
        while self.tend():
            time.sleep(_PAUSE)

    def tend(self) -> bool:
        """Hand back the tasks of processes that have ended, and replace the processes.

        Returns
        -------
        bool
            Whether any process works, or will.

        Raises
        ------
        AlChargeError
            If the database does not answer for longer than the patience, or every process ends soon
            after its start.
        """
        for slot in self._slots:
            if slot.process is not None and not slot.process.is_alive():
                self._ended(slot)
            elif slot.process is not None:
                self._listen(slot)
        if self._hand_back():
            self._start_due()
        else:
            # During an outage a process may well wait without a sign of life.
            for slot in self._slots:
                slot.pulse.forgive()
        return any(slot.process is not None or slot.due is not None for slot in self._slots)

    @property
    def failed(self) -> bool:
        """Whether a process ended with an error and was not replaced."""
        return any(slot.exit_code != 0 for slot in self._slots)

    def _listen(self, slot: _Slot) -> None:
        """Kill a process that has been silent for too long; give up what cannot be killed."""
        assert slot.process is not None
        silent = slot.pulse.silent()
        limit = SILENT_SECONDS if slot.pulse.begun else HANGING_SECONDS
        if not slot.silence and silent > limit:
            slot.silence = f"its process was silent for {silent:.0f} s, state {state_of(slot.name)}"
            _log.error("worker %s: %s; it is killed", slot.name, slot.silence)
            slot.process.kill()
            slot.killed = time.monotonic()
        elif slot.silence and time.monotonic() > slot.killed + KILL_SECONDS:
            # Asleep in the kernel: it does nothing more, whenever it wakes up.
            _forget(slot.process)
            self._ended(slot, -signal.SIGKILL)

    def _ended(self, slot: _Slot, code: int | None = None) -> None:
        """Record how a process ended, and when another one takes its place."""
        assert slot.process is not None
        if code is None:
            code = slot.process.exitcode or 0
            slot.process.close()
        slot.exit_code = code
        slot.process, slot.due = None, None
        if code == 0:
            return
        reason, crashed = (slot.silence, True) if slot.silence else _how_it_ended(code)
        self._unreleased[slot.name] = _Ended(reason, crashed, now())
        level = logging.WARNING if crashed else logging.INFO
        _log.log(level, "worker %s: %s", slot.name, reason)
        if code == InputError.exit_code or (
            code == EXIT_CODE and batch_seconds_left() < SAVE_SECONDS
        ):
            return
        soon = time.monotonic() - slot.started < _SHORT_LIFE
        slot.short_lives = slot.short_lives + 1 if soon else 0
        if code != EXIT_CODE and slot.short_lives > _MOST_SHORT_LIVES:
            raise AlChargeError(
                f"worker processes exit soon after they start: {_how_it_ended(code)[0]}",
                where=self._campaign,
                remedy="see what they printed; 'al-charge doctor' lists what they left behind",
            )
        pause = min(_LONGEST_PAUSE, 0.5 * slot.short_lives**2)
        slot.due = time.monotonic() + pause

    def _start_due(self) -> None:
        context = multiprocessing.get_context("spawn")
        for slot in self._slots:
            if slot.process is None and slot.due is not None and slot.due <= time.monotonic():
                slot.pulse, slot.silence = Pulse(), ""
                arguments = (*self._arguments, slot.pulse)
                slot.process = context.Process(target=worker.main, args=arguments)
                slot.process.start()
                slot.name = worker_name(slot.process.pid)
                slot.started, slot.due = time.monotonic(), None

    def _hand_back(self) -> bool:
        """Hand back the tasks of processes that have ended; return whether the database answered.

        Raises
        ------
        AlChargeError
            If it has not answered for longer than the patience.
        """
        try:
            launchpad = self._connected()
            assert self._account is not None
            self._account.beat([slot.name for slot in self._slots if slot.process is not None])
            for name, end in list(self._unreleased.items()):
                self._account.close(name, end.crashed, end.reason, end.time)
                if released := release_runs_of(launchpad, [name], end.reason, end.crashed):
                    _log.info("worker %s: tasks returned to the queue: %d", name, released)
                worker_registry.forget(launchpad, [name])
                del self._unreleased[name]
            assert self._watch is not None
            self._watch.look()
        except (*OUTAGE, AlChargeError) as error:
            self._wait_or_give_up(error)
            return False
        self._silent_since = None
        return True

    def _connected(self) -> LaunchPad:
        if self._settings is None:
            from al_charge.store.embedded import EmbeddedServer

            EmbeddedServer().start()  # restarts it after a crash
        if self._launchpad is None:
            self._launchpad = connect_launchpad(self._settings)
            self._watch = Watch(self._launchpad, self._campaign)
            ledger = store_of(self._launchpad).ledger
            self._account = Account(ledger, self._campaign, len(self._slots))
        return self._launchpad

    def _wait_or_give_up(self, error: Exception) -> None:
        now = time.monotonic()
        if self._silent_since is None:
            self._silent_since = now
            _log.warning("waiting for the database: %s", one_line(str(error)))
        if now - self._silent_since > self._patience:
            raise AlChargeError(
                f"the database has not answered for {self._patience:.0f} s",
                where=self._campaign,
                remedy=f"when it answers, 'al-charge campaign resume {self._campaign}'",
            ) from error

    def _stop(self) -> None:
        """Stop every process, and hand back their tasks."""
        alive = [slot.process for slot in self._slots if slot.process is not None]
        for process in alive:
            process.terminate()
        if self._account is not None and (ended := self._job_end()) is not None:
            with suppress(PyMongoError):
                self._account.end(ended)
        deadline = time.monotonic() + SAVE_SECONDS
        for process in alive:
            while process.is_alive() and time.monotonic() < deadline:
                process.join(_PAUSE)
                self._show_life()
            if process.is_alive():
                process.kill()
                process.join(KILL_SECONDS)
            if process.is_alive():
                _forget(process)
        for slot in self._slots:
            if slot.process is not None:
                self._unreleased[slot.name] = _Ended("its worker was told to stop", False, now())
                slot.process, slot.due = None, None
        try:
            if self._hand_back() and self._account is not None:
                self._account.end(self._job_end())
        except AlChargeError:
            pass  # logged already; resume finds their tasks
        finally:
            if self._launchpad is not None:
                self._launchpad.connection.close()

    def _job_end(self) -> datetime | None:
        """Return when the queue that has told this process to end stopped to count, if it has."""
        return None if self._signalled is None else job_end(self._signalled)

    def _told_to_end(self, number: int, _frame: FrameType | None) -> None:
        self._signalled = now()
        raise SystemExit(128 + number)

    def _show_life(self) -> None:
        """Say that processes still save their work: a queue charges for that, too."""
        if self._account is not None and self._silent_since is None:
            try:
                self._account.beat([slot.name for slot in self._slots if slot.process is not None])
            except PyMongoError:
                self._silent_since = time.monotonic()


def _how_it_ended(code: int) -> tuple[str, bool]:
    """Return how a process ended, and whether it did so by itself or was killed."""
    if code == EXIT_CODE:
        return "its worker had to end", False
    if code == InputError.exit_code:
        return "its worker was refused", False
    if code == HANGS:
        return "its process hung: it computed nothing for half an hour", True
    if -code in ENDING:
        return f"its process was stopped by {signal.Signals(-code).name}", False
    how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
    return f"its process {how}", True


def _forget(process: SpawnProcess) -> None:
    """Keep Python from waiting for a process, as it does for all children when it ends."""
    multiprocessing.process._children.discard(process)  # type: ignore[attr-defined]
