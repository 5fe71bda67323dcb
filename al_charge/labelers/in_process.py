"""Labelers without an engine of their own: they compute in this process, from species alone."""

from __future__ import annotations

import hashlib
import json
import time
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from typing_extensions import override

from al_charge.crystal.species import tokens_of
from al_charge.crystal.valence import Audit, Windows
from al_charge.errors import AlChargeError, CrashedError
from al_charge.labelers.files import read_json, write_json
from al_charge.labelers.kept_frames import kept_frames
from al_charge.labelers.protocol import Attempt, Frame, Labeler, Reading, Relax

INPUT, RESULT = "input.json", "result.json"
"""The files of a job."""


class InProcessLabeler(Labeler):
    """A labeler that writes what it computes into ``result.json``, beside ``input.json``.

    Charge states are part of its model: there is nothing to steer, and nothing to audit.

    Parameters
    ----------
    relax
        What moves.
    fmax
        Largest force at the end of a relaxation, eV/angstrom.
    max_steps
        Steps after which a relaxation has failed.
    """

    gives_stress = True
    tries = 1

    def __init__(self, relax: Relax, fmax: float, max_steps: int) -> None:
        self._relax = relax
        self._fmax = fmax
        self._max_steps = max_steps

    @property
    @abstractmethod
    def name(self) -> str:
        """Name of the engine, as a label says it."""

    @property
    @abstractmethod
    def attempt(self) -> str:
        """What its only attempt is, in words."""

    @abstractmethod
    def refuse_unknown(self, species: Sequence[str]) -> None:
        """Refuse species that it cannot label.

        Parameters
        ----------
        species
            Tokens.

        Raises
        ------
        InputError
            If there is one.
        """

    @abstractmethod
    def compute(self, job: dict[str, Any]) -> tuple[list[Frame], dict[str, Any]]:
        """Compute what is asked for.

        Parameters
        ----------
        job
            What ``input.json`` holds: ``species``, ``positions`` and ``cell`` (angstrom),
            ``relax``, ``fmax`` (eV/angstrom) and ``max_steps``.

        Returns
        -------
        frames
            Every geometry, from the one asked for to the last.
        details
            Details of the label.

        Raises
        ------
        AlChargeError
            If there is no result.
        """

    @property
    @override
    def relax(self) -> Relax:
        return self._relax

    @override
    def prepare(self, atoms: Atoms, directory: Path, *, relax: Relax, attempt: int) -> None:
        """Write ``input.json``."""
        species = tokens_of(atoms)
        self.refuse_unknown(species)
        document = {
            "model": self.settings(),
            "relax": relax.value,
            "fmax": self._fmax,
            "max_steps": self._max_steps,
            "species": species,
            "positions": atoms.positions.tolist(),
            "cell": atoms.cell.array.tolist(),
        }
        try:
            directory.mkdir(parents=True, exist_ok=True)
            # The result of another job must be gone before this one's input is there.
            if _input(directory) != document:
                (directory / RESULT).unlink(missing_ok=True)
        except OSError as error:
            raise AlChargeError(
                f"cannot write: {error.strerror or error}", where=str(directory)
            ) from error
        write_json(directory / INPUT, document)

    @override
    def run(self, directory: Path) -> None:
        """Write ``result.json``, with the frames that a label keeps."""
        job = read_json(directory / INPUT)
        if self._has_ended(directory):
            return
        began = time.monotonic()
        frames, details = self.compute(job)
        kept = kept_frames([frame.energy for frame in frames])
        result = {
            "job": _identity(job),
            "frames": [_record(frames[i]) for i in kept],
            "details": details,
            "wall_time": time.monotonic() - began,
        }
        write_json(directory / RESULT, result)

    @override
    def read(self, directory: Path) -> Reading:
        job, result = read_json(directory / INPUT), read_json(directory / RESULT)
        try:
            if result["job"] != _identity(job):
                raise AlChargeError(
                    "the result belongs to another job", where=str(directory / RESULT)
                )
            return Reading(
                frames=tuple(_frame(record) for record in result["frames"]),
                moments=None,
                bader=None,
                converged=True,
                engine=self.name,
                wall_time=result["wall_time"],
                attempts=(Attempt(self.attempt, "converged"),),
                details=result["details"],
            )
        except (KeyError, TypeError, ValueError) as error:
            raise CrashedError(
                "the file is truncated or damaged", where=str(directory / RESULT)
            ) from error

    def _has_ended(self, directory: Path) -> bool:
        try:
            self.read(directory)
        except AlChargeError:
            return False
        return True

    @override
    def audit(self, reading: Reading, species: Sequence[str], windows: Windows | None) -> Audit:
        """Return the requested charge states, which are part of the model."""
        return Audit(tuple(species))


def _input(directory: Path) -> dict[str, Any] | None:
    try:
        return read_json(directory / INPUT)
    except AlChargeError:
        return None


def _identity(job: dict[str, Any]) -> str:
    """Return the identity of a job, a hash of all that is asked for."""
    return hashlib.sha256(json.dumps(job, sort_keys=True).encode()).hexdigest()[:16]


def _record(frame: Frame) -> dict[str, Any]:
    return {
        "positions": frame.positions.tolist(),
        "cell": frame.cell.tolist(),
        "energy": frame.energy,
        "forces": frame.forces.tolist(),
        "stress": None if frame.stress is None else frame.stress.tolist(),
    }


def _frame(record: dict[str, Any]) -> Frame:
    return Frame(
        positions=np.array(record["positions"], dtype=float),
        cell=np.array(record["cell"], dtype=float),
        energy=float(record["energy"]),
        forces=np.array(record["forces"], dtype=float),
        stress=np.array(record["stress"], dtype=float),
    )
