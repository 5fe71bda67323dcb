"""`al-charge train`, `predict`, `evaluate` and `embedding`: from a file of labels to a model."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from ase.io import read, write
from matplotlib.image import imread

from al_charge.potentials import load
from al_charge.potentials.committee import Committee
from al_charge.potentials.data.dataset import Reading, read_dataset
from al_charge.potentials.drift import drifted_sites
from al_charge.potentials.model_file import read_members, write_model
from al_charge.potentials.relaxation.one_by_one import relax
from al_charge.testing.labelled import CHARGES, SPECIES, labelled, salt, write_labels

Run = Callable[..., tuple[int, str, str]]

SMALL = {"kind": "cpainn", "cutoff": "3.5 A", "channels": 4, "radial": 4, "pair_cutoff": "3.5 A"}
EPOCHS = 3
KINDS: dict[str, dict[str, Any]] = {
    "painn": {"channels": 4, "radial": 4},
    "cpainn": {"channels": 4, "radial": 4},
    "mace": {"channels": 4, "max_ell": 1, "radial": 4},
    "chgnet": {"channels": 8, "layers": 2, "radial": 5, "angular": 5, "pretrained": False},
}


def settings(folder: Path, epochs: int = EPOCHS, **potential: Any) -> str:
    """Write a settings file and return its path."""
    file = folder / "settings.yaml"
    training = {"epochs": epochs, "checkpoint_every": 1, "patience": epochs}
    document = {"potential": SMALL | potential, "training": training}
    file.write_text(yaml.safe_dump(document), encoding="utf-8")
    return str(file)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Ten labelled structures of five configurations."""
    folder = tmp_path_factory.mktemp("data")
    return str(write_labels(folder / "labels.extxyz", [labelled(seed) for seed in range(10)]))


