"""The open-circuit voltage against the working-ion metal, one plateau per pair of vertices.

For an ion of charge z it is V = -(E(x2) - E(x1) - (x2 - x1) E(metal)) / (z (x2 - x1)) between x1
and x2. pymatgen's voltage pairs are not used: they take the largest oxidation state of the element
for the charge of the ion, Ag3+ for Ag+.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from al_charge.errors import AlChargeError
from al_charge.thermo.hull import Hull


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
        V, one per step; None where they are not known.
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
        Its compositions, the energy of its metal and the charge of its working ion are used.
    energies
        Total energies, eV per formula unit, one per vertex.

    Returns
    -------
    list of float
        V, one per pair of neighbouring vertices.
    """
    return [
        float(
            (hull.metal_energy - (after - before) / float(right - left)) / hull.working_ion_charge
        )
        for (left, before), (right, after) in pairwise(
            zip(hull.compositions, energies, strict=True)
        )
    ]
