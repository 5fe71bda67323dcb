"""Structures from a file, with the charge state of every atom."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from pymatgen.core.periodic_table import Element

from al_charge.crystal.bounded import limited
from al_charge.crystal.charges import fixed_charges, redox_elements
from al_charge.crystal.configuration import set_species
from al_charge.crystal.geometry import (
    bound_to_carbon,
    refuse_impossible,
    refuse_left_handed,
    refuse_non_periodic,
)
from al_charge.crystal.species import (
    TOKEN_DTYPE,
    charge_of,
    element_of,
    parse,
    token,
    unpaired_electrons,
    usual_token,
)
from al_charge.crystal.strict_files import check_extxyz, check_poscar, is_cif, read_cif
from al_charge.crystal.valence import GPAW_WINDOWS, VASP_WINDOWS, Windows, audit
from al_charge.errors import InputError

ARRAYS = ("species", "resolved_species", "requested_species")
"""Per-atom arrays of a file that may hold species tokens, in the order in which they are tried."""

NOMINAL_WINDOWS = Windows(
    {
        species: (max(0.0, unpaired_electrons(species) - 0.01), unpaired_electrons(species) + 0.01)
        for species in VASP_WINDOWS.ranges
    }
)
"""Windows for initial moments, which are spin-only ones."""


def load_structure(path: Path, states: Sequence[str] = ()) -> tuple[Atoms, str]:
    """Read a structure and determine the charge state of every atom.

    Charge states are taken from ``states``; else from the file's own oxidation states, species or
    magnetic moments; else from neutrality, where all atoms of the only redox element can be in one
    state. An element with one common state is in that state.

    Parameters
    ----------
    path
        Any file that ASE or pymatgen reads; the last structure where it holds several.
    states
        Species tokens: for each element named, one for all of its atoms, or one for each in the
        order of the file.

    Returns
    -------
    atoms
        With a ``species`` array and the initial moments of the ferromagnetic state.
    how
        Where the charge states come from, in a few words.

    Raises
    ------
    InputError
        If the file cannot be read, a charge state cannot be determined, or the charges do not sum
        to zero.
    """
    (atoms,) = _read(path, "-1")
    _refuse_no_crystal(atoms, str(path))
    refuse_left_handed(atoms.cell.array, str(path))
    tokens, how = tell_species(atoms, states, where=path)
    result = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True)
    set_species(result, list(tokens))
    return result, how


def read_structures(path: Path) -> list[Atoms]:
    """Read every structure of a file, isolated atoms included, with the results that it holds.

    Parameters
    ----------
    path
        Any file that ASE or pymatgen reads.

    Returns
    -------
    list of Atoms
        In the order of the file. Oxidation states of a CIF become an array ``species``.

    Raises
    ------
    InputError
        If the file cannot be read, or a structure that `is_isolated_atom` does not recognise is not
        periodic along three axes or has an impossible geometry.
    """
    return _read(path, ":")


def is_isolated_atom(atoms: Atoms) -> bool:
    """Return whether a frame is an atom on its own, as a reference for energies, and no crystal.

    Parameters
    ----------
    atoms
        As ASE read it.

    Returns
    -------
    bool
        True for one atom without periodicity, and where ``config_type`` is ``IsolatedAtom``.
    """
    named = str(atoms.info.get("config_type", "")).lower().replace("_", "")
    return named == "isolatedatom" or (len(atoms) == 1 and not atoms.pbc.any())


def tell_species(
    atoms: Atoms, states: Sequence[str] = (), *, where: Path | str
) -> tuple[Sequence[str], str]:
    """Determine the charge state of every atom of a structure; see `load_structure`.

    Parameters
    ----------
    atoms
        As returned by `read_structures`.
    states
        Species tokens: for each element named, one for all of its atoms, or one for each in the
        order of the file.
    where
        File or field that errors name.

    Returns
    -------
    tokens
        Species token of every atom.
    how
        Where they come from, in a few words.

    Raises
    ------
    InputError
        If a charge state cannot be determined, or the charges do not sum to zero.
    """
    tokens, how = _tell(atoms, states, where)
    if charge := sum(map(charge_of, tokens)):
        counts = ", ".join(f"{number} {species}" for species, number in Counter(tokens).items())
        raise InputError(
            f"the charges ({how}) sum to {charge:+d} e: {counts}",
            where=str(where),
            remedy="give the states that make the cell neutral",
        )
    return tokens, how


def _tell(atoms: Atoms, states: Sequence[str], where: Path | str) -> tuple[Sequence[str], str]:
    symbols = atoms.get_chemical_symbols()
    if states:
        given = _by_element(states, symbols, _on_carbon(atoms))
        return _complete(symbols, given, where), "as given"
    for name in ARRAYS:
        if name in atoms.arrays:
            written = [parse(str(word)) for word in atoms.arrays[name]]
            for number, (species, symbol) in enumerate(zip(written, symbols, strict=True)):
                if element_of(species) != symbol:
                    raise InputError(f"atom {number} is {symbol}, not {species}", where=str(where))
            return written, "given in the file"
    if not redox_elements(symbols):
        return _complete(symbols, {}, where), "common oxidation states"
    if (tokens := _from_moments(atoms)) is not None:
        return tokens, "from the file's magnetic moments"
    return _complete(
        symbols, _from_neutrality(symbols, _on_carbon(atoms)), where
    ), "all alike, by neutrality"


def _read(path: Path, index: str) -> list[Atoms]:
    """Return those structures of a file that an index of ASE selects."""
    if not path.is_file():
        raise InputError("no such file", where=str(path))
    try:
        with limited(path), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            images = [_read_cif(path)] if is_cif(path) else _read_other(path, index)
    except InputError:
        raise
    except Exception as error:  # readers raise whatever their format breaks
        summary = " ".join(f"{type(error).__name__}: {error}".split())[:120]
        raise InputError(
            f"cannot read a structure ({summary})",
            where=str(path),
            remedy="give a CIF, a POSCAR or an extended XYZ file",
        ) from error
    structures = images if isinstance(images, list) else [images]
    if not structures:
        raise InputError("there is no structure in it", where=str(path))
    for number, atoms in enumerate(structures):
        if is_isolated_atom(atoms):
            continue
        where = f"{path}, frame {number}" if len(structures) > 1 else str(path)
        _refuse_no_crystal(atoms, where)
        refuse_impossible(atoms.cell.array, atoms.positions, where)
    return structures


def _refuse_no_crystal(atoms: Atoms, where: str) -> None:
    if atoms.cell.rank < 3:
        raise InputError("the structure has no cell in three dimensions", where=where)
    refuse_non_periodic(atoms.pbc, where)


def _read_other(path: Path, index: str) -> Atoms | list[Atoms]:
    from ase.io import read  # slow, and workers need none of it
    from ase.io.formats import filetype

    check = {"extxyz": check_extxyz, "vasp": check_poscar}.get(filetype(str(path)))
    if check is not None:
        check(path)
    return read(path, index=index)


def _read_cif(path: Path) -> Atoms:
    from pymatgen.io.ase import AseAtomsAdaptor

    structure = read_cif(path)
    if not structure.is_ordered:
        raise InputError("it has partly occupied sites", where=str(path))
    charges: list[Any] = [getattr(species, "oxi_state", None) for species in structure.species]
    spins: list[Any] = [getattr(species, "spin", None) for species in structure.species]
    symbols = [site.specie.symbol for site in structure]
    structure.remove_oxidation_states()
    atoms = AseAtomsAdaptor.get_atoms(structure)
    if all(charge is not None and charge == int(charge) for charge in charges):
        tokens = [
            usual_token(symbol, int(charge), symbols, carbon=carbon)
            if spin is None
            else parse(f"{token(symbol, int(charge))},spin={spin}")
            for symbol, charge, spin, carbon in zip(
                symbols, charges, spins, _on_carbon(atoms), strict=True
            )
        ]
        atoms.set_array("species", np.array(tokens, dtype=TOKEN_DTYPE))
    return atoms


def _on_carbon(atoms: Atoms) -> list[bool]:
    """Tell which atoms are bound to carbon."""
    places = atoms.cell.scaled_positions(atoms.positions)
    found = bound_to_carbon(atoms.get_chemical_symbols(), atoms.cell.array, places)
    return [bool(carbon) for carbon in found]


def _by_element(
    states: Sequence[str], symbols: Sequence[str], carbon: Sequence[bool]
) -> dict[str, list[str]]:
    """Return the states of all atoms of each element that is named."""
    words: dict[str, list[str]] = {}
    for word in states:
        words.setdefault(element_of(parse(word, symbols)), []).append(word)
    counts = Counter(symbols)
    for element, named in words.items():
        if len(named) == 1:
            named *= counts[element]
        if not counts[element] or len(named) != counts[element]:
            raise InputError(
                f"{len(named)} charge states for {counts[element]} atoms of {element}",
                where="charge states",
                remedy="give one for all of them, or one for each in the order of the file",
            )
    atoms = {element: [i for i, s in enumerate(symbols) if s == element] for element in words}
    return {
        element: [
            parse(word, symbols, carbon=carbon[atom])
            for word, atom in zip(named, atoms[element], strict=True)
        ]
        for element, named in words.items()
    }


def _complete(symbols: Sequence[str], given: dict[str, list[str]], where: Path | str) -> list[str]:
    """Return a token for every atom; elements that are not given are in their common state."""
    if missing := [element for element in redox_elements(symbols) if element not in given]:
        element, number = missing[0], symbols.count(missing[0])
        raise InputError(
            f"it does not say which charge states its {number} {element} have",
            where=str(where),
            remedy=f"give them with --oxidation, one for all {element} ({element}3+) or one for "
            f"each in the order of the file ({element}2+,{element}3+,...)",
        )
    fixed = fixed_charges(symbols, given)
    left = {element: iter(species) for element, species in given.items()}
    return [next(left[s]) if s in left else usual_token(s, fixed[s], symbols) for s in symbols]


def _from_moments(atoms: Atoms) -> Sequence[str] | None:
    """Return the species that the file's moments indicate; None if not for every atom."""
    results = atoms.calc.results if atoms.calc is not None else {}
    symbols = atoms.get_chemical_symbols()
    for moments in (results.get("magmoms"), atoms.get_initial_magnetic_moments()):
        if moments is None or np.ndim(moments) != 1 or not np.any(moments):
            continue
        for windows in (VASP_WINDOWS, GPAW_WINDOWS, NOMINAL_WINDOWS):
            if not windows.elements >= set(redox_elements(symbols)):
                continue
            any_state = {element_of(species): species for species in windows.ranges}
            fixed = fixed_charges(symbols, any_state)
            asked = [any_state.get(s) or token(s, fixed[s]) for s in symbols]
            if (found := audit(moments, asked, windows).species) is not None:
                return found
    return None


def _from_neutrality(symbols: Sequence[str], carbon: Sequence[bool]) -> dict[str, list[str]]:
    """Return the states of the only redox element if neutrality allows all to be equal."""
    elements = redox_elements(symbols)
    if len(elements) != 1:
        return {}
    (element,) = elements
    fixed = fixed_charges(symbols, elements)
    rest = sum(fixed[s] for s in symbols if s != element)
    charge, remainder = divmod(-rest, symbols.count(element))
    if remainder or charge not in Element(element).oxidation_states:
        return {}
    return {
        element: [
            usual_token(element, charge, symbols, carbon=here)
            for symbol, here in zip(symbols, carbon, strict=True)
            if symbol == element
        ]
    }
