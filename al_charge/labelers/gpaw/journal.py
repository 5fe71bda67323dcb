"""The files of a GPAW job; those of what it has done so far let a killed one continue.

The state of the calculation (density, potential and wave functions) is in `STATE`, the geometries
that are done are lines of `FRAMES`, and everything else is in `PROGRESS`. Each is replaced in one
step; an incomplete last line is dropped.
"""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import asdict, dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import Any

from al_charge.errors import CrashedError
from al_charge.labelers.files import read_json, write_json

INPUT = "input.json"
"""What is asked for."""
RESULT = "result.json"
"""What GPAW found."""
NO_SCF = "SCF did not converge"
"""Prefix of the line in which a run says that no attempt has converged."""

PROGRESS, FRAMES = "progress.json", "frames.jsonl"

Record = dict[str, Any]


@dataclass
class Journal:
    """The progress of one job.

    Attributes
    ----------
    attempts
        Each with what it changed and how it ended; of the one that is under way, an empty outcome.
    rung, stage
        Place in the SCF ladder.
    steps
        SCF steps of the attempt that is under way.
    all_steps
        SCF steps of all attempts.
    wall_time
        seconds, up to the last record.
    failed
        Whether every rung has failed.
    writes
        Whether this process is the one that writes.
    """

    attempts: list[Record] = field(default_factory=list)
    rung: int = 0
    stage: int = 0
    steps: int = 0
    all_steps: int = 0
    wall_time: float = 0.0
    failed: bool = False
    writes: bool = field(default=True, repr=False)

    def __post_init__(self) -> None:
        """Start the clock."""
        self._clock = time.monotonic()

    @classmethod
    def of_folder(cls, *, writes: bool) -> Journal:
        """Return the journal of the working folder, a new one if there is none.

        Parameters
        ----------
        writes
            Whether this process is the one that writes.

        Returns
        -------
        Journal
            As it was last saved; a new one also where that cannot be read.
        """
        try:
            return cls(**read_json(Path(PROGRESS)), writes=writes)
        except (CrashedError, TypeError):  # there is none, or it is damaged
            return cls(writes=writes)

    def begin(self, changed: str) -> None:
        """Begin an attempt.

        Parameters
        ----------
        changed
            What is different from the attempt before, in words.
        """
        self.attempts.append({"changed": changed, "outcome": ""})
        self.steps = 0
        self.save()

    def end(self, outcome: str) -> None:
        """End the attempt that is under way; the caller saves what comes next.

        Parameters
        ----------
        outcome
            How it ended, such as ``converged after 20 steps``.
        """
        self.attempts[-1]["outcome"] = outcome

    @property
    def under_way(self) -> bool:
        """Whether an attempt has begun and not ended."""
        return bool(self.attempts) and not self.attempts[-1]["outcome"]

    def count(self) -> None:
        """Count an SCF step."""
        self.steps += 1
        self.all_steps += 1

    def save(self) -> None:
        """Write the journal to its file, if this process is the one that writes."""
        now = time.monotonic()
        self.wall_time += now - self._clock
        self._clock = now
        if self.writes:
            document = asdict(self)
            del document["writes"]
            write_json(Path(PROGRESS), document)

    def add_frame(self, frame: Record) -> None:
        """Append a geometry with its results to those that are done.

        Parameters
        ----------
        frame
            As `al_charge.labelers.gpaw.engine.Engine.evaluate` returns it.
        """
        if self.writes:
            with Path(FRAMES).open("a", encoding="utf-8") as file:
                file.write(json.dumps(frame) + "\n")


def repair_frames() -> None:
    """Drop the geometry whose writer was killed, to be done by one process alone.

    With a line that cannot be read, those after it are dropped, too.
    """
    path = Path(FRAMES)
    if not path.exists():
        return
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
    whole = list(takewhile(_is_whole, lines))
    if len(whole) < len(lines):
        path.write_text("".join(whole), encoding="utf-8")


def _is_whole(line: str) -> bool:
    try:
        return line.endswith("\n") and isinstance(json.loads(line), dict)
    except ValueError:
        return False


def read_frames() -> list[Record]:
    """Return the geometries that are done.

    Returns
    -------
    list of dict
        In the order in which they were computed.
    """
    path = Path(FRAMES)
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [json.loads(line) for line in lines]


def identity(job: dict[str, Any]) -> str:
    """Return the identity of a job, a hash of all that is asked for.

    Parameters
    ----------
    job
        The contents of ``input.json``.

    Returns
    -------
    str
        16 hexadecimal digits.
    """
    return hashlib.sha256(json.dumps(job, sort_keys=True).encode()).hexdigest()[:16]
