"""Labels from GPAW: single points with energy, forces and moments."""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.build import bulk

from al_charge.crystal.shells import charge_order_contrast, distort_shells
from al_charge.crystal.valence import Resolution, Windows, resolve
from al_charge.errors import AlChargeError, InputError
from al_charge.labelers.gpaw import process, request
from al_charge.labelers.gpaw.datasets import datasets_identity
from al_charge.labelers.protocol import Frame, LabelResult
from al_charge.labelers.settings import GpawSettings

_RESULT_FIELDS = {"engine", "energy", "free_energy", "forces", "moments", "steps", "setups"}


class GpawLabeler:
    """Labels made by GPAW in a process of its own.

    Parameters
    ----------
    settings
        The engine's settings.
    """

    def __init__(self, settings: GpawSettings) -> None:
        self._settings = settings
        self._windows = Windows(settings.moment_windows)

    def settings(self) -> dict[str, Any]:
        """Return what makes energies comparable: functional, accuracy, version and datasets.

        How the ground state is reached (mixing, start density, processes) and how moments are read
        is left out: it does not change the energy of the state that is found.

        Raises
        ------
        InputError
            If GPAW or its PAW datasets are not installed.
        """
        s = self._settings
        return {
            "engine": "gpaw",
            "version": gpaw_version(),
            "datasets": datasets_identity(),
            "mode": s.mode,
            "basis": s.basis,
            "grid_spacing": float(s.grid_spacing),
            "xc": s.xc,
            "hubbard_u": {element: float(u) for element, u in sorted(s.hubbard_u.items())},
            "smearing": float(s.smearing),
            "kpoints": list(s.kpoints),
            "metal_kpoints": s.metal_kpoints,
            "energy_tolerance": float(s.energy_tolerance),
            "density_tolerance": s.density_tolerance,
        }

    def check(self, species: Sequence[str], ion: str) -> None:
        """Refuse species whose charge state cannot be read back from moments."""
        self._windows.check(species)

    def label(self, atoms: Atoms, directory: Path) -> LabelResult:
        """Label one geometry; see `al_charge.labelers.protocol.Labeler`."""
        species = tuple(str(token) for token in atoms.arrays["species"])
        self._windows.check(species)
        contrast = charge_order_contrast(atoms)
        start = self._start(atoms, contrast)
        began = time.monotonic()
        result = self._run(request.single_point(self._settings, atoms, start), directory)
        moments = np.array(result["moments"])
        resolution = self.resolve(moments, species)
        return LabelResult(
            species=species,
            resolved=resolution.species,
            frames=(_frame(atoms, result),),
            moments=moments,
            converged=True,
            engine=result["engine"],
            wall_time=time.monotonic() - began,
            details={
                "start": "distorted shells" if start is not None else "the geometry itself",
                "shell_contrast": contrast if np.isfinite(contrast) else None,
                "resolution": resolution.describe(),
                "ambiguous_sites": list(resolution.ambiguous),
                "free_energy": result["free_energy"],
                "scf_steps": result["steps"],
                "datasets": result["setups"],
                "directory": str(directory),
            },
        )

    def resolve(self, moments: np.ndarray, species: tuple[str, ...]) -> Resolution:
        """Read the charge states of a label from its moments, by this labeler's windows."""
        return resolve(moments, species, self._windows)

    def metal_energy(self, ion: str) -> float:
        """Return the energy of the working-ion metal in eV/atom, with the same settings.

        The metal has the lattice constant of experiment, as ASE tabulates it; at the minimum of
        the functional the energy of an alkali metal differs by about 1 meV.

        Raises
        ------
        InputError
            If the element's structure is not tabulated.
        """
        try:
            atoms = bulk(ion)
        except (ValueError, KeyError, RuntimeError) as error:
            raise InputError(
                f"the crystal structure of metallic {ion} is not known: {error}",
                where="host.working_ion",
            ) from error
        directory = Path(tempfile.mkdtemp(prefix=f"gpaw-{ion}-"))
        result = self._run(request.metal(self._settings, atoms), directory)
        shutil.rmtree(directory)  # kept only when the run failed: the error names its log
        return float(result["energy"]) / len(atoms)

    def _start(self, atoms: Atoms, contrast: float) -> Atoms | None:
        """Return the geometry that steers the start density, None if the true one does."""
        s = self._settings
        if s.shell_distortion == 0 or contrast >= s.shell_contrast:
            return None
        return distort_shells(atoms, s.shell_distortion)

    def _run(self, document: dict[str, Any], directory: Path) -> dict[str, Any]:
        gpaw_version()
        result_file = directory / "result.json"
        try:
            result_file.unlink(missing_ok=True)
            process.write_json(directory / "input.json", document)
            process.run(command(self._settings.processes), directory, self._settings.timeout)
        except OSError as error:
            raise AlChargeError(
                f"cannot run GPAW: {error.strerror or error}", where=str(directory)
            ) from error
        result = process.read_json(result_file)
        if missing := sorted(_RESULT_FIELDS - result.keys()):
            raise AlChargeError(f"the result lacks {', '.join(missing)}", where=str(result_file))
        return result


def command(processes: int) -> list[str]:
    """Return the command that runs a job, under MPI for more than one process.

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

    Raises
    ------
    InputError
        If there is none.
    """
    try:
        return version("gpaw")
    except PackageNotFoundError:
        raise InputError(
            "GPAW is not installed", where="labeler", remedy="docs/gpaw.md tells how to install it"
        ) from None


def _frame(atoms: Atoms, result: dict[str, Any]) -> Frame:
    forces = np.array(result["forces"], dtype=float)
    if forces.shape != (len(atoms), 3) or not np.isfinite([result["energy"], forces.sum()]).all():
        raise AlChargeError("the result holds no finite energy and forces", where="result.json")
    return Frame(
        positions=atoms.positions.copy(),
        cell=atoms.cell.array.copy(),
        energy=float(result["energy"]),
        forces=forces,
        stress=None,
    )
