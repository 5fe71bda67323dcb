"""Charge that several sites share: a finding, where other moments without a window are a doubt."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from al_charge.crystal.species import charge_of, element_of, unpaired_electrons
from al_charge.crystal.windows import Windows

LEAST_SITES = 2
"""One site alone shares its charge with nobody."""
CHARGE_PER_SITE = 0.15
"""e by which the charge that a site's moment tells may be off, as moments are not linear in it."""
BADER_SLACK = 0.05
"""e by which a shared site's Bader charge may lie outside those of the two states."""


def is_shared(
    sites: Sequence[str | None],
    requested: Sequence[str],
    moments: Sequence[float],
    windows: Windows,
    net: NDArray[np.float64] | None,
) -> bool:
    """Return whether the sites without a state share electrons or holes among them.

    Each of them must have a moment between the windows of two states of its element that are one
    charge and one unpaired electron apart, in no other spin state than was requested, and its Bader
    charge, where those of both states are known, between theirs. All moments must point the same
    way. The charge that each moment tells, between the middles of the two windows, must make the
    cell neutral.

    Parameters
    ----------
    sites
        Species token of every atom; None where the moment lies in no window.
    requested
        Requested species token of every atom.
    moments
        Bohr magnetons, one for each atom.
    windows
        By which the moments were read.
    net
        Net Bader charges in e, cations positive; None where there are none.

    Returns
    -------
    bool
        False if there are fewer than two such sites.
    """
    shared = [index for index, token in enumerate(sites) if token is None]
    if len(shared) < LEAST_SITES or len({moments[index] > 0 for index in shared}) > 1:
        return False
    total = float(sum(charge_of(token) for token in sites if token is not None))
    asked = set(requested)
    for index in shared:
        between = _states_around(element_of(requested[index]), abs(moments[index]), windows)
        if between is None or any(_is_other_spin(token, asked) for token in between):
            return False
        lower, upper = between
        if net is not None and not _lies_between(float(net[index]), lower, upper, windows):
            return False
        low, high = _middle(lower, windows), _middle(upper, windows)
        part = (abs(moments[index]) - low) / (high - low)
        total += charge_of(lower) + part * (charge_of(upper) - charge_of(lower))
    return abs(total) <= CHARGE_PER_SITE * len(shared)


def _states_around(element: str, moment: float, windows: Windows) -> tuple[str, str] | None:
    """Return the states whose windows enclose a moment, if one electron is all they differ by."""
    own = sorted(
        (bounds, token) for token, bounds in windows.ranges.items() if element_of(token) == element
    )
    below = [token for (_, high), token in own if high < moment]
    above = [token for (low, _), token in own if low > moment]
    if not below or not above:
        return None
    lower, upper = below[-1], above[0]
    apart = abs(charge_of(lower) - charge_of(upper))
    spins = abs(unpaired_electrons(lower) - unpaired_electrons(upper))
    return (lower, upper) if apart == spins == 1 else None


def _is_other_spin(species: str, requested: set[str]) -> bool:
    """Return whether an ion is requested, but in other spin states than this one alone."""
    ion = element_of(species), charge_of(species)
    same = {token for token in requested if (element_of(token), charge_of(token)) == ion}
    return bool(same) and species not in same


def _middle(token: str, windows: Windows) -> float:
    return sum(windows.ranges[token]) / 2


def _lies_between(net: float, one: str, other: str, windows: Windows) -> bool:
    """Return whether a Bader charge lies between those of two states, where these are known."""
    if one not in windows.charges or other not in windows.charges:
        return True
    low, high = sorted((windows.charges[one], windows.charges[other]))
    return low - BADER_SLACK <= net <= high + BADER_SLACK
