"""ASE's view of a potential or a committee."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from numpy.typing import NDArray

Array = NDArray[np.float64]


class _Predicted(Protocol):
    @property
    def energy(self) -> float: ...
    @property
    def forces(self) -> Array: ...
    @property
    def stress(self) -> Array: ...


class Predictor(Protocol):
    """Anything that predicts energies, forces and stresses: a potential or a committee."""

    def predict(self, structures: Sequence[Atoms], /) -> Sequence[_Predicted]:
        """Return one prediction per structure."""


class PotentialCalculator(Calculator):
    """An ASE calculator on a potential or a committee's mean.

    The atoms it is attached to need a ``species`` array.

    Parameters
    ----------
    predictor
        A potential or a committee.
    """

    implemented_properties = ["energy", "free_energy", "forces", "stress"]  # noqa: RUF012

    def __init__(self, predictor: Predictor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.predictor = predictor

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = all_changes,
    ) -> None:
        """Fill ``results``; stress in Voigt order, eV/angstrom^3."""
        super().calculate(atoms, properties, system_changes)  # type: ignore[no-untyped-call]
        structure = self.atoms
        assert isinstance(structure, Atoms)
        (prediction,) = self.predictor.predict([structure])
        results: dict[str, Any] = {
            "energy": prediction.energy,
            "free_energy": prediction.energy,
            "forces": prediction.forces,
            "stress": prediction.stress[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]],
        }
        self.results = results
