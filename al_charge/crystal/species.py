"""Species: an element together with its charge state, as a token such as ``Fe3+``.

Tokens are pymatgen's strings for a ``Species``: ``Na+``, ``Fe2+``, ``Fe3+``, ``P5+``, ``O2-``.
"""

from __future__ import annotations

import re
from functools import cache

from pymatgen.core.periodic_table import Element, Species

from al_charge.errors import InputError


@cache
def token(element: str, charge: int) -> str:
    """Return the species token of an element in a charge state.

    Parameters
    ----------
    element
        Element symbol.
    charge
        Oxidation state, in e.

    Returns
    -------
    str
        For example ``Fe3+``.
    """
    return str(Species(element, charge))


def parse(text: str) -> str:
    """Return the species token for a charge state as a user writes it.

    Parameters
    ----------
    text
        For example ``Fe3+``, ``Na+`` or ``Na1+``.

    Returns
    -------
    str
        The token: ``Na+`` for ``Na1+``.

    Raises
    ------
    InputError
        If it is not an element with a charge.
    """
    match = re.fullmatch(r"([A-Z][a-z]?)(\d*)([+-])", text)
    if match is None or not Element.is_valid_symbol(match[1]):
        raise InputError(
            f"'{text}' is not a charge state", where="charge states", remedy="write it like Fe3+"
        )
    return token(match[1], int(match[3] + (match[2] or "1")))


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
def high_spin_moment(species: str) -> float:
    """Return the spin-only high-spin moment of a species.

    The d electrons of a transition-metal cation occupy five orbitals by Hund's first rule; other
    species have no moment.

    Parameters
    ----------
    species
        Species token.

    Returns
    -------
    float
        Bohr magnetons.
    """
    element = Element(element_of(species))
    if not (element.is_transition_metal and 3 <= element.group <= 12):
        return 0.0
    d_electrons = element.group - charge_of(species)
    if not 0 <= d_electrons <= 10:
        return 0.0
    return float(min(d_electrons, 10 - d_electrons))
