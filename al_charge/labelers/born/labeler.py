"""Labels from the ionic model: relaxations of ions and cell in a fraction of a second."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from typing_extensions import override

from al_charge.crystal.species import tokens_of
from al_charge.crystal.valence import Audit, Windows
from al_charge.errors import AlChargeError, CrashedError, InputError
from al_charge.labelers.born.model import BornModel, refuse_unknown
from al_charge.labelers.born.parameters import METAL_ENERGIES, VERSION, parameter_hash
from al_charge.labelers.born.relaxation import Point, relax
from al_charge.labelers.born.settings import BornSettings
from al_charge.labelers.files import read_json, write_json
from al_charge.labelers.kept_frames import kept_frames
from al_charge.labelers.protocol import Attempt, Frame, Labeler, Reading, Relax

LARGEST_MOVE = 1.5
"""An ion that relaxes further than this, in angstrom, has left its site or was on none: half the
distance between neighbouring sodium sites in olivine."""

INPUT, RESULT = "input.json", "result.json"
"""The files of a job."""


class BornLabeler(Labeler):
    """Labels made by the analytic ionic model.

    Parameters
    ----------
    settings
        Whether and how far to relax.
    """

    gives_stress = True
    tries = 1
    """Charge states are part of the model: there is nothing to steer."""

    def __init__(self, settings: BornSettings) -> None:
        self._settings = settings

    @property
    @override
    def relax(self) -> Relax:
        return self._settings.relax

    @override
    def settings(self) -> dict[str, Any]:
        return {"engine": "born", "version": VERSION, "parameters": parameter_hash()}

    @override
    def check(self, species: Sequence[str], ion: str) -> None:
        refuse_unknown(species)
        _metal(ion)

    @override
    def prepare(self, atoms: Atoms, directory: Path, *, relax: Relax, attempt: int) -> None:
        """Write ``input.json``."""
        species = tokens_of(atoms)
        refuse_unknown(species)
        document = {
            "model": self.settings(),
            "relax": relax.value,
            "fmax": float(self._settings.fmax),
            "max_steps": self._settings.max_steps,
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
        """Write ``result.json``; a relaxation in which an ion leaves its site has failed."""
        job = read_json(directory / INPUT)
        if self._has_ended(directory):
            return
        began = time.monotonic()
        points = _points(job)
        move = _largest_move(points)
        if move > LARGEST_MOVE:
            raise AlChargeError(
                f"an ion moved {move:.1f} A in the relaxation: this is another configuration",
                where="Born labeler",
                remedy="start with every ion near its site",
            )
        kept = kept_frames([point.result.energy for point in points])
        result = {
            "job": _identity(job),
            "frames": [_record(points[i]) for i in kept],
            "details": {
                "steps": len(points) - 1,
                "largest_move": move,
                "largest_force": float(np.abs(points[-1].result.forces).max()),
            },
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
                engine=f"born {VERSION}",
                wall_time=result["wall_time"],
                attempts=(Attempt("charges and pair terms by species", "converged"),),
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

    @override
    def metal_energy(self, ion: str, directory: Path) -> float:
        """Return the energy that stands for the metal; nothing is written.

        An ionic model has no metal. The number is fitted so that one material's mean voltage is
        that of experiment: only the steps of a voltage curve are the model's own.
        """
        return _metal(ion)


def _metal(ion: str) -> float:
    if ion not in METAL_ENERGIES:
        raise InputError(
            f"the Born labeler has no metal reference for {ion}",
            where="host.working_ion",
            remedy=f"it has one for {', '.join(METAL_ENERGIES)}",
        )
    return METAL_ENERGIES[ion]


def _input(directory: Path) -> dict[str, Any] | None:
    try:
        return read_json(directory / INPUT)
    except AlChargeError:
        return None


def _identity(job: dict[str, Any]) -> str:
    """Return the identity of a job, a hash of all that is asked for."""
    return hashlib.sha256(json.dumps(job, sort_keys=True).encode()).hexdigest()[:16]


def _points(job: dict[str, Any]) -> list[Point]:
    """Return the geometries of a job, from the one asked for to the relaxed one."""
    model = BornModel(job["species"])
    positions, cell = np.array(job["positions"]), np.array(job["cell"])
    if job["relax"] == Relax.NONE:
        return [Point(positions, cell, model.evaluate(positions, cell))]
    return relax(
        model,
        positions,
        cell,
        fmax=job["fmax"],
        max_steps=job["max_steps"],
        fixed_cell=job["relax"] == Relax.IONS,
    )


def _largest_move(points: list[Point]) -> float:
    """Return how far an ion has moved at most, in angstrom, without strain and common drift."""
    first, last = points[0], points[-1]
    moves = last.positions @ np.linalg.inv(last.cell) - first.positions @ np.linalg.inv(first.cell)
    moves -= moves.mean(axis=0)
    return float(np.linalg.norm(moves @ last.cell, axis=1).max())


def _record(point: Point) -> dict[str, Any]:
    return {
        "positions": point.positions.tolist(),
        "cell": point.cell.tolist(),
        "energy": point.result.energy,
        "forces": point.result.forces.tolist(),
        "stress": point.result.stress.tolist(),
    }


def _frame(record: dict[str, Any]) -> Frame:
    return Frame(
        positions=np.array(record["positions"], dtype=float),
        cell=np.array(record["cell"], dtype=float),
        energy=float(record["energy"]),
        forces=np.array(record["forces"], dtype=float),
        stress=np.array(record["stress"], dtype=float),
    )
