"""Potentials that are told the moments, through the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml

from al_charge.potentials import load
from al_charge.testing.labelled import SPECIES, labelled, write_labels

Run = Callable[..., tuple[int, str, str]]

POTENTIAL = {"cutoff": "3.5 A", "pair_cutoff": "0 A", "channels": 4, "radial": 4, "spin": True}
KINDS = {"painn": POTENTIAL, "mace": POTENTIAL | {"max_ell": 1}}


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    """Eight labels; in the last, moments say for neither iron which state it is in."""
    images = [labelled(seed) for seed in range(8)]
    unsure = [token.replace("Fe2+", "Fe?").replace("Fe3+", "Fe?") for token in SPECIES]
    moments = np.array([0, 0, 3.93, 0, 3.97, 0, 0, 0])
    images[-1] = labelled(7, resolved_species=unsure, magmoms=moments)
    for number, image in enumerate(images):
        image.set_array("requested_species", np.array(SPECIES))
        image.info |= {"label": f"label-{number}", "ambiguous": number == 7}
    return write_labels(tmp_path / "labels.extxyz", images)


@pytest.mark.parametrize("kind", KINDS)
def test_an_ambiguous_label_is_learned_from_by_whoever_sees_moments(
    kind: str, labels: Path, run: Run, tmp_path: Path
) -> None:
    trained = {}
    for spin in (True, False):
        file, model = tmp_path / f"{spin}.yaml", tmp_path / f"{spin}.safetensors"
        potential = KINDS[kind] | {"kind": kind, "spin": spin}
        file.write_text(yaml.safe_dump({"potential": potential, "training": {"epochs": 2}}))
        options = ("--settings", str(file), "--folds", "1", "--json")
        code, out, err = run("train", str(labels), str(model), *options)
        assert code == 0, err
        trained[spin] = json.loads(out)
    assert (trained[True]["frames"], trained[False]["frames"]) == (8, 7)
    assert trained[True]["states_from"]["nearest to uncertain moments"] == 1
    code, out, err = run("evaluate", str(tmp_path / "True.safetensors"), str(labels), "--json")
    assert code == 0, err
    assert json.loads(out)["all"]["frames"] == 8


def test_moments_of_a_structure_change_its_energy_and_a_flip_of_all_does_not(
    labels: Path, run: Run, tmp_path: Path
) -> None:
    file, model = tmp_path / "s.yaml", tmp_path / "m.safetensors"
    # Fresh weights give moments no influence; training does.
    potential = POTENTIAL | {"kind": "painn"}
    file.write_text(yaml.safe_dump({"potential": potential, "training": {"epochs": 30}}))
    assert run("train", str(labels), str(model), "--settings", str(file), "--folds", "1")[0] == 0
    trained = load(model)
    atoms = labelled(0)
    atoms.set_array("species", np.array(SPECIES))
    energies = []
    for moments in ([3.7, 4.2], [-3.7, -4.2], [3.9, 3.9]):
        told = np.zeros(8)
        told[[2, 4]] = moments
        atoms.set_array("moments", told)
        energies.append(trained.predict([atoms])[0].energy)
    assert energies[1] == pytest.approx(energies[0], abs=1e-6)
    assert abs(energies[2] - energies[0]) > 1e-6
