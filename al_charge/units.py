"""Quantities that users write with their unit, such as ``1 meV``.

Inside the package energies are in eV, lengths in angstrom, forces in eV/angstrom, stresses in
eV/angstrom^3 with ASE's sign (positive under tension), times in seconds, charges in e (cations
positive), moments in Bohr magnetons and memory in GB.
"""

from __future__ import annotations

import math
import re
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer

from al_charge.errors import did_you_mean

_FACTORS: dict[str, dict[str, float]] = {
    "energy": {"eV": 1.0, "meV": 1e-3},
    "force": {"eV/A": 1.0, "meV/A": 1e-3},
    "length": {"A": 1.0, "nm": 10.0},
    "memory": {"GB": 1.0, "MB": 1e-3, "TB": 1e3},
    "voltage": {"V": 1.0, "mV": 1e-3},
    "time": {"s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0},
}
_QUANTITY = re.compile(
    r"\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*([^\s\d.]\S*)\s*", re.ASCII
)


def parse_quantity(text: Any, dimension: str) -> float:
    """Convert text such as ``1 meV`` to the package's unit of that dimension.

    Parameters
    ----------
    text
        A number followed by a unit. A bare number is refused, since its unit can only be guessed.
    dimension
        One of ``energy``, ``force``, ``length``, ``memory``, ``voltage``, ``time``.

    Returns
    -------
    float
        The number in eV, eV/angstrom, angstrom, GB, V or seconds.

    Raises
    ------
    ValueError
        If the unit is missing, unknown or of another dimension, or the number is not finite.
    """
    factors = _FACTORS[dimension]
    if isinstance(text, Quantity):
        return text
    match = _QUANTITY.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise ValueError(
            f"'{text}' is not a valid {dimension}; write it with its unit, like "
            f"'1 {next(iter(factors))}'"
        )
    number, unit = match.groups()
    if unit not in factors:
        raise ValueError(f"'{unit}' is not a unit of {dimension}; {did_you_mean(unit, factors)}")
    value = float(number) * factors[unit]
    if not math.isfinite(value):
        raise ValueError(f"'{text}' is too large")
    return Quantity(value)


class Quantity(float):
    """A number that has already been converted to the package's unit."""


def _reader(dimension: str) -> BeforeValidator:
    return BeforeValidator(lambda text: parse_quantity(text, dimension))


def _writer(dimension: str) -> PlainSerializer:
    unit = next(iter(_FACTORS[dimension]))
    return PlainSerializer(lambda value: f"{float(value)!r} {unit}", when_used="json")


Energy = Annotated[float, _reader("energy"), _writer("energy")]
"""eV; written as '1 meV' or '0.1 eV'."""
Force = Annotated[float, _reader("force"), _writer("force")]
"""eV/angstrom; written as '0.01 eV/A'."""
Length = Annotated[float, _reader("length"), _writer("length")]
"""angstrom; written as '4.5 A'."""
Memory = Annotated[float, _reader("memory"), _writer("memory")]
"""GB; written as '64 GB'."""
Time = Annotated[float, _reader("time"), _writer("time")]
"""seconds; written as '20 min'."""
