"""Windows: the range of magnetic moments that each charge state has with one engine."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

from al_charge.crystal.species import (
    charge_of,
    element_of,
    spin_name,
    spin_states,
    unpaired_electrons,
)
from al_charge.errors import InputError

HALF_WIDTH = 0.08
"""Bohr magnetons by which a calibrated window extends beyond the moments that it was calibrated
on, where the end members have only one state of the element."""

REACH = 0.12
"""Extension of a calibrated window towards its neighbour, as a fraction of the gap between their
moments per unit of charge. A moment changes with the charge of its site, so this is also the
fraction of an electron that a site may have too much or too little. With VASP and U = 5.3 eV on
iron (3.77 and 4.33 Bohr magnetons) sites that share a hole begin at 3.85, 0.14 of the gap."""

LARGEST_SPREAD = 0.15
"""Largest difference in Bohr magnetons between sites of one state in the end members. Equal states
differ by up to 0.05 there, neighbouring states by 0.3 or more."""

SMALLEST_GAP = 0.2
"""Smallest difference in Bohr magnetons by which moments distinguish two states; those of one state
differ by up to 0.05 between compositions."""

LEAST_SHARE = 0.7
"""A moment below this fraction of the spin-only value is that of another spin state. High-spin
cations in oxides have 0.78 (Co3+) to 1.05 (Mn4+) of it in PBE+U."""

EXCESS = 0.5
"""Bohr magnetons by which a moment may exceed the spin-only value."""

CLEARANCE = 0.02
"""Bohr magnetons left between a calibrated window and a default one that would overlap it."""


@dataclass(frozen=True)
class Windows:
    """The range of moments that each charge state has with one engine and its settings.

    Attributes
    ----------
    ranges
        By species token: smallest and largest absolute moment, in Bohr magnetons. Windows of one
        element never overlap; a moment in none of them is ambiguous.
    charges
        By species token: the mean net Bader charge in e, cations positive, of sites known to be in
        that state; empty where none are known.
    """

    ranges: Mapping[str, tuple[float, float]]
    charges: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse windows that are empty or overlap."""
        for species, (low, high) in self.ranges.items():
            if not 0 <= low < high:
                raise InputError(
                    f"the window of {species} from {low:g} to {high:g} is not valid",
                    where="moment_windows",
                    remedy="give the smallest and the largest absolute moment",
                )
        for element in self.elements:
            bounds = sorted((window, species) for species, window in self._of(element).items())
            for (lower, first), (upper, second) in pairwise(bounds):
                if upper[0] <= lower[1]:
                    raise InputError(
                        f"the windows of {first} ({lower[0]:.2f} to {lower[1]:.2f}) and {second} "
                        f"({upper[0]:.2f} to {upper[1]:.2f}) overlap",
                        where="moment_windows",
                        remedy="narrow them, or distinguish the states by other means",
                    )

    @property
    def elements(self) -> frozenset[str]:
        """Elements that have a window."""
        return frozenset(element_of(species) for species in self.ranges)

    def state(self, element: str, moment: float) -> str | None:
        """Return the species that a site's moment indicates.

        Parameters
        ----------
        element
            Element of the site.
        moment
            Bohr magnetons, of either sign.

        Returns
        -------
        str or None
            Species token; None if the moment lies in no window of the element.
        """
        for species, (low, high) in self._of(element).items():
            if low <= abs(moment) <= high:
                return species
        return None

    def with_defaults(self, defaults: Windows) -> Windows:
        """Return these windows, and those of others for states that have none here.

        A default that would overlap a window of these is narrowed, or left out if its middle lies
        in that window or nothing remains.

        Parameters
        ----------
        defaults
            Windows of less authority, such as those of an engine.

        Returns
        -------
        Windows
            Ranges of both; Bader charges of both, too.
        """
        ranges = dict(self.ranges)
        for species, window in defaults.ranges.items():
            taken = list(self._of(element_of(species)).values())
            if species not in ranges and (rest := _outside(window, taken)) is not None:
                ranges[species] = rest
        return Windows(ranges, {**defaults.charges, **self.charges})

    def check(self, species: Iterable[str]) -> None:
        """Refuse species whose state could not be read back from moments.

        Parameters
        ----------
        species
            Species tokens of elements that moments are to tell the state of.

        Raises
        ------
        InputError
            If one of them has no window.
        """
        for token in sorted(set(species)):
            if token not in self.ranges:
                raise InputError(
                    f"no moment window for {token}, so this state cannot be read back; only an end "
                    f"member or a cell that consists of it alone can calibrate one",
                    where="labeler.moment_windows",
                    remedy=f"give one for {token}",
                )

    def _of(self, element: str) -> dict[str, tuple[float, float]]:
        return {token: w for token, w in self.ranges.items() if element_of(token) == element}


