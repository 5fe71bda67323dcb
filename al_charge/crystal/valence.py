"""Charge states read from a calculation's results: moments, Bader charges and neutrality."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from al_charge.crystal.delocalisation import is_shared
from al_charge.crystal.species import charge_of, element_of
from al_charge.crystal.windows import (
    GPAW_LCAO_WINDOWS,
    GPAW_PW_WINDOWS,
    GPAW_WINDOWS,
    VASP_WINDOWS,
    Windows,
    calibrate,
    has_spin_state,
    spin_state_shown,
    with_own,
)
from al_charge.errors import AlChargeError

__all__ = [
    "BADER_MARGIN",
    "GPAW_LCAO_WINDOWS",
    "GPAW_PW_WINDOWS",
    "GPAW_WINDOWS",
    "VASP_WINDOWS",
    "Audit",
    "Windows",
    "audit",
    "audit_run",
    "calibrate",
    "has_spin_state",
    "spin_state_shown",
]

BADER_MARGIN = 0.05
"""e, by which the net Bader charge of a higher charge state must exceed that of a lower one of the
same element. In published and our own PBE+U results states differ by 0.29 (Co2+ and Co3+, VASP) and
0.32 (Fe2+ and Fe3+, GPAW), equal sites by less than 0.01; covalent states such as Mn3+ and Mn4+ lie
closer together, so the margin is small."""

LEAST_GAP = 0.10
"""e, by which two states must differ in the end members for the border between them to hold at
other compositions. Mn3+ and Mn4+ in spinel MgxMn2O4 (GPAW) have 1.61 and 1.69 in the end members,
and 1.57 to 1.59 and 1.66 to 1.68 at x = 1/2."""


@dataclass(frozen=True)
class Audit:
    """The charge states of a cell as a calculation found them.

    Attributes
    ----------
    sites
        Species token of every atom; None where the moment lies in no window.
    ambiguous
        Indices of those atoms.
    contradicted
        Indices of atoms whose Bader charge indicates another state than their moment.
    charge
        Sum of the charges of all sites in e; None if some are ambiguous.
    delocalised
        Whether the ambiguous atoms share a charge among them, by moments, Bader charges and
        neutrality: `al_charge.crystal.delocalisation.is_shared`.
    """

    sites: tuple[str | None, ...]
    ambiguous: tuple[int, ...] = ()
    contradicted: tuple[int, ...] = ()
    charge: int | None = 0
    delocalised: bool = False

    @property
    def species(self) -> tuple[str, ...] | None:
        """Species token of every atom; None if any is uncertain or the sum is not neutral."""
        if self.ambiguous or self.contradicted or self.charge != 0:
            return None
        return tuple(token for token in self.sites if token is not None)

    def count(self, elements: frozenset[str]) -> dict[str, int]:
        """Return how many sites of the given elements are in each state.

        Parameters
        ----------
        elements
            Element symbols.

        Returns
        -------
        dict
            Number by species token, by element and then higher states first; ambiguous sites are
            left out.
        """
        tokens = (token for token in self.sites if token is not None)
        counts = Counter(token for token in tokens if element_of(token) in elements)
        order = sorted(counts, key=lambda token: (element_of(token), -charge_of(token)))
        return {token: counts[token] for token in order}

    def describe(self) -> str:
        """Return a line that says whether all charge states were found, or else why not.

        Returns
        -------
        str
            Labels are stored with it.
        """
        if self.ambiguous:
            atoms = ", ".join(map(str, self.ambiguous))
            if self.delocalised:
                return f"moments of atoms {atoms} lie between two charge states"
            return f"moments of atoms {atoms} fit no charge state"
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
    *,
    told_apart: frozenset[str] | None = None,
) -> Audit:
    """Read the charge states of a cell from its moments, and cross-check them with Bader charges.

    Parameters
    ----------
    moments
        Bohr magnetons, shape (n_atoms,); signs are ignored, so any magnetic order will do.
    requested
        Requested species token of every atom. Elements that are not told apart keep it.
    windows
        Calibrated with the same engine and settings.
    bader
        Net charges in e, cations positive, shape (n_atoms,); None where there are none.
    told_apart
        Elements whose moments must lie in a window of theirs; None for those that have windows.

    Returns
    -------
    Audit
        The charge states found, and the atoms for which they are uncertain.

    Raises
    ------
    AlChargeError
        If there is not one moment for each atom, or Bader charges are not one finite number for
        each atom, or have the opposite sign.
    """
    values = np.asarray(moments, dtype=float)
    if values.shape != (len(requested),):
        raise AlChargeError(f"{values.size} moments for {len(requested)} atoms", where="moments")
    told_apart = windows.elements if told_apart is None else told_apart
    sites = tuple(
        windows.state(element_of(token), moment) if element_of(token) in told_apart else token
        for token, moment in zip(requested, values, strict=True)
    )
    ambiguous = tuple(index for index, token in enumerate(sites) if token is None)
    charge = None if ambiguous else sum(charge_of(token) for token in sites if token is not None)
    contradicted: tuple[int, ...] = ()
    if bader is not None:
        net = _checked_charges(np.asarray(bader, dtype=float), requested)
        contradicted = tuple(
            sorted({i for el in windows.elements for i in _contradicted(el, sites, net, windows)})
        )
    charges = None if bader is None else np.asarray(bader, dtype=float)
    shared = not contradicted and is_shared(sites, requested, values.tolist(), windows, charges)
    return Audit(sites, ambiguous, contradicted, charge, shared)


def audit_run(
    moments: ArrayLike,
    requested: Sequence[str],
    windows: Windows,
    bader: ArrayLike | None = None,
) -> Audit:
    """Read the charge states of a run; an element in one state may have no window yet.

    Parameters
    ----------
    moments
        As for `audit`.
    requested
        As for `audit`.
    windows
        As for `audit`; those of `with_own` are added.
    bader
        As for `audit`.

    Returns
    -------
    Audit
        Sites of elements that have a moment, another spin state or several states, but no window,
        are ambiguous.

    Raises
    ------
    AlChargeError
        For any reason of `audit`.
    """
    states = Counter(map(element_of, set(requested)))
    told_apart = windows.elements | {
        element_of(t) for t in requested if has_spin_state(t) or states[element_of(t)] > 1
    }
    used = with_own(windows, requested, moments)
    return audit(moments, requested, used, bader, told_apart=told_apart)


def _checked_charges(net: NDArray[np.float64], species: Sequence[str]) -> NDArray[np.float64]:
    """Refuse charges that are not one finite number for each atom, or have the opposite sign."""
    if net.shape != (len(species),) or not np.isfinite(net).all():
        raise AlChargeError(
            f"{net.size} Bader charges for {len(species)} atoms, or not all finite", where="bader"
        )
    if net @ np.array([charge_of(token) for token in species], dtype=float) < 0:
        raise AlChargeError(
            "the Bader charges have cations negative",
            where="bader",
            remedy="net charges are the valence electrons minus those of the basin",
        )
    return net


def _contradicted(
    element: str, sites: Sequence[str | None], net: NDArray[np.float64], windows: Windows
) -> set[int]:
    """Return the atoms of an element whose Bader charge indicates a neighbouring state.

    The border between two neighbouring states lies midway between their charges, which are those of
    the calibration or else the medians of their sites.
    """
    atoms: dict[str, list[int]] = {
        token: [] for token in windows.charges if element_of(token) == element
    }
    for index, token in enumerate(sites):
        if token is not None and element_of(token) == element:
            atoms.setdefault(token, []).append(index)
    found: set[int] = set()
    for lower, upper in combinations(sorted(atoms, key=charge_of), 2):
        # Neighbours in charge, in whatever spin states.
        between = {charge_of(token) for token in atoms} & set(
            range(charge_of(lower) + 1, charge_of(upper))
        )
        if charge_of(lower) != charge_of(upper) and not between:
            found |= _wrong_side(lower, upper, atoms, net, windows)
    return found


def _wrong_side(
    lower: str,
    upper: str,
    atoms: dict[str, list[int]],
    net: NDArray[np.float64],
    windows: Windows,
) -> set[int]:
    below, above = atoms[lower], atoms[upper]
    own = None
    if below and above:
        own = float(np.median(net[below])), float(np.median(net[above]))
    if lower in windows.charges and upper in windows.charges:
        centres = windows.charges[lower], windows.charges[upper]
        if (gap := centres[1] - centres[0]) < LEAST_GAP:
            # Only their order within a cell tells the states apart; below the margin, nothing does.
            swapped = gap >= BADER_MARGIN and own is not None and own[1] <= own[0]
            return _fewer(below, above) if swapped else set()
    elif own is None:
        return set()
    elif own[1] - own[0] < BADER_MARGIN:
        return _fewer(below, above)
    else:
        centres = own
    border = sum(centres) / 2
    return {i for i in below if net[i] > border - BADER_MARGIN / 2} | {
        i for i in above if net[i] < border + BADER_MARGIN / 2
    }


def _fewer(below: list[int], above: list[int]) -> set[int]:
    """Return the atoms of the state that has fewer, or of both."""
    fewer = min(len(below), len(above))
    return {i for group in (below, above) if len(group) == fewer for i in group}
