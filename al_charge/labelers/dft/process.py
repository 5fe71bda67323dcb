"""Run an engine in a process of its own, which ends on time and leaves nothing behind."""

from __future__ import annotations

import builtins
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
from al_charge.labelers.dft.ending import how as how_it_ended
from al_charge.labelers.dft.ending import told_to_end
from al_charge.stopping import TOLD_TO_END, batch_seconds_left, heeding_signals

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

_SIGNAL_DELAY = 0.3
"""Seconds in which a signal that ended the engine reaches this process, too."""

_LAST_LINES = 30
"""Lines of output in which a launcher says how the engine ended."""

MARGIN = 60.0
"""Seconds of a batch job that are left for what comes after the engine."""

GUARD = Path(__file__).with_name("guard.py")
"""Run by its path, not as a module, whose package would take a second to import."""

_ONE_THREAD = {
    f"{library}_NUM_THREADS": "1" for library in ("OMP", "OPENBLAS", "MKL", "BLIS", "NUMEXPR")
}


def run(
    command: Sequence[str],
    directory: Path,
    timeout: float,
    *,
    error_prefix: str = "",
    result: str = "",
) -> None:
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
        Prefix of the line in which the engine itself says why it has failed, whatever its launcher
        says after it.
    result
        File that an engine that has come to its end leaves in the folder, for launchers whose exit
        status is zero whatever happens; empty if the exit status tells.

    Raises
    ------
    UnfinishedError
        If it ran out of time, or was told to end, as by a batch system.
    CrashedError
        If it was killed, or does not say why it ended, or the reason lies in the machine.
    AlChargeError
        If it ended for a reason of its own: with a line of that prefix, or an exception of Python.
    """
    if TOLD_TO_END.is_set():
        raise UnfinishedError("this process was told to end", where=str(directory))
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
            status, asked = _wait(process, timeout, stop, directory / result)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if status == 0 and (directory / result).exists():
        return
    if status is None or status == STOPPED:
        how = "killed" if status is None else "stopped at a saved state"
        late = time.monotonic() - began >= timeout
        why = f"not finished after {timeout:g} s" if late else "told to end"
        raise UnfinishedError(
            f"{why} and {how}",
            where=str(log),
            remedy="run it again, and it continues from its last saved state",
        )
    lines = log.read_text(errors="replace").splitlines()
    if asked or told_to_end(status, lines[-_LAST_LINES:]):
        how = how_it_ended(status, lines[-_LAST_LINES:])
        raise UnfinishedError(f"told to end, and did so at once ({how})", where=str(log))
    raise _failure(status, lines, error_prefix, log)


def time_left() -> float:
    """Return the seconds that the batch job leaves to an engine, infinite where none is known.

    Returns
    -------
    float
        seconds.
    """
    return batch_seconds_left() - GRACE - MARGIN


def _wait(
    process: subprocess.Popen[bytes], timeout: float, stop: Path, result: Path
) -> tuple[int | None, bool]:
    """Return the exit status, and whether the process had been asked to stop.

    The status is None if the process did not heed that.
    """
    end = time.monotonic() + timeout
    with heeding_signals() as told:
        while not told() and (left := end - time.monotonic()) > 0:
            with contextlib.suppress(subprocess.TimeoutExpired):
                status = process.wait(min(left, _POLL_INTERVAL))
                if status != STOPPED and not (status == 0 and result.exists()):
                    # A batch system tells engine and worker in any order.
                    end = time.monotonic() + _SIGNAL_DELAY
                    while not told() and time.monotonic() < end:
                        time.sleep(_SIGNAL_DELAY / 10)
                return status, told()
        stop.touch()
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.wait(GRACE), True
    return None, True


def _failure(status: int, lines: list[str], error_prefix: str, log: Path) -> AlChargeError:
    """Return the error of an engine that has failed: a verdict only if it said why itself."""
    # MPI has its own last words.
    told = [line for line in lines if error_prefix and line.startswith(error_prefix)]
    message = told[0] if told else _exception(lines)
    if message:
        kind = CrashedError if not told and _of_the_machine(message) else AlChargeError
        return kind(f"the run failed ({message[:600]})", where=str(log))
    how = how_it_ended(status, lines[-_LAST_LINES:])
    return CrashedError(f"the run failed ({how})", where=str(log))


def _exception(lines: list[str]) -> str:
    """Return the message of the last traceback; empty where there is none."""
    lines = [line for line in lines if any(map(str.isalnum, line))]
    tracebacks = [i for i, line in enumerate(lines) if line.startswith("Traceback ")]
    if not tracebacks:
        return ""
    after = lines[tracebacks[-1] + 1 :]
    message = dropwhile(lambda line: line.startswith(" "), after)
    return " ".join(line.strip() for line in message)


def _of_the_machine(message: str) -> bool:
    """Tell whether an exception says nothing about the job, and may not recur elsewhere."""
    name = message.partition(":")[0].strip().rpartition(".")[2]
    known = getattr(builtins, name, None)
    faults = (OSError, ImportError, MemoryError, KeyboardInterrupt)
    return (isinstance(known, type) and issubclass(known, faults)) or name in (
        "_ArrayMemoryError",
        CrashedError.__name__,
    )
