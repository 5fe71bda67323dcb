"""MACE: that it is mace's own network, and its rows of species; the rest is in the contract."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms

from al_charge.crystal.species import TOKEN_DTYPE
from al_charge.potentials.mace import MaceSettings
from al_charge.potentials.mace.foundation import mace_input
from al_charge.potentials.mace.messages import Convolution, interact, pad_edges
from al_charge.potentials.mace.network import Mace
from al_charge.potentials.networks.neighbours import find_neighbours
from al_charge.potentials.potential import Potential
from al_charge.potentials.vocabulary import Vocabulary

SMALL = MaceSettings(channels=4, cutoff="3.5 A", max_ell=1)


def salt(seed: int = 0) -> Atoms:
    """Return eight atoms off their sites, with both charge states of iron."""
    tokens = ["Na+", "O2-", "Fe2+", "O2-", "Fe3+", "O2-", "Na+", "P5+"]
    grid = np.stack(np.meshgrid(*[[0, 1]] * 3), axis=-1).reshape(-1, 3)
    atoms = Atoms([t.rstrip("+-0123456789") for t in tokens], 2.2 * grid, cell=[4.4] * 3, pbc=True)
    atoms.rattle(0.15, seed=seed)
    atoms.set_array("species", np.array(tokens, dtype=TOKEN_DTYPE))
    return atoms


@cache
def potential(settings: MaceSettings) -> Potential:
    """Return an untrained potential for the salt, in double precision; no test changes it."""
    vocabulary = Vocabulary.of(salt().arrays["species"], charge_aware=settings.charge_aware)
    fresh = Potential.fresh(settings, vocabulary, mean_neighbours=12.0, seed=1)
    fresh.module.to(torch.float64)
    return fresh


def network(a_potential: Potential) -> torch.nn.Module:
    """Return mace's own module."""
    assert isinstance(a_potential.module, Mace)
    return a_potential.module.network


@pytest.mark.parametrize(
    "settings",
    [
        SMALL,
        SMALL.model_copy(update={"layers": 1, "max_l": 0}),
        SMALL.model_copy(update={"layers": 3, "max_l": 2, "max_ell": 2, "correlation": 3}),
        SMALL.model_copy(
            update={
                "interaction": "density",
                "distance_transform": "agnesi",
                "pair_repulsion": True,
            }
        ),
    ],
    ids=["small", "one layer", "three layers", "density"],
)
def test_energy_forces_and_stress_are_those_of_mace(settings: MaceSettings) -> None:
    ours = potential(settings)
    (prediction,) = ours.predict([salt()])
    theirs = network(ours)(mace_input(salt(), ours), compute_stress=True)

    assert np.abs(prediction.forces).max() > 1e-4
    assert prediction.energy == pytest.approx(theirs["energy"].item(), rel=1e-9)
    assert prediction.forces == pytest.approx(theirs["forces"].detach().numpy(), abs=1e-9)
    assert prediction.stress == pytest.approx(theirs["stress"][0].detach().numpy(), abs=1e-9)


@pytest.mark.parametrize("interaction", ["residual", "density"])
def test_an_interaction_block_does_what_that_of_mace_does(interaction: str) -> None:
    """In every layer, for random features of all degrees and rows of different lengths."""
    ours = potential(
        SMALL.model_copy(update={"layers": 3, "max_l": 2, "max_ell": 2, "interaction": interaction})
    )
    net: Any = network(ours)
    graph = ours.graph(salt(), find_neighbours(salt(), 3.5)).to(torch.float64)
    padded = pad_edges(graph)
    assert len(set(padded.mask.sum((1, 2)).tolist())) > 1
    edges = torch.stack([graph.neighbours, graph.centres])
    species = torch.nn.functional.one_hot(graph.species, len(net.atomic_numbers)).double()
    angular = net.spherical_harmonics(-graph.vectors)
    lengths = torch.linalg.vector_norm(graph.vectors, dim=1, keepdim=True)
    radial, cutoff = net.radial_embedding(lengths, species, edges, net.atomic_numbers)
    generator = torch.Generator().manual_seed(5)
    for block in net.interactions:
        shape = (graph.n_atoms, block.node_feats_irreps.dim)
        features = torch.randn(shape, generator=generator, dtype=torch.float64)
        theirs = block(
            node_attrs=species,
            node_feats=features,
            edge_attrs=angular,
            edge_feats=radial,
            edge_index=edges,
            cutoff=cutoff,
        )
        found = interact(
            block,
            Convolution(block.conv_tp),
            species,
            features,
            graph,
            padded,
            angular[padded.edges] * padded.mask,
            radial[padded.first],
        )
        for their, own in zip(theirs, found, strict=True):
            assert (their is None) == (own is None)
            if their is not None and own is not None:
                assert their.abs().max() > 1e-3
                # The library's coupling coefficients are of single precision.
                torch.testing.assert_close(own, their, rtol=1e-5, atol=1e-7)


