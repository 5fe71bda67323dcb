"""Processes that stand in for worker processes, and what may befall those."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from typing import Any, Protocol

EVERY, HANGING = 0.05, 0.5
"""Seconds between beats, and in which a process may compute nothing."""

_COMPUTE = "while True: pass"


class Beating(Protocol):
    """What `al_charge.fw.pulse.Pulse` is for its process."""

    def beat(self, every: float, hanging_after: float) -> None:
        """Beat from now on.

        Parameters
        ----------
        every
            Time between two beats, s.
        hanging_after
            How long the process may get nowhere before it ends, s.
        """


def lives(*arguments: Any) -> None:
    """Beat and do nothing else, in place of `al_charge.fw.worker.main`.

    Parameters
    ----------
    *arguments
        Its arguments.
    """
    arguments[-1].beat(EVERY)
    while True:
        time.sleep(EVERY)


def hangs(pulse: Beating) -> None:
    """Wait for a lock that nobody will release.

    Parameters
    ----------
    pulse
        Beats.
    """
    pulse.beat(EVERY, HANGING)
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()


def polls(pulse: Beating) -> None:
    """Look now and then for something that does not come.

    Parameters
    ----------
    pulse
        Beats.
    """
    pulse.beat(EVERY, HANGING)
    while True:
        time.sleep(EVERY)


def waits_for_a_process(pulse: Beating) -> None:
    """Wait for another process that computes.

    Parameters
    ----------
    pulse
        Beats.
    """
    with subprocess.Popen([sys.executable, "-c", _COMPUTE]) as child:
        pulse.beat(EVERY, HANGING)
        child.wait()


def waits_for_a_thread(pulse: Beating) -> None:
    """Wait for another thread that computes.

    Parameters
    ----------
    pulse
        Beats.
    """
    pulse.beat(EVERY, HANGING)
    thread = threading.Thread(target=exec, args=(_COMPUTE,))
    thread.start()
    thread.join()
