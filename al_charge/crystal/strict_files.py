"""Structure files are checked for errors that pymatgen and ASE ignore.

pymatgen reads the coordinate ``.`` as 0 and the occupancy ``abc`` as 1, and accepts a POSCAR with
more names than counts; ASE loops over as many atoms as an extended XYZ file says it has, however
many lines there are.
"""

from __future__ import annotations

import math
import re
import warnings
from functools import lru_cache
from itertools import islice, takewhile
from pathlib import Path
from typing import Any

import numpy as np
from pymatgen.core.composition import Composition
from pymatgen.core.lattice import Lattice
from pymatgen.core.operations import SymmOp
from pymatgen.core.periodic_table import Species
from pymatgen.core.structure import Structure
from pymatgen.io.cif import CifBlock, CifFile, CifParser

from al_charge.crystal.compressed import bare_name, is_compressed, lines, read_text
from al_charge.errors import InputError

SPIN_ITEMS = ("_al_charge_site_label", "_al_charge_site_unpaired_electrons")
"""Items of a CIF, in a loop of their own: sites as in ``_atom_site_label``, with their spin."""

LARGEST_STRUCTURE = 1_000_000
"""Atoms of one structure."""
LARGEST_TEXT = 2**26
"""Characters of a file that holds one structure."""
MOST_COMPARISONS = 30_000_000
"""Of the images of a CIF's sites with its sites and with each other, which pymatgen makes."""
MOST_BLOCKS = 1000
"""Parts of a CIF that begin with ``data_``; publications have ten."""
LONGEST_NUMBER = 18
"""Digits of a whole number that are looked at."""

_PROPERTIES = re.compile(r'Properties\s*=\s*"?([^"\s]+)')
_COUNT = re.compile(r"\s*\d{1,9}\s*")
_TERM = r"(?:[xyz]|\d{1,9}(?:\.\d{0,9})?(?:/\d{1,9})?|\.\d{1,9})"
_AXIS = re.compile(rf"[+-]?{_TERM}(?:[+-]{_TERM}){{0,3}}")
"""One of the three parts of an operation; of anything else pymatgen takes what it understands."""
_BLOCK = re.compile(r"^\s*data_", re.MULTILINE | re.IGNORECASE)
_NUMBER = re.compile(r"([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)(?:\(\d+\))?")
_COORDINATES = tuple(f"_atom_site_fract_{axis}" for axis in "xyz")
_OPERATIONS = ("_symmetry_equiv_pos_as_xyz", "_space_group_symop_operation_xyz")
_GROUPS = (
    "_symmetry_space_group_name_H-M",
    "_space_group_name_H-M_alt",
    "_space_group_name_Hall",
    "_symmetry_space_group_name_Hall",
    "_space_group_IT_number",
    "_symmetry_Int_Tables_number",
)
_WITHOUT_SYMMETRY = ("P1", "1")
_LARGEST_STRAIN = 0.01
"""Relative difference of lengths that a symmetry makes alike; cells are rounded."""
_OCCUPANCY = "_atom_site_occupancy"
_DEFAULT = "."
"""Value of a CIF that stands for an item's default; ``?`` is one that nobody knows."""
_LIMITS: dict[str, tuple[float, float]] = {
    **dict.fromkeys((f"_cell_length_{axis}" for axis in "abc"), (0.0, 1e30)),
    **dict.fromkeys((f"_cell_angle_{name}" for name in ("alpha", "beta", "gamma")), (0.0, 180.0)),
    **dict.fromkeys(_COORDINATES, (-math.inf, math.inf)),
    _OCCUPANCY: (0.0, 1.0 + 1e-3),
}
"""Lower and upper limit of the values of each item, both excluded."""


def is_cif(path: Path) -> bool:
    """Return whether a file is a CIF by its name.

    Parameters
    ----------
    path
        Its path.

    Returns
    -------
    bool
        True for ``.cif``, compressed or not.
    """
    return bare_name(path).lower().endswith(".cif")


def read_parent(path: Path) -> Structure:
    """Read a CIF, a POSCAR or another format that pymatgen recognises by the file's name.

    Parameters
    ----------
    path
        The file.

    Returns
    -------
    Structure
        With the partial occupancies and oxidation states of the file.

    Raises
    ------
    InputError
        If a check of `read_cif` or `check_poscar` fails.
    """
    if is_cif(path):
        return read_cif(path)
    check_poscar(path)
    if is_compressed(path):
        read_text(path, LARGEST_TEXT)  # refuses what would fill the memory
    return Structure.from_file(path)


