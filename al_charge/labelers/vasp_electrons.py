"""Whether VASP's electrons converged, by the numbers: VASP 5 says so of runs that NELM stopped."""

from __future__ import annotations

from collections.abc import Sequence

_ROUNDING = 1.5e-8
"""eV by which a difference of energies may be off, and EDIFF, all written with eight decimals."""


def settled(energies: Sequence[float], most: int, limit: float) -> bool:
    """Return whether the electrons of one geometry met EDIFF before NELM stopped them.

    Parameters
    ----------
    energies
        Free energy after each electronic step, eV, with eight decimals.
    most
        NELM.
    limit
        EDIFF, eV.

    Returns
    -------
    bool
        False for as many steps as are allowed, and where the last changed the energy by more.
    """
    if not 0 < len(energies) < most:
        return False
    return len(energies) == 1 or abs(energies[-1] - energies[-2]) <= limit + _ROUNDING
