"""The open-circuit voltage against the working-ion metal, one plateau per pair of vertices.

pymatgen's voltage pairs are used between the vertices of our own hull. Its `InsertionElectrode`
would determine the vertices again, against elements at an artificial energy that is too low when
the labeler's zero of energy is not that of neutral atoms.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from al_charge.errors import AlChargeError
from al_charge.thermo.hull import Hull

if TYPE_CHECKING:
    from pymatgen.entries.computed_entries import ComputedEntry


@dataclass(frozen=True)
class VoltageStep:
    """A plateau: two neighbouring vertices in equilibrium.

    Attributes
    ----------
    x_from, x_to
        Working ions per formula unit, ``x_from`` < ``x_to``.
    voltage
        V against the working-ion metal.
    error_bar
        One standard deviation, V; None where it is not known.
    """

    x_from: Fraction
    x_to: Fraction
    voltage: float
    error_bar: float | None = None


@dataclass(frozen=True)
class VoltageProfile:
    """The voltage over the whole range of x.

    Attributes
    ----------
    steps
        Ordered by x; the voltage falls from each to the next.
    framework, working_ion
        As in `Hull`.
    mean_error_bar
        One standard deviation of the mean voltage, V; None where it is not known.
    """

    steps: tuple[VoltageStep, ...]
    framework: str
    working_ion: str
    mean_error_bar: float | None = None

    @property
    def mean(self) -> float:
        """Mean voltage over the whole range, V: steps are weighted by their width in x."""
        width = self.steps[-1].x_to - self.steps[0].x_from
        return sum(float((s.x_to - s.x_from) / width) * s.voltage for s in self.steps)

    def points(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the corners of the profile to draw.

        Returns
        -------
        x
            Working ions per formula unit, shape (2 * n_steps,): both ends of each plateau in order.
        voltage
            V, of the same shape.
        """
        x = [float(end) for step in self.steps for end in (step.x_from, step.x_to)]
        voltage = [step.voltage for step in self.steps for _ in range(2)]
        return np.array(x), np.array(voltage)


def voltage_profile(
    hull: Hull,
    *,
    error_bars: Sequence[float] | None = None,
    mean_error_bar: float | None = None,
) -> VoltageProfile:
    """Return the voltage profile of a hull.

    Parameters
    ----------
    hull
        Its neighbouring vertices make the steps.
    error_bars
        V, one per step, as returned by `committee_error_bars`; None where they are not known.
    mean_error_bar
        Error bar of the mean voltage, V; None where it is not known.

    Returns
    -------
    VoltageProfile
        One step per pair of neighbouring vertices.

    Raises
    ------
    AlChargeError
        If there are not as many error bars as steps.
    """
    voltages = step_voltages(hull, [vertex.energy for vertex in hull.vertices])
    bars: Sequence[float | None] = [None] * len(voltages) if error_bars is None else error_bars
    if len(bars) != len(voltages):
        raise AlChargeError(
            f"{len(bars)} error bars for {len(voltages)} voltage steps", where="voltage"
        )
    steps = tuple(
        VoltageStep(left.x, right.x, voltage, bar)
        for (left, right), voltage, bar in zip(pairwise(hull.vertices), voltages, bars, strict=True)
    )
    return VoltageProfile(steps, hull.framework, hull.working_ion, mean_error_bar)


def step_voltages(hull: Hull, energies: Sequence[float]) -> list[float]:
    """Return the voltage of every step for given energies of the hull's vertices.

    Parameters
    ----------
    hull
        Its compositions, formula and metal energy are used.
    energies
        Total energies, eV per formula unit, one per vertex: the hull's own or those of one
        committee member.

    Returns
    -------
    list of float
        V, one per pair of neighbouring vertices.
    """
    from pymatgen.apps.battery.insertion_battery import InsertionVoltagePair
    from pymatgen.entries.computed_entries import ComputedEntry

    entries = computed_entries(hull, energies)
    metal = ComputedEntry(hull.working_ion, hull.metal_energy)
    return [
        float(InsertionVoltagePair.from_entries(left, right, metal).voltage)
        for left, right in pairwise(entries)
    ]


def computed_entries(hull: Hull, energies: Sequence[float]) -> list[ComputedEntry]:
    """Return the vertices of a hull as pymatgen entries.

    Parameters
    ----------
    hull
        Its compositions and formula are used.
    energies
        Total energies, eV per formula unit, one per vertex.

    Returns
    -------
    list of ComputedEntry
        One per vertex, each of one formula unit, with its energy in eV.
    """
    from pymatgen.core.composition import Composition
    from pymatgen.entries.computed_entries import ComputedEntry

    framework = Composition(hull.framework)
    return [
        ComputedEntry(framework + Composition({hull.working_ion: float(x)}), energy)
        for x, energy in zip(hull.compositions, energies, strict=True)
    ]
