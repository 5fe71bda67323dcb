"""The GPAW side of a label: ``python -m al_charge.labelers.gpaw.run``, in the job's folder.

It reads ``input.json`` and writes ``result.json``; nothing else is exchanged. An exception ends the
process, and its last line in the log is the reason that the labeler reports.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from al_charge.labelers.gpaw.guard import die_with_parent
from al_charge.labelers.gpaw.process import read_json, write_json

START_DENSITY_TOLERANCE = 1e-3
"""How well the density of a start geometry is converged, in electrons per valence electron: it only
has to have settled on its charge order."""


def compute(request: dict[str, Any], text_log: str) -> dict[str, Any]:
    """Run one single point.

    Parameters
    ----------
    request
        See `al_charge.labelers.gpaw.request`.
    text_log
        Where GPAW writes its own log.

    Returns
    -------
    dict
        Energies in eV, forces in eV/angstrom, moments in Bohr magnetons or None, the number of SCF
        steps at each geometry, and the fingerprints of the PAW datasets.
    """
    from gpaw import GPAW, __version__

    atoms = Atoms(
        request["numbers"],
        positions=request["positions"],
        cell=request["cell"],
        pbc=True,
        magmoms=request["moments"],
    )
    calculator = GPAW(txt=text_log, **request["parameters"])
    steps = {}
    if request["start_positions"] is not None:
        start = atoms.copy()
        start.positions = np.array(request["start_positions"])
        steps["start"] = _settle(calculator, start)
    # The calculator keeps its wave functions when atoms move, so this continues from the start.
    steps["final"] = sum(1 for _ in calculator.iconverge(atoms))
    return {
        "engine": f"GPAW {__version__}",
        "energy": float(calculator.get_potential_energy(atoms)),
        "free_energy": float(calculator.get_potential_energy(atoms, force_consistent=True)),
        "forces": calculator.get_forces(atoms).tolist() if request["forces"] else None,
        "moments": calculator.get_magnetic_moments(atoms).tolist(),
        "steps": steps,
        "setups": {setup.symbol: setup.fingerprint for setup in calculator.setups},
    }


def _settle(calculator: Any, atoms: Atoms) -> int:
    """Iterate until the density of a start geometry has settled; return the number of steps."""
    from gpaw.convergence_criteria import Density

    settled = Density(START_DENSITY_TOLERANCE)
    steps = 0
    for context in calculator.iconverge(atoms):
        steps += 1
        if settled(context)[0]:
            break
    return steps


def main() -> None:
    """Do the job of the working folder."""
    die_with_parent()
    result = compute(read_json(Path("input.json")), "gpaw.txt")
    from gpaw.mpi import world

    if world.rank == 0:
        write_json(Path("result.json"), result)


if __name__ == "__main__":
    main()
