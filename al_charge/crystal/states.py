"""States of sites as numbers: what a campaign file lists, and what configurations hold."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import Annotated, TypeVar

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


Charge = Annotated[int, Field(ge=-9, le=9)]
"""An oxidation state, in e."""
IonState = Annotated[Charge | str, BeforeValidator(_as_written)]
"""An oxidation state, alone (``3``) or with a spin state (``3 low``, ``3 spin=1``)."""


def numbered_states(
    element: str, written: Sequence[int | str], compound: Collection[str] | None, where: str
) -> dict[int, int]:
    """Return the states that a campaign file lists for an element.

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

    Returns
    -------
    dict
        Unpaired electrons by state, states ascending; in whatever order they are listed.

    Raises
    ------
    InputError
        If an ion has no such spin state.
    """
    spins: dict[int, set[int]] = {}
    for one in written:
        digits, _, word = str(one).partition(" ")
        charge = int(digits)
        if word or compound is None:
            unpaired = unpaired_of(element, charge, word or "high", where)
        else:
            unpaired = usual_unpaired(element, charge, compound)
        spins.setdefault(charge, set()).add(unpaired)
    return dict(
        sorted(
            (charge + SPIN_STEP * place, unpaired)
            for charge, some in spins.items()
            for place, unpaired in enumerate(sorted(some, reverse=True))
        )
    )