def test_features_are_those_of_mace() -> None:
    """After every layer of the library's own pass."""
    ours = potential(SMALL.model_copy(update={"layers": 3}))
    net: Any = network(ours)
    layers: list[torch.Tensor] = []
    hooks = [
        product.register_forward_hook(lambda _block, _given, features: layers.append(features))
        for product in net.products
    ]
    net(mace_input(salt(), ours))
    for hook in hooks:
        hook.remove()
    theirs = [features[:, : SMALL.channels].detach() for features in layers]
    graph = ours.graph(salt(), find_neighbours(salt(), ours.neighbour_cutoff)).to(torch.float64)
    found = ours.module.features(graph)[1:]
    assert len(found) == len(theirs) == 3
    for own, their in zip(found, theirs, strict=True):
        torch.testing.assert_close(own.detach(), their, rtol=1e-10, atol=1e-12)


def test_rows_are_found_in_weights_of_several_degrees() -> None:
    """Between layers that both have vectors, a skip connection has a block for each degree."""
    parent = potential(SMALL.model_copy(update={"layers": 3, "max_l": 2, "max_ell": 2}))
    child = parent.extend(["Fe4+", "Mn2+"])
    before, after = parent.predict([salt()])[0], child.predict([salt()])[0]

    assert child.vocabulary.tokens == (*parent.vocabulary.tokens, "Fe4+", "Mn2+")
    assert after.energy == pytest.approx(before.energy, abs=1e-12)
    assert after.forces == pytest.approx(before.forces, abs=1e-12)


def test_a_new_charge_state_starts_as_its_nearest_kin_and_a_new_element_does_not() -> None:
    child = potential(SMALL).extend(["Fe4+", "Mn2+"])
    structures = [salt() for _ in range(3)]
    structures[1].arrays["species"][4] = "Fe4+"  # was Fe3+
    structures[2].arrays["species"][4] = "Mn2+"
    energies = [p.energy for p in child.predict(structures)]

    assert energies[1] == energies[0]
    assert abs(energies[2] - energies[0]) > 1e-6


def test_physical_atomic_numbers_stand_in_the_network() -> None:
    ours = potential(SMALL)

    assert ours.vocabulary.tokens == ("Fe2+", "Fe3+", "Na+", "O2-", "P5+")
    assert network(ours).get_buffer("atomic_numbers").tolist() == [26, 26, 11, 8, 15]


def test_weights_follow_from_the_seed_whatever_the_default_precision() -> None:
    vocabulary = Vocabulary.of(salt().arrays["species"], charge_aware=True)
    torch.set_default_dtype(torch.float64)
    try:
        one = Potential.fresh(SMALL, vocabulary, mean_neighbours=12.0, seed=3)
    finally:
        torch.set_default_dtype(torch.float32)
    two = Potential.fresh(SMALL, vocabulary, mean_neighbours=12.0, seed=3)
    other = Potential.fresh(SMALL, vocabulary, mean_neighbours=12.0, seed=4)
    energies = [p.predict([salt()])[0].energy for p in (one, two, other)]

    assert one.dtype == torch.float32
    assert energies[0] == energies[1] != energies[2]


def test_importing_mace_prints_nothing_and_leaves_torch_restricted() -> None:
    """Mace would let ``torch.load`` unpickle anything, in this process and its children."""
    code = (
        "import os; from al_charge.potentials.mace.network import import_mace; import_mace();"
        "import sys; sys.exit('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD' in os.environ)"
    )
    clean = {k: v for k, v in os.environ.items() if k != "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, env=clean, check=False)

    assert done.returncode == 0
    assert done.stdout == b""
