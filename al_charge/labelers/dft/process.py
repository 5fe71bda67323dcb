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
from al_charge.labelers.dft.job_folder import LOCK, MARK, engine_folder
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

_END = 5.0
"""Seconds that the guard has to end what it guards."""

MARGIN = 60.0
"""Seconds of a batch job that are left for what comes after the engine."""

_GUARD = Path(__file__).with_name("guard.py")

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
    stop, the file `STOP` asks it to stop where it can be continued. It is killed when it does not,
    or when this call is left in any other way, or the calling process dies, and with it everything
    that it has started. What an earlier start has left running in the folder is killed first; while
    the engine of another process runs there, this call waits.

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
        raise UnfinishedError("this process was asked to stop", where=str(directory))
    log, stop = directory / LOG, directory / STOP
    timeout = min(timeout, time_left())
    if timeout <= 0:
        raise UnfinishedError(
            "the batch job has no time left for another run", where=str(directory)
        )
    with engine_folder(directory) as lock, log.open("wb") as output:
        stop.unlink(missing_ok=True)
        process = subprocess.Popen(
            [*guarded((directory / LOCK).absolute()), *command],
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=os.environ | _ONE_THREAD | {MARK: str(directory.resolve())},
            start_new_session=True,
            pass_fds=(lock.fileno(),),
        )
        began = time.monotonic()
        try:
            status, asked = _wait(process, timeout, stop, directory / result)
        finally:
            _end(process)
    if status == 0 and (directory / result).exists():
        return
    if status is None or status == STOPPED:
        how = "killed" if status is None else "stopped at a saved state"
        late = time.monotonic() - began >= timeout
        why = f"not finished after {timeout:g} s" if late else "asked to stop"
        raise UnfinishedError(
            f"{why}, and {how}",
            where=str(log),
            remedy="run it again to continue from the last saved state",
        )
    lines = log.read_text(errors="replace").splitlines()
    if asked or told_to_end(status, lines[-_LAST_LINES:]):
        how = how_it_ended(status, lines[-_LAST_LINES:])
        raise UnfinishedError(f"asked to stop, and stopped at once ({how})", where=str(log))
    raise _failure(status, lines, error_prefix, log)


def guarded(lock: Path | None = None, patience: float = 2 * GRACE) -> list[str]:
    """Return the words before a command that end it, with all that it starts, with this process.

    Parameters
    ----------
    lock
        That of the folder, if this command is the one that holds it.
    patience
        seconds that the command has to end in after SIGTERM.

    Returns
    -------
    list of str
        They start `al_charge.labelers.dft.guard`.
    """
    held = "" if lock is None else str(lock)
    return [sys.executable, str(_GUARD), str(os.getpid()), str(patience), held]


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


def _end(guard: subprocess.Popen[bytes]) -> None:
    """End an engine at once, with all that it has started."""
    guard.send_signal(signal.SIGINT)
    with contextlib.suppress(subprocess.TimeoutExpired):
        guard.wait(_END)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(guard.pid, signal.SIGKILL)
    guard.wait()


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
