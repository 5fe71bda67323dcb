"""With which functional and U a run was made, and whether that is what its windows stand for."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from al_charge.crystal.species import element_of
from al_charge.crystal.windows import (
    GPAW_LCAO_WINDOWS,
    GPAW_PW_WINDOWS,
    GPAW_WINDOWS,
    VASP_WINDOWS,
    Windows,
)
from al_charge.labelers.hubbard import FUNCTIONAL, MP_U

_SMALLEST_DIFFERENCE = 0.01
"""eV by which two U differ; outputs round them to one or two decimals."""
_DEFAULTS = (VASP_WINDOWS, GPAW_LCAO_WINDOWS, GPAW_PW_WINDOWS, GPAW_WINDOWS)


@dataclass(frozen=True)
class Method:
    """What moments depend on, whatever the code.

    Attributes
    ----------
    functional
        Such as ``PBE``.
    hubbard_u
        eV by element, U - J; elements that are left out have none.
    """

    functional: str
    hubbard_u: Mapping[str, float]

    def differs_from(self, other: Method, elements: Collection[str]) -> str:
        """Say how this method is another one.

        Parameters
        ----------
        other
            What it is compared with.
        elements
            Whose U counts.

        Returns
        -------
        str
            Such as ``U = 4 instead of 5.3 eV on Fe``; empty if there is no difference.
        """
        parts = []
        if self.functional != other.functional:
            parts.append(f"{self.functional} instead of {other.functional}")
        for element in sorted(elements):
            u, usual = self.hubbard_u.get(element, 0.0), other.hubbard_u.get(element, 0.0)
            if abs(u - usual) >= _SMALLEST_DIFFERENCE:
                parts.append(f"U = {u:g} instead of {usual:g} eV on {element}")
        return ", ".join(parts)


MEASURED_WITH = Method(FUNCTIONAL, MP_U)
"""What the default windows were measured with."""


def unlike_default_windows(method: Method | None, species: Iterable[str], windows: Windows) -> str:
    """Say how a run differs from those that its default windows were measured with.

    Parameters
    ----------
    method
        Of the run; None if it is not known.
    species
        Species tokens whose windows neither the user gave nor end members calibrated.
    windows
        Those that are used; nothing is said of any but default ones.

    Returns
    -------
    str
        One line; empty if there is nothing to say.
    """
    if method is None:
        return ""
    elements = {element_of(one) for one in species if _is_default(one, windows)}
    if not elements or not (found := method.differs_from(MEASURED_WITH, elements)):
        return ""
    return f"computed with {found}; the default moment windows are for the latter"


def _is_default(species: str, windows: Windows) -> bool:
    """Return whether a window is a default one, or what others leave of it."""
    if species not in windows.ranges:
        return False
    low, high = windows.ranges[species]
    defaults = [table.ranges[species] for table in _DEFAULTS if species in table.ranges]
    return any(low == default_low or high == default_high for default_low, default_high in defaults)
