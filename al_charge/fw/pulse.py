"""The pulse of worker processes: a sign of life that needs no database.

Whoever exists may yet be frozen: stopped, or asleep in the kernel, or waiting for a lock that
nobody will release. A worker process counts its beats where its parent can see them. The parent
kills one that has not been heard for as long as a lost run may be silent. A process that runs and
gets nowhere, because its main thread waits for ever, finds that out and ends by itself.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable
from ctypes import c_ulong

import psutil
from fireworks.fw_config import RUN_EXPIRATION_SECS

BEAT = 5.0
"""Seconds between two beats."""

SILENT_SECONDS = float(RUN_EXPIRATION_SECS)
"""Seconds without a beat after which the parent kills a process that has begun to beat."""

HANGING_SECONDS = 1800.0
"""Seconds in which neither the main thread nor a descendant computes, before a process ends.

A process may also take as long to begin: hundreds that start at once read their files slowly.
"""

HANGS = 70
"""Exit code of a process that has found that it hangs."""

_BUSY = 0.02
"""Share of a core above which threads besides the main one are at work."""

_log = logging.getLogger("al_charge.fw")


class Pulse:
    """Beats of one process, counted in memory that it shares with its parent.

    Made by the parent and handed to the process when it is started.
    """

    def __init__(self) -> None:
        self._beats = multiprocessing.get_context("spawn").RawValue(c_ulong, 0)
        self._heard = 0
        self._looked = time.monotonic()
        self._silent = 0.0

    def silent(self) -> float:
        """Return how long no beat was heard, as long as somebody listened; called by the parent.

        A parent that was stopped itself, as with a whole job that its queue suspends, has not
        listened: of a longer gap between two calls no more than `BEAT` counts.

        Returns
        -------
        float
            s.
        """
        now, beats = time.monotonic(), self._beats.value
        self._silent = 0.0 if beats != self._heard else self._silent + min(now - self._looked, BEAT)
        self._heard, self._looked = beats, now
        return self._silent

    @property
    def begun(self) -> bool:
        """Whether a beat was heard."""
        return self._heard > 0

    def forgive(self) -> None:
        """Forget the silence so far, which has another cause, such as an outage."""
        self._silent = 0.0

    def beat(
        self,
        every: float = BEAT,
        hanging_after: float = HANGING_SECONDS,
        end: Callable[[int], object] = os._exit,
    ) -> None:
        """Beat from now on, in a thread of its own; called by the process.

        Parameters
        ----------
        every
            Time between two beats, s.
        hanging_after
            How long the process may get nowhere before it ends, s.
        end
            Ends the process with an exit code.
        """
        arguments = (every, hanging_after, end)
        threading.Thread(target=self._run, args=arguments, name="pulse", daemon=True).start()

    def _run(self, every: float, hanging_after: float, end: Callable[[int], object]) -> None:
        activity = _Activity()
        idle = 0.0
        while True:
            self._beats.value += 1
            time.sleep(every)
            # Counted in beats: while the machine sleeps, nothing hangs.
            idle = 0.0 if activity.goes_on() else idle + every
            if idle > hanging_after:
                # Whoever hangs may hold the lock of the log.
                teller = threading.Thread(target=_tell, args=(idle,), daemon=True)
                teller.start()
                teller.join(BEAT)
                end(HANGS)
                return


class _Activity:
    """Tells whether this process, or one that it has started, computes."""

    def __init__(self) -> None:
        main = threading.main_thread().ident or 0
        known = hasattr(time, "pthread_getcpuclockid")  # not on macOS
        self._clock = time.pthread_getcpuclockid(main) if known else None
        self._process = psutil.Process()
        self._main = self._descendants = self._others = 0.0
        self._looked = time.monotonic()
        self.goes_on()

    def goes_on(self) -> bool:
        """Return whether anything was computed since the last call."""
        if self._clock is None:
            return True
        main, descendants = time.clock_gettime(self._clock), self._of_descendants()
        # The thread that asks does not count, nor what waits for the database now and then.
        others = time.process_time() - time.thread_time() - main
        now = time.monotonic()
        busy = others - self._others > _BUSY * (now - self._looked)
        goes_on = busy or main != self._main or descendants != self._descendants
        self._main, self._descendants, self._others, self._looked = main, descendants, others, now
        return goes_on

    def _of_descendants(self) -> float:
        total = 0.0
        for one in self._process.children(recursive=True):
            try:
                times = one.cpu_times()
            except psutil.Error:
                continue
            total += times.user + times.system
        return total


def _tell(seconds: float) -> None:
    """Log where the main thread is."""
    frame = sys._current_frames().get(threading.main_thread().ident or 0)
    last = traceback.extract_stack(frame)[-1] if frame is not None else None
    where = f", in {last.name} of {last.filename}, line {last.lineno}" if last else ""
    _log.error("worker process hangs: nothing was computed for %.0f s%s", seconds, where)
