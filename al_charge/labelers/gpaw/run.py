"""The GPAW side of a label: ``python -m al_charge.labelers.gpaw.run``, in the job's folder.

It reads ``input.json`` and writes ``result.json`` and, for the Bader charges, ``density.npz``; on
the way it keeps what `al_charge.labelers.gpaw.journal` names. An exception ends the process, and
its last line in the log is the reason that the labeler reports.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from ase import Atoms

from al_charge.labelers.dft.guard import die_with_parent
from al_charge.labelers.dft.process import STOPPED
from al_charge.labelers.files import DENSITY, STATE, read_json, write_json
from al_charge.labelers.gpaw.journal import (
    FRAMES,
    INPUT,
    RESULT,
    Journal,
    identity,
    read_frames,
    repair_frames,
)


def compute(request: dict[str, Any]) -> dict[str, Any]:
    """Do the job of the working folder, from wherever it has got to.

    Parameters
    ----------
    request
        See `al_charge.labelers.gpaw.request`.

    Returns
    -------
    dict
        Frames with energies in eV, forces in eV/angstrom, stress in eV/angstrom^3 (six components,
        Voigt) and moments in Bohr magnetons; the attempts, and the fingerprints of the PAW
        datasets.
    """
    from gpaw import __version__
    from gpaw.mpi import world

    from al_charge.labelers.gpaw.engine import Engine
    from al_charge.labelers.gpaw.relaxation import relax

    journal = Journal.of_folder(writes=world.rank == 0)
    if world.rank == 0:
        repair_frames()
    world.barrier()
    frames = read_frames()
    engine = Engine(request, journal)
    atoms = Atoms(
        request["numbers"], positions=request["positions"], cell=request["cell"], pbc=True
    )
    if request.get("scales"):
        frames = [engine.evaluate(_scaled(atoms, scale)) for scale in request["scales"]]
    elif request["relax"] is None:
        frames = [engine.evaluate(atoms)]
    else:
        frames = relax(engine, atoms, request["relax"], frames, journal)
    if request["density_refinement"]:
        engine.write_density(Path(DENSITY))
    journal.save()
    journal.end(f"converged after {journal.steps} steps")
    return {
        "job": identity(request),
        "engine": f"GPAW {__version__}",
        "frames": frames,
        "setups": engine.setups,
        "attempts": journal.attempts,
        "scf_steps": journal.all_steps,
        "wall_time": journal.wall_time,
        "cores": world.size,
    }


def _scaled(atoms: Atoms, factor: float) -> Atoms:
    scaled: Atoms = atoms.copy()
    scaled.set_cell(atoms.cell * factor, scale_atoms=True)
    return scaled


def main() -> None:
    """Do the job of the working folder."""
    die_with_parent()
    from gpaw.mpi import world

    from al_charge.labelers.gpaw.engine import NotConvergedError, StoppedError

    try:
        result = compute(read_json(Path(INPUT)))
    except StoppedError:
        sys.exit(STOPPED)
    except NotConvergedError as error:
        sys.exit(str(error))
    if world.rank == 0:
        write_json(Path(RESULT), result)
        for name in (STATE, FRAMES):
            Path(name).unlink(missing_ok=True)


if __name__ == "__main__":
    main()
