"""Read vasprun.xml and OUTCAR, in VASP's own order of atoms."""

from __future__ import annotations

import tarfile
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from ase.units import GPa

from al_charge.crystal import compressed
from al_charge.errors import AlChargeError, CrashedError
from al_charge.labelers.protocol import Array, Frame
from al_charge.labelers.vasp_run import settled

KILOBAR = 0.1 * GPa
"""eV/angstrom^3."""


@dataclass(frozen=True)
class Run:
    """What vasprun.xml says.

    Attributes
    ----------
    frames
        One for each ionic step whose electrons converged.
    free_energy
        eV, of the last one: what the forces are the slope of.
    converged
        Whether electrons and ions are.
    electrons_converged
        Whether the electrons of the last step are.
    version
        Of VASP.
    titles
        Of each element's dataset.
    hubbard_u
        eV by element.
    incar
        The tags as VASP read them.
    parameters
        What VASP took for every tag, given or not.
    kpoints
        The grid, as `grid_text` gives it.
    symbols
        Element of every atom.
    """

    frames: tuple[Frame, ...]
    free_energy: float
    converged: bool
    electrons_converged: bool
    version: str
    titles: Mapping[str, str]
    hubbard_u: Mapping[str, float]
    incar: Mapping[str, Any]
    parameters: Mapping[str, Any]
    kpoints: str
    symbols: tuple[str, ...] = ()

    @property
    def types(self) -> list[str]:
        """Element of each block of atoms, as tags by type count them."""
        return [element for element, _ in groupby(self.symbols)]


@dataclass(frozen=True)
class Summary:
    """What OUTCAR says besides.

    Attributes
    ----------
    moments
        Bohr magnetons, shape (n_atoms,), inside each atom's sphere; None without spin.
    seconds
        Elapsed time of the last start.
    cores
        How many it ran on.
    free_energy
        eV, of the last step; None where it does not say.
    """

    moments: Array | None
    seconds: float
    cores: int
    free_energy: float | None = None


def find(folder: Path, name: str) -> Path:
    """Return a file of a run, compressed or not.

    Parameters
    ----------
    folder
        Of the run.
    name
        Of the file, such as ``OUTCAR``.

    Returns
    -------
    Path
        With ``.gz``, ``.bz2`` or ``.xz`` if it is compressed.

    Raises
    ------
    CrashedError
        If it is missing or empty.
    """
    file = compressed.find(folder, name)
    if file is None:
        raise CrashedError(f"there is no {name}", where=str(folder))
    if file.stat().st_size == 0:
        raise CrashedError("the file is empty", where=str(file))
    return file


def read_vasprun(folder: Path) -> Run:
    """Read ``vasprun.xml`` of a folder.

    Parameters
    ----------
    folder
        Of the run.

    Returns
    -------
    Run
        What the file says.

    Raises
    ------
    AlChargeError
        If it holds no step with energy and forces.
    CrashedError
        If it is missing, truncated or damaged.
    """
    file = find(folder, "vasprun.xml")
    document = _parse(file)
    frames = _frames(document)
    if not document.ionic_steps:
        raise AlChargeError("the file holds no energy and forces", where=str(file))
    settled = is_settled(document.ionic_steps[-1], document.parameters)
    if settled and not frames:
        raise AlChargeError("the file holds no energy and forces", where=str(file))
    elements = list(dict.fromkeys(str(symbol) for symbol in document.atomic_symbols))
    return Run(
        frames=tuple(frames),
        free_energy=float(document.ionic_steps[-1]["e_fr_energy"]),
        converged=settled and bool(document.converged),
        electrons_converged=settled,
        version=str(document.vasp_version).strip(),
        titles=dict(zip(elements, map(str, document.potcar_symbols), strict=False)),
        hubbard_u={str(el): float(u) for el, u in document.hubbards.items()},
        incar=dict(document.incar),
        parameters=dict(document.parameters),
        kpoints=grid_of(document.kpoints),
        symbols=tuple(map(str, document.atomic_symbols)),
    )


def read_outcar(folder: Path) -> Summary:
    """Read ``OUTCAR`` of a folder.

    Parameters
    ----------
    folder
        Of the run.

    Returns
    -------
    Summary
        What the file says.

    Raises
    ------
    CrashedError
        If it is missing, truncated or damaged.
    """
    from pymatgen.io.vasp.outputs import Outcar

    file = find(folder, "OUTCAR")
    try:
        outcar = Outcar(str(file))
        statistics = outcar.run_stats
        seconds = float(statistics["Elapsed time (sec)"] or 0.0)
        moments = np.array([site["tot"] for site in outcar.magnetization or ()], dtype=float)
    except Exception as error:  # the parser raises whatever a broken file breaks
        raise CrashedError(
            "the file is truncated or damaged: VASP did not finish", where=str(file)
        ) from error
    cores = int(statistics.get("cores") or 1)
    return Summary(moments if len(moments) else None, seconds, cores, outcar.final_fr_energy)


