"""Species: an element together with its charge and spin state, as a token such as ``Fe3+``.

Tokens are pymatgen's strings for a ``Species``: ``Na+``, ``Fe2+``, ``P5+``, ``O2-``. A token
without a spin has as many unpaired electrons as Hund's first rule gives: ``Co3+`` is the high-spin
ion. Any other spin state says how many there are: low-spin Co3+ is ``Co3+,spin=0``.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from functools import cache
from typing import TYPE_CHECKING

from pymatgen.core.periodic_table import Element, Species

from al_charge.errors import InputError, did_you_mean

if TYPE_CHECKING:
    from ase import Atoms

TOKEN_DTYPE = "U16"
"""NumPy's type of arrays of tokens."""

_LOW_IN_OXIDES = {("Co", 3), ("Co", 4), ("Ni", 3), ("Ni", 4)}
"""3d ions that are low spin on the octahedral sites of oxides, as in LiCoO2 (van Elp et al., Phys.
Rev. B 44, 6090 (1991)), in LiNiO2 (Rougier et al., Solid State Commun. 94, 123 (1995)) and in what
is left of them when lithium leaves. Iron, manganese and divalent cobalt are high spin."""

_FIELD_FORMERS = frozenset({"B", "Si", "P", "S", "As", "Se"})
"""Elements that draw electrons from oxygen bound to them, which then splits the d levels of a
metal less: Co3+ in CoPO4 is high spin; Ehrenberg et al., Solid State Sci. 11, 18 (2009)."""


@cache
def token(element: str, charge: int, unpaired: int | None = None) -> str:
    """Return the species token of an element in a charge and spin state.

    Parameters
    ----------
    element
        Element symbol.
    charge
        Oxidation state, in e.
    unpaired
        Number of unpaired electrons; None for what Hund's first rule gives.

    Returns
    -------
    str
        For example ``Fe3+``, or ``Co3+,spin=0``.
    """
    if unpaired is None or unpaired == unpaired_electrons(str(Species(element, charge))):
        return str(Species(element, charge))
    return str(Species(element, charge, spin=unpaired))


def tokens_of(atoms: Atoms) -> list[str]:
    """Return the species token of every atom.

    Parameters
    ----------
    atoms
        With a ``species`` array.

    Returns
    -------
    list of str
        In the order of the atoms.

    Raises
    ------
    InputError
        If there is no such array.
    """
    if "species" not in atoms.arrays:
        raise InputError("the structure has no species array", where="atoms.arrays")
    return [str(token) for token in atoms.arrays["species"]]


def parse(text: str, compound: Collection[str] | None = None, *, carbon: bool = False) -> str:
    """Return the species token for a charge state as a user writes it.

    Parameters
    ----------
    text
        For example ``Fe3+``, ``Na+`` or ``Na1+``; with a spin ``Co3+ low`` or ``Co3+,spin=0``.
    compound
        Elements of the compound, in which an ion without a spin has its usual one; None for a
        token, in which it is high spin.
    carbon
        Whether the ion is bound to the carbon of cyanide.

    Returns
    -------
    str
        The token: ``Na+`` for ``Na1+``, ``Co3+`` for ``Co3+ high``.

    Raises
    ------
    InputError
        If it is not an element with a charge, or the ion has no such spin state.
    """
    match = re.fullmatch(r"([A-Z][a-z]?)(\d*)([+-])(?:(?:,| +)(\S+))?", text.strip())
    if match is None or not Element.is_valid_symbol(match[1]):
        raise InputError(
            f"'{text}' is not a charge state",
            where="charge states",
            remedy="write it like Fe3+, or Co3+ low",
        )
    charge = int(match[3] + (match[2] or "1"))
    if match[4] is not None:
        return token(match[1], charge, unpaired_of(match[1], charge, match[4], "charge states"))
    if compound is not None:
        return usual_token(match[1], charge, compound, carbon=carbon)
    return token(match[1], charge)


def unpaired_of(element: str, charge: int, spin: str, where: str) -> int:
    """Return the number of unpaired electrons of an ion in a named spin state.

    Parameters
    ----------
    element
        Element symbol.
    charge
        Oxidation state, in e.
    spin
        ``high``, ``low`` or ``intermediate``, in an octahedral field, or a number of unpaired
        electrons as in ``spin=1``.
    where
        Field that errors name.

    Returns
    -------
    int
        Unpaired electrons.

    Raises
    ------
    InputError
        If the ion has no such spin state.
    """
    ion = str(Species(element, charge))
    high, low = unpaired_electrons(ion), _low_spin(element, charge)
    known = {"high": high, "low": low}
    if high - low == 4:
        known["intermediate"] = low + 2
    number = re.fullmatch(r"spin=(\d+)", spin)
    if number is not None:
        unpaired = int(number[1])
        if unpaired <= high and (high - unpaired) % 2 == 0:
            return unpaired
        possible = ", ".join(str(n) for n in range(high % 2, high + 1, 2))
        raise InputError(
            f"{ion} cannot have {unpaired} unpaired electrons",
            where=where,
            remedy=f"it can have {possible}",
        )
    if spin not in known:
        remedy = did_you_mean(spin, [*known, f"spin={low}"])
        raise InputError(f"{ion} has no spin state '{spin}'", where=where, remedy=remedy)
    return known[spin]


