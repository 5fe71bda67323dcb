"""Foundation models: from a MACE model to charge-aware potentials, without reading pickles."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms

from al_charge.errors import AlChargeError, InputError
from al_charge.potentials.data.frames import TrainingFrame
from al_charge.potentials.mace import MaceSettings
from al_charge.potentials.mace.foundation import (
    from_mace,
    mace_input,
    read_foundation,
    write_foundation,
)
from al_charge.potentials.mace.network import import_mace
from al_charge.potentials.settings import TrainingSettings
from al_charge.potentials.training.train import train

# Other programs let e3nn compile its layers.
pytestmark = pytest.mark.filterwarnings(
    r"ignore:`torch\.jit:DeprecationWarning", "ignore:The TorchScript type system:UserWarning"
)

SETTINGS = MaceSettings(channels=4, cutoff="3.5 A", max_ell=1)
TOKENS = ("Fe2+", "Fe3+", "Na+", "O2-")
CONVERT = Path(__file__).parents[3] / "examples" / "convert_mace_foundation.py"


def foreign(**changes: Any) -> torch.nn.Module:
    """Return a MACE model as another program would have trained it, with elements only."""
    modules = import_mace()
    from e3nn import o3

    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)
    try:
        block = modules.interaction_classes["RealAgnosticResidualInteractionBlock"]
        arguments = {
            "atomic_inter_scale": 0.7,
            "atomic_inter_shift": 0.2,
            "atomic_energies": np.array([-1.0, -2.0, -3.0, -4.0]),
            "atomic_numbers": [8, 11, 15, 26],
            "num_elements": 4,
            "avg_num_neighbors": 9.0,
            "r_max": 3.5,
            "num_bessel": 8,
            "num_polynomial_cutoff": 6,
            "max_ell": 1,
            "interaction_cls": block,
            "interaction_cls_first": block,
            "num_interactions": 2,
            "hidden_irreps": o3.Irreps("4x0e+4x1o"),
            "MLP_irreps": o3.Irreps("16x0e"),
            "correlation": 2,
            "gate": torch.nn.functional.silu,
        }
        model: torch.nn.Module = modules.ScaleShiftMACE(**arguments | changes)
        return model
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.fixture(scope="module")
def model() -> torch.nn.Module:
    """A model that no test changes."""
    return foreign()


def oxide() -> Atoms:
    """Return six atoms with both charge states of iron."""
    atoms = Atoms(
        ["Fe", "Fe", "Na", "O", "O", "O"],
        [[0, 0, 0], [2.4, 2.3, 0], [0, 2.2, 2.3], [2, 0, 0], [0, 2, 0], [0, 0, 2]],
        cell=[4.5, 4.4, 4.6],
        pbc=True,
    )
    atoms.rattle(0.1, seed=2)
    atoms.set_array("species", np.array(["Fe2+", "Fe3+", "Na+", "O2-", "O2-", "O2-"]))
    return atoms


def test_a_child_gives_its_parents_energy_and_forces(
    model: torch.nn.Module, tmp_path: Path
) -> None:
    path = tmp_path / "foundation.safetensors"
    write_foundation(path, parent := from_mace(model))
    child = read_foundation(path, SETTINGS, TOKENS)
    (ours,) = child.predict([oxide()])
    theirs = model(mace_input(oxide(), parent))

    assert child.vocabulary.tokens == TOKENS
    assert child.settings.charge_aware
    assert ours.energy == pytest.approx(theirs["energy"].item(), abs=1e-10)
    assert ours.forces == pytest.approx(theirs["forces"].detach().numpy(), abs=1e-10)


def test_the_example_converts_mace_own_file(
    model: torch.nn.Module,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    source, target = tmp_path / "mace.model", tmp_path / "foundation.safetensors"
    torch.save(model, source)
    monkeypatch.setattr(sys, "argv", [CONVERT.name, str(source), str(target)])
    runpy.run_path(str(CONVERT), run_name="__main__")
    child = read_foundation(target, SETTINGS, TOKENS)

    assert "cutoff: 3.5 A" in capsys.readouterr().out
    expected = model(mace_input(oxide(), from_mace(model)))["energy"].item()
    assert child.predict([oxide()])[0].energy == pytest.approx(expected, abs=1e-10)


def test_a_pickle_is_refused_and_not_run(model: torch.nn.Module, tmp_path: Path) -> None:
    path = tmp_path / "mace.model"
    torch.save(model, path)

    with pytest.raises(InputError, match="no foundation model"):
        read_foundation(path, SETTINGS, TOKENS)


def test_settings_and_elements_must_fit(model: torch.nn.Module, tmp_path: Path) -> None:
    path = tmp_path / "foundation.safetensors"
    write_foundation(path, from_mace(model))

    with pytest.raises(InputError, match=r"potential\.channels.*set channels to 4"):
        read_foundation(path, SETTINGS.model_copy(update={"channels": 8}), TOKENS)
    with pytest.raises(InputError, match=r"does not know Mn2\+"):
        read_foundation(path, SETTINGS, (*TOKENS, "Mn2+"))
    with pytest.raises(InputError, match="no foundation model"):
        read_foundation(tmp_path / "absent", SETTINGS, TOKENS)


def test_training_starts_from_the_foundation(model: torch.nn.Module, tmp_path: Path) -> None:
    path = tmp_path / "foundation.safetensors"
    write_foundation(path, from_mace(model))
    start = read_foundation(path, SETTINGS, TOKENS)
    (target,) = start.predict([oxide()])
    frame = TrainingFrame(oxide(), target.energy + 6.0, target.forces, target.stress, group="a")
    settings = SETTINGS.model_copy(update={"foundation": path})
    rest = TrainingSettings(epochs=1, learning_rate=1e-12)
    result = train(
        settings, rest, [frame], seed=0, fold=0, n_folds=1, checkpoint=tmp_path / "checkpoint"
    )
    (trained,) = result.potential.predict([oxide()])

    assert trained.forces == pytest.approx(target.forces, abs=1e-6)
    assert trained.energy == pytest.approx(target.energy + 6.0, abs=1e-2)
    assert result.potential.settings == SETTINGS


@pytest.mark.parametrize(
    "changes",
    [
        {
            "heads": ["a", "b"],
            "atomic_inter_scale": [1.0, 1.0],
            "atomic_inter_shift": [0.0, 0.0],
            "atomic_energies": np.zeros((2, 4)),
        },
        {"radial_MLP": [16]},
        {"gate": torch.tanh},
    ],
    ids=["two heads", "weights of other shapes", "another activation"],
)
def test_a_model_that_cannot_be_rebuilt_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(AlChargeError, match="foundation"):
        from_mace(foreign(**changes))
