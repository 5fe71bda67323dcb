"""Structures with energies and forces as other programs keep them, brought to our units."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.stress import voigt_6_to_full_3x3_stress
from ase.units import GPa
from numpy.typing import NDArray
from pymatgen.core.structure import Structure

from al_charge.crystal.structure_file import is_isolated_atom, read_structures
from al_charge.errors import InputError
from al_charge.labelers.foreign import ForeignRun
from al_charge.labelers.method import Method
from al_charge.labelers.outputs.gpaw import method_of_parameters
from al_charge.labelers.protocol import BaderCharges, Frame
from al_charge.labelers.vasp_run import functional_of
from al_charge.potentials.data.result_keys import missing, stress_of

Array = NDArray[np.float64]

KILOBAR = -0.1 * GPa
"""eV/angstrom^3: VASP's stress is the pressure that the cell exerts, ours the opposite."""
_CHARGES = ("bader_charges", "bader_charge", "REF_charges")
_MOMENTS = ("magmoms", "REF_magmoms", "REF_magmom", "magmom")
_NEUTRAL = 0.05
"""Largest sum of net charges in a cell, e per atom; numbers of electrons sum to more."""


def read_frames(path: Path) -> Iterator[ForeignRun | InputError]:
    """Read the frames of a file that ASE reads, under ASE's keys or MACE's.

    Parameters
    ----------
    path
        Extended XYZ, or any other; for a database of ASE see `read_database`.

    Yields
    ------
    ForeignRun or InputError
        Each frame, or why it cannot be one; isolated atoms are left out.
    """
    for number, image in enumerate(read_structures(path)):
        if not is_isolated_atom(image):
            yield _tried(image, f"{path}, frame {number}", {})


def read_database(path: Path) -> Iterator[ForeignRun | InputError]:
    """Read the rows of a database of ASE.

    Parameters
    ----------
    path
        An SQLite or JSON file.

    Yields
    ------
    ForeignRun or InputError
        Each row, or why it cannot be one.

    Raises
    ------
    InputError
        If it is no such database.
    """
    from ase.db import connect

    try:
        _refuse_views(path)
        with connect(path, append=True) as database:
            rows = list(database.select(sort="id"))
    except (InputError, MemoryError):
        raise
    except Exception as error:  # SQLite's and ASE's own, whatever is broken
        raise InputError(
            f"it is not a database of ASE ({type(error).__name__}: {error})", where=str(path)
        ) from error
    for row in rows:
        image = row.toatoms(add_additional_information=True)
        told: Mapping[str, Any] = row.data if isinstance(row.data, Mapping) else {}
        image.info = {**row.key_value_pairs, **told}
        if "bader_charges" in told:
            image.set_array("bader_charges", np.asarray(told["bader_charges"], dtype=float))
        method = _method_of_row(row, image.get_chemical_symbols())
        yield _tried(image, f"{path}, row {row.id}", {"method": method})


def _refuse_views(path: Path) -> None:
    """Refuse a database that computes what it holds: a view can take for ever to give one row."""
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as database:
        query = "SELECT type, name FROM sqlite_master WHERE type NOT IN ('table', 'index')"
        if found := database.execute(query).fetchone():
            raise InputError(
                f"it has a {found[0]}, '{found[1]}', which ASE databases do not have",
                where=str(path),
            )


def _method_of_row(row: Any, symbols: list[str]) -> Method | None:
    """Return functional and U of a row whose calculator ASE has kept."""
    parameters = row.get("calculator_parameters") or {}
    if not parameters:
        return None
    if row.get("calculator") == "gpaw":
        return method_of_parameters(parameters, symbols)
    if row.get("calculator") != "vasp":
        return None
    tags = {tag.upper(): value for tag, value in parameters.items()}
    named = str(tags.get("XC", "")).upper()
    functional = functional_of(tags) if "GGA" in tags or not named else named
    u = {
        element: float(found["U"]) - float(found.get("J", 0.0))
        for element, found in (tags.get("LDAU_LUJ") or {}).items()
        if int(found.get("L", 2)) >= 0
    }
    return Method(functional, {element: value for element, value in u.items() if value})


def _tried(image: Atoms, where: str, known: Mapping[str, Any]) -> ForeignRun | InputError:
    try:
        return _run(image, where, known)
    except InputError as error:
        return error


def _run(image: Atoms, where: str, known: Mapping[str, Any]) -> ForeignRun:
    """Return a frame; see the table in docs/labels.md."""
    info = image.info
    if info.get("unusable") is True or info.get("converged") is False:
        raise InputError("its file says that it is not converged or unusable", where=where)
    results: dict[str, Any] = dict(image.calc.results) if image.calc is not None else {}
    energy = _one(results, info, "energy", where)
    forces = _one(results, image.arrays, "forces", where)
    if energy is None or forces is None:
        if "energy_per_atom" in info:
            raise InputError(
                "its energy is per atom, and may hold corrections",
                where=where,
                remedy="give the uncorrected energy of the cell as 'energy', in eV",
            )
        raise missing(image, "energy" if energy is None else "forces", where)
    moments = results.get("magmoms")
    if moments is None:
        moments = next((image.arrays[name] for name in _MOMENTS if name in image.arrays), None)
    bader, refused = _bader(image)
    return ForeignRun(
        source=where,
        symbols=tuple(image.get_chemical_symbols()),
        frame=Frame(
            positions=image.positions,
            cell=image.cell.array,
            energy=float(energy),
            forces=np.asarray(forces, dtype=float),
            stress=_stress(image, where),
        ),
        moments=None if moments is None else np.asarray(moments, dtype=float),
        bader=bader,
        bader_refused=refused,
        engine=str(info.get("engine", "")),
        settings_hash=str(info.get("settings_hash", "")),
        **known,
    )