GPAW_LCAO_WINDOWS = Windows({"Fe2+": (3.54, 3.76), "Fe3+": (4.10, 4.34)})
"""Iron on oxygen in GPAW's atomic-orbital mode (dzp, h = 0.22 A, PBE, U = 5.3 eV on the d states).
In 14 runs of olivine NaxFePO4 Fe2+ has 3.63-3.67 and Fe3+ 4.18-4.23; sites that share a hole have
3.96. A coarser grid changes this: with h = 0.25 A they have 3.58 and 3.90."""

GPAW_PW_WINDOWS = Windows({"Fe2+": (3.57, 3.78), "Fe3+": (4.18, 4.42)})
"""The same with plane waves up to 350 to 800 eV: in 20 runs 3.65-3.69 (Fe2+), 4.28-4.32 (Fe3+)."""

GPAW_WINDOWS = Windows({"Fe2+": (3.54, 3.78), "Fe3+": (4.10, 4.42)})
"""For GPAW in either mode: `GPAW_LCAO_WINDOWS` and `GPAW_PW_WINDOWS` together."""

VASP_WINDOWS = Windows(
    {
        "Fe2+": (3.65, 3.84),
        "Fe3+": (4.15, 4.45),
        "Fe2+,spin=0": (0.00, 0.30),
        "Fe3+,spin=1": (0.80, 1.30),
        "Mn2+": (4.45, 4.75),
        "Mn3+": (3.60, 4.10),
        "Mn4+": (2.70, 3.40),
        "Co2+": (2.65, 2.86),
        "Co3+": (3.02, 3.25),
        "Co3+,spin=0": (0.00, 0.30),
        "Ni2+": (1.60, 1.90),
        "Ni3+,spin=1": (0.80, 1.30),
        "Ni4+,spin=0": (0.00, 0.30),
        "V3+": (1.70, 2.05),
        "V4+": (0.85, 1.20),
        "V5+": (0.00, 0.30),
        "Cr3+": (2.70, 3.10),
    }
)
"""VASP with PBE and the Materials Project's U (Fe 5.3, Mn 3.9, Co 3.32, Ni 6.2, V 3.25, Cr 3.7 eV).

- Iron: a published run of one sodium in olivine FePO4 (Fe3+ 4.32-4.35, Fe2+ 3.785, and 3.85-3.97
  where a hole is shared) and published mixed olivines (Fe2+ 3.76-3.77).
- Mn2+ 4.65, Co2+ 2.78, high-spin Co3+ 3.11, Ni2+ 1.83: those mixed olivines.
- Mn3+ and Mn4+: within the ranges that the authors of CHGNet assign to them in the Materials
  Project's moments (3.5 to 4.2 and 2.5 to 3.5).
- Vanadium, Cr3+ and low-spin Ni3+ and Fe3+: around the spin-only values; not compared with any
  published run.
- Low-spin Co3+, Ni4+ and Fe2+: closed shells, without a moment of their own.

Co4+ and the higher states of chromium have no window here; end members calibrate them.
"""


def calibrate(
    moments: Mapping[str, Sequence[float]],
    defaults: Windows | None = None,
    *,
    charges: Mapping[str, Sequence[float]] | None = None,
) -> Windows:
    """Return windows from moments of known charge states, such as those of the end members.

    Parameters
    ----------
    moments
        By species token: the moments (Bohr magnetons) of sites known to be in that state, all with
        the same engine and settings.
    defaults
        Windows for states that are not among them, such as Mn3+ where the end members have Mn2+ and
        Mn4+; None for none. See `Windows.with_defaults`.
    charges
        By species token: net Bader charges of such sites in e, cations positive; None for none.

    Returns
    -------
    Windows
        Calibrated ranges and the remaining defaults, with the mean Bader charges.

    Raises
    ------
    InputError
        If the moments of one state differ too much, are far from its spin-only moment or not
        finite, or the moments of two states are too close to tell the states apart.
    """
    seen = {species: _span(species, values) for species, values in moments.items()}
    ranges: dict[str, tuple[float, float]] = {}
    for element in sorted({element_of(species) for species in seen}):
        of_element = {s: span for s, span in seen.items() if element_of(s) == element}
        ranges |= _windows_of_element(of_element)
    means = {s: float(np.mean(values)) for s, values in (charges or {}).items() if len(values)}
    return Windows(ranges, means).with_defaults(defaults or Windows({}))


