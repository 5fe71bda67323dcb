"""ASE's view of a potential or a committee."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from numpy.typing import NDArray
from typing_extensions import override

from al_charge.potentials.data.dataset import Reading, with_species
from al_charge.potentials.prediction import Predictor

Array = NDArray[np.float64]


class PotentialCalculator(Calculator):
    """An ASE calculator on a potential or a committee's mean.

    Results are energy, forces and stress, and the sizes of the site moments (``magmoms``) and net
    charges (``charges``) where they are predicted.

    The charge state of every atom is its token in the array ``species``. Without that array charge
    states are determined as for a structure from a file, and refused where they cannot be; a blind
    potential needs none.

    Parameters
    ----------
    predictor
        A potential or a committee.
    charge_aware
        Whether it needs charge states.
    """

    implemented_properties = [  # noqa: RUF012
        "energy",
        "free_energy",
        "forces",
        "stress",
        "magmoms",
        "charges",
    ]

    def __init__(self, predictor: Predictor, *, charge_aware: bool = True) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.predictor = predictor
        self.charge_aware = charge_aware

    @override
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
        if "species" not in structure.arrays:
            reading = Reading(need_states=self.charge_aware)
            known, _ = with_species(structure, reading, "the atoms")
            structure = structure.copy()
            structure.set_array("species", known.arrays["species"])
        (prediction,) = self.predictor.predict([structure])
        results: dict[str, Any] = {
            "energy": prediction.energy,
            "free_energy": prediction.energy,
            "forces": prediction.forces,
            "stress": prediction.stress[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]],
        }
        per_atom = {"magmoms": prediction.moments, "charges": prediction.charges}
        self.results = results | {k: v for k, v in per_atom.items() if v is not None}

    @override
    def check_state(self, atoms: Atoms, tol: float = 1e-15) -> list[str]:
        """Return what has changed, charge states and given moments included."""
        changes: list[str] = super().check_state(atoms, tol=tol)  # type: ignore[no-untyped-call]
        if not changes and isinstance(self.atoms, Atoms):
            names = ("species", "moments")
            old, new = ([a.arrays.get(n, ()) for n in names] for a in (self.atoms, atoms))
            changes = [
                n for n, a, b in zip(names, old, new, strict=True) if not np.array_equal(a, b)
            ]
        return changes
