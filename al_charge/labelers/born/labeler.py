"""Labels from the ionic model: relaxations of ions and cell in a fraction of a second."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from al_charge.errors import AlChargeError, InputError
from al_charge.labelers.born.model import BornModel, refuse_unknown
from al_charge.labelers.born.parameters import METAL_ENERGIES, VERSION, parameter_hash
from al_charge.labelers.born.relaxation import Point, relax
from al_charge.labelers.protocol import Frame, LabelResult
from al_charge.labelers.settings import BornSettings

FRAMES_BETWEEN = 3
"""Geometries kept between the one that was asked for and the relaxed one."""

LARGEST_MOVE = 1.5
"""An ion that relaxes further than this, in angstrom, has left its site or was on none: half the
distance between neighbouring sodium sites in olivine."""


class BornLabeler:
    """Labels made by the analytic ionic model.

    Parameters
    ----------
    settings
        Whether and how far to relax.
    """

    def __init__(self, settings: BornSettings) -> None:
        self._settings = settings

    def settings(self) -> dict[str, Any]:
        """Return what makes energies comparable: model, parameters and relaxation."""
        return {
            "engine": "born",
            "version": VERSION,
            "parameters": parameter_hash(),
            "relax": self._settings.relax,
            "fmax": float(self._settings.fmax) if self._settings.relax else None,
        }

    def check(self, species: Sequence[str], ion: str) -> None:
        """Refuse species without parameters, and a working ion without a metal reference."""
        refuse_unknown(species)
        self.metal_energy(ion)

    def label(self, atoms: Atoms, directory: Path) -> LabelResult:
        """Label one geometry; see `al_charge.labelers.protocol.Labeler`. It writes no files."""
        if "species" not in atoms.arrays:
            raise InputError("the structure has no species array", where="atoms.arrays")
        began = time.monotonic()
        species = tuple(str(token) for token in atoms.arrays["species"])
        model = BornModel(list(species))
        positions, cell = atoms.positions.copy(), atoms.cell.array.copy()
        if self._settings.relax:
            points = relax(
                model,
                positions,
                cell,
                fmax=float(self._settings.fmax),
                max_steps=self._settings.max_steps,
            )
        else:
            points = [Point(positions, cell, model.evaluate(positions, cell))]
        move = _largest_move(points)
        if move > LARGEST_MOVE:
            raise AlChargeError(
                f"an ion moved {move:.1f} A in the relaxation: this is another configuration",
                where="Born labeler",
                remedy="start with every ion near its site",
            )
        return LabelResult(
            species=species,
            resolved=species,
            frames=tuple(_frame(points[i]) for i in _kept(points)),
            moments=None,
            converged=True,
            engine=f"born {VERSION}",
            wall_time=time.monotonic() - began,
            details={
                "steps": len(points) - 1,
                "largest_move": move,
                "largest_force": float(np.abs(points[-1].result.forces).max()),
            },
        )

    def metal_energy(self, ion: str) -> float:
        """Return the energy that stands for the working-ion metal, eV/atom.

        An ionic model has no metal. The number is fitted so that one material's mean voltage is
        that of experiment: only the steps of a voltage curve are the model's own.

        Raises
        ------
        InputError
            If there is no such fit for the ion.
        """
        if ion not in METAL_ENERGIES:
            raise InputError(
                f"the Born labeler has no metal reference for {ion}",
                where="host.working_ion",
                remedy=f"it has one for {', '.join(METAL_ENERGIES)}",
            )
        return METAL_ENERGIES[ion]


def _kept(points: list[Point]) -> list[int]:
    """Choose the first and last geometry of a relaxation and some between, by index.

    Those between are evenly spaced in the square root of the energy still to be gained, which near
    a minimum is the distance from it.
    """
    energies = np.array([point.result.energy for point in points])
    if len(points) == 1 or energies[0] <= energies[-1]:
        return [0] if len(points) == 1 else [0, len(points) - 1]
    left = np.sqrt(np.maximum(energies - energies[-1], 0.0) / (energies[0] - energies[-1]))
    wanted = np.linspace(1.0, 0.0, FRAMES_BETWEEN + 2)[1:-1]
    between = {int(np.abs(left - fraction).argmin()) for fraction in wanted}
    return sorted({0, len(points) - 1} | between)


def _largest_move(points: list[Point]) -> float:
    """Return how far an ion has moved at most, in angstrom, without strain and common drift."""
    first, last = points[0], points[-1]
    moves = last.positions @ np.linalg.inv(last.cell) - first.positions @ np.linalg.inv(first.cell)
    moves -= moves.mean(axis=0)
    return float(np.linalg.norm(moves @ last.cell, axis=1).max())


def _frame(point: Point) -> Frame:
    result = point.result
    return Frame(point.positions, point.cell, result.energy, result.forces, result.stress)
