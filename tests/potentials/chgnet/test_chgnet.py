"""CHGNet: the library's own predictions, and its published weights as a start."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.units import GPa
from pydantic import ValidationError

from al_charge.crystal.configuration import to_structure
from al_charge.errors import InputError
from al_charge.potentials.chgnet import PUBLISHED_CHGNET, ChgnetSettings
from al_charge.potentials.chgnet.pretrained import PRETRAINED, pretrained
from al_charge.potentials.data.frames import TrainingFrame
from al_charge.potentials.networks.neighbours import find_neighbours
from al_charge.potentials.potential import Potential
from al_charge.potentials.settings import TrainingSettings
from al_charge.potentials.training.train import train
from al_charge.potentials.vocabulary import Vocabulary
from al_charge.testing.potentials import TOKENS, small_salt, swapped_iron

AWARE = Vocabulary.of(TOKENS, charge_aware=True)


@pytest.fixture(scope="module")
def published() -> Any:
    """The library's model."""
    from chgnet.model.model import CHGNet

    with contextlib.redirect_stdout(io.StringIO()):
        return CHGNet.load(model_name=PRETRAINED, use_device="cpu", verbose=False)


def _salt(seed: int) -> Atoms:
    atoms = small_salt(seed)
    # Bonds as long as in crystals; one atom so near that it makes angles with all others.
    atoms.set_cell(1.05 * np.asarray(atoms.cell), scale_atoms=True)
    return atoms


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("repeat", [(1, 1, 1), (1, 1, 2)])
def test_published_weights_give_what_the_library_gives(
    published: Any, seed: int, repeat: tuple[int, int, int]
) -> None:
    """Energy, forces, stress and moments, for whichever charge order."""
    atoms = _salt(seed).repeat(repeat)
    theirs = published.predict_structure(to_structure(atoms), task="efsm")
    potential = pretrained(ChgnetSettings(), AWARE)
    for order in (atoms, swapped_iron(atoms)):
        (ours,) = potential.predict([order])
        assert ours.energy / len(atoms) == pytest.approx(float(theirs["e"]), abs=2e-5)
        np.testing.assert_allclose(ours.forces, theirs["f"], atol=2e-4)
        np.testing.assert_allclose(ours.stress, theirs["s"] * GPa, atol=2e-5)
        np.testing.assert_allclose(ours.moments, theirs["m"], atol=2e-4)


def test_a_network_of_other_sizes_gives_what_the_library_gives() -> None:
    """Features after every layer, energy, forces, stress and moments of fresh weights."""
    settings = ChgnetSettings(
        cutoff="4.5 A", channels=8, layers=3, radial=7, angular=9, pretrained=False
    )
    elements, atoms = AWARE.blind(), _salt(3)
    blind = settings.model_copy(update={"charge_aware": False})
    potential = Potential.fresh(blind, elements, mean_neighbours=1.0, seed=3)
    (ours,) = potential.predict([atoms])
    graph = potential.graph(atoms, find_neighbours(atoms, potential.neighbour_cutoff)).to(
        torch.float32
    )
    features = potential.module.features(graph)

    theirs: Any = potential.module.get_submodule("network")
    rows = torch.nn.Embedding(94, settings.channels)
    with torch.no_grad():
        rows.weight[elements.numbers - 1] = theirs.atom_embedding.embedding.weight
    theirs.atom_embedding.embedding = rows
    layers: list[torch.Tensor] = []
    for block in (theirs.atom_embedding, *theirs.atom_conv_layers):
        block.register_forward_hook(lambda _block, _given, out: layers.append(out))
    found = theirs.predict_structure(to_structure(atoms), task="efsm")
    assert len(features) == len(layers) == settings.layers + 1
    for own, their in zip(features, layers, strict=True):
        torch.testing.assert_close(own, their, rtol=0, atol=1e-5)
    assert ours.energy / len(atoms) == pytest.approx(float(found["e"]), abs=1e-5)
    assert np.abs(ours.forces).max() > 1e-2
    np.testing.assert_allclose(ours.forces, found["f"], atol=1e-5)
    np.testing.assert_allclose(ours.stress, found["s"] * GPa, atol=1e-6)
    np.testing.assert_allclose(ours.moments, found["m"], atol=1e-5)