def read_cif(path: Path) -> Structure:
    """Read the structure of a CIF.

    Parameters
    ----------
    path
        The file.

    Returns
    -------
    Structure
        With the partial occupancies and oxidation states of the file.

    Raises
    ------
    InputError
        If the file holds several structures, a value that is not a valid number, or sites that
        disagree with its formula.
    """
    text = read_text(path, LARGEST_TEXT)
    parts = len(_BLOCK.findall(text))
    if parts > MOST_BLOCKS:
        raise InputError(f"it has {parts} parts (data_...)", where=str(path), remedy="keep one")
    cif = CifFile.from_str(text)
    blocks = [block.data for block in cif.data.values()]
    structures = [block for block in blocks if _COORDINATES[0] in block]
    if len(structures) > 1:
        raise InputError(
            f"it holds {len(structures)} structures", where=str(path), remedy="keep one"
        )
    for block in structures:
        _check_sites(block, path)
        _check_numbers(block, path)
        _check_group(block, path)
    if any([_gives_occupancies(block) for block in structures]):
        structure = Structure.from_str(str(cif), fmt="cif")
    else:
        structure = Structure.from_str(text, fmt="cif")
    for block in structures:
        _label_shared_sites(block, structure)
        _check_formula(str(block.get("_chemical_formula_sum", "")), structure, path)
        _set_spins(block, structure)
    return structure


def _check_sites(block: dict[str, Any], path: Path) -> None:
    sites = len(block[_COORDINATES[0]])
    told = [block.get(item, []) for item in _OPERATIONS]
    every = [op for some in told for op in ([some] if isinstance(some, str) else some)]
    operations = max(1, len(every))
    if sites * operations * (sites + operations) > MOST_COMPARISONS:
        raise InputError(
            f"it has {sites} sites and {operations} operations of symmetry",
            where=str(path),
            remedy="which takes too long to read; give a POSCAR, or a smaller cell",
        )
    for operation in every:
        parts = re.sub(r"[\s'\"]", "", operation).lower().split(",")
        if len(parts) != 3 or not all(map(_AXIS.fullmatch, parts)):
            raise InputError(f"'{operation[:80]}' is not a symmetry operation", where=str(path))


def _check_group(block: dict[str, Any], path: Path) -> None:
    """Refuse a space group that does not tell the operations, where a CIF lists none.

    pymatgen takes P1 for a group whose name it does not know, and one of several settings.
    """
    told = [value for item in _GROUPS if isinstance(value := block.get(item), str)]
    told = [name for name in told if name not in ("?", _DEFAULT)]
    plain = [re.sub(r"[\s_]", "", name) for name in told]
    if any(item in block for item in _OPERATIONS) or not told or plain[0] in _WITHOUT_SYMMETRY:
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        operations = CifParser.from_str("").get_symops(CifBlock(block, [], path.name))
    if len(operations) < 2:
        why = "which cannot be told from its name"
    elif _has_two_origins(operations) and not any(":" in name for name in plain):
        why = "which has two origins"
    elif not _keep_lengths(operations, block):
        why = "which does not fit its cell"
    else:
        return
    raise InputError(
        f"it lists no symmetry operations, only the space group '{told[0]}', {why}",
        where=str(path),
        remedy=f"list them under {_OPERATIONS[1]}, or give a POSCAR",
    )


def _has_two_origins(operations: list[SymmOp]) -> bool:
    """Tell whether a space group is tabulated with two choices of the origin."""
    import spglib

    found = spglib.get_spacegroup_type_from_symmetry(
        [operation.rotation_matrix.round().astype(int) for operation in operations],
        [operation.translation_vector for operation in operations],
    )
    if found is None:
        return True
    every = [spglib.get_spacegroup_type(number) for number in range(1, 531)]
    return any(
        one is not None and one.number == found.number and one.choice[:1] == "2" for one in every
    )


def _keep_lengths(operations: list[SymmOp], block: dict[str, Any]) -> bool:
    """Tell whether operations leave the cell of a CIF as it is."""
    items = [*_LIMITS][:6]
    sizes = [float(str(block.get(item, "nan")).partition("(")[0]) for item in items]
    vectors = Lattice.from_parameters(*sizes).matrix
    metric = vectors @ vectors.T
    scale = np.sqrt(np.outer(metric.diagonal(), metric.diagonal()))
    turns = [operation.rotation_matrix for operation in operations]
    return all(
        (np.abs(turn.T @ metric @ turn - metric) < 2 * _LARGEST_STRAIN * scale).all()
        for turn in turns
    )


def _gives_occupancies(block: dict[str, Any]) -> bool:
    """Write occupancies of 1, the default, where a CIF leaves them open; pymatgen reads 0 there."""
    values = block.get(_OCCUPANCY, [])
    left_open = isinstance(values, list) and _DEFAULT in values
    if left_open:
        block[_OCCUPANCY] = ["1" if value == _DEFAULT else value for value in values]
    return left_open


