"""Ewald sums, also where a uniform background makes up for the charges."""

from __future__ import annotations

import numpy as np
import pytest
from pymatgen.core.structure import Structure

from al_charge.crystal.electrostatics import pair_energies

COULOMB = 14.3996454
"""eV angstrom/e^2."""


@pytest.mark.parametrize(
    ("vectors", "constant"),
    [
        (np.eye(3), 2.837297),
        (0.5 * (np.ones((3, 3)) - 2 * np.eye(3)), 3.639240),
        (0.5 * (np.ones((3, 3)) - np.eye(3)), 4.584862),
    ],
    ids=["simple cubic", "body-centred", "face-centred"],
)
def test_ions_in_a_background_have_the_energy_of_a_wigner_crystal(
    vectors: np.ndarray, constant: float
) -> None:
    """Constants of Nijboer and Ruijgrok, J. Stat. Phys. 53, 361 (1988), per cubic edge."""
    edge = 5.0
    crystal = Structure(edge * vectors, ["H"], [[0, 0, 0]])
    for repeats in ((1, 1, 1), (1, 2, 3)):
        pairs = pair_energies(crystal.make_supercell(repeats, in_place=False))
        energy = -COULOMB * constant / (2 * edge)
        assert pairs.sum() / len(pairs) == pytest.approx(energy, abs=1e-5)