def archived_frames(folder: Path) -> list[Frame]:
    """Return the steps of earlier starts of a relaxation, oldest first.

    custodian packs the files of a start that it corrects; those of an interrupted start are kept
    aside. Files that cannot be read are left out.

    Parameters
    ----------
    folder
        Of the relaxation.

    Returns
    -------
    list of Frame
        In VASP's order of atoms.
    """
    frames: list[Frame] = []
    for file in sorted(folder.glob("interrupted-*/vasprun.xml*")):
        frames += _salvage(file)
    for archive in sorted(
        folder.glob("error.*.tar.gz"), key=lambda path: int(path.suffixes[0][1:])
    ):
        with tempfile.TemporaryDirectory() as scratch:
            try:
                with tarfile.open(archive) as packed:
                    found = [m for m in packed.getmembers() if Path(m.name).name == "vasprun.xml"]
                    for member in found[:1]:
                        # Whatever folder it names, it goes into ours, and is read there.
                        packed.extract(member.replace(name="vasprun.xml"), scratch, filter="data")
            except (OSError, EOFError, tarfile.TarError):
                continue
            if found:
                frames += _salvage(Path(scratch, "vasprun.xml"))
    return frames


def _salvage(file: Path) -> list[Frame]:
    try:
        return _frames(_parse(file, whole=False))
    except AlChargeError:
        return []


def _parse(file: Path, *, whole: bool = True) -> Any:
    from pymatgen.io.vasp.outputs import Vasprun

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about convergence, which is told in other ways
            return Vasprun(
                str(file),
                parse_dos=False,
                parse_eigen=False,
                parse_potcar_file=False,
                exception_on_bad_xml=whole,
            )
    except Exception as error:  # the parser raises whatever a broken file breaks
        raise CrashedError(
            "the file is truncated or damaged: VASP did not finish", where=str(file)
        ) from error


def _frames(document: Any) -> list[Frame]:
    return [
        frame_of(step)
        for step in document.ionic_steps
        if "forces" in step and is_settled(step, document.parameters)
    ]


def is_settled(step: Mapping[str, Any], parameters: Mapping[str, Any]) -> bool:
    """Return whether the electrons of an ionic step converged.

    Parameters
    ----------
    step
        As pymatgen has it, with its electronic steps.
    parameters
        What VASP took for every tag.

    Returns
    -------
    bool
        See `al_charge.labelers.vasp_run.settled`.
    """
    energies = [float(one["e_fr_energy"]) for one in step["electronic_steps"]]
    limit = float(parameters.get("EDIFF", np.inf))
    return settled(energies, int(parameters.get("NELM", 60)), limit)


def frame_of(step: Mapping[str, Any]) -> Frame:
    """Return one ionic step.

    Its energy is that without smearing, at the end of the electronic steps. There alone the file
    has it right in every version of VASP, so the difference to the free energy is taken from there.

    Parameters
    ----------
    step
        As pymatgen has it; stress in kbar, as VASP signs it.

    Returns
    -------
    Frame
        In eV and angstrom.
    """
    last = step["electronic_steps"][-1]
    unsmeared = last["e_0_energy"] - last["e_fr_energy"]
    stress = step.get("stress")
    return Frame(
        positions=np.array(step["structure"].cart_coords, dtype=float),
        cell=np.array(step["structure"].lattice.matrix, dtype=float),
        energy=float(step["e_fr_energy"] + unsmeared),
        forces=np.array(step["forces"], dtype=float),
        # VASP gives the pressure that the cell exerts, in kilobar.
        stress=None if stress is None else _symmetric(-KILOBAR * np.array(stress, dtype=float)),
    )


def _symmetric(matrix: Array) -> Array:
    return (matrix + matrix.T) / 2


def grid_text(divisions: Sequence[int], shifted: bool = False) -> str:
    """Return a description of a k-point grid, equal for equal grids.

    Parameters
    ----------
    divisions
        Along each axis.
    shifted
        Whether it misses Gamma.

    Returns
    -------
    str
        Such as ``2 3 4``.
    """
    return " ".join(map(str, divisions)) + (" off Gamma" if shifted else "")


def grid_of(kpoints: Any) -> str:
    """Return the k-points of a run as `grid_text` gives them.

    Parameters
    ----------
    kpoints
        As pymatgen has them.

    Returns
    -------
    str
        ``a list`` for what is no grid.
    """
    style = str(kpoints.style.name)
    if style not in ("Gamma", "Monkhorst"):
        return "a list"
    divisions = [int(n) for n in kpoints.kpts[0]]
    # Monkhorst and Pack's grid misses Gamma along each axis with an even number of points.
    even = style == "Monkhorst" and any(n % 2 == 0 for n in divisions)
    return grid_text(divisions, shifted=even or bool(np.any(kpoints.kpts_shift)))
