"""What networks make of a site: scalar features, layer by layer."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from al_charge.potentials.chgnet import ChgnetSettings
from al_charge.potentials.mace import MaceSettings
from al_charge.potentials.networks.graph import Graph, collate
from al_charge.potentials.networks.neighbours import find_neighbours
from al_charge.potentials.painn import CpainnSettings, PainnSettings
from al_charge.potentials.potential import Potential
from al_charge.potentials.settings import PotentialSettings
from al_charge.testing.potentials import moved, small_salt, swapped_iron, untrained

CHANNELS = 8
SMALL: dict[str, PotentialSettings] = {
    "painn": PainnSettings(cutoff="4 A", channels=CHANNELS, radial=6, layers=3),
    "cpainn": CpainnSettings(cutoff="4 A", channels=CHANNELS, radial=6, layers=3),
    "mace": MaceSettings(cutoff="3.5 A", channels=CHANNELS, max_ell=1, radial=4, layers=3),
    "chgnet": ChgnetSettings(
        cutoff="4 A", channels=CHANNELS, layers=3, radial=5, angular=5, pretrained=False
    ),
}


def graph_of(potential: Potential, *structures: object) -> Graph:
    return collate(
        [potential.graph(a, find_neighbours(a, potential.neighbour_cutoff)) for a in structures]
    )


@pytest.mark.parametrize("name", SMALL)
class TestFeatures:
    def test_one_set_before_the_layers_and_one_after_each(self, name: str) -> None:
        potential, atoms = untrained(SMALL[name]), small_salt()
        layers = potential.module.features(graph_of(potential, atoms, small_salt(1)))
        assert [tuple(layer.shape) for layer in layers] == [(2 * len(atoms), CHANNELS)] * 4
        # Atoms of one species start alike and are told apart by what is around them.
        iron = [i for i, t in enumerate(atoms.arrays["species"]) if t == "O2-"][:2]
        assert torch.equal(layers[0][iron[0]], layers[0][iron[1]])
        assert (layers[-1][iron[0]] - layers[-1][iron[1]]).abs().max() > 1e-6

    def test_rotation_changes_none(self, name: str) -> None:
        potential, atoms = untrained(SMALL[name]), small_salt()
        turn = Rotation.from_rotvec([0.3, -1.1, 0.7]).as_matrix()
        other = moved(atoms, atoms.positions @ turn.T, atoms.cell @ turn.T)
        first, second = (potential.module.features(graph_of(potential, a)) for a in (atoms, other))
        for one, two in zip(first, second, strict=True):
            np.testing.assert_allclose(one.detach(), two.detach(), atol=1e-9)

    def test_only_a_charge_aware_network_starts_with_charge_states(self, name: str) -> None:
        for aware in (True, False):
            potential = untrained(SMALL[name].model_copy(update={"charge_aware": aware}))
            first, second = (
                potential.module.features(graph_of(potential, a))[0]
                for a in (small_salt(), swapped_iron(small_salt()))
            )
            assert torch.equal(first, second) != aware

    def test_asking_for_them_changes_no_energy(self, name: str) -> None:
        potential, atoms = untrained(SMALL[name]), small_salt()
        before = potential.predict([atoms])[0].energy
        potential.module.features(graph_of(potential, atoms))
        assert potential.predict([atoms])[0].energy == before
