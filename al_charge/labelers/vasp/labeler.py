"""Labels from VASP: PBE+U with custodian, in stages that hold the charge order."""

from __future__ import annotations

import contextlib
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from typing_extensions import override

from al_charge.crystal.species import element_of
from al_charge.crystal.valence import VASP_WINDOWS
from al_charge.errors import (
    AlChargeError,
    CrashedError,
    InputError,
    NotInstalledError,
    UnfinishedError,
)
from al_charge.labelers.dft import process
from al_charge.labelers.dft.labeler import DftLabeler, metal_crystal
from al_charge.labelers.files import BADER, read_json, write_json
from al_charge.labelers.protocol import Reading, Relax
from al_charge.labelers.vasp import incar, inputs, potcars, reading, stages, tags
from al_charge.labelers.vasp.request import Request, plan_label, plan_metal
from al_charge.labelers.vasp.settings import VaspSettings


class VaspLabeler(DftLabeler):
    """Labels made by VASP in a process of its own.

    Parameters
    ----------
    settings
        The engine's settings.
    """

    gives_stress = True

    def __init__(self, settings: VaspSettings) -> None:
        super().__init__(settings, VASP_WINDOWS)
        self._settings = settings

    @override
    def settings(self) -> dict[str, Any]:
        """Return functional, U, accuracy, k-points and datasets.

        The version of VASP is not among them, since it is known on the workers only; each label
        records its own.
        """
        s = self._settings
        u = {element: value for element, value in s.hashed_u().items() if value}
        return {
            "engine": "vasp",
            "incar": tags.physical(incar.common(s, [])),
            "hubbard_u": u,
            "fixed_moment": s.fixed_moment,
            "magnetic_order": s.magnetic_order,
            "kpoints": s.hashed_kpoints(),
            "potcar_functional": s.potcar_functional,
            "potcars": {"usual": potcars.usual_identity(), **dict(sorted(s.potcars.items()))},
            "verify_potcars": s.verify_potcars,
            "metal": {
                "incar": tags.physical(incar.of_metal(incar.common(s, []))),
                "kpoints": {"density": s.metal_kpoint_density},
            },
            **s.given_moments(),
        }

    @override
    def check(self, species: Sequence[str], ion: str) -> None:
        """Refuse unknown INCAR values and missing POTCARs.

        The program itself is looked for when a label is run: campaigns are submitted from login
        nodes, which need not have it.
        """
        metal_crystal(ion)
        inputs.check_values(self._settings.incar)
        self._datasets([*map(element_of, species), ion])

    @override
    def prepare(self, atoms: Atoms, directory: Path, *, relax: Relax, attempt: int) -> None:
        """Write the inputs of every stage."""
        request = plan_label(self._settings, atoms, relax, attempt)
        self._write(request, directory)

    @override
    def run(self, directory: Path) -> None:
        """Run the stages that have not ended yet."""
        request = Request.read(directory)
        if all(stages.is_done(directory / stage.name) for stage in request.stages):
            if _is_whole(request, directory):
                return
            self._write_anew(request, directory)
        directory = directory.absolute()
        try:
            for name in (stages.FAILURE, BADER):
                (directory / name).unlink(missing_ok=True)
            write_json(directory / stages.LAUNCH, self._launch())
            module = [sys.executable, "-m", "al_charge.labelers.vasp.run"]
            process.run(module, directory, self._settings.timeout)
        except OSError as error:
            raise CrashedError(
                f"cannot run VASP: {error.strerror or error}", where=str(directory)
            ) from error
        except (InputError, UnfinishedError):
            raise
        except AlChargeError as error:
            if not (directory / stages.FAILURE).is_file():  # it ended before it could say why
                raise CrashedError(error.what, where=error.where) from error
            why = read_json(directory / stages.FAILURE)
            kind = CrashedError if why["crashed"] else AlChargeError
            raise kind(why["what"], where=why["where"], remedy=why["remedy"]) from error
        _is_whole(request, directory)

    @override
    def progress(self, directory: Path) -> int:
        return stages.progress(directory)

    @override
    def read(self, directory: Path) -> Reading:
        return reading.read(Request.read(directory), directory)

    @override
    def metal_energy(self, ion: str, directory: Path) -> float:
        """Return the energy of the metal relaxed with the same functional."""
        atoms = metal_crystal(ion)
        self._write(plan_metal(self._settings, atoms), directory)
        self.run(directory)
        result = self.read(directory)
        if result.unusable:
            raise AlChargeError(f"not comparable: {result.unusable}", where=str(directory))
        return result.frames[-1].energy / len(atoms)

    def _datasets(self, elements: Sequence[str]) -> dict[str, potcars.Dataset]:
        s = self._settings
        return potcars.find_all(elements, s.potcars, s.potcar_functional, verify=s.verify_potcars)

    def _write(self, request: Request, directory: Path) -> None:
        """Write a job's files, unless the same job was prepared here before."""
        request = request.with_datasets(self._datasets(request.elements))
        if Request.is_in(directory) and Request.read(directory) == request:
            return
        self._write_anew(request, directory)

    def _write_anew(self, request: Request, directory: Path) -> None:
        """Write a job's files; of what was there nothing is left."""
        try:
            stages.clear(directory)
            for stage in request.stages:
                inputs.write(
                    directory / stage.name,
                    request.atoms(stage),
                    stage.incar,
                    request.kpoints,
                    self._settings,
                    np.array(request.moments) if request.moments is not None else None,
                )
            request.write(directory)
        except OSError as error:
            raise CrashedError(
                f"cannot write the input files: {error.strerror or error}", where=str(directory)
            ) from error

    def command(self) -> str:
        """Return how VASP is started on this machine.

        Returns
        -------
        str
            A command line, without the guard that ends it with its worker.

        Raises
        ------
        NotInstalledError
            If its command is not there.
        """
        from atomate2 import SETTINGS

        command: str = self._settings.command or SETTINGS.VASP_CMD
        program = shlex.split(command)[0]
        if shutil.which(program) is None:
            raise NotInstalledError(
                f"there is no {program} on PATH to run VASP with",
                where="labeler.command",
                remedy="set 'command', or VASP_CMD in atomate2's settings; see docs/vasp.md",
            )
        return command

    def _launch(self) -> dict[str, Any]:
        """Return how VASP is started, and for how long."""
        from atomate2 import SETTINGS

        s = self._settings
        return {
            "command": self.command(),
            "gamma_command": s.gamma_command or SETTINGS.VASP_GAMMA_CMD,
            "timeout": min(float(s.timeout), process.time_left()),
            "keep_wavecar": s.keep_wavecar,
        }


def _is_whole(request: Request, directory: Path) -> bool:
    """Return whether the outputs of a job that has ended can be read, and keep its charges."""
    try:
        found = reading.read(request, directory)
    except CrashedError:
        return False
    except AlChargeError:
        return True  # they can, and what they say is not part of a label
    with contextlib.suppress(CrashedError):  # of a full disk: they are found again
        reading.keep_charges(found, directory)
    return True
