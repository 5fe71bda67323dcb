"""Labels from the ionic model: relaxations of ions and cell in a fraction of a second."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from typing_extensions import override

from al_charge.errors import AlChargeError, InputError
from al_charge.labelers.born.model import BornModel, refuse_unknown
from al_charge.labelers.born.parameters import METAL_ENERGIES, VERSION, parameter_hash
from al_charge.labelers.born.relaxation import Point, relax
from al_charge.labelers.born.settings import BornSettings
from al_charge.labelers.in_process import InProcessLabeler
from al_charge.labelers.protocol import Frame, Relax

LARGEST_MOVE = 1.5
"""An ion that relaxes further than this, in angstrom, has left its site or was on none: half the
distance between neighbouring sodium sites in olivine."""


class BornLabeler(InProcessLabeler):
    """Labels made by the analytic ionic model.

    Parameters
    ----------
    settings
        Whether and how far to relax.
    """

    def __init__(self, settings: BornSettings) -> None:
        super().__init__(settings.relax, float(settings.fmax), settings.max_steps)

    @override
    def settings(self) -> dict[str, Any]:
        return {"engine": "born", "version": VERSION, "parameters": parameter_hash()}

    @override
    def check(self, species: Sequence[str], ion: str) -> None:
        refuse_unknown(species)
        _metal(ion)

    @property
    @override
    def name(self) -> str:
        return f"born {VERSION}"

    @property
    @override
    def attempt(self) -> str:
        return "charges and pair terms by species"

    @override
    def refuse_unknown(self, species: Sequence[str]) -> None:
        refuse_unknown(species)

    @override
    def compute(self, job: dict[str, Any]) -> tuple[list[Frame], dict[str, Any]]:
        """Relax the structure; a relaxation in which an ion leaves its site has failed."""
        points = _points(job)
        move = _largest_move(points)
        if move > LARGEST_MOVE:
            raise AlChargeError(
                f"an ion moved {move:.1f} A in the relaxation: this is another configuration",
                where="Born labeler",
                remedy="start with every ion near its site",
            )
        return [_frame(point) for point in points], {
            "steps": len(points) - 1,
            "largest_move": move,
            "largest_force": float(np.abs(points[-1].result.forces).max()),
        }

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


def _frame(point: Point) -> Frame:
    result = point.result
    return Frame(point.positions, point.cell, result.energy, result.forces, result.stress)
