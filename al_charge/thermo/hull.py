"""The convex hull of energy against composition.

Energies are in eV per formula unit of the host's framework: the energy of a cell divided by its
number of formula units. Formation energies are taken against the two end members, the lowest
entries at the smallest and at the largest x, so both of those are zero.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from itertools import groupby
from typing import Any

import numpy as np

from al_charge.crystal.charges import ion_charge
from al_charge.crystal.formula import amounts_in, written
from al_charge.errors import AlChargeError

FLAT = 1e-9
"""eV/f.u.; a point less than this below the line between its neighbours is not a vertex."""


@dataclass(frozen=True)
class Entry:
    """One configuration with its energy.

    Attributes
    ----------
    key
        Identity of what the energy comes from, such as a label's key.
    config_hash
        Canonical hash of the configuration.
    x
        Working ions per formula unit, exact.
    energy
        Total energy, eV per formula unit of the framework.
    error_bar
        Half width of the band that should hold 68 % of errors, eV per formula unit; None where it
        is not known.
    remark
        A remark for readers of tables and plots; empty for none.
    """

    key: str
    config_hash: str
    x: Fraction
    energy: float
    error_bar: float | None = None
    remark: str = ""


@dataclass(frozen=True)
class Hull:
    """A lower convex hull; made by `build_hull`.

    Attributes
    ----------
    entries
        Every entry it was built from, ordered by x, energy and key.
    vertices
        The entries on the hull, ordered by x; the first and the last are the end members.
    framework
        One formula unit without the working ion, e.g. ``FePO4``.
    working_ion
        Element of the working ion, e.g. ``Na``.
    metal_energy
        Energy of the working-ion metal, eV/atom; only voltages depend on it.
    working_ion_charge
        Charge of the working ion, in e; only voltages depend on it.
    """

    entries: tuple[Entry, ...]
    vertices: tuple[Entry, ...]
    framework: str
    working_ion: str
    metal_energy: float
    working_ion_charge: int

    @cached_property
    def compositions(self) -> tuple[Fraction, ...]:
        """The x of every vertex."""
        return tuple(vertex.x for vertex in self.vertices)

    def formation_energy(self, entry: Entry) -> float:
        """Return an entry's formation energy against the end members.

        Parameters
        ----------
        entry
            Any entry, also one that the hull was not built from.

        Returns
        -------
        float
            eV per formula unit.

        Raises
        ------
        AlChargeError
            If its composition lies outside the hull.
        """
        return entry.energy - self.reference(entry.x)

    def lower(self, x: Fraction | float) -> float:
        """Return the hull's formation energy at a composition.

        Parameters
        ----------
        x
            Working ions per formula unit.

        Returns
        -------
        float
            eV per formula unit.
        """
        return self._total(x) - self.reference(x)

    def distance(self, entry: Entry) -> float:
        """Return how far an entry lies above the hull.

        Parameters
        ----------
        entry
            Any entry, also one that the hull was not built from.

        Returns
        -------
        float
            eV per formula unit: exactly zero for a vertex, negative below the hull.

        Raises
        ------
        AlChargeError
            If its composition lies outside the hull.
        """
        return entry.energy - self._total(entry.x)

    def formula(self, x: Fraction) -> str:
        """Return the formula at a composition.

        Parameters
        ----------
        x
            Working ions per formula unit.

        Returns
        -------
        str
            For example ``Na1/4FePO4``.
        """
        return f"{self.working_ion}{'' if x == 1 else x}{self.framework}" if x else self.framework

    def reference(self, x: Fraction | float) -> float:
        """Return the energy on the line between the end members.

        Parameters
        ----------
        x
            Working ions per formula unit.

        Returns
        -------
        float
            Total energy, eV per formula unit; formation energies are taken against it.
        """
        first, last = self.vertices[0], self.vertices[-1]
        self._check(x)
        part = float((x - first.x) / (last.x - first.x))
        return (1.0 - part) * first.energy + part * last.energy

    def _total(self, x: Fraction | float) -> float:
        self._check(x)
        energies = [vertex.energy for vertex in self.vertices]
        return float(np.interp(float(x), [float(c) for c in self.compositions], energies))

    def _check(self, x: Fraction | float) -> None:
        first, last = self.compositions[0], self.compositions[-1]
        if not first <= x <= last:
            raise AlChargeError(f"x = {x} lies outside the hull, {first} to {last}", where="hull")


def build_hull(
    entries: Iterable[Entry],
    *,
    framework: str,
    working_ion: str,
    metal_energy: float,
    working_ion_charge: int | None = None,
    ends: tuple[Fraction, Fraction] | None = None,
) -> Hull:
    """Build the lower convex hull of labelled entries.

    Parameters
    ----------
    entries
        Labelled entries. Where several at one composition share the lowest energy, the one whose
        key sorts first is taken.
    framework
        One formula unit without the working ion, e.g. ``FePO4``.
    working_ion
        Element of the working ion.
    metal_energy
        Energy of the working-ion metal, eV/atom.
    working_ion_charge
        Charge of the working ion, in e; None for the usual one of its element.
    ends
        Smallest and largest x that the host allows; both must have an entry. When None, the end
        members are the smallest and the largest x present.

    Returns
    -------
    Hull
        With all entries, and those on the hull as its vertices.

    Raises
    ------
    AlChargeError
        If an end member is missing, an entry lies outside ``ends``, an energy is not finite, or
        the framework is not a formula without the working ion, or no charge is given for a working
        ion that has several.
    """
    charge = ion_charge(working_ion) if working_ion_charge is None else working_ion_charge
    if not charge:
        raise AlChargeError(f"the charge of {working_ion} is not known", where="hull")
    ordered = tuple(sorted(entries, key=lambda e: (e.x, e.energy, e.key)))
    for entry in ordered:
        if not math.isfinite(entry.energy):
            raise AlChargeError("the energy is not a finite number", where=f"entry {entry.key}")
    lowest = {x: next(group) for x, group in groupby(ordered, key=lambda entry: entry.x)}
    _check_ends(sorted(lowest), ends)
    candidates = [lowest[x] for x in sorted(lowest)]
    return Hull(
        entries=ordered,
        vertices=tuple(_without_flat(_stable(candidates))),
        framework=pretty_formula(framework, working_ion),
        working_ion=working_ion,
        metal_energy=float(metal_energy),
        working_ion_charge=charge,
    )


def max_hull_shift(old: Hull, new: Hull) -> float:
    """Return the largest shift between two hulls over all compositions.

    Total energies are compared, so that a lower end member counts as a shift; formation energies
    would hide it. Both hulls are linear between vertices, so the largest difference is at a vertex
    of one of them.

    Parameters
    ----------
    old
        A hull.
    new
        Another hull of the same host.

    Returns
    -------
    float
        eV per formula unit, not negative.

    Raises
    ------
    AlChargeError
        If the two hulls have different end compositions or belong to different hosts.
    """
    if (old.framework, old.working_ion) != (new.framework, new.working_ion):
        raise AlChargeError("hulls of different hosts cannot be compared", where="hull")
    if (old.compositions[0], old.compositions[-1]) != (new.compositions[0], new.compositions[-1]):
        raise AlChargeError(
            "hulls between different end compositions cannot be compared", where="hull"
        )
    corners = {*old.compositions, *new.compositions}
    return max(abs(new._total(x) - old._total(x)) for x in corners)


def same_vertices(old: Hull, new: Hull) -> bool:
    """Return whether two hulls have their vertices at the same compositions.

    Parameters
    ----------
    old
        A hull.
    new
        Another hull.

    Returns
    -------
    bool
        True if they do; energies are not compared.
    """
    return old.compositions == new.compositions


def pretty_formula(framework: str, working_ion: str) -> str:
    """Return a formula with its elements in conventional order and amounts of one left out.

    Parameters
    ----------
    framework
        One formula unit without the working ion.
    working_ion
        Element of the working ion.

    Returns
    -------
    str
        The formula, amounts unchanged: ``Fe2P2O8`` becomes ``(FePO4)2``, but one of two
        elements, such as ``Mn2O4``, stays as it is. Amounts that decimals cannot say are fractions,
        as in ``Co1/3Ni2/3O2``.

    Raises
    ------
    AlChargeError
        If it is not a formula, or contains the working ion.
    """
    from pymatgen.core.composition import Composition

    try:
        amounts = amounts_in(framework)
    except ValueError as error:
        raise AlChargeError(str(error), where="framework") from error
    if working_ion in amounts:
        raise AlChargeError(
            f"'{framework}' contains the working ion {working_ion}",
            where="framework",
            remedy="give the formula without it",
        )
    if any(amount.denominator != 1 for amount in amounts.values()):
        return written(amounts)
    composition = Composition({element: int(amount) for element, amount in amounts.items()})
    reduced, factor = composition.get_reduced_formula_and_factor()
    if len(amounts) == 2:
        reduced, factor = composition.formula.replace(" ", ""), 1
    without_ones = re.sub(r"(?<=[A-Za-z])1(?![\d.])", "", reduced)
    return without_ones if factor == 1 else f"({without_ones}){factor:g}"


def _check_ends(present: Sequence[Fraction], ends: tuple[Fraction, Fraction] | None) -> None:
    where = "hull"
    if ends is not None:
        missing = [str(x) for x in ends if x not in present]
        if missing:
            raise AlChargeError(
                f"the end member x = {' and x = '.join(missing)} has no label",
                where=where,
                remedy=f"label x = {missing[0]} first",
            )
        if present[0] < ends[0] or present[-1] > ends[1]:
            raise AlChargeError(
                f"an entry lies outside the host's range, x = {ends[0]} to {ends[1]}", where=where
            )
    if len(present) < 2:
        found = f"only x = {present[0]} has a label" if present else "nothing has a label"
        raise AlChargeError(
            f"a hull needs two end members, and {found}",
            where=where,
            remedy="label the smallest and the largest x of the host first",
        )


def _stable(lowest: Sequence[Entry]) -> list[Entry]:
    """Return the entries on pymatgen's hull, ordered by x.

    The phase diagram is the pseudo-binary of the two end members, each entry given as its exact
    mixing fractions and its formation energy, which keeps meV apart from hundreds of eV.
    """
    from pymatgen.analysis.phase_diagram import PDEntry, PhaseDiagram
    from pymatgen.core.composition import Composition
    from pymatgen.core.periodic_table import DummySpecies

    first, last = lowest[0], lowest[-1]
    members: list[Any] = [DummySpecies("Xf"), DummySpecies("Xg")]
    points = []
    for entry in lowest:
        part = (entry.x - first.x) / (last.x - first.x)
        mixture = dict(zip(members, (float(1 - part), float(part)), strict=True))
        line = float(1 - part) * first.energy + float(part) * last.energy
        points.append(PDEntry(Composition(mixture), entry.energy - line))
    stable = {id(point) for point in PhaseDiagram(points, elements=members).stable_entries}
    return [entry for entry, point in zip(lowest, points, strict=True) if id(point) in stable]


def _without_flat(vertices: Sequence[Entry]) -> list[Entry]:
    """Drop entries that rounding alone put below the line between their neighbours."""
    kept: list[Entry] = []
    for entry in vertices:
        while len(kept) > 1 and _depth(kept[-2], kept[-1], entry) < FLAT:
            kept.pop()
        kept.append(entry)
    return kept


def _depth(left: Entry, middle: Entry, right: Entry) -> float:
    part = float((middle.x - left.x) / (right.x - left.x))
    return (1.0 - part) * left.energy + part * right.energy - middle.energy
