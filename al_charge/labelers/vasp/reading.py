"""Read the stages of a job into one reading, with the atoms in the order they were given in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from al_charge.errors import AlChargeError, CrashedError
from al_charge.labelers.files import BADER, read_json, write_json
from al_charge.labelers.protocol import Array, Attempt, BaderCharges, Frame, Reading
from al_charge.labelers.vasp import comparability, custodian_log, outputs, stages
from al_charge.labelers.vasp.request import Request, Stage

_SAME_PLACE = 1e-3
"""angstrom; coordinates are written with seven digits or more."""


def read(request: Request, directory: Path) -> Reading:
    """Read a job.

    Parameters
    ----------
    request
        The job.
    directory
        Its folder.

    Returns
    -------
    Reading
        What was found.

    Raises
    ------
    AlChargeError
        If the SCF did not converge, or the atoms are not those of the request.
    CrashedError
        If a file is missing, truncated or damaged; the job may be run again.
    """
    last = request.stages[-1]
    folder = directory / last.name
    run = outputs.read_vasprun(folder)
    if not run.electrons_converged:
        raise AlChargeError(
            f"SCF did not converge in {run.parameters.get('NELM', 'the allowed')} steps",
            where=str(folder),
        )
    summary = outputs.read_outcar(folder)
    relaxed = [stage for stage in request.stages if stage.name == stages.RELAXATION]
    frames = _relaxation(request, relaxed[0], directory) if relaxed else []
    asked = request.atoms(last) if not relaxed else None
    frames += [_ordered(frame, request, asked, folder) for frame in run.frames]
    if request.moments is not None and summary.moments is None:
        raise AlChargeError("OUTCAR has no moments of the atoms", where=str(folder))
    bader, refused = _bader(request, frames[-1], directory)
    ended = not relaxed or outputs.read_vasprun(directory / stages.RELAXATION).converged
    return Reading(
        frames=tuple(frames),
        moments=None if summary.moments is None else _atoms_order(summary.moments, request),
        bader=bader,
        bader_refused=refused,
        converged=run.converged and ended,
        engine=f"VASP {run.version}",
        wall_time=_wall_time(request, directory, summary),
        unusable=comparability.broken_by(
            run, _as_written(last.incar, request.elements), request.kpoints, request.titles
        ),
        datasets={
            element: f"{run.titles.get(element, '?')} sha256:{request.hashes[element][:16]}"
            for element in request.elements
        },
        attempts=tuple(_attempts(request, directory)),
        cores=summary.cores,
        details={
            "start": request.start,
            "stages": [stage.name for stage in request.stages],
            "free_energy": run.free_energy,
            "hubbard_u": dict(run.hubbard_u),
            "kpoints": request.kpoints,
            "nupdown": last.incar.get("NUPDOWN"),
            "incar": {tag: _plain(value) for tag, value in sorted(run.incar.items())},
        },
    )


def _relaxation(request: Request, stage: Stage, directory: Path) -> list[Frame]:
    """Return the steps of a relaxation, those of earlier starts first."""
    folder = directory / stage.name
    run = outputs.read_vasprun(folder)
    frames = [*outputs.archived_frames(folder), *run.frames]
    return [_ordered(frame, request, None, folder) for frame in frames]


def _ordered(frame: Frame, request: Request, asked: Atoms | None, folder: Path) -> Frame:
    """Return a frame with its atoms in the order of the job, in the image that was asked for.

    Parameters
    ----------
    asked
        The geometry that it must be, in the order of the POSCAR; None for one that moved.
    """
    if len(frame.positions) != len(request.order):
        raise AlChargeError(
            f"{len(frame.positions)} atoms instead of the {len(request.order)} requested",
            where=str(folder),
        )
    start = request.atoms(request.stages[-1])
    moved = np.linalg.solve(frame.cell.T, frame.positions.T).T - start.get_scaled_positions(
        wrap=False
    )
    positions = frame.positions - np.round(moved) @ frame.cell
    if asked is not None:
        _check_same(positions, frame.cell, asked, folder)
    return replace(
        frame,
        positions=_atoms_order(positions, request),
        forces=_atoms_order(frame.forces, request),
    )


def _check_same(positions: Array, cell: Array, asked: Atoms, folder: Path) -> None:
    off = max(np.abs(positions - asked.positions).max(), np.abs(cell - asked.cell.array).max())
    if off > _SAME_PLACE:
        raise AlChargeError(
            f"VASP ran a geometry other than the requested one: {off:.3f} A away",
            where=str(folder),
        )


def _atoms_order(values: Array, request: Request) -> Array:
    """Bring rows from the order of the POSCAR into that of the job's atoms."""
    result = np.empty_like(values)
    result[np.array(request.order)] = values
    return result


