"""Structures as files, with charge states and moments as far as a format has a place for them."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.io.extxyz import write_extxyz
from pymatgen.core.lattice import Lattice
from pymatgen.core.periodic_table import Species
from pymatgen.core.structure import Structure

from al_charge.crystal.species import (
    charge_of,
    element_of,
    spin_name,
    tokens_of,
    unpaired_electrons,
    usual_token,
)
from al_charge.crystal.strict_files import SPIN_ITEMS
from al_charge.errors import InputError

FORMATS = ("cif", "poscar", "extxyz")
"""Formats of `write_structure`."""


def file_name(stem: str, kind: str) -> str:
    """Return the name of a structure's file, by which other programs know its format.

    Parameters
    ----------
    stem
        Name of the structure.
    kind
        One of `FORMATS`.

    Returns
    -------
    str
        Such as ``a.cif`` or ``POSCAR_a``.
    """
    return f"POSCAR_{stem}" if kind == "poscar" else f"{stem}.{kind}"


def kind_of(path: Path) -> str:
    """Return the format that a file's name tells.

    Parameters
    ----------
    path
        ``a.cif``, ``a.extxyz``, ``POSCAR``, ``POSCAR_a`` or ``a.vasp``.

    Returns
    -------
    str
        One of `FORMATS`.

    Raises
    ------
    InputError
        If it tells none.
    """
    ending = path.suffix.lower().removeprefix(".")
    if path.name.upper().startswith(("POSCAR", "CONTCAR")) or ending in ("vasp", "poscar"):
        return "poscar"
    if ending in FORMATS:
        return ending
    raise InputError(
        "its name implies no structure format",
        where=str(path),
        remedy="end it in .cif or .extxyz, or begin it with POSCAR",
    )


def write_structure(path: Path, atoms: Atoms, kind: str) -> None:
    """Write a structure with its charge states.

    A CIF has oxidation states, and in items of its own the spins of ions where some are not the
    usual ones. A POSCAR has the species behind the coordinates and the moments, as
    VASP's MAGMOM takes them, in its first line; its atoms are sorted by element. Extended XYZ has
    them in the columns ``requested_species`` and ``initial_magmoms``, beside ``host_site``, and the
    results that the atoms have.

    Parameters
    ----------
    path
        An existing file is replaced.
    atoms
        With an array ``species`` and initial moments; what is in ``info`` is written to extended
        XYZ.
    kind
        One of `FORMATS`.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    if kind == "extxyz":
        written = atoms.copy()
        written.calc = atoms.calc  # its results are written too
        # The format itself calls the column of elements "species".
        written.set_array("requested_species", written.arrays["species"])
        del written.arrays["species"]
        with path.open("w", encoding="utf-8") as file:
            write_extxyz(file, written)
        return
    text = _cif(atoms) if kind == "cif" else _poscar(atoms)
    path.write_text(text, encoding="utf-8")


def _cif(atoms: Atoms) -> str:
    from pymatgen.io.cif import CifWriter

    tokens = tokens_of(atoms)
    ions = [Species(element_of(token), charge_of(token)) for token in tokens]
    structure = Structure(Lattice(atoms.cell.array), ions, atoms.get_scaled_positions())
    text = str(CifWriter(structure))
    symbols = atoms.get_chemical_symbols()
    usual = [usual_token(element_of(token), charge_of(token), symbols) for token in tokens]
    if tokens == usual:
        return text
    spins = [
        f"  {symbol}{site}  {unpaired_electrons(token)}"
        for site, (symbol, token) in enumerate(zip(symbols, tokens, strict=True))
        if spin_name(token)
    ]
    return "\n".join([text.rstrip(), "loop_", *(f" {item}" for item in SPIN_ITEMS), *spins, ""])


def _poscar(atoms: Atoms) -> str:
    symbols = atoms.get_chemical_symbols()
    first = {symbol: place for place, symbol in reversed(list(enumerate(symbols)))}
    order = sorted(range(len(atoms)), key=lambda i: (first[symbols[i]], i))
    moments = atoms.get_initial_magnetic_moments()[order]
    runs = [(value, len(list(some))) for value, some in groupby(moments.tolist())]
    counts = [(symbol, symbols.count(symbol)) for symbol in sorted(first, key=lambda s: first[s])]
    lines = [
        f"{atoms.get_chemical_formula('metal')}; MAGMOM = "
        + " ".join(f"{number}*{value:g}" for value, number in runs),
        "1.0",
        *("".join(f"{value:18.10f}" for value in vector) for vector in atoms.cell.array),
        " ".join(symbol for symbol, _ in counts),
        " ".join(str(number) for _, number in counts),
        "direct",
    ]
    places = np.asarray(atoms.get_scaled_positions())
    for i in order:
        place = "".join(f"{value:16.10f}" for value in places[i])
        lines.append(f"{place} {atoms.arrays['species'][i]}")
    return "\n".join(lines) + "\n"
