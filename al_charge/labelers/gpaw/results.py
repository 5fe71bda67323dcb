"""Read what a GPAW job has left."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.stress import voigt_6_to_full_3x3_stress

from al_charge.errors import AlChargeError, CrashedError
from al_charge.labelers.bader import from_gpaw
from al_charge.labelers.files import BADER, DENSITY, read_json
from al_charge.labelers.gpaw.journal import INPUT, RESULT, identity
from al_charge.labelers.protocol import Attempt, BaderCharges, Frame, Reading


def reading(directory: Path) -> Reading:
    """Read the result of a job.

    Parameters
    ----------
    directory
        The folder of the job.

    Returns
    -------
    Reading
        What was found.

    Raises
    ------
    AlChargeError
        If a file is of another job than ``input.json``, or its numbers make no label.
    CrashedError
        If a file is missing, truncated or damaged; the job may be run again.
    """
    job, result = read_json(directory / INPUT), read_json(directory / RESULT)
    where = str(directory / RESULT)
    if result.get("job") != identity(job):
        raise AlChargeError("the result belongs to another job", where=where)
    bader, refused = _bader(job, directory)
    try:
        frames = tuple(_frame(record, len(job["numbers"])) for record in result["frames"])
        last = result["frames"][-1]
        moments = np.array(last["moments"], dtype=float)
        if moments.shape != (len(job["numbers"]),):
            raise AlChargeError(f"its moments have shape {moments.shape}", where=where)
        return Reading(
            frames=frames,
            moments=moments,
            bader=bader,
            bader_refused=refused,
            converged=True,
            engine=result["engine"],
            datasets=result["setups"],
            attempts=tuple(Attempt(**attempt) for attempt in result["attempts"]),
            wall_time=float(result["wall_time"]),
            cores=int(result["cores"]),
            details=job.get("about", {})
            | {
                "free_energy": last["free_energy"],
                "scf_steps": result["scf_steps"],
                "total_moment": last["total_moment"],
            },
        )
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise CrashedError("the file is truncated or damaged", where=where) from error


def read_bader(job: dict[str, Any], directory: Path) -> dict[str, Any]:
    """Return the Bader charges of the density that a job has left, or why there are none.

    Parameters
    ----------
    job
        The contents of ``input.json``.
    directory
        The folder of the job.

    Returns
    -------
    dict
        Charges ``net`` and ``electrons``, one for each atom, or ``refused`` with the reason.

    Raises
    ------
    CrashedError
        If the density is missing or damaged.
    """
    last = read_json(directory / RESULT)["frames"][-1]
    atoms = Atoms(job["numbers"], positions=last["positions"], cell=last["cell"], pbc=True)
    try:
        charges = from_gpaw(directory / DENSITY, atoms)
    except CrashedError:
        raise
    except AlChargeError as error:
        return {"job": identity(job), "refused": str(error)}
    return {
        "job": identity(job),
        "net": charges.net.tolist(),
        "electrons": charges.electrons.tolist(),
    }


def minimum(result: Reading) -> float:
    """Return the minimum of the parabola through energies at several volumes.

    Parameters
    ----------
    result
        Of the metal, with a frame for each volume.

    Returns
    -------
    float
        eV.

    Raises
    ------
    AlChargeError
        If it is not between the volumes.
    """
    volumes = np.array([abs(np.linalg.det(frame.cell)) for frame in result.frames])
    energies = np.array([frame.energy for frame in result.frames])
    # Around their middles: far from zero, rounding in the fit would be that of large differences.
    middle, offset = volumes.mean(), energies.mean()
    curvature, slope, constant = np.polyfit(volumes - middle, energies - offset, 2)
    lowest = middle - slope / (2 * curvature)
    if curvature <= 0 or not volumes.min() <= lowest <= volumes.max():
        raise AlChargeError(
            "the energy of the metal has no minimum near its experimental volume",
            where="labeler",
            remedy="give a higher cutoff, more metal_kpoints or a larger basis",
        )
    # To 1e-9 eV: what is beyond depends on the order in which a library adds.
    return round(float(offset + constant - slope**2 / (4 * curvature)), 9)


def _bader(job: dict[str, Any], directory: Path) -> tuple[BaderCharges | None, str]:
    if not job["density_refinement"]:
        return None, ""
    found = read_json(directory / BADER)
    if found.get("job") != identity(job):
        raise AlChargeError("the charges belong to another job", where=str(directory / BADER))
    if "refused" in found:
        return None, str(found["refused"])
    try:
        net, electrons = np.array(found["net"], float), np.array(found["electrons"], float)
    except (KeyError, TypeError, ValueError) as error:
        raise CrashedError(
            "the file is truncated or damaged", where=str(directory / BADER)
        ) from error
    return BaderCharges(net, electrons), ""


def _frame(record: dict[str, Any], n_atoms: int) -> Frame:
    forces = record["forces"]
    given = np.array(forces if forces is not None else np.zeros((n_atoms, 3)), dtype=float)
    if given.shape != (n_atoms, 3) or not np.isfinite([record["energy"], given.sum()]).all():
        raise AlChargeError("its energy or forces are missing, NaN or infinite", where=RESULT)
    stress = record["stress"]
    return Frame(
        positions=np.array(record["positions"], dtype=float),
        cell=np.array(record["cell"], dtype=float),
        energy=float(record["energy"]),
        forces=given,
        stress=voigt_6_to_full_3x3_stress(np.array(stress)) if stress is not None else None,
    )
