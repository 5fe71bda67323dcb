"""How the process of an engine ended: stopped by a batch system, killed, or by itself.

An exit status tells little behind launchers and wrapper scripts: Open MPI and shells add 128 to the
number of the signal, Hydra gives the number itself, others hide it. So what they print counts, too.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Iterable

from al_charge.stopping import ENDING

_TOLD = re.compile(
    r"CANCELLED AT|CANCELLED DUE TO|DUE TO (?:TIME LIMIT|PREEMPTION|NODE FAILURE|JOB REQUEUE)"
    r"|Node failure on|\bTerminated\b|[Ss]ignal 15\b"
)
"""What Slurm, Open MPI, MPICH and shells say of processes that somebody has ended."""

_KILLED = re.compile(
    r"\bKilled\b|[Oo]ut [Oo]f [Mm]emory|oom.?kill|[Ss]egmentation fault|SIGSEGV|SIGBUS|Bus error"
    r"|\bAborted\b|[Ss]ignal (?:4|6|7|8|9|11)\b|BAD TERMINATION"
)
"""What they say of processes that were killed or crashed."""


def signal_of(status: int) -> signal.Signals | None:
    """Return the signal that ended a process.

    Parameters
    ----------
    status
        Its exit status: negative for a signal, as `subprocess` has it, or that of a shell or Open
        MPI, which add 128.

    Returns
    -------
    signal.Signals or None
        None if no signal is known to have ended it.
    """
    number = -status if status < 0 else status - 128
    return signal.Signals(number) if number in {one.value for one in signal.Signals} else None


def told_to_end(status: int, said: Iterable[str] = ()) -> bool:
    """Tell whether somebody has ended a process, rather than a fault of its own or of the machine.

    Parameters
    ----------
    status
        Its exit status.
    said
        Last lines that it, its wrapper or its launcher printed.

    Returns
    -------
    bool
        Whether its end says nothing about the job.
    """
    if (number := signal_of(status)) is not None:
        return number in ENDING
    lines = list(said)
    # When one rank dies, a launcher ends the others, which are "Terminated".
    return any(map(_TOLD.search, lines)) and not any(map(_KILLED.search, lines))


def how(status: int, said: Iterable[str] = ()) -> str:
    """Return how a process ended that has left no result.

    Parameters
    ----------
    status
        Its exit status.
    said
        Last lines that it, its wrapper or its launcher printed.

    Returns
    -------
    str
        Such as ``killed by SIGKILL``, or ``exit status 0``, with the last line that tells more.
    """
    number = signal_of(status)
    reason = f"exit status {status}" if number is None else f"killed by {number.name}"
    lines = [line.strip() for line in said if any(map(str.isalnum, line))]
    telling = [line for line in lines if _KILLED.search(line) or _TOLD.search(line)] or lines
    return f"{reason}: {telling[-1][:200]}" if telling else reason