def test_a_structure_without_angles(published: Any) -> None:
    """No two atoms are near enough to make one; the library leaves those layers out."""
    atoms = _salt(0)
    atoms.set_cell(1.6 * np.asarray(atoms.cell), scale_atoms=True)
    assert len(find_neighbours(atoms, 3.0).centres) == 0
    theirs = published.predict_structure(to_structure(atoms), task="efsm")
    (ours,) = pretrained(ChgnetSettings(), AWARE).predict([atoms])
    assert ours.energy / len(atoms) == pytest.approx(float(theirs["e"]), abs=2e-5)
    np.testing.assert_allclose(ours.forces, theirs["f"], atol=2e-4)
    np.testing.assert_allclose(ours.moments, theirs["m"], atol=2e-4)


def test_training_starts_from_the_published_weights(tmp_path: Path) -> None:
    """And tells the charge states of iron apart by their moments after it."""
    frames = []
    for seed in range(2):
        atoms = _salt(seed)
        (label,) = pretrained(ChgnetSettings(), AWARE).predict([atoms])
        moments = np.array([{"Fe2+": 3.7, "Fe3+": 4.3}.get(token, 0.0) for token in TOKENS])
        frames.append(
            TrainingFrame(
                atoms, label.energy, label.forces, label.stress, f"{seed}", moments=moments
            )
        )
    result = train(
        ChgnetSettings(pair_cutoff="0 A"),
        TrainingSettings(
            epochs=25, batch_size=1, learning_rate=2e-3, averaging=0.0, moment_weight=1.0
        ),
        frames,
        seed=0,
        fold=0,
        n_folds=1,
        checkpoint=tmp_path / "checkpoint",
    )
    (start,) = pretrained(ChgnetSettings(), AWARE).predict([frames[0].atoms])
    (end,) = result.potential.predict([frames[0].atoms])
    assert end.energy == pytest.approx(frames[0].energy, abs=0.1)
    assert start.moments is not None and end.moments is not None
    before, after = ((m[[2, 4]] - [3.7, 4.3]) ** 2 for m in (start.moments, end.moments))
    assert start.moments[2] != pytest.approx(3.7, abs=0.3)
    assert after.mean() < 0.3 * before.mean()
    assert end.moments[4] - end.moments[2] > 0.1


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"channels": 32}, "have channels 64, not 32"),
        ({"angle_cutoff": "2.5 A"}, "have angle_cutoff 3, not 2.5"),
    ],
)
def test_published_weights_have_one_shape(changes: dict[str, Any], words: str) -> None:
    """Another one is trained from fresh weights, and refused with the published ones."""
    assert ChgnetSettings().pretrained is True
    assert ChgnetSettings(**changes).pretrained is False
    with pytest.raises(ValidationError, match=words):
        ChgnetSettings(pretrained=True, **changes)


def test_the_shape_is_that_of_the_package(published: Any) -> None:
    """The settings know it without loading the network."""
    names = {"cutoff": "atom_graph_cutoff", "angle_cutoff": "bond_graph_cutoff"}
    names |= {"channels": "atom_fea_dim", "layers": "n_conv"}
    names |= {"radial": "num_radial", "angular": "num_angular"}
    assert {k: published.model_args[names[k]] for k in names} == PUBLISHED_CHGNET


def test_an_element_beyond_the_published_ones_is_refused() -> None:
    """They end with plutonium."""
    with pytest.raises(InputError, match="first 94 elements"):
        pretrained(ChgnetSettings(), Vocabulary(("Am3+", "O2-"), charge_aware=True))
