"""Error bars from a committee of potentials.

Every member predicts every labelled entry. Each member's energies give its own formation energies
and voltages, on the vertices of the labelled hull, so what the members share, such as a common
offset, cancels as it does in the quantity itself. An error bar is the standard deviation over
members (``ddof=1``, since the members are a small sample) times a calibration factor that scales
the spread to held-out errors. It says how certain the committee is; the labeler's own error is not
in it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from al_charge.errors import AlChargeError
from al_charge.thermo.hull import Entry, Hull
from al_charge.thermo.voltage import VoltageProfile, step_voltages, voltage_profile


@dataclass(frozen=True)
class ErrorBars:
    """One standard deviation of every quantity that is derived from a hull.

    Attributes
    ----------
    formation
        Of each entry's formation energy by entry key, eV per formula unit; zero for the end
        members, against which the others are taken.
    vertices
        The same for the hull's vertices, in their order.
    voltages
        Of each voltage step in order, V.
    mean_voltage
        Of the mean voltage, V.
    """

    formation: dict[str, float]
    vertices: tuple[float, ...]
    voltages: tuple[float, ...]
    mean_voltage: float


def committee_error_bars(
    hull: Hull, keys: Sequence[str], member_energies: ArrayLike, *, scale: float = 1.0
) -> ErrorBars:
    """Return the error bars of a hull and of its voltage profile.

    Parameters
    ----------
    hull
        The labelled hull; its vertices and its metal energy are the same for every member.
    keys
        Keys of entries, shape (n_entries,); every entry of the hull must be among them.
    member_energies
        Predicted total energies, eV per formula unit, shape (n_members, n_entries).
    scale
        Calibration factor of the spread.

    Returns
    -------
    ErrorBars
        For all entries of the hull, its voltage steps and its mean voltage.

    Raises
    ------
    AlChargeError
        If there are fewer than two members, the shapes do not match, an entry is missing, or an
        energy is not finite.
    """
    energies = _checked(hull, keys, member_energies)
    by_key = {key: energies[:, i] for i, key in enumerate(keys)}
    first, last = hull.vertices[0], hull.vertices[-1]
    formation = {}
    for entry in hull.entries:
        part = float((entry.x - first.x) / (last.x - first.x))
        line = (1.0 - part) * by_key[first.key] + part * by_key[last.key]
        formation[entry.key] = _spread(by_key[entry.key] - line, scale)
    formation[first.key] = formation[last.key] = 0.0
    vertices = np.array([by_key[vertex.key] for vertex in hull.vertices])
    voltages = np.array([step_voltages(hull, column.tolist()) for column in vertices.T])
    widths = np.diff([float(x) for x in hull.compositions])
    return ErrorBars(
        formation=formation,
        vertices=tuple(formation[vertex.key] for vertex in hull.vertices),
        voltages=tuple(_spread(column, scale) for column in voltages.T),
        mean_voltage=_spread(voltages @ widths / widths.sum(), scale),
    )


def with_error_bars(hull: Hull, bars: ErrorBars) -> Hull:
    """Return a hull with every entry's error bar set to that of its formation energy.

    Parameters
    ----------
    hull
        Not modified.
    bars
        Error bars of all its entries.

    Returns
    -------
    Hull
        The same in all else.
    """
    return replace(
        hull,
        entries=tuple(replace(e, error_bar=bars.formation[e.key]) for e in hull.entries),
        vertices=tuple(replace(v, error_bar=bars.formation[v.key]) for v in hull.vertices),
    )


def profile_with_error_bars(hull: Hull, bars: ErrorBars) -> VoltageProfile:
    """Return the voltage profile of a hull with the error bars of its steps and its mean.

    Parameters
    ----------
    hull
        Its neighbouring vertices make the steps.
    bars
        Error bars of the same hull.

    Returns
    -------
    VoltageProfile
        In V.

    Raises
    ------
    AlChargeError
        If there are not as many error bars as steps.
    """
    return voltage_profile(hull, error_bars=bars.voltages, mean_error_bar=bars.mean_voltage)


def chance_below(hull: Hull, entries: Iterable[Entry], tolerance: float) -> float:
    """Return the probability that any of some predictions lies clearly below a hull.

    Errors are normal, an error bar being one standard deviation. Each wider bar makes the
    probability of an entry above the hull larger, and that of one below never less than one half.
    Errors are taken as independent: if they are correlated positively, as those of one committee
    are, the true probability is at most this (D. Slepian, Bell Syst. Tech. J. 41, 463 (1962)).

    Parameters
    ----------
    hull
        The labelled hull.
    entries
        Predictions without a label; where an error bar is None, nothing is known of the energy.
    tolerance
        How far below the hull counts as clearly, eV per formula unit.

    Returns
    -------
    float
        From 0 to 1; 0 if there is no entry.
    """
    none = 1.0
    for entry in entries:
        room = hull.formation_energy(entry) - hull.lower(entry.x) + tolerance
        bar = math.inf if entry.error_bar is None else entry.error_bar
        z = room / bar if bar else math.copysign(math.inf, room)
        none *= 1.0 - math.erfc(z / math.sqrt(2.0)) / 2.0
    return 1.0 - none


def _spread(values: NDArray[np.float64], scale: float) -> float:
    return float(scale * np.std(values, ddof=1))


def _checked(hull: Hull, keys: Sequence[str], member_energies: ArrayLike) -> NDArray[np.float64]:
    energies = np.asarray(member_energies, dtype=np.float64)
    where = "error bars"
    if energies.ndim != 2 or energies.shape[1] != len(keys):
        raise AlChargeError(
            f"member energies of shape {energies.shape} for {len(keys)} entries", where=where
        )
    if len(energies) < 2:
        raise AlChargeError("a spread needs at least two members", where=where)
    if not np.isfinite(energies).all():
        raise AlChargeError("a member predicts an energy that is not finite", where=where)
    if missing := sorted({entry.key for entry in hull.entries} - set(keys)):
        raise AlChargeError(f"no member predicts entry {missing[0]}", where=where)
    return energies