def keep_charges(found: Reading, directory: Path) -> None:
    """Write the Bader charges of a job that has ended, which then no longer needs its densities.

    Parameters
    ----------
    found
        What `read` found.
    directory
        Folder of the job.

    Raises
    ------
    CrashedError
        If they cannot be written.
    """
    charges: dict[str, Any] = {"energy": found.frames[-1].energy, "refused": found.bader_refused}
    if found.bader is not None:
        charges["net"] = found.bader.net.tolist()
        charges["electrons"] = found.bader.electrons.tolist()
    write_json(directory / BADER, charges)


def _kept(directory: Path, last: Frame) -> tuple[BaderCharges | None, str] | None:
    """Return what `keep_charges` has written; None if it did not, or of another run."""
    try:
        charges = read_json(directory / BADER)
        if charges["energy"] != last.energy:
            return None
        if refused := str(charges["refused"]):
            return None, refused
        return BaderCharges(np.array(charges["net"]), np.array(charges["electrons"])), ""
    except (CrashedError, KeyError):
        return None


def _bader(request: Request, last: Frame, directory: Path) -> tuple[BaderCharges | None, str]:
    """Return the charges and why there are none, one of which is empty."""
    if not request.bader:
        return None, "not asked for"
    if (kept := _kept(directory, last)) is not None:
        return kept
    folder = directory / request.stages[-1].name
    from al_charge.labelers import bader

    symbols = np.empty(len(request.order), dtype=object)
    symbols[np.array(request.order)] = request.symbols
    atoms = Atoms(list(symbols), positions=last.positions, cell=last.cell, pbc=True)
    try:
        return bader.from_aeccar(folder, atoms, [request.electrons[el] for el in symbols]), ""
    except CrashedError:
        raise  # a damaged density is no property of the label
    except AlChargeError as error:
        return None, str(error)


def _wall_time(request: Request, directory: Path, summary: outputs.Summary) -> float:
    noted = sum(stages.seconds(directory / stage.name) for stage in request.stages)
    return max(noted, summary.seconds)


def _attempts(request: Request, directory: Path) -> list[Attempt]:
    """Return every start of VASP in every stage."""
    found: list[Attempt] = []
    for stage in request.stages:
        folder = directory / stage.name
        began = f"{stage.name}: {request.start if not found else 'from the stage before'}"
        for aside in sorted(folder.glob("interrupted-*")):
            found += custodian_log.attempts(aside, began, "interrupted")
            began = f"{stage.name}: from where the interrupted run stopped"
        found += custodian_log.attempts(folder, began, "converged")
    return found


def _as_written(incar: Mapping[str, Any], elements: list[str]) -> dict[str, Any]:
    """Return a stage's tags as its INCAR has them: those by element as lists."""
    return {
        tag: [value[element] for element in elements] if isinstance(value, dict) else value
        for tag, value in incar.items()
    }


def _plain(value: Any) -> Any:
    """Return a tag's value as JSON has it."""
    if isinstance(value, bool | int | float | str) or value is None:
        return value
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else str(value)