def usual_unpaired(
    element: str, charge: int, compound: Collection[str], *, carbon: bool = False
) -> int:
    """Return the number of unpaired electrons that an ion usually has on an octahedral site.

    Ions of the 4d and 5d rows are low spin, and so are Co3+, Co4+, Ni3+ and Ni4+ in oxides and
    sulfides; all others, and those in fluorides, phosphates, silicates and other oxides of
    electronegative cations, are high spin. Metals bound to the carbon of cyanide are low spin,
    those bound to its nitrogen are not: Buser et al., Inorg. Chem. 16, 2704 (1977).

    Parameters
    ----------
    element
        Element symbol.
    charge
        Oxidation state, in e.
    compound
        Symbols of all elements.
    carbon
        Whether the site is bound to the carbon of cyanide.

    Returns
    -------
    int
        Unpaired electrons.
    """
    weak = "F" in compound or ("O" in compound and not _FIELD_FORMERS.isdisjoint(compound))
    metal = Element(element)
    if metal.is_transition_metal and (
        metal.row > 4 or carbon or ((element, charge) in _LOW_IN_OXIDES and not weak)
    ):
        return _low_spin(element, charge)
    return unpaired_electrons(str(Species(element, charge)))


def usual_token(
    element: str, charge: int, compound: Collection[str], *, carbon: bool = False
) -> str:
    """Return the species token of an ion in its usual spin state; see `usual_unpaired`.

    Parameters
    ----------
    element
        Element symbol.
    charge
        Oxidation state, in e.
    compound
        Symbols of all elements.
    carbon
        Whether the ion is bound to the carbon of cyanide.

    Returns
    -------
    str
        Species token.
    """
    return token(element, charge, usual_unpaired(element, charge, compound, carbon=carbon))


def spin_name(species: str) -> str:
    """Return the name of a species' spin state.

    Parameters
    ----------
    species
        Species token.

    Returns
    -------
    str
        ``high``, ``low`` or ``intermediate``; empty where the ion has but one spin state.
    """
    element, charge = element_of(species), charge_of(species)
    high, low = unpaired_electrons(str(Species(element, charge))), _low_spin(element, charge)
    found = unpaired_electrons(species)
    if high == low == found:
        return ""
    return {high: "high", low: "low"}.get(found, "intermediate")


def spin_states(species: str) -> tuple[str, ...]:
    """Return the species of an ion in each spin state that it can have in an octahedral field.

    Parameters
    ----------
    species
        Species token, in any spin state.

    Returns
    -------
    tuple of str
        Species tokens, most unpaired electrons first; one for an ion with a single spin state.
    """
    element, charge = element_of(species), charge_of(species)
    high, low = unpaired_electrons(str(Species(element, charge))), _low_spin(element, charge)
    return tuple(token(element, charge, unpaired) for unpaired in range(high, low - 1, -2))


def in_words(species: str) -> str:
    """Return a species as it is written for people.

    Parameters
    ----------
    species
        Species token.

    Returns
    -------
    str
        Such as ``Co3+ low``; without a word where the ion has but one spin state.
    """
    ion = str(Species(element_of(species), charge_of(species)))
    return f"{ion} {spin_name(species)}".strip()


def _low_spin(element: str, charge: int) -> int:
    """Return the number of unpaired electrons of an ion's low-spin state in an octahedral field."""
    if not unpaired_electrons(str(Species(element, charge))):
        return 0
    # pymatgen counts them for the 3d and 4d rows only.
    d_electrons = Element(element).group - charge
    in_shell, places = (d_electrons, 6) if d_electrons <= 6 else (d_electrons - 6, 4)
    return min(in_shell, places - in_shell)


@cache
def element_of(species: str) -> str:
    """Return the element of a species.

    Parameters
    ----------
    species
        Species token.

    Returns
    -------
    str
        Element symbol.
    """
    return str(Species.from_str(species).element.symbol)


@cache
def charge_of(species: str) -> int:
    """Return the formal charge of a species.

    Parameters
    ----------
    species
        Species token.

    Returns
    -------
    int
        In e.
    """
    return int(Species.from_str(species).oxi_state or 0)


@cache
def unpaired_electrons(species: str) -> int:
    """Return the number of unpaired electrons of a species: its spin-only moment.

    Without a spin in the token, the d electrons of a transition-metal cation occupy five orbitals
    by Hund's first rule; other species have none.

    Parameters
    ----------
    species
        Species token.

    Returns
    -------
    int
        Unpaired electrons, or Bohr magnetons.
    """
    ion = Species.from_str(species)
    if ion.spin is not None:
        return int(ion.spin)
    element = Element(ion.element.symbol)
    if not (element.is_transition_metal and 3 <= element.group <= 12):
        return 0
    d_electrons = element.group - int(ion.oxi_state or 0)
    if not 0 <= d_electrons <= 10:
        return 0
    return int(min(d_electrons, 10 - d_electrons))
