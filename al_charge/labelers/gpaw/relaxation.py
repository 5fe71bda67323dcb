"""Relax a cell with GPAW's forces and stress, step by step on disk."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.filters import FrechetCellFilter
from ase.optimize import BFGS
from ase.optimize.cellawarebfgs import CellAwareBFGS
from ase.optimize.optimize import RestartError
from gpaw.mpi import world

from al_charge.errors import AlChargeError
from al_charge.labelers.gpaw.engine import Engine
from al_charge.labelers.gpaw.journal import Journal, Record
from al_charge.labelers.kept_frames import kept_frames

HESSIAN, CELL_HESSIAN = "hessian.json", "cell-hessian.json"
"""Files with the optimisers' Hessians; started afresh where they cannot be read."""


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
    engine
        Computes one geometry.
    atoms
        The geometry that was asked for.
    request
        ``cell``, whether the cell moves as well; ``fmax`` in eV/angstrom; ``max_steps``.
    frames
        Those that are done; added to.
    journal
        Records each geometry.

    Returns
    -------
    list of dict
        Frames as `Engine.evaluate` returns them.

    Raises
    ------
    AlChargeError
        If it has not converged after ``max_steps``.
    """
    moving = atoms.copy()
    moving.calc = _Points(engine, frames, journal)
    # The cell's coordinates count from the first cell, in a continued run as well.
    stages: list[tuple[Any, str, dict[str, float]]] = [
        (moving, HESSIAN, {"fmax": request["fmax"]}),
    ]
    smax = request["fmax"] * len(moving) / moving.get_volume()
    if request["cell"]:
        cell = FrechetCellFilter(moving, exp_cell_factor=1.0)
        stages.insert(0, (cell, CELL_HESSIAN, {"fmax": float("inf"), "smax": smax}))
    if frames:
        moving.set_cell(frames[-1]["cell"])
        moving.set_positions(frames[-1]["positions"])
    # Ions and cell together would not come to rest: a strain of a thousandth changes the forces on
    # stiff groups such as PO4 more than a step has gained. So the cell moves with its ions until
    # its stress is within the limit, then the ions alone, and again if that has strained it.
    at_rest = False
    while not at_rest:
        for target, hessian, limits in stages:
            done = max(len(frames) - 1, 0)  # the first frame is where the steps begin
            left = request["max_steps"] - done
            if not _optimiser(target, hessian).run(steps=max(left, 0), **limits):
                raise AlChargeError(
                    f"the relaxation has not converged after {request['max_steps']} steps",
                    where="labeler.max_steps",
                    remedy="allow more steps or a larger fmax",
                )
        at_rest = not request["cell"] or bool(np.abs(moving.get_stress()).max() < smax)
    engine.evaluate(moving)
    return [frames[index] for index in kept_frames([frame["energy"] for frame in frames])]


def _optimiser(target: Any, hessian: str) -> BFGS:
    """Return a quasi-Newton optimiser that continues with its Hessian, where that can be read.

    With one first guess of the stiffness for ions and cell, the cell crawls and then leaps.
    """
    kind = BFGS if isinstance(target, Atoms) else CellAwareBFGS
    make = partial(kind, target, logfile="relaxation.txt", maxstep=0.1, alpha=70.0, comm=world)
    try:
        return make(restart=hessian)
    except (RestartError, ValueError, TypeError, KeyError, EOFError):
        Path(hessian).unlink(missing_ok=True)
        return make(restart=hessian)
