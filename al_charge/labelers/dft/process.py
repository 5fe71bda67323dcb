"""Run an engine in a process of its own, which ends on time and leaves nothing behind."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from itertools import dropwhile
from pathlib import Path

from al_charge.errors import AlChargeError, CrashedError, UnfinishedError
from al_charge.stopping import batch_seconds_left, heeding_signals

STOP = "stop"
"""File that asks a run to stop where it can be continued."""

STOPPED = 75
"""Exit status of a run that has stopped where it can be continued."""

LOG = "output.log"
"""File with the output of the process."""

GRACE = 120.0
"""Seconds that a process has to stop in: an SCF step and the writing of its state."""

_POLL_INTERVAL = 0.5
"""Seconds between two checks whether this process was told to stop."""

MARGIN = 60.0
"""Seconds of a batch job that are left for what comes after the engine."""

GUARD = Path(__file__).with_name("guard.py")
"""Run by its path, not as a module, whose package would take a second to import."""

_ONE_THREAD = {
    f"{library}_NUM_THREADS": "1" for library in ("OMP", "OPENBLAS", "MKL", "BLIS", "NUMEXPR")
}


def run(command: Sequence[str], directory: Path, timeout: float, *, error_prefix: str = "") -> None:
    """Run a command to its end in a session of its own, one thread to a process.

    When the time is up, or that of the batch job nearly is, or a signal tells this process to
    stop, the file `STOP` asks it to stop where it can be continued. Its whole process group is
    killed when it does not, or when this call is left in any other way, and the kernel kills it
    when the calling process dies.

    Parameters
    ----------
    command
        Program and arguments.
    directory
        Where it runs and where its output is kept.
    timeout
        seconds.
    error_prefix
        Prefix of the line that gives the reason of a failure; by default the last message is taken.

    Raises
    ------
    UnfinishedError
        If it ran out of time, or was told to end.
    CrashedError
        If a signal killed it.
    AlChargeError
        If it ended with any other exit status than zero.
    """
    log, stop = directory / LOG, directory / STOP
    timeout = min(timeout, time_left())
    if timeout <= 0:
        raise UnfinishedError("the batch job has no time left for a run", where=str(directory))
    stop.unlink(missing_ok=True)
    began = time.monotonic()
    guard = [sys.executable, str(GUARD), str(os.getpid())]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*guard, *command],
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=os.environ | _ONE_THREAD,
            start_new_session=True,
        )
        try:
            status = _wait(process, timeout, stop)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if status is None or status == STOPPED:
        how = "killed" if status is None else "stopped at a saved state"
        late = time.monotonic() - began >= timeout
        why = f"not finished after {timeout:g} s" if late else "told to end"
        raise UnfinishedError(
            f"{why} and {how}",
            where=str(log),
            remedy="run it again, and it continues from its last saved state",
        )
    if status != 0:
        kind = CrashedError if status < 0 else AlChargeError
        raise kind(f"the run failed ({_reason(status, log, error_prefix)})", where=str(log))


def time_left() -> float:
    """Return the seconds that the batch job leaves to an engine, infinite where none is known.

    Returns
    -------
    float
        seconds.
    """
    return batch_seconds_left() - GRACE - MARGIN


def _wait(process: subprocess.Popen[bytes], timeout: float, stop: Path) -> int | None:
    """Return the exit status, None if the process did not heed the request to stop."""
    end = time.monotonic() + timeout
    with heeding_signals() as told:
        while not told() and (left := end - time.monotonic()) > 0:
            with contextlib.suppress(subprocess.TimeoutExpired):
                return process.wait(min(left, _POLL_INTERVAL))
        stop.touch()
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.wait(GRACE)
    return None


def _reason(status: int, log: Path, error_prefix: str) -> str:
    """Return why a process failed: the signal that ended it, or the error that it printed."""
    if status < 0:
        return f"killed by {signal.Signals(-status).name}"
    lines = log.read_text(errors="replace").splitlines()
    # MPI has its own last words.
    told = [line for line in lines if error_prefix and line.startswith(error_prefix)]
    message = told[0] if told else _last_message(lines)
    return message[:600] or f"exit status {status}"


def _last_message(lines: list[str]) -> str:
    """Return the message of the last traceback, or the last line where there is none."""
    lines = [line for line in lines if any(map(str.isalnum, line))]
    tracebacks = [i for i, line in enumerate(lines) if line.startswith("Traceback ")]
    if not tracebacks:
        return lines[-1].strip() if lines else ""
    after = lines[tracebacks[-1] + 1 :]
    message = dropwhile(lambda line: line.startswith(" "), after)
    return " ".join(line.strip() for line in message)
