"""Relax a cell with GPAW's forces and stress, step by step on disk."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.filters import FrechetCellFilter
from ase.optimize import BFGS
from ase.optimize.cellawarebfgs import CellAwareBFGS
from gpaw.mpi import world

from al_charge.errors import AlChargeError
from al_charge.labelers.gpaw.engine import Engine
from al_charge.labelers.gpaw.journal import Journal, Record

HESSIAN, CELL_HESSIAN = "hessian.json", "cell-hessian.json"
"""What the optimisers have learned; begun anew where it cannot be read."""

Rest = Callable[[dict[str, float]], bool]


class _Points(Calculator):
    """The engine as ASE's optimisers want it; it writes down every geometry."""

    implemented_properties = ["energy", "forces", "stress"]  # noqa: RUF012 - as ASE has it

    def __init__(self, engine: Engine, frames: list[Record], journal: Journal) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._engine, self._frames, self._journal = engine, frames, journal

    def calculate(
        self, atoms: Any = None, properties: Any = None, system_changes: Any = all_changes
    ) -> None:
        """Find energy, forces and stress of a geometry; see ASE's calculators."""
        super().calculate(atoms, properties, system_changes)  # type: ignore[no-untyped-call]
        point = self._known(atoms)
        if point is None:
            point = self._engine.evaluate(atoms)
            self._journal.add_frame(point)
            self._frames.append(point)
        self.results = {"energy": point["energy"], "forces": np.array(point["forces"])}
        if point["stress"] is not None:
            self.results["stress"] = np.array(point["stress"])

    def _known(self, atoms: Atoms) -> Record | None:
        """Return the last frame if it is this geometry: where a continued run begins."""
        if not self._frames:
            return None
        last = self._frames[-1]
        same = np.array_equal(last["positions"], atoms.positions)
        return last if same and np.array_equal(last["cell"], atoms.cell.array) else None


def relax(
    engine: Engine,
    atoms: Atoms,
    request: dict[str, Any],
    frames: list[Record],
    journal: Journal,
) -> list[Record]:
    """Return the frames of a relaxation: the first, some between, and the last.

    Parameters
    ----------
    atoms
        The geometry that was asked for.
    request
        ``cell``, whether the cell moves as well; ``fmax`` in eV/angstrom; ``max_steps``.
    frames
        Those that are done; added to.
    """
    moving = atoms.copy()
    moving.calc = _Points(engine, frames, journal)
    stages = _stages(moving, request)  # the cell's coordinates count from the first cell
    if frames:
        moving.set_cell(frames[-1]["cell"])
        moving.set_positions(frames[-1]["positions"])
    while not all(stage.reached() for stage in stages):
        for stage in stages:
            left = request["max_steps"] + 1 - len(frames)
            if not stage.run(max(left, 0)):
                raise AlChargeError(
                    f"the relaxation has not converged after {request['max_steps']} steps",
                    where="labeler.max_steps",
                    remedy="allow more steps or a larger fmax",
                )
    engine.evaluate(moving)
    return [frames[index] for index in kept(frames)]


def _stages(moving: Atoms, request: dict[str, Any]) -> list[_Stage]:
    """Return what is done in turn: the cell with its ions, if it moves, then the ions alone."""
    ions = _Stage(moving, HESSIAN, {"fmax": request["fmax"]}, partial(_ions_at_rest, moving))
    if not request["cell"]:
        return [ions]
    largest = request["fmax"] * len(moving) / moving.get_volume()
    cell = _Stage(
        FrechetCellFilter(moving, exp_cell_factor=1.0),
        CELL_HESSIAN,
        {"fmax": float("inf"), "smax": largest},
        partial(_cell_at_rest, moving),
    )
    return [cell, ions]


class _Stage:
    """Quasi-Newton steps until something is at rest.

    Ions and cell together would not come to rest: a strain of a thousandth changes the forces on
    stiff groups such as PO4 more than a step has gained. So the cell moves until its stress is
    within the limit, then ions alone, and again if that has strained the cell.
    """

    def __init__(self, target: Any, hessian: str, limits: dict[str, float], rest: Rest) -> None:
        self._target, self._hessian, self._limits, self._rest = target, hessian, limits, rest

    def reached(self) -> bool:
        """Return whether it is at rest."""
        return self._rest(self._limits)

    def run(self, steps: int) -> bool:
        """Move until it is at rest; return whether it is, after so many steps at most."""
        try:
            optimiser = self._optimiser()
        except (ValueError, TypeError, KeyError, EOFError):
            Path(self._hessian).unlink(missing_ok=True)
            optimiser = self._optimiser()
        return bool(optimiser.run(steps=steps, **self._limits))

    def _optimiser(self) -> BFGS:
        # With one first guess of the stiffness for ions and cell, the cell crawls and then leaps.
        kind = BFGS if isinstance(self._target, Atoms) else CellAwareBFGS
        return kind(
            self._target,
            logfile="relaxation.txt",
            restart=self._hessian,
            maxstep=0.1,
            alpha=70.0,
            comm=world,
        )


def _ions_at_rest(atoms: Atoms, limits: dict[str, float]) -> bool:
    return bool(np.linalg.norm(atoms.get_forces(), axis=1).max() < limits["fmax"])


def _cell_at_rest(atoms: Atoms, limits: dict[str, float]) -> bool:
    return bool(np.abs(atoms.get_stress()).max() < limits["smax"])


def kept(frames: list[Record], between: int = 3) -> list[int]:
    """Choose the first and last geometry of a relaxation and some between, by index.

    Those between are evenly spaced in the square root of the energy still to be gained, which near
    a minimum is the distance from it.
    """
    energies = np.array([frame["energy"] for frame in frames])
    ends = {0, len(frames) - 1}
    if len(ends) == 1 or energies[0] <= energies[-1]:
        return sorted(ends)
    left = np.sqrt(np.maximum(energies - energies[-1], 0.0) / (energies[0] - energies[-1]))
    wanted = np.linspace(1.0, 0.0, between + 2)[1:-1]
    return sorted(ends | {int(np.abs(left - fraction).argmin()) for fraction in wanted})
