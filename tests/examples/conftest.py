"""The examples as modules, and a small potential for them."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import yaml

from al_charge.cli.main import main

ROOT = Path(__file__).parents[2]
DATA = ROOT / "examples" / "data" / "nafepo4_gpaw.extxyz"
SMALL = {
    "kind": "painn",
    "cutoff": "4 A",
    "channels": 8,
    "layers": 1,
    "radial": 8,
    "pair_cutoff": "6 A",
    "pair_intervals": 8,
}
ON_A_PRIOR = SMALL | {"pair_cutoff": "8 A", "prior": "chgnet"}
"""As the labels were made; without a prior, so few do not say how stiff bonds are."""


def example(name: str) -> ModuleType:
    """Import one script of ``examples/``."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "examples" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def ion_hop() -> ModuleType:
    """Import the example of a hop."""
    return example("ion_hop")


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run the main function of an example and return what it printed."""

    def call(name: str, *arguments: object) -> str:
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *map(str, arguments)])
        example(name).main()
        return capsys.readouterr().out

    return call


@pytest.fixture(scope="session")
def committee(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two potentials on the labels of the repository, of few features: quick, and no good."""
    return _trained(tmp_path_factory.mktemp("committee"), SMALL, epochs=1, members=2)


@pytest.fixture(scope="session")
def potential(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One potential on the labels of the repository, on top of a prior as in their campaign."""
    return _trained(tmp_path_factory.mktemp("potential"), ON_A_PRIOR, epochs=8, members=1)


def _trained(folder: Path, potential: dict[str, Any], *, epochs: int, members: int) -> Path:
    torch.set_num_threads(1)
    settings, path = folder / "settings.yaml", folder / "model.safetensors"
    document = {"potential": potential, "training": {"epochs": epochs}}
    settings.write_text(yaml.safe_dump(document), encoding="utf-8")
    options = ["--settings", str(settings), "--members", str(members), "--json"]
    with pytest.raises(SystemExit) as exit_, contextlib.redirect_stdout(io.StringIO()):
        main(["train", str(DATA), str(path), *options])
    assert not exit_.value.code
    return path