def with_own(windows: Windows, requested: Sequence[str], moments: ArrayLike) -> Windows:
    """Return windows, with more that a run calibrates itself: of elements in one state without one.

    Parameters
    ----------
    windows
        Those that there are.
    requested
        Requested species token of every atom.
    moments
        Bohr magnetons, shape (n_atoms,).

    Returns
    -------
    Windows
        Without those that cannot be calibrated; see `calibrate`.
    """
    values = np.asarray(moments, dtype=float)
    for species in sorted(set(requested) - set(windows.ranges)):
        element = element_of(species)
        alone = {t for t in requested if element_of(t) == element} == {species}
        if alone and (has_spin_state(species) or element in windows.elements):
            own = [float(m) for m, t in zip(values, requested, strict=False) if t == species]
            with contextlib.suppress(InputError):  # then its sites are ambiguous
                windows = calibrate({species: own}, windows)
    return windows


def has_spin_state(species: str) -> bool:
    """Tell whether a moment shows if an ion is in its spin state.

    Parameters
    ----------
    species
        Species token.

    Returns
    -------
    bool
        False for closed shells that have no other state, such as those of V5+ and O2-.
    """
    return bool(unpaired_electrons(species) or spin_name(species))


def spin_state_shown(species: str, moment: float) -> str | None:
    """Return the spin state that the moment of an ion shows, of those that it can have.

    Parameters
    ----------
    species
        Species token of the ion, in any spin state.
    moment
        Bohr magnetons, of either sign.

    Returns
    -------
    str or None
        Species token; None if the moment is that of none of them, as where electrons are shared.
    """
    for state in spin_states(species):
        full = unpaired_electrons(state)
        if LEAST_SHARE * full <= abs(moment) <= full + EXCESS:
            return state
    return None


def _span(species: str, values: Sequence[float]) -> tuple[float, float]:
    """Return the smallest and largest absolute moment of sites that must all be in one state."""
    sizes: NDArray[np.float64] = np.abs(np.asarray(values, dtype=float))
    if not len(sizes) or not np.isfinite(sizes).all():
        raise InputError(f"no moments to calibrate {species} with", where="moments")
    low, high = float(sizes.min()), float(sizes.max())
    full = unpaired_electrons(species)
    if high > full + EXCESS:
        raise _not_calibrated(species, f"{high:.2f} is more than its {full:g} unpaired electrons")
    if low < LEAST_SHARE * full and high - low <= LARGEST_SPREAD:
        raise _not_calibrated(species, f"{low:.2f} is far below its spin-only moment of {full:g}")
    if high - low > LARGEST_SPREAD:
        raise _not_calibrated(
            species, f"they range from {low:.2f} to {high:.2f}, so not all of them are {species}"
        )
    return low, high


def _not_calibrated(species: str, reason: str) -> InputError:
    return InputError(
        f"the moments of {species} in the end members cannot calibrate its window: {reason}",
        where="moment_windows",
        remedy="look at those labels, or give the windows of its element yourself",
    )


def _windows_of_element(spans: Mapping[str, tuple[float, float]]) -> dict[str, tuple[float, float]]:
    """Widen the spans of one element's states towards each other, and equally outwards."""
    order = sorted(spans, key=lambda species: spans[species])
    reaches = []
    for lower, upper in pairwise(order):
        gap = spans[upper][0] - spans[lower][1]
        if gap < SMALLEST_GAP:
            raise InputError(
                f"the moments of {lower} and {upper} in the end members are too close to tell them "
                f"apart ({spans[lower][1]:.2f} and {spans[upper][0]:.2f})",
                where="moment_windows",
                remedy="give the windows yourself, or leave one of the states out",
            )
        # Two spin states of one charge are as far apart as two charges.
        reaches.append(REACH * gap / max(1, abs(charge_of(upper) - charge_of(lower))))
    inner = reaches or [HALF_WIDTH]
    below, above = [inner[0], *reaches], [*reaches, inner[-1]]
    return {
        species: (max(0.0, spans[species][0] - below[i]), spans[species][1] + above[i])
        for i, species in enumerate(order)
    }


def _outside(
    window: tuple[float, float], taken: Sequence[tuple[float, float]]
) -> tuple[float, float] | None:
    """Return the part of a window that is clear of others, None if its middle is not."""
    low, high = window
    middle = (low + high) / 2
    for other_low, other_high in taken:
        if middle < other_low:
            high = min(high, other_low - CLEARANCE)
        elif middle > other_high:
            low = max(low, other_high + CLEARANCE)
        else:
            return None
    return (low, high) if low < high else None
