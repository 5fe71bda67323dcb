"""What an electrode stores: capacity, energy and volume change between the ends of its hull.

The conventions are those of pymatgen's ``InsertionElectrode`` and of the Materials Project's
battery explorer: everything is per mass or volume of the discharged electrode, which has the most
working ions, and the volume change is that between the largest and the smallest vertex. The charge
of the ion is the hull's, where pymatgen takes the largest oxidation state of the element.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pymatgen.core.periodic_table import Element
from scipy.constants import N_A, elementary_charge, hour, milli

from al_charge.crystal.formula import amounts_in
from al_charge.errors import AlChargeError
from al_charge.thermo.hull import Hull
from al_charge.thermo.voltage import voltage_profile

CHARGE_PER_MOLE = elementary_charge * N_A / (milli * hour)
"""mAh in a mole of elementary charges: 26801.5."""
_CM3 = 1e24
"""Cubic angstrom in a cubic centimetre."""


@dataclass(frozen=True)
class Electrode:
    """What an electrode stores between the ends of its hull.

    Attributes
    ----------
    average_voltage
        V against the working-ion metal.
    capacity
        mAh per gram of the discharged electrode.
    specific_energy
        Wh per kilogram of the discharged electrode.
    volume_capacity
        mAh per cubic centimetre of the discharged electrode.
    energy_density
        Wh per litre of the discharged electrode.
    volume_change
        Largest volume of a vertex over the smallest, less one; per formula unit.
    """

    average_voltage: float
    capacity: float
    specific_energy: float
    volume_capacity: float
    energy_density: float
    volume_change: float


def electrode(hull: Hull, volumes: Mapping[str, float]) -> Electrode:
    """Return what an electrode stores between the ends of its hull.

    Parameters
    ----------
    hull
        The hull.
    volumes
        Cubic angstrom per formula unit of every vertex, by its key.

    Returns
    -------
    Electrode
        Per mass and volume of the vertex with the most working ions.

    Raises
    ------
    AlChargeError
        If the volume of a vertex is not given.
    """
    last = hull.vertices[-1]
    voltage, capacity = voltage_profile(hull).mean, capacity_of(hull)
    missing = [vertex.key for vertex in hull.vertices if vertex.key not in volumes]
    if missing:
        raise AlChargeError("its volume is not known", where=f"label '{missing[0]}'")
    some = [volumes[vertex.key] for vertex in hull.vertices]
    volume_capacity = _moved(hull) / N_A / (volumes[last.key] / _CM3)
    return Electrode(
        average_voltage=voltage,
        capacity=capacity,
        specific_energy=capacity * voltage,
        volume_capacity=volume_capacity,
        energy_density=volume_capacity * voltage,
        volume_change=max(some) / min(some) - 1.0,
    )


def capacity_of(hull: Hull) -> float:
    """Return the capacity between the ends of a hull.

    Parameters
    ----------
    hull
        The hull.

    Returns
    -------
    float
        mAh per gram of the discharged electrode.
    """
    return _moved(hull) / mass(hull.framework, hull.working_ion, float(hull.compositions[-1]))


def _moved(hull: Hull) -> float:
    """Return the charge that moves between the ends of a hull, mAh per mole of formula units."""
    width = float(hull.compositions[-1] - hull.compositions[0])
    return float(width * hull.working_ion_charge * CHARGE_PER_MOLE)


def mass(framework: str, ion: str, x: float) -> float:
    """Return the mass of a formula unit.

    Parameters
    ----------
    framework
        Formula of one formula unit without the working ion.
    ion
        The working ion.
    x
        Working ions in the formula unit.

    Returns
    -------
    float
        g/mol.
    """
    amounts = amounts_in(framework)
    whole = sum(float(n) * float(Element(el).atomic_mass) for el, n in amounts.items())
    return whole + x * float(Element(ion).atomic_mass)
