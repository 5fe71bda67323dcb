"""How a start of VASP ended: by itself, or cut off.

Custodian looks at files before it looks at exit codes, and would correct or refuse what a killed
run has left. So the first of its handlers looks whether VASP has ended at all.

A module of its own: custodian notes classes by module, and `run` is ``__main__`` when it runs.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from custodian.custodian import ErrorHandler
from custodian.vasp.jobs import VaspJob
from typing_extensions import override

OUTPUTS = ("vasp.out", "std_err.txt")
"""Where custodian keeps what VASP and its launcher print."""

REFUSES = "I REFUSE TO CONTINUE WITH THIS SICK JOB"
"""What VASP prints when it stops because of its input."""

_TAIL = 1 << 20
"""Bytes at the end of a file in which VASP's last words are looked for."""


class CutOffError(Exception):
    """VASP did not finish.

    Parameters
    ----------
    status
        Exit status of its command.
    """

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class CommandJob(VaspJob):
    """Custodian's own job, which knows how its command ended."""

    @override
    def run(self, directory: str = "./") -> subprocess.Popen[bytes]:
        self._stopped = False  # by custodian itself, because of an error that it corrects
        process: subprocess.Popen[bytes] = super().run(directory)  # type: ignore[no-untyped-call]
        self._process = process
        return process

    @override
    def terminate(self, directory: str = "./") -> None:
        self._stopped = True
        super().terminate(directory)

    @property
    def status(self) -> int | None:
        """Exit status; None while it runs, and where custodian itself has ended it."""
        return None if self._stopped else self._process.poll()


class EndHandler(ErrorHandler):
    """Ends custodian where VASP was cut off; has to be the first handler.

    Parameters
    ----------
    job
        The job.
    telling
        Handlers that look for errors in what VASP prints. What they know, they may judge.
    """

    is_monitor = False

    def __init__(self, job: CommandJob, telling: Sequence[ErrorHandler]) -> None:
        self.job, self.telling = job, telling

    @override
    def check(self, directory: str = "./") -> bool:
        """Look whether VASP has ended; it finds no error to correct.

        Raises
        ------
        CutOffError
            If it has not.
        """
        folder = Path(directory)
        status = self.job.status
        if status is None or came_to_its_end(folder) or refused(folder):
            return False
        if any(one.check(directory) for one in self.telling):  # type: ignore[no-untyped-call]
            return False
        raise CutOffError(status)

    @override
    def correct(self, directory: str = "./") -> dict[str, Any]:
        raise NotImplementedError("it finds nothing to correct")


def came_to_its_end(folder: Path) -> bool:
    """Tell whether VASP wrote its last words, so that all its files are whole.

    Parameters
    ----------
    folder
        In which it ran.

    Returns
    -------
    bool
        False also where it wrote nothing.
    """
    closed = b"</modeling>" in _tail(folder / "vasprun.xml")
    return closed and b"Elapsed time (sec)" in _tail(folder / "OUTCAR")


def refused(folder: Path) -> bool:
    """Tell whether VASP stopped because of its input.

    Parameters
    ----------
    folder
        In which it ran.

    Returns
    -------
    bool
        Whether it said so.
    """
    return any(REFUSES.encode() in _tail(folder / name) for name in OUTPUTS)


def said(folder: Path) -> list[str]:
    """Return the last lines that VASP and its launcher printed.

    Parameters
    ----------
    folder
        In which it ran.

    Returns
    -------
    list of str
        Those of the standard error last.
    """
    texts = [_tail(folder / name)[-4000:].decode(errors="replace") for name in OUTPUTS]
    return [line for text in texts for line in text.splitlines() if line.strip()]


def _tail(file: Path) -> bytes:
    try:
        with file.open("rb") as text:
            text.seek(max(0, os.fstat(text.fileno()).st_size - _TAIL))
            return text.read()
    except OSError:
        return b""
