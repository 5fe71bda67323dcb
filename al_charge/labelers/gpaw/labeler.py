"""Labels from GPAW, in plane waves or atomic orbitals, static or relaxed."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from collections.abc import Collection, Sequence
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from typing_extensions import override

from al_charge.crystal.shells import charge_order_contrast, distort_shells
from al_charge.crystal.species import element_of
from al_charge.errors import AlChargeError, CrashedError, InputError
from al_charge.labelers.dft import process
from al_charge.labelers.dft.job_folder import LOCK
from al_charge.labelers.dft.labeler import DftLabeler, metal_crystal
from al_charge.labelers.dft.steering import starts_distorted
from al_charge.labelers.files import BADER, DENSITY, read_json, write_json
from al_charge.labelers.gpaw import ladder, request
from al_charge.labelers.gpaw.journal import INPUT, NO_SCF, PROGRESS, RESULT, identity
from al_charge.labelers.gpaw.results import minimum, read_bader, reading
from al_charge.labelers.gpaw.settings import GpawSettings, known_windows
from al_charge.labelers.protocol import Reading, Relax

STEERINGS = (1.0, 1.5, 2.5)
"""Of the tries: the distortion of the start geometry, in units of ``shell_distortion``."""


class GpawLabeler(DftLabeler):
    """Labels made by GPAW in a process of its own.

    Parameters
    ----------
    settings
        The engine's settings.
    """

    def __init__(self, settings: GpawSettings) -> None:
        super().__init__(settings, known_windows(settings))
        self._settings = settings

    @property
    @override
    def gives_stress(self) -> bool:
        """Only plane waves give a stress."""
        return self._settings.mode == "pw"

    @override
    def settings(self) -> dict[str, Any]:
        """Return functional, accuracy, version and datasets.

        How the ground state is reached (mixing, start density, processes) and how moments are read
        is left out: it does not change the energy of the state that is found.
        """
        s = self._settings
        shared = {
            "engine": "gpaw",
            "version": gpaw_version(),
            "datasets": datasets_identity(),
            "mode": s.mode,
            "xc": s.xc,
            "hubbard_u": s.hashed_u(),
            "smearing": float(s.smearing),
            "kpoints": s.hashed_kpoints(),
            "metal_kpoints": s.metal_kpoints,
            "magnetic_order": s.magnetic_order,
            "fixed_moment": s.fixed_moment,
            "energy_tolerance": float(s.energy_tolerance),
            "density_tolerance": s.density_tolerance,
            **s.given_moments(),
        }
        if s.mode == "lcao":
            return shared | {"basis": s.basis, "grid_spacing": float(s.grid_spacing)}
        return shared | {
            "cutoff": float(s.cutoff),
            "eigenstates_tolerance": s.eigenstates_tolerance,
        }

    @override
    def check(self, species: Sequence[str], ion: str) -> None:
        gpaw_version()
        datasets_identity()
        command(self._settings.processes)
        metal_crystal(ion)
        _check_datasets({*map(element_of, species), ion})

    @override
    def prepare(self, atoms: Atoms, directory: Path, *, relax: Relax, attempt: int) -> None:
        """Write ``input.json``."""
        if relax == Relax.CELL and not self.gives_stress:
            raise InputError(
                "GPAW's mode lcao gives no stress, so it cannot relax a cell",
                where="labeler.mode",
                remedy="use mode: pw, or relax: ions",
            )
        s = self._settings
        contrast = charge_order_contrast(atoms)
        amplitude = STEERINGS[attempt] * s.shell_distortion
        start: Atoms | None = None
        if not starts_distorted(s, atoms, attempt):
            begins = "the geometry itself"
        elif attempt > 0 and relax != Relax.NONE:
            atoms = distort_shells(atoms, amplitude)
            begins = f"a relaxation from shells distorted by {amplitude:g} A"
        else:
            start = distort_shells(atoms, amplitude)
            begins = f"shells distorted by {amplitude:g} A"
        hold = start is not None and attempt == len(STEERINGS) - 1
        rungs = ladder.rungs(s, steered=start is not None, hold_moment=hold)
        document = request.label(s, atoms, start, relax, rungs, hold_moment=hold)
        document["about"] = {
            "start": begins,
            "shell_contrast": contrast if np.isfinite(contrast) else None,
            "steering": attempt,
        }
        _write_input(directory, document)

    @override
    def run(self, directory: Path) -> None:
        """Run the prepared job, or what is left of it, and find its Bader charges."""
        job = read_json(directory / INPUT)
        try:
            if not _has_ended(job, directory):
                process.run(
                    command(self._settings.processes),
                    directory,
                    self._settings.timeout,
                    error_prefix=NO_SCF,
                    result=RESULT,
                )
                result = read_json(directory / RESULT)
                if result.get("job") != identity(job):
                    raise CrashedError("GPAW computed another job", where=str(directory / RESULT))
            if job["density_refinement"] and not (directory / BADER).exists():
                try:
                    found = read_bader(job, directory)
                except CrashedError:
                    (directory / RESULT).unlink()  # to be made again, with its density
                    raise
                write_json(directory / BADER, found)
                if "net" in found:  # a refused density stays, to be looked at
                    (directory / DENSITY).unlink(missing_ok=True)
        except OSError as error:
            raise CrashedError(
                f"cannot run GPAW: {error.strerror or error}", where=str(directory)
            ) from error

    @override
    def progress(self, directory: Path) -> int:
        """Return the SCF steps up to the last saved state."""
        try:
            return int(read_json(directory / PROGRESS).get("all_steps", 0))
        except AlChargeError:
            return 0

    @override
    def read(self, directory: Path) -> Reading:
        return reading(directory)

    @override
    def metal_energy(self, ion: str, directory: Path) -> float:
        """Return the minimum of a parabola through the energies at five volumes."""
        atoms = metal_crystal(ion)
        rungs = ladder.rungs(self._settings, steered=False)
        _write_input(directory, request.metal(self._settings, atoms, rungs))
        self.run(directory)
        return minimum(reading(directory)) / len(atoms)


def command(processes: int) -> list[str]:
    """Return the command that runs a job, under MPI for more than one process.

    Parameters
    ----------
    processes
        MPI ranks.

    Returns
    -------
    list of str
        Program and arguments.

    Raises
    ------
    InputError
        If MPI is asked for and there is no ``mpiexec``.
    """
    module = "al_charge.labelers.gpaw.run"
    if processes == 1:
        return [sys.executable, "-m", module]
    mpiexec = shutil.which("mpiexec")
    if mpiexec is None:
        raise InputError(
            f"no mpiexec on PATH for {processes} processes",
            where="labeler.processes",
            remedy="install MPI and GPAW's MPI build, or set processes: 1",
        )
    # GPAW starts MPI itself, before anything else is imported.
    return [mpiexec, "-n", str(processes), sys.executable, "-m", "gpaw", "python", "-m", module]


def gpaw_version() -> str:
    """Return the version of the installed GPAW.

    Returns
    -------
    str
        Such as ``26.7.0``.

    Raises
    ------
    InputError
        If GPAW is not installed.
    """
    try:
        return version("gpaw")
    except PackageNotFoundError:
        raise InputError(
            "GPAW is not installed", where="labeler", remedy="see docs/gpaw.md"
        ) from None


def _check_datasets(elements: Collection[str]) -> None:
    """Refuse elements for which GPAW has no PAW dataset."""
    folders = [Path(one) for one in os.environ.get("GPAW_SETUP_PATH", "").split(os.pathsep) if one]
    if (package := find_spec("gpaw_data")) is not None and package.origin is not None:
        folders.append(Path(package.origin).with_name("setups"))
    for element in sorted(elements):
        if not any(any(folder.glob(f"{element}.*")) for folder in folders):
            raise InputError(f"GPAW has no PAW dataset for {element}", where="labeler")


def datasets_identity() -> str:
    """Return a name for the PAW datasets in use: equal names mean equal datasets.

    The version of the package ``gpaw-data``, and before it, where ``GPAW_SETUP_PATH`` puts other
    folders first, a hash of the names and sizes of the files in those.

    Returns
    -------
    str
        Such as ``gpaw-data 1.2.1``.

    Raises
    ------
    InputError
        If there are no datasets.
    """
    parts = []
    if folders := os.environ.get("GPAW_SETUP_PATH", ""):
        parts.append(_listing_hash([Path(folder) for folder in folders.split(os.pathsep)]))
    try:
        parts.append(f"gpaw-data {version('gpaw-data')}")
    except PackageNotFoundError:
        if not parts:
            raise InputError(
                "GPAW has no PAW datasets",
                where="labeler",
                remedy="install the package gpaw-data or set GPAW_SETUP_PATH",
            ) from None
    return ", ".join(parts)


def _listing_hash(folders: list[Path]) -> str:
    digest = hashlib.sha256()
    for folder in folders:
        files = sorted(folder.iterdir()) if folder.is_dir() else []
        digest.update(repr([(file.name, file.stat().st_size) for file in files]).encode())
    return digest.hexdigest()[:16]


def _has_ended(job: dict[str, Any], directory: Path) -> bool:
    """Return whether a job has ended; of one whose files are damaged none is left."""
    try:
        if (directory / BADER).exists():
            read_json(directory / BADER)
        return bool(read_json(directory / RESULT).get("job") == identity(job))
    except AlChargeError:
        for name in (RESULT, BADER):
            (directory / name).unlink(missing_ok=True)
        return False


def _write_input(directory: Path, document: dict[str, Any]) -> None:
    """Write what is asked for; of another job nothing is left before."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        try:
            same = read_json(directory / INPUT) == document
        except AlChargeError:
            same = False
        if not same:
            for path in directory.iterdir():
                if path.is_file() and path.name != LOCK:
                    path.unlink()
    except OSError as error:
        raise CrashedError(
            f"cannot write: {error.strerror or error}", where=str(directory)
        ) from error
    write_json(directory / INPUT, document)
