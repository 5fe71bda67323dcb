"""A committee: several potentials whose spread is the uncertainty of their mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from al_charge.errors import AlChargeError
from al_charge.potentials.calculator import PotentialCalculator
from al_charge.potentials.networks.graph import chunks
from al_charge.potentials.networks.neighbours import Neighbours, find_neighbours
from al_charge.potentials.potential import Potential
from al_charge.potentials.prediction import Prediction

Array = NDArray[np.float64]

LEAST_HELD_OUT = 5
"""Held-out groups below which a scale would be noise, and none is applied."""


@dataclass(frozen=True, kw_only=True)
class CommitteePrediction(Prediction):
    """The mean of a committee's predictions for one structure, and their spread.

    Moments and charges are None where a member does not predict them.

    Attributes
    ----------
    spread
        Calibrated standard deviation of the energy, eV for the cell.
    """

    spread: float


class Committee:
    """Several potentials trained on different parts of the labels.

    Parameters
    ----------
    members
        At least one.
    spread_scale
        Factor on the members' standard deviation, from ``calibrate``.

    Raises
    ------
    AlChargeError
        If there is no member.
    """

    def __init__(self, members: Sequence[Potential], spread_scale: float = 1.0) -> None:
        if not members:
            raise AlChargeError("a committee needs at least one member", where="committee")
        self.members = list(members)
        self.spread_scale = float(spread_scale)

    @property
    def neighbour_cutoff(self) -> float:
        """Distance in angstrom up to which all pairs of atoms are needed."""
        return max(member.neighbour_cutoff for member in self.members)

    def predict(
        self, structures: Sequence[Atoms], neighbours: Sequence[Neighbours] | None = None
    ) -> list[CommitteePrediction]:
        """Return the mean and the spread of the members' predictions.

        Parameters
        ----------
        structures
            With ``species`` arrays.
        neighbours
            Pairs found before, one set per structure, at least to ``neighbour_cutoff``; found here
            if None.

        Returns
        -------
        list of CommitteePrediction
            One per structure.

        Raises
        ------
        AlChargeError
            If a structure has no species, or one that a member does not know.
        """
        given = None if neighbours is None else iter(neighbours)
        results = []
        # One batch after another: what members share of each is kept as long as it is needed.
        for some in chunks(structures):
            pairs = (
                [find_neighbours(atoms, self.neighbour_cutoff) for atoms in some]
                if given is None
                else list(islice(given, len(some)))
            )
            by_member = [member.predict(some, pairs) for member in self.members]
            results += [self._mean(predictions) for predictions in zip(*by_member, strict=True)]
        return results

    def _mean(self, predictions: Sequence[Prediction]) -> CommitteePrediction:
        energies = np.array([p.energy for p in predictions])
        return CommitteePrediction(
            energy=float(energies.mean()),
            forces=np.mean([p.forces for p in predictions], axis=0),
            stress=np.mean([p.stress for p in predictions], axis=0),
            spread=self.spread_scale * standard_deviation(energies),
            moments=_mean([p.moments for p in predictions]),
            charges=_mean([p.charges for p in predictions]),
        )

    def calculator(self) -> PotentialCalculator:
        """Return an ASE calculator of the mean.

        Returns
        -------
        PotentialCalculator
            It needs charge states if any member does.
        """
        aware = any(member.vocabulary.charge_aware for member in self.members)
        return PotentialCalculator(self, charge_aware=aware)


def _mean(values: Sequence[Array | None]) -> Array | None:
    known = [value for value in values if value is not None]
    return np.mean(known, axis=0) if len(known) == len(values) else None


def standard_deviation(energies: Array) -> float:
    """Return the standard deviation of a sample.

    Parameters
    ----------
    energies
        eV, shape (n_members,).

    Returns
    -------
    float
        eV, with n_members - 1 in the denominator; zero for a single member.
    """
    return float(np.std(energies, ddof=1)) if len(energies) > 1 else 0.0


def calibrate(residuals: Sequence[float], spreads: Sequence[float]) -> float:
    """Return the factor that makes spreads as large as the errors they stand for.

    The ratio of root mean squares is used, since single spreads of few members can be close to
    zero by chance.

    Parameters
    ----------
    residuals
        Predicted minus true energies of held-out structures.
    spreads
        Unscaled spreads of the same structures, in the same unit.

    Returns
    -------
    float
        One where there are fewer than ``LEAST_HELD_OUT`` residuals, or all spreads are zero.

    Raises
    ------
    AlChargeError
        If residuals and spreads differ in number.
    """
    if len(residuals) != len(spreads):
        raise AlChargeError("residuals and spreads differ in number", where="calibration")
    mean_square = float(np.mean(np.square(spreads))) if len(spreads) else 0.0
    if len(residuals) < LEAST_HELD_OUT or mean_square == 0.0:
        return 1.0
    return float(np.sqrt(np.mean(np.square(residuals)) / mean_square))
