"""States of sites as numbers: what a campaign file lists, and what configurations hold."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from typing import Annotated, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator, Field

from al_charge.crystal.species import unpaired_of, usual_unpaired

SPIN_STEP = 32
"""What distinguishes states of one charge. The one with most unpaired electrons is its charge in e;
the next is the charge plus this number, and so on."""

State = TypeVar("State", int, NDArray[np.float64])


def charge_of_state(state: State) -> State:
    """Return the charge of a site's state.

    Parameters
    ----------
    state
        State of an occupied site, as in `Configuration.occupation`, or an array of them.

    Returns
    -------
    int or ndarray
        In e.
    """
    return (state + SPIN_STEP // 2) % SPIN_STEP - SPIN_STEP // 2


def _as_written(value: object) -> object:
    """Refuse what is not an oxidation state, alone or with a spin state."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    words = value.split() if isinstance(value, str) else []
    if not words or len(words) > 2 or not re.fullmatch(r"[+-]?\d", words[0]):
        raise ValueError(
            f"'{value}' is not an oxidation state; write it like 3, '3 low' or '3 spin=1'"
        )
    return int(words[0]) if len(words) == 1 else f"{int(words[0])} {words[1]}"


LARGEST_CHARGE = 9
"""Largest oxidation state of an ion, in e."""
Charge = Annotated[int, Field(ge=-LARGEST_CHARGE, le=LARGEST_CHARGE)]
"""An oxidation state, in e."""
IonState = Annotated[Charge | str, BeforeValidator(_as_written)]
"""An oxidation state, alone (``3``) or with a spin state (``3 low``, ``3 spin=1``)."""


WORKING_ION = "working ion"
"""The role of a site that the working ion fills and leaves."""


def _as_role(value: object) -> object:
    """Return the role of a site as a tuple: its states, or that of the working ion."""
    if value == WORKING_ION or value in ([WORKING_ION], (WORKING_ION,)):
        return (WORKING_ION,)
    states = value if isinstance(value, list | tuple) else [value]
    if not states:
        raise ValueError(f"give its states, or '{WORKING_ION}'")
    found = tuple(map(_as_written, states))
    for one in found:
        if isinstance(one, int) and abs(one) > LARGEST_CHARGE:
            raise ValueError(f"{one} is not an oxidation state")
    return found


SiteRole = Annotated[tuple[int | str, ...], BeforeValidator(_as_role)]
"""What a site is: its only state, a list of those it changes between, or `WORKING_ION`."""


class Ion(NamedTuple):
    """A charge state and spin state.

    Attributes
    ----------
    charge
        Oxidation state, in e.
    unpaired
        Unpaired electrons.
    """

    charge: int
    unpaired: int


def ions(
    element: str,
    written: Sequence[int | str],
    compound: Collection[str] | None,
    where: str,
    *,
    carbon: bool = False,
) -> frozenset[Ion]:
    """Return the ions that a campaign file lists for an element or a site.

    Parameters
    ----------
    element
        Element symbol.
    written
        Its states, as `IonState`.
    compound
        Elements of the compound, in which an ion without a spin state has its usual one; None if
        it is high spin.
    where
        Field that errors name.
    carbon
        Whether the site is bound to the carbon of cyanide, where ions are usually low spin.

    Returns
    -------
    frozenset of Ion
        Each once, in whatever order they are listed.

    Raises
    ------
    InputError
        If an ion has no such spin state.
    """
    found = set[Ion]()
    for one in written:
        digits, _, word = str(one).partition(" ")
        charge = int(digits)
        if word or compound is None:
            unpaired = unpaired_of(element, charge, word or "high", where)
        else:
            unpaired = usual_unpaired(element, charge, compound, carbon=carbon)
        found.add(Ion(charge, unpaired))
    return frozenset(found)


def number_states(some: Collection[Ion]) -> dict[Ion, int]:
    """Return the number of each state of an element; see `SPIN_STEP`.

    Parameters
    ----------
    some
        Every ion of the element in a host, on whatever sites.

    Returns
    -------
    dict
        State by ion, as in `Configuration.occupation`.
    """
    spins: dict[int, list[int]] = {}
    for ion in sorted(some, reverse=True):
        spins.setdefault(ion.charge, []).append(ion.unpaired)
    return {
        Ion(charge, unpaired): charge + SPIN_STEP * place
        for charge, found in spins.items()
        for place, unpaired in enumerate(found)
    }


def sums_of_charges(sites: Iterable[tuple[int, ...]]) -> set[int]:
    """Return what the charges of sites can sum to.

    Parameters
    ----------
    sites
        Allowed states of each.

    Returns
    -------
    set of int
        In e.
    """
    sums = {0}
    for states in sites:
        charges = set(map(charge_of_state, states))
        sums = {total + charge for total in sums for charge in charges}
    return sums
