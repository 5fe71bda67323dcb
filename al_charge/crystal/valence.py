"""Charge states read from what a calculation found: magnetic moments, and neutrality."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike

from al_charge.crystal.species import charge_of, element_of, high_spin_moment
from al_charge.errors import AlChargeError, InputError

HALF_WIDTH = 0.08
"""How far, in Bohr magnetons, a calibrated window reaches beyond the moments that it came from."""


@dataclass(frozen=True)
class Windows:
    """The range of moments that each charge state shows with one engine and its settings.

    Attributes
    ----------
    ranges
        By species token: least and greatest absolute moment, in Bohr magnetons. Windows of one
        element never overlap; a moment in none of them is ambiguous.
    """

    ranges: Mapping[str, tuple[float, float]]

    def __post_init__(self) -> None:
        """Refuse windows that are empty or overlap."""
        for species, (low, high) in self.ranges.items():
            if not 0 <= low < high:
                raise InputError(
                    f"the window of {species} from {low:g} to {high:g} is none",
                    where="moment_windows",
                    remedy="give least and greatest absolute moment",
                )
        for element in self.elements:
            bounds = sorted(
                (window, species)
                for species, window in self.ranges.items()
                if element_of(species) == element
            )
            for (lower, first), (upper, second) in pairwise(bounds):
                if upper[0] <= lower[1]:
                    raise InputError(
                        f"the windows of {first} ({lower[0]:.2f} to {lower[1]:.2f}) and {second} "
                        f"({upper[0]:.2f} to {upper[1]:.2f}) overlap",
                        where="moment_windows",
                        remedy="narrow them, or tell the states apart by other means",
                    )

    @property
    def elements(self) -> frozenset[str]:
        """Elements that have a window."""
        return frozenset(element_of(species) for species in self.ranges)

    def state(self, element: str, moment: float) -> str | None:
        """Return the species that a site's moment (Bohr magnetons) shows, None if ambiguous."""
        for species, (low, high) in self.ranges.items():
            if element_of(species) == element and low <= abs(moment) <= high:
                return species
        return None

    def check(self, species: Sequence[str]) -> None:
        """Refuse species whose moments no window can read.

        Raises
        ------
        InputError
            If a magnetic species is of an element without any window.
        """
        for token in sorted(set(species)):
            if high_spin_moment(token) and element_of(token) not in self.elements:
                raise InputError(
                    f"no moment window for {token}, so its charge state cannot be read back",
                    where="moment_windows",
                    remedy=f"add one for every state of {element_of(token)}",
                )


GPAW_WINDOWS = Windows({"Fe2+": (3.50, 3.80), "Fe3+": (4.08, 4.40)})
"""Moments of iron on oxygen in GPAW (LCAO dzp, PBE, U = 5.3 eV on the d states): high-spin
olivine NaxFePO4 gives 3.65-3.69 for Fe2+ and 4.20-4.23 for Fe3+, and 3.96 where the hole spreads
over several sites."""


@dataclass(frozen=True)
class Audit:
    """What a calculation says about the charge states of its cell.

    Attributes
    ----------
    sites
        Species token of every atom; None where the moment fits no window.
    ambiguous
        Indices of those atoms.
    contradicted
        Indices of atoms whose Bader charge belongs to another state than their moment.
    charge
        Sum of the charges of all sites in e, None if some are ambiguous.
    """

    sites: tuple[str | None, ...]
    ambiguous: tuple[int, ...] = ()
    contradicted: tuple[int, ...] = ()
    charge: int | None = 0

    @property
    def species(self) -> tuple[str, ...] | None:
        """Species token of every atom; None if any is uncertain or the sum is not neutral."""
        if self.ambiguous or self.contradicted or self.charge != 0:
            return None
        return tuple(token for token in self.sites if token is not None)

    def describe(self) -> str:
        """Return one line that says how the cell was resolved."""
        if self.ambiguous:
            return f"moments of atoms {', '.join(map(str, self.ambiguous))} fit no charge state"
        if self.contradicted:
            atoms = ", ".join(map(str, self.contradicted))
            return f"Bader charges of atoms {atoms} contradict their moments"
        if self.charge:
            return f"the resolved charges sum to {self.charge:+d} e"
        return "every moment fits a charge state"


def audit(
    moments: ArrayLike,
    requested: Sequence[str],
    windows: Windows,
    bader: ArrayLike | None = None,
) -> Audit:
    """Read the charge states of a cell from its moments, and check them by its Bader charges.

    Parameters
    ----------
    moments
        Bohr magnetons, shape (n_atoms,); only the size counts, so any magnetic order will do.
    requested
        Species token of every atom as it was asked for. Elements without a window keep it.
    windows
        Calibrated with the same engine and settings.
    bader
        Net charges in e, cations positive, shape (n_atoms,); None where there are none.
    """
    values = np.asarray(moments, dtype=float)
    if values.shape != (len(requested),):
        raise AlChargeError(f"{values.size} moments for {len(requested)} atoms", where="moments")
    sites = tuple(
        windows.state(element_of(token), moment) if element_of(token) in windows.elements else token
        for token, moment in zip(requested, values, strict=True)
    )
    ambiguous = tuple(index for index, token in enumerate(sites) if token is None)
    charge = None if ambiguous else sum(charge_of(token) for token in sites if token is not None)
    return Audit(sites, ambiguous, (), charge)


def calibrate(moments: Mapping[str, Sequence[float]], half_width: float = HALF_WIDTH) -> Windows:
    """Return windows from moments of known charge states, such as those of the end members.

    Parameters
    ----------
    moments
        By species token: the moments (Bohr magnetons) of sites known to be in that state.
    half_width
        How far a window reaches beyond the least and the greatest of them.

    Raises
    ------
    InputError
        If windows of one element overlap: these moments cannot tell the states apart.
    """
    if empty := [species for species, values in moments.items() if len(values) == 0]:
        raise InputError(f"no moments to calibrate {empty[0]} with", where="moments")
    sizes = {species: np.abs(np.asarray(values)) for species, values in moments.items()}
    return Windows(
        {
            species: (max(0.0, float(s.min()) - half_width), float(s.max()) + half_width)
            for species, s in sizes.items()
        }
    )
