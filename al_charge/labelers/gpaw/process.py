"""Run an engine in a process of its own, which ends on time and leaves nothing behind."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from itertools import dropwhile
from pathlib import Path
from typing import Any

from al_charge.errors import AlChargeError

LOG = "output.log"
"""Name of the file that holds whatever the process printed."""

_ONE_THREAD = {
    f"{library}_NUM_THREADS": "1" for library in ("OMP", "OPENBLAS", "MKL", "BLIS", "NUMEXPR")
}


def run(command: Sequence[str], directory: Path, timeout: float) -> None:
    """Run a command to its end in a session of its own, one thread to a process.

    Its whole process group is killed when the time is up or when this call is left in any other
    way, and the kernel kills it when the calling process dies.

    Parameters
    ----------
    command
        Program and arguments.
    directory
        Where it runs and where its output is kept.
    timeout
        seconds.

    Raises
    ------
    AlChargeError
        If it ran out of time, or ended with any other exit status than zero.
    """
    log = directory / LOG
    guard = [sys.executable, "-m", "al_charge.labelers.gpaw.guard", str(os.getpid())]
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
            status = process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AlChargeError(
                f"not finished after {timeout:g} s and killed",
                where=str(log),
                remedy="allow a longer timeout or more processes",
            ) from None
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if status != 0:
        raise AlChargeError(f"the run failed ({_reason(status, log)})", where=str(log))


def write_json(path: Path, document: dict[str, Any]) -> None:
    """Write a document so that a reader finds all of it or none."""
    unfinished = path.with_name(path.name + ".tmp")
    unfinished.write_text(json.dumps(document), encoding="utf-8")
    unfinished.replace(path)


def read_json(path: Path) -> dict[str, Any]:
    """Read a document that `write_json` wrote.

    Raises
    ------
    AlChargeError
        If there is none or it cannot be read.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise AlChargeError("the run left no readable result", where=str(path)) from error
    if not isinstance(document, dict):
        raise AlChargeError("the run left no readable result", where=str(path))
    return document


def _reason(status: int, log: Path) -> str:
    """Return why a process failed: the signal that ended it, or the error that it printed."""
    if status < 0:
        return f"killed by {signal.Signals(-status).name}"
    message = _last_message(log.read_text(errors="replace").splitlines())
    if "KohnShamConvergenceError" in message:
        return "SCF did not converge in the allowed number of steps"
    return message[:300] or f"exit status {status}"


def _last_message(lines: list[str]) -> str:
    """Return the message of the last traceback, or the last line where there is none."""
    lines = [line for line in lines if line.strip()]
    tracebacks = [i for i, line in enumerate(lines) if line.startswith("Traceback ")]
    if not tracebacks:
        return lines[-1].strip() if lines else ""
    after = lines[tracebacks[-1] + 1 :]
    message = dropwhile(lambda line: line.startswith(" "), after)
    return " ".join(line.strip() for line in message)
