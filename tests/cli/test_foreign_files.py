"""`train`, `evaluate` and `predict` on frames that other programs wrote, and the Python face."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from ase import Atoms
from ase.io import read, write

import al_charge as ac
from al_charge.errors import InputError

Run = Callable[..., tuple[int, str, str]]

FRAMES = Path(__file__).parents[1] / "cases" / "frames"
SETTINGS = {
    "potential": {
        "kind": "painn", "channels": 4, "radial": 4, "cutoff": "3.5 A", "pair_cutoff": "3.5 A"
    },
    "training": {"epochs": 1},
}  # fmt: skip
REFUSED = "it is not periodic along every axis (pbc F F F); leave it out, or set pbc to T T T"


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("settings") / "painn.yaml"
    file.write_text(yaml.safe_dump(SETTINGS), encoding="utf-8")
    return str(file)


@pytest.fixture(scope="module")
def model(settings: str, run: Run, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A potential of rock salt, trained on frames among which isolated atoms lie."""
    path = str(tmp_path_factory.mktemp("model") / "salt.safetensors")
    data = str(FRAMES / "isolated_atoms.extxyz")
    code, _, err = run("train", data, path, "--settings", settings)
    assert code == 0
    assert "isolated_atoms.extxyz: 2 frames left out: isolated atoms" in err
    return path


def test_a_virial_is_learnt_from_and_told(settings: str, run: Run, tmp_path: Path) -> None:
    path = str(tmp_path / "virial.safetensors")
    data = str(FRAMES / "virial.extxyz")
    code, _, err = run("train", data, path, "--settings", settings)
    assert code == 0
    assert "virial.extxyz: stress of 12 frames is -virial / volume" in err


def test_errors_are_those_of_the_crystals(model: str, run: Run) -> None:
    """Stress and virial of the same frames are the same numbers."""
    found = {}
    for name in ("virial", "isolated_atoms"):
        code, out, err = run("evaluate", model, str(FRAMES / f"{name}.extxyz"), "--json")
        assert code == 0
        found[name] = json.loads(out)["all"]
        assert ("2 frames left out: isolated atoms" in err) == (name == "isolated_atoms")
    assert found["virial"]["stress"]["values"] == 12 * 9
    assert found["virial"]["stress"] == pytest.approx(found["isolated_atoms"]["stress"])


def test_molecules_are_refused_everywhere(
    model: str, settings: str, run: Run, tmp_path: Path
) -> None:
    data = str(FRAMES / "no_pbc.extxyz")
    new = tmp_path / "new.safetensors"
    for command in (
        ("train", data, str(new), "--settings", settings),
        ("evaluate", model, data),
        ("predict", model, data),
        ("predict", model, data, "--relax"),
        ("label", data, "--engine", "born"),
    ):
        code, out, err = run(*command)
        assert (code, out, err.count("\n")) == (2, "", 1), command
        assert REFUSED in err
    assert not new.exists()
    atoms = read(data, index=0)
    assert isinstance(atoms, Atoms)
    tokens = {"Na": "Na+", "Cl": "Cl-"}
    atoms.set_array("species", np.array([tokens[symbol] for symbol in atoms.symbols]))
    for call in (
        lambda: ac.relax(atoms, model),
        lambda: ac.load(model).predict([atoms]),
        lambda: ac.label(atoms, "born", folder=tmp_path / "born"),
    ):
        with pytest.raises(InputError, match="not periodic along every axis"):
            call()
    assert not (tmp_path / "born").exists()


def test_isolated_atoms_are_not_predicted(model: str, run: Run, tmp_path: Path) -> None:
    data = str(FRAMES / "isolated_atoms.extxyz")
    code, out, err = run("predict", model, data, "--json")
    assert code == 0
    assert "2 frames left out: isolated atoms" in err
    names = [row["structure"] for row in json.loads(out)["predictions"]]
    assert names == [f"{data}, frame {number}" for number in range(2, 14)]
    only = tmp_path / "only.extxyz"
    write(only, Atoms("Na", cell=[12, 12, 12]), format="extxyz")
    code, out, err = run("predict", model, str(only))
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "it has isolated atoms only; give a crystal" in err