def _label_shared_sites(block: dict[str, Any], structure: Structure) -> None:
    """Give sites that several rows of a CIF occupy all of their labels, such as ``Ni1/Mn1``."""
    columns = [block.get(item, []) for item in ("_atom_site_label", *_COORDINATES)]
    rows: dict[tuple[float, ...], list[str]] = {}
    for label, *place in zip(*columns, strict=False):
        at = tuple(round(float(value.partition("(")[0]), 3) % 1.0 for value in place)
        rows.setdefault(at, []).append(label)
    shared = {label: "/".join(dict.fromkeys(some)) for some in rows.values() for label in some}
    for site in structure:
        if not site.is_ordered:
            site.label = shared.get(site.label, site.label)


def _set_spins(block: dict[str, Any], structure: Structure) -> None:
    """Give ions the spins of a CIF, where it has those that `SPIN_ITEMS` are the items of."""
    labels, spins = (block.get(item, []) for item in SPIN_ITEMS)
    told = dict(zip(labels, map(int, spins), strict=True))
    for site in structure:
        if site.label in told and site.is_ordered and isinstance(site.specie, Species):
            ion = site.specie
            site.species = Species(ion.symbol, ion.oxi_state, spin=told[site.label])


def _check_numbers(block: dict[str, Any], path: Path) -> None:
    for item, (low, high) in _LIMITS.items():
        values = block.get(item, [])
        for value in [values] if isinstance(values, str) else values:
            if item == _OCCUPANCY and value == _DEFAULT:
                continue
            number = _NUMBER.fullmatch(value)
            if number is None or not low < float(number[1]) < high:
                raise InputError(f"'{value}' is not a valid value", where=f"{path}: {item}")


def _check_formula(formula: str, structure: Structure, path: Path) -> None:
    """Compare the sites of a CIF with its formula, if it gives one that can be read."""
    try:
        told = Composition(formula.replace("'", " "))
    except ValueError:
        return
    found = Composition(structure.composition.get_el_amt_dict())
    if told and not told.fractional_composition.almost_equals(found.fractional_composition):
        raise InputError(
            f"its sites add up to {found.reduced_formula}, its formula is {told.reduced_formula}",
            where=str(path),
            remedy="correct its sites, its symmetry or _chemical_formula_sum",
        )


def check_poscar(path: Path) -> None:
    """Refuse a POSCAR whose names and numbers of elements do not match, or that lacks atoms.

    Parameters
    ----------
    path
        The file.

    Raises
    ------
    InputError
        If it names more or fewer elements than it gives numbers of atoms, or has fewer lines than
        it declares atoms.
    """
    rows = lines(path)
    head = [line.split() for line in islice(rows, 7)]
    names, counts = [*head, [], [], [], [], [], [], []][5:7]
    if names and names[0].isalpha():
        if len(names) != len(counts):
            raise InputError(
                f"{len(names)} elements, but {len(counts)} numbers of atoms", where=str(path)
            )
    else:  # as VASP 4 wrote it
        counts = names
    numbers = takewhile(re.compile(r"[+-]?\d+").fullmatch, counts)
    declared = sum(int(number[:LONGEST_NUMBER]) for number in numbers)
    _refuse_many(declared, path)
    there = sum(1 for _ in islice(rows, declared))
    if there < declared:
        raise InputError(f"it declares {declared} atoms, and has {there} lines", where=str(path))


def check_extxyz(path: Path) -> None:
    """Refuse an extended XYZ file that is truncated, or declares more than it has.

    Parameters
    ----------
    path
        The file.

    Raises
    ------
    InputError
        If a frame has fewer lines than its number of atoms requires, fewer columns than its
        properties do, or no such number.
    """
    rows = lines(path)
    name = str(path)
    for frame, line in enumerate(line for line in rows if not line.isspace()):
        where = f"{name}, frame {frame}"
        atoms = int(line) if _COUNT.fullmatch(line) else -1
        _refuse_many(atoms, where)
        head, row = next(rows, None), next(rows, "") if atoms else ""
        there = bool(row) + sum(1 for _ in islice(rows, max(0, atoms - 1)))
        if head is None or there < atoms or atoms < 1:
            raise InputError(
                "cannot read a structure: it is truncated, or gives no number of atoms"
                + (f" ({atoms} declared, {there} lines)" if there < atoms else ""),
                where=where,
            )
        properties = _PROPERTIES.search(head)
        columns, found = _columns(properties[1]) if properties else 0, len(row.split())
        if columns > found:
            raise InputError(f"it declares {columns} columns, and has {found}", where=where)


@lru_cache(maxsize=1)  # the frames of a file are alike
def _columns(properties: str) -> int:
    """Return how many columns there are of all properties together."""
    return sum(int(n[:LONGEST_NUMBER]) for n in re.findall(r":(\d+)", properties))


def _refuse_many(atoms: int, where: Path | str) -> None:
    if atoms > LARGEST_STRUCTURE:
        raise InputError(
            f"it declares {atoms} atoms, and structures of up to {LARGEST_STRUCTURE} are read",
            where=str(where),
        )