def _one(results: Mapping[str, Any], others: Mapping[str, Any], name: str, where: str) -> Any:
    """Return a result under ASE's key or MACE's; if both are there, they must agree."""
    found = [value for value in (results.get(name), others.get(f"REF_{name}")) if value is not None]
    if len(found) == 2 and not np.allclose(found[0], found[1], atol=1e-6):
        raise InputError(
            f"its {name} and REF_{name} differ", where=where, remedy="remove the one that is wrong"
        )
    return found[0] if found else None


def _stress(image: Atoms, where: str) -> Array | None:
    """Return the stress in eV/angstrom^3, of whatever key."""
    stress, _ = stress_of(image, where)
    given = []
    if (own := image.info.get("REF_stress")) is not None:
        given.append(_matrix(own, where))
    if (virial := image.info.get("REF_virials")) is not None:
        given.append(-_matrix(virial, where) / image.get_volume())
    if stress is not None:
        given.append(stress)
    if any(not np.allclose(one, given[0], rtol=0.01, atol=1e-4) for one in given[1:]):
        raise InputError(
            "its stress and virial disagree",
            where=where,
            remedy="remove the one that has another sign or unit",
        )
    return given[0] if given else None


def _matrix(values: Any, where: str) -> Array:
    array = np.asarray(values, dtype=float)
    if array.size not in (6, 9):
        raise InputError("its stress is not six or nine numbers", where=where)
    full: Array = (
        voigt_6_to_full_3x3_stress(array.ravel()) if array.size == 6 else array.reshape(3, 3)
    )
    return (full + full.T) / 2


def _bader(image: Atoms) -> tuple[BaderCharges | None, str]:
    """Return net charges, and why there are none: what is no net charge is left out."""
    name = next((name for name in _CHARGES if name in image.arrays), None)
    if name is None:
        return None, ""
    charges = np.asarray(image.arrays[name], dtype=float)
    if charges.shape != (len(image),):
        return None, f"its {name} are not one number for each atom"
    if abs(total := float(charges.sum())) > _NEUTRAL * len(image):
        return None, f"its {name} sum to {total:+.2f} e: they are electrons, not net charges"
    electrons = image.arrays.get("bader_electrons")
    known = np.zeros(len(image)) if electrons is None else np.asarray(electrons, dtype=float)
    return BaderCharges(charges, known), ""


def of_matpes(document: Mapping[str, Any], where: str) -> ForeignRun:
    """Return an entry of MatPES.

    Its stress is VASP's, in kbar and Voigt's order; its Bader charges are numbers of electrons, and
    left out.

    Parameters
    ----------
    document
        The entry.
    where
        Where it was read.

    Returns
    -------
    ForeignRun
        Computed without U, with the functional that it names.
    """
    structure = _structure(document, where)
    refused = "MatPES gives electrons, not net charges" if "bader_charges" in document else ""
    moments = document.get("magmoms", document.get("bader_magmoms"))
    return ForeignRun(
        source=where,
        symbols=tuple(site.specie.symbol for site in structure),
        frame=_frame(
            structure,
            document["energy"],
            document["forces"],
            KILOBAR * _matrix(document["stress"], where),
        ),
        moments=None if moments is None else np.asarray(moments, dtype=float),
        bader_refused=refused,
        engine="VASP",
        method=Method(str(document.get("functional", "PBE")), {}),
    )


def of_chgnet(document: Mapping[str, Any], where: str) -> ForeignRun:
    """Return a frame of MPtrj, on which CHGNet was trained.

    Its stress is VASP's, in kbar. The energy without the Materials Project's corrections counts.

    Parameters
    ----------
    document
        The frame.
    where
        Where it was read.

    Returns
    -------
    ForeignRun
        Nothing is known of its settings.
    """
    structure = _structure(document, where)
    stress, moments = document.get("stress"), document.get("magmom")
    return ForeignRun(
        source=where,
        symbols=tuple(site.specie.symbol for site in structure),
        frame=_frame(
            structure,
            document["uncorrected_total_energy"],
            document["force"],
            None if stress is None else KILOBAR * _matrix(stress, where),
        ),
        moments=None if moments is None else np.asarray(moments, dtype=float),
        engine="VASP",
    )


def _structure(document: Mapping[str, Any], where: str) -> Structure:
    found = document["structure"]
    if not isinstance(found, dict) or found.get("@class", "Structure") != "Structure":
        raise InputError("its structure is not one of pymatgen", where=where)
    # Without properties of sites: names of their own for each would take memory for the square.
    sites = [{**site, "properties": {}} for site in found["sites"]]
    return Structure.from_dict({**found, "sites": sites})


def _frame(structure: Structure, energy: Any, forces: Any, stress: Array | None) -> Frame:
    return Frame(
        positions=np.array(structure.cart_coords),
        cell=np.array(structure.lattice.matrix),
        energy=float(energy),
        forces=np.asarray(forces, dtype=float),
        stress=stress,
    )
