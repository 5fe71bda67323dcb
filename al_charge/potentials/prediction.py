"""Predictions, and what can make them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Prediction:
    """Energy and its derivatives, and moments and charges where a potential predicts them.

    Attributes
    ----------
    energy
        eV for the cell.
    forces
        eV/angstrom, shape (n_atoms, 3).
    stress
        eV/angstrom^3, shape (3, 3), ASE's sign.
    moments
        Size of the site moments in Bohr magnetons, shape (n_atoms,); None where not predicted.
    charges
        Net charges in e, cations positive, shape (n_atoms,); None where not predicted.
    """

    energy: float
    forces: Array
    stress: Array
    moments: Array | None = None
    charges: Array | None = None


class Predictor(Protocol):
    """Anything that predicts energies, forces and stresses: a potential or a committee."""

    def predict(self, structures: Sequence[Atoms], /) -> Sequence[Prediction]:
        """Return predictions.

        Parameters
        ----------
        structures
            With ``species`` arrays.

        Returns
        -------
        sequence of Prediction
            One per structure.
        """
