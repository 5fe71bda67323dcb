"""Feeding malformed input to the command line and looking at everything that it may touch."""

from __future__ import annotations

import hashlib
import os
import random
import tempfile
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from al_charge.cli.main import main

LONGEST_LINE = 600
"""Characters of a refusal, of which the path of a test's folder may be a hundred."""
Snapshot = dict[str, tuple[int, int, str]]


@dataclass
class Sweep:
    """Runs the command line in a folder of its own, and says how a refusal is not as it should be.

    Attributes
    ----------
    folder
        The working directory, below which the user's own folder and temporary files are as well.
    seen
        Hashes of the inputs so far, each of which counts once.
    """

    folder: Path
    capture: pytest.CaptureFixture[str]
    seen: set[str] = field(default_factory=set)

    def refuse(self, *argv: str, names: Iterable[str] = ()) -> str:
        """Run one command; return what is wrong with how it was refused, or nothing.

        Parameters
        ----------
        names
            The line must have one of them, such as the name of the file.
        """
        self.seen.add(hashlib.sha256(repr((argv, snapshot(self.folder))).encode()).hexdigest())
        before = snapshot(self.folder)
        with warnings.catch_warnings(record=True) as warned:
            _as_python_shows_them()
            code = _exit_code(argv)
        out, err = self.capture.readouterr()
        changed = sorted(set(snapshot(self.folder).items()) ^ set(before.items()))
        wrong = [
            f"exit {code}" if code != 2 else "",
            f"stdout {out[:200]!r}" if out else "",
            f"{err.count(chr(10))} lines" if err.count("\n") != 1 else "",
            "a long line" if len(err) > LONGEST_LINE else "",
            "control characters" if not err.replace("\n", "").isprintable() else "",
            "no 'al-charge: '" if not err.startswith("al-charge: ") else "",
            "a traceback" if "Traceback" in err or "fault of al-charge" in err else "",
            f"warnings {[str(w.message)[:80] for w in warned]}" if warned else "",
            f"changed {[name for name, _ in changed]}" if changed else "",
            "" if not names or any(name in err for name in names) else f"none of {names}",
        ]
        problems = "; ".join(filter(None, wrong))
        return f"{problems}: {err[:300]!r}" if problems else ""

    def each(
        self,
        cases: Iterable[tuple[str, bytes | str]],
        file: str,
        *argv: str,
        names: Iterable[str] = (),
    ) -> int:
        """Refuse a command for each content of a file; return how many distinct inputs there were.

        Raises
        ------
        AssertionError
            With the first of those that were not refused as they should be.
        """
        path = self.folder / file
        start = len(self.seen)
        faults = []
        for what, content in cases:
            path.write_bytes(content.encode() if isinstance(content, str) else content)
            if problem := self.refuse(*argv, names=names or (path.name,)):
                faults.append(f"{what}: {problem}")
        path.unlink(missing_ok=True)
        assert not faults, f"{len(faults)} of {file}\n" + "\n".join(faults[:40])
        return len(self.seen) - start


@pytest.fixture
def sweep(
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Sweep:
    """A folder to work in, with home and temporary files of its own that must stay as they are."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("AL_CHARGE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    monkeypatch.chdir(tmp_path)
    return Sweep(tmp_path, capfd)


@pytest.fixture
def dice() -> random.Random:
    """The same numbers every time."""
    return random.Random(20)


def snapshot(folder: Path) -> Snapshot:
    """Return kind, size, time and content of everything below a folder."""
    found = {}
    for path in folder.rglob("*"):
        about = path.lstat()
        content = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
        digest = hashlib.sha256(content).hexdigest()
        found[str(path.relative_to(folder))] = (about.st_mode, about.st_mtime_ns, digest)
    return found


def _as_python_shows_them() -> None:
    """Let warnings through as the interpreter does without options, but each time."""
    warnings.resetwarnings()
    warnings.simplefilter("always")
    for quiet in (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning):
        warnings.simplefilter("ignore", quiet)


def _exit_code(argv: Iterable[str]) -> object:
    try:
        main([os.fspath(argument) for argument in argv])
    except SystemExit as end:
        return end.code
    except BaseException as error:
        return f"{type(error).__name__}: {str(error)[:200]}"
    return "none"
