"""Convergence parameters of an engine: which of its settings, and the values to try."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Step:
    """One value of a setting.

    Attributes
    ----------
    value
        As people read it, such as ``520 eV``.
    fields
        Fields of the section ``labeler`` that have to be written for it, as in a campaign file.
    """

    value: str
    fields: Mapping[str, Any]


@dataclass(frozen=True)
class ConvergenceParameter:
    """A setting that results converge with.

    Attributes
    ----------
    name
        As people read it, such as ``cutoff``.
    steps
        From the cheapest to the tightest value. Steps that the engine's settings refuse are left
        out, so that a plug-in need not know their bounds here.
    of_cell
        Whether the values are for the campaign's own cell, such as a grid of k-points is.
    metal_only
        Whether only the metal of the working ion depends on it.
    discrete
        Whether several values may mean one calculation, as densities of k-points do: a value with
        all energies of the tightest one is then the same, and its error is not known either.
    """

    name: str
    steps: tuple[Step, ...]
    of_cell: bool = False
    metal_only: bool = False
    discrete: bool = False


def series(
    name: str,
    field: str,
    values: Iterable[float],
    unit: str = "",
    *,
    metal_only: bool = False,
    discrete: bool = False,
) -> ConvergenceParameter:
    """Return a parameter that one field with a number decides.

    Parameters
    ----------
    name
        As people read it.
    field
        Of the section ``labeler``.
    values
        From the cheapest to the tightest.
    unit
        That the field is written with, such as ``eV``; empty for a bare number.
    metal_only
        See `ConvergenceParameter`.
    discrete
        See `ConvergenceParameter`.

    Returns
    -------
    ConvergenceParameter
        With a step for each value.
    """
    numbers = [f"{value:.10g}" for value in values]
    steps = tuple(
        Step(f"{number} {unit}".strip(), {field: f"{number} {unit}" if unit else _number(number)})
        for number in numbers
    )
    return ConvergenceParameter(name, steps, metal_only=metal_only, discrete=discrete)


def around(current: float, factors: Iterable[float], digits: int) -> list[float]:
    """Return values around the current one, which is among them as it is.

    Parameters
    ----------
    current
        In any unit.
    factors
        By which it is multiplied; one of them is 1.
    digits
        Decimals to which the others are rounded, as for `round`.

    Returns
    -------
    list of float
        In the order of the factors, each value once.
    """
    values = [current if factor == 1 else round(current * factor, digits) for factor in factors]
    return list(dict.fromkeys(values))


def _number(text: str) -> int | float:
    return int(text) if text.isdecimal() else float(text)
