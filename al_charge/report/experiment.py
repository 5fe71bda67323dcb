"""A voltage curve that was measured, to be compared with the computed one."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from al_charge.crystal.bounded import limited
from al_charge.errors import InputError, did_you_mean
from al_charge.thermo.voltage import VoltageProfile

COLUMNS = ("x", "capacity", "voltage")
"""Headings of a file: voltage (V), and x, or else the capacity since the charged end (mAh/g)."""


@dataclass(frozen=True)
class Measured:
    """A voltage curve that was measured.

    Attributes
    ----------
    source
        Name of its file.
    points
        x and voltage (V), ordered by x.
    """

    source: str
    points: tuple[tuple[float, float], ...]

    def mean(self, low: float, high: float) -> float | None:
        """Return the mean voltage between two compositions, linear between points.

        Parameters
        ----------
        low
            Working ions per formula unit where it begins.
        high
            Where it ends.

        Returns
        -------
        float or None
            V; None where it was not measured so far.
        """
        x, voltage = map(np.array, zip(*self.points, strict=True))
        if low < x[0] - 1e-9 or high > x[-1] + 1e-9:
            return None
        corners = np.unique([low, *x[(x > low) & (x < high)], high])
        heights = np.interp(corners, x, voltage)
        area = sum(
            0.5 * (a + b) * (right - left)
            for (left, right), (a, b) in zip(pairwise(corners), pairwise(heights), strict=True)
        )
        return float(area / (high - low))


def read_measured(path: Path, profile: VoltageProfile, capacity: float) -> Measured:
    """Read a measured voltage curve.

    Parameters
    ----------
    path
        Comma-separated values with headings of `COLUMNS`; lines that begin with # are comments.
    profile
        The computed profile, whose ends of x the capacity belongs to.
    capacity
        mAh/g between these ends.

    Returns
    -------
    Measured
        Ordered by x.

    Raises
    ------
    InputError
        If the file cannot be read, or lacks a column or two points.
    """
    first = float(profile.steps[0].x_from)
    width = float(profile.steps[-1].x_to) - first
    with limited(path):
        points = _points(path, first, width / capacity)
    if len(points) < 2:
        raise InputError("it has fewer than two points", where=str(path))
    return Measured(path.name, tuple(sorted(points)))


def _points(path: Path, first: float, slope: float) -> list[tuple[float, float]]:
    """Return x and V of each row; x is linear in a capacity, and given where that is zero."""
    try:
        lines = [
            line
            for line in path.read_text(encoding="utf-8-sig").splitlines()
            if line.strip() and not line.startswith("#")
        ]
    except UnicodeDecodeError as error:
        raise InputError("it is not text", where=str(path)) from error
    reader = csv.DictReader(lines, skipinitialspace=True)
    try:
        names = [name.strip().lower() for name in reader.fieldnames or []]
        reader.fieldnames = names
        rows = list(reader)
    except csv.Error as error:
        raise InputError(f"it is not a table: {error}", where=str(path)) from error
    if "voltage" not in names or not {"x", "capacity"} & set(names):
        other = next((name for name in names if name not in COLUMNS), "")
        raise InputError(
            "it has no columns 'x' (or 'capacity', in mAh/g) and 'voltage'",
            where=str(path),
            remedy=did_you_mean(other, COLUMNS) if other else "name them in its first line",
        )
    points = []
    for number, row in enumerate(rows, start=2):
        try:
            voltage = float(row["voltage"])
            x = float(row["x"]) if "x" in names else first + slope * float(row["capacity"])
        except (TypeError, ValueError) as error:
            raise InputError("not a number", where=f"{path}, row {number}") from error
        if not (math.isfinite(voltage) and math.isfinite(x)):
            raise InputError("not a finite number", where=f"{path}, row {number}")
        points.append((x, voltage))
    return points