@pytest.fixture(scope="module")
def model(data: str, run: Run, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A committee of two cPaiNN."""
    folder = tmp_path_factory.mktemp("model")
    path = str(folder / "model.safetensors")
    options = ("--settings", settings(folder), "--members", "2", "--folds", "3")
    code, _, err = run("train", data, path, *options)
    assert code == 0, err
    return path


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_trained_and_used(kind: str, data: str, run: Run, tmp_path: Path) -> None:
    path = str(tmp_path / "m")
    potential = {"kind": kind, "cutoff": "3.5 A", "pair_cutoff": "0 A"} | KINDS[kind]
    (tmp_path / "s.yaml").write_text(
        yaml.safe_dump({"potential": potential, "training": {"epochs": 1}})
    )
    options = ("--settings", str(tmp_path / "s.yaml"), "--folds", "1", "--json")
    code, out, err = run("train", data, path, *options)
    assert code == 0, err
    document = json.loads(out)
    assert document["kind"] == kind
    assert (document["frames"], document["groups"]) == (10, 5)
    assert document["frames_with"] == {"stress": 10, "moments": 10, "charges": 10}
    found = json.loads(run("evaluate", path, data, "--json")[1])["all"]
    assert (found["moments"] is None) == (kind in ("painn", "mace"))
    assert (found["charges"] is None) == (kind != "cpainn")
    assert found["forces"]["values"] == 240


def test_a_model_holds_its_history_and_says_what_it_did(
    data: str, model: str, run: Run, tmp_path: Path
) -> None:
    members, training = read_members(Path(model))
    assert [member.settings.kind for member in members] == ["cpainn"] * 2
    assert [[int(e["epoch"]) for e in history] for history in training["history"]] == [
        [1, 2, 3]
    ] * 2
    assert training["data"] == "labels.extxyz"
    assert training["groups_from"] == "config_hash"
    assert training["spread_scale"] > 0
    assert list(Path(model).parent.glob("*checkpoint*")) == []
    again = str(tmp_path / "again")
    file = str(Path(model).with_name("settings.yaml"))
    code, out, _ = run("train", data, again, "--settings", file, "--members", "2", "--folds", "3")
    assert code == 0
    assert "10 frames of 5 configurations (by config_hash)" in " ".join(out.split())
    assert Path(again).read_bytes() == Path(model).read_bytes()


def test_a_killed_training_writes_the_same_file(data: str, run: Run, tmp_path: Path) -> None:
    file, path = settings(tmp_path, epochs=30), tmp_path / "killed"
    command = ["train", data, str(path), "--settings", file]
    process = subprocess.Popen(
        [sys.executable, "-m", "al_charge", *command],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stderr=subprocess.DEVNULL,
    )
    checkpoint = tmp_path / "killed.checkpoint-0"
    deadline = time.monotonic() + 300
    while not checkpoint.exists() and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait(60) == -signal.SIGKILL
    assert checkpoint.exists() and not path.exists()
    assert run(*command)[0] == 0
    assert not checkpoint.exists()
    whole = tmp_path / "whole"
    assert run("train", data, str(whole), "--settings", file)[0] == 0
    assert whole.read_bytes() == path.read_bytes()


def test_stopped_by_hand_it_says_how_to_go_on(
    data: str, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("al_charge.potentials.training.fitting.train", interrupted)
    code, out, err = run("train", data, str(tmp_path / "m"), "--settings", settings(tmp_path))
    assert (code, out) == (1, "")
    assert err.strip().endswith("stopped; give the same command again to go on")


def test_starting_from_a_model(data: str, run: Run, tmp_path: Path) -> None:
    """A blind parent, an aware child that starts with the same energies."""
    blind, aware = str(tmp_path / "blind"), str(tmp_path / "aware")
    file = settings(tmp_path)
    assert run("train", data, blind, "--settings", file, "--blind", "--folds", "1")[0] == 0
    assert load(blind).vocabulary.tokens == ("Fe", "Mg", "Na", "O")
    code, out, err = run("train", data, aware, "--settings", file, "--from", blind, "--json")
    assert code == 0, err
    assert "Fe3+" in load(aware).vocabulary.tokens
    # Its kind and shape need not be said again.
    more = str(tmp_path / "more")
    code, out, err = run("train", data, more, "--from", aware, "--folds", "1", "--json")
    assert code == 0, err
    assert json.loads(out)["kind"] == "cpainn"
    for options, what in (
        (("--from", aware, "--blind"), "is charge-aware"),
        (("--from", aware, "--kind", "mace"), "it is a cpainn, not a mace"),
        (("--from", aware, "--kind", "cpainn", "--members", "2"), ""),
        (("--from", data, "--kind", "cpainn"), "it is not a model of al-charge"),
        (("--settings", settings(tmp_path, channels=6), "--from", aware), "has channels 4, not 6"),
    ):
        code, _, err = run("train", data, str(tmp_path / f"x{len(options)}{what[:3]}"), *options)
        assert (code == 0) == (not what), err
        assert what in err


def test_predictions_are_the_model_s(model: str, run: Run, tmp_path: Path) -> None:
    file, output = tmp_path / "two.extxyz", tmp_path / "said.extxyz"
    write_labels(file, [labelled(20), labelled(21)])
    code, out, err = run("predict", model, str(file), "-o", str(output), "--json")
    assert code == 0, err
    found = json.loads(out)["predictions"]
    committee = load(model)
    assert isinstance(committee, Committee)
    frames = [frame.atoms for frame in read_dataset(file, Reading()).frames]
    images = read(output, ":")
    for row, known, image in zip(found, committee.predict(frames), images, strict=True):
        assert row["energy"] == known.energy
        assert row["spread"] == known.spread > 0
        np.testing.assert_array_equal(row["forces"], known.forces)
        np.testing.assert_array_equal(row["moments"], known.moments)
        assert row["largest_force"] == pytest.approx(max(np.linalg.norm(known.forces, axis=1)))
        assert image.get_potential_energy() == pytest.approx(known.energy, abs=1e-7)
        np.testing.assert_allclose(image.get_forces(), known.forces, atol=1e-7)
        np.testing.assert_allclose(image.get_stress(voigt=False), known.stress, atol=1e-9)
        np.testing.assert_allclose(image.get_magnetic_moments(), known.moments, atol=1e-7)
        np.testing.assert_allclose(image.arrays["bader_charges"], known.charges, atol=1e-7)
        assert image.arrays["requested_species"].tolist() == row["species"]
    table = run("predict", model, str(file))[1]
    assert "Fe3+" in table and "pressure" in table
    code, _, err = run("predict", model, str(file), "-o", str(output))
    assert (code, err.count("\n")) == (2, 1)
    assert "already there; use --force" in err
    assert run("predict", model, str(file), "-o", str(output), "--force")[0] == 0


def test_relaxing_first(model: str, run: Run, tmp_path: Path) -> None:
    """One by one and by processes alike; what is written is the end; drift is told."""
    file, output = tmp_path / "s.extxyz", tmp_path / "relaxed.extxyz"
    starts = [labelled(seed) for seed in range(2)]
    write(file, starts, format="extxyz")
    options = ("--relax", "--fmax", "400 meV/A", "--json")
    code, out, err = run("predict", model, str(file), *options, "-o", str(output))
    assert code == 0, err
    alone = json.loads(out)["predictions"]
    code, out, err = run("predict", model, str(file), *options, "--processes", "2")
    assert code == 0, err
    assert json.loads(out)["predictions"] == alone
    committee = load(model)
    assert isinstance(committee, Committee)
    frames = [f.atoms for f in read_dataset(file, Reading(need_states=True)).frames]
    expected = relax(committee, frames, fmax=0.4, max_steps=500)
    for row, end, image in zip(alone, expected, read(output, ":"), strict=True):
        assert (row["converged"], row["steps"]) == (end.converged, end.steps)
        assert row["energy"] == pytest.approx(end.energy, abs=1e-5)
        np.testing.assert_allclose(row["positions"], end.atoms.positions, atol=1e-8)
        np.testing.assert_allclose(image.positions, end.atoms.positions, atol=1e-6)
        assert row["drifted_sites"] == drifted_sites(
            committee, row["species"], np.array(row["moments"]), np.array(row["charges"])
        )
    members, training = read_members(Path(model))
    for member in members:  # what the labels told of Fe3+ is now far from what is predicted
        member.site_means = {"moments": {"Fe2+": 3.7, "Fe3+": 9.0}}
    other = tmp_path / "other.safetensors"
    write_model(other, members, training)
    code, out, err = run("predict", str(other), str(file), *options[:-1])
    assert code == 0, err
    text = " ".join(out.split())
    assert "steps" in text
    assert f"{file}, frame 1: predicted to be in another charge state: Fe3+ (atom 4)" in text


def test_relaxing_in_a_batch(model: str, run: Run, tmp_path: Path) -> None:
    """Where torch-sim is installed it ends as well; elsewhere a line says what is missing."""
    file = tmp_path / "s.extxyz"
    write(file, [labelled(seed) for seed in range(2)], format="extxyz")
    options = ("--relax", "--fmax", "400 meV/A", "--batched", "--json")
    code, out, err = run("predict", model, str(file), *options)
    if importlib.util.find_spec("torch_sim") is None:
        assert (code, out) == (2, "")
        assert "install al-charge with the extra 'gpu'" in err
        return
    assert code == 0, err
    for row in json.loads(out)["predictions"]:
        assert row["steps"] > 1
        assert not row["converged"] or row["largest_force"] <= 0.4001


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--processes", "2"), "--processes: there is nothing to relax; add --relax"),
        (("--batched",), "--batched: there is nothing to relax"),
        (("--relax", "--batched", "--processes", "2"), "a batch is relaxed by one process"),
        (("--relax", "--fmax", "small"), "--fmax: 'small' is not a valid force"),
        (("--relax", "--fmax", "0 eV/A"), "--fmax: the largest force must be positive"),
    ],
)
def test_relaxations_that_make_no_sense_are_refused(
    options: tuple[str, ...], words: str, model: str, data: str, run: Run
) -> None:
    code, out, err = run("predict", model, data, *options)
    assert (code, out) == (2, "")
    assert words in err
    assert err.count("\n") == 1


def test_charge_states_to_predict_for(model: str, run: Run, tmp_path: Path) -> None:
    bare = tmp_path / "bare.vasp"
    write(bare, salt(1), format="vasp", sort=False)
    code, _, err = run("predict", model, str(bare))
    assert (code, err.count("\n")) == (2, 1)
    assert "does not say which charge states its 2 Fe have; give them with --oxidation" in err
    code, out, err = run("predict", model, str(bare), "--oxidation", "Fe2+,Fe3+", "--json")
    assert code == 0, err
    (row,) = json.loads(out)["predictions"]
    assert (row["species"][2], row["species"][4]) == ("Fe2+", "Fe3+")
    assert row["states_from"] == "as given"
    write(bare, salt(1)[[0, 1]], format="vasp")
    code, _, err = run("predict", model, str(bare), "--oxidation", "Na+,O-")
    assert (code, err.count("\n")) == (2, 1)
    assert "bare.vasp: the model does not know O-; it knows Fe2+, Fe3+, Mg2+, Na+, O2-" in err


def test_errors_are_those_of_the_predictions(model: str, data: str, run: Run) -> None:
    found = json.loads(run("evaluate", model, data, "--json")[1])
    frames = read_dataset(Path(data), Reading()).frames
    said = load(model).predict([frame.atoms for frame in frames])
    energy = [1e3 * (p.energy - f.energy) / 8 for p, f in zip(said, frames, strict=True)]
    assert found["all"]["energy_per_atom"]["rmse"] == pytest.approx(
        np.sqrt(np.mean(np.square(energy)))
    )
    assert found["all"]["energy_per_formula"] is None
    assert [row["configurations"] for row in found["compositions"]] == [5]
    code, out, _ = run("evaluate", model, data)
    assert code == 0
    assert "energy (meV/atom)" in out and "Kendall" in out


def test_the_picture(model: str, data: str, run: Run, tmp_path: Path) -> None:
    picture = tmp_path / "sites.png"
    code, out, err = run("embedding", model, data, "-o", str(picture), "--json")
    assert code == 0, err
    document = json.loads(out)
    assert document["sites"] == {"Fe2+": 5, "Fe3+": 5}
    assert [layer["layer"] for layer in document["layers"]] == [0, 1, 2]
    assert document["layers"][0]["separation"] == pytest.approx(1.0)
    pixels = imread(picture)[..., :3].reshape(-1, 3)
    for colour in ((0x00, 0x72, 0xB2), (0xD5, 0x5E, 0x00)):
        assert (np.abs(pixels - np.array(colour) / 255).max(axis=1) < 0.3).sum() > 50
    code, out, _ = run("embedding", model, data, "-o", str(picture), "--force")
    assert code == 0
    assert "5 Fe2+, 5 Fe3+" in out
    code, _, err = run("embedding", model, data, "-o", str(tmp_path / "sites.eps"))
    assert (code, err.count("\n")) == (2, 1)
    assert "unknown ending '.eps'" in err


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ((), "--kind: no potential is given; choose one of chgnet, cpainn, mace, painn"),
        (("--kind", "pain"), "unknown kind 'pain'; did you mean 'painn'"),
        (("--kind", "mace", "--settings", "{s}"), "its potential is 'cpainn', not 'mace'"),
        (("--settings", "missing.yaml"), "missing.yaml: cannot read it"),
        (("--kind", "painn", "--group", "no"), "a frame has no 'no' to group by"),
        (("--kind", "painn", "--flip-charges"), "leave --flip-charges out"),
        (("--kind", "painn", "--oxidation", "Fe3+"), "sum to +1 e"),
        (("--kind", "painn", "--from", "missing"), "missing: no such file"),
    ],
)  # fmt: skip
def test_what_is_refused(
    options: tuple[str, ...], what: str, data: str, run: Run, tmp_path: Path
) -> None:
    options = tuple(word.format(s=settings(tmp_path)) for word in options)
    code, out, err = run("train", data, str(tmp_path / "m"), *options)
    assert (code, out, err.strip().count("\n")) == (2, "", 0)
    assert what in err
    assert not (tmp_path / "m").exists()


def test_settings_files_are_read_like_campaign_files(data: str, run: Run, tmp_path: Path) -> None:
    file = tmp_path / "s.yaml"
    for document, what in (
        ({"potential": SMALL | {"chanels": 3}}, "potential.chanels: there is no field 'chanels'; "
         "did you mean 'channels'?"),
        ({"potential": SMALL, "trainig": {}}, "no field 'trainig'; did you mean 'training'"),
        ({"potential": SMALL | {"cutoff": 4}}, "potential.cutoff: '4' is not a valid length"),
        ({"potential": {"kind": "pain"}}, "unknown kind 'pain'; did you mean 'painn'?"),
        ({"training": {"epochs": 2}}, "potential"),
    ):  # fmt: skip
        file.write_text(yaml.safe_dump(document))
        code, _, err = run("train", data, str(tmp_path / "m"), "--settings", str(file))
        assert (code, err.strip().count("\n")) == (2, 0)
        assert what in err
    # Only how to train: the kind comes from the option. Other sections of a campaign do no harm.
    file.write_text(yaml.safe_dump({"training": {"epochs": 1}, "committee": {"size": 3}}))
    options = ("--settings", str(file), "--kind", "painn", "--folds", "1", "--json")
    code, out, err = run("train", data, str(tmp_path / "m"), *options)
    assert code == 0, err
    assert json.loads(out)["settings"]["epochs"] == 1


def test_files_that_are_wrong(model: str, data: str, run: Run, tmp_path: Path) -> None:
    manganese = labelled(3, resolved_species=[s.replace("Fe", "Mn") for s in SPECIES])
    manganese.symbols[[2, 4]] = "Mn"
    manganese.calc.atoms = manganese.copy()
    images = [labelled(0), labelled(1, bader_charges=-CHARGES), labelled(2, forces=None), manganese]
    files = [write_labels(tmp_path / f"{n}.extxyz", [image]) for n, image in enumerate(images)]
    assert run("evaluate", model, str(files[0]))[0] == 0
    for file, what in (
        (files[1], "cations are negative in its bader_charges; here they must be positive"),
        (files[2], "it has no forces"),
        (files[3], "the model does not know Mn2+, Mn3+"),
    ):
        code, out, err = run("evaluate", model, str(file))
        assert (code, out) == (2, "")
        assert what in err.splitlines()[-1] and str(file) in err.splitlines()[-1]
    assert run("evaluate", model, str(files[1]), "--flip-charges")[0] == 0
    code, _, err = run("evaluate", data, data)
    assert code == 2
    assert "it is not a model of al-charge" in err
    code, _, err = run("train", data, model, "--kind", "painn")
    assert code == 2
    assert "already there; use --force to replace it" in err


def test_what_is_trained_without_labels_is_said(run: Run, tmp_path: Path) -> None:
    bare = [labelled(seed, magmoms=None, bader_charges=None) for seed in range(2)]
    file = str(write_labels(tmp_path / "bare.extxyz", bare))
    code, _, err = run("train", file, str(tmp_path / "m"), "--settings", settings(tmp_path))
    assert code == 0
    assert "no frame has moments" in err and "no frame has charges" in err
    assert "nothing is held out of 1 configuration, so the error of the model is not known" in err


@pytest.mark.parametrize(("count", "members"), [(3, 1), (7, 1), (7, 3)])
def test_errors_of_a_few_configurations_are_said_to_mean_little(
    count: int, members: int, run: Run, tmp_path: Path
) -> None:
    frames = [labelled(seed) for seed in range(count)]
    for place, atoms in enumerate(frames):
        atoms.info["order"] = f"order {place}"
    file = str(write_labels(tmp_path / "few.extxyz", frames))
    options = ("--settings", settings(tmp_path, 1), "--group", "order", "--folds", "3", "--json")
    code, out, err = run("train", file, str(tmp_path / "m"), *options, "--members", str(members))
    held = {group for member in json.loads(out)["held_out"] for group in member}
    assert (code, len(held) > 0) == (0, True)
    if len(held) < 5:
        verb = "is" if len(held) == 1 else "are"
        assert f"only {len(held)} of {count} configurations {verb} held out: so few say" in err
    else:
        assert "WARNING" not in err


def test_the_settings_in_the_documentation_are_right(data: str, run: Run, tmp_path: Path) -> None:
    """Those of the published cPaiNN."""
    text = (Path(__file__).parents[2] / "docs" / "potentials.md").read_text()
    text = text.partition("## The published cPaiNN")[2]
    block = text.partition("```yaml\n")[2].partition("```")[0]
    file = tmp_path / "published.yaml"
    file.write_text(block.replace("epochs: 1000", "epochs: 1"))
    code, out, err = run("train", data, str(tmp_path / "m"), "--settings", str(file), "--json")
    assert code == 0, err
    assert json.loads(out)["settings"]["batch_size"] == 20
    (member,), _ = read_members(tmp_path / "m")
    assert (float(member.settings.cutoff), member.settings.channels) == (4.0, 64)
    assert member.baseline.pairs is None
