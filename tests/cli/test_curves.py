"""`al-charge curves`, and `al-charge train --plot`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from al_charge.loop.campaign import Campaign
from al_charge.potentials.model_file import read_members, write_model
from al_charge.store.documents import ModelDoc
from al_charge.testing.labelled import labelled as labelled_image
from al_charge.testing.labelled import write_labels

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def trained(run: Run, tmp_path: Path) -> tuple[Path, Path]:
    """A committee of two, and the plot that was asked for when it was trained."""
    data = write_labels(tmp_path / "labels.extxyz", [labelled_image(seed) for seed in range(8)])
    potential = {"kind": "cpainn", "cutoff": "3 A", "channels": 4, "radial": 4}
    document = {"potential": potential | {"pair_cutoff": "0 A"}, "training": {"epochs": 3}}
    (tmp_path / "s.yaml").write_text(yaml.safe_dump(document))
    model, plot = tmp_path / "model", tmp_path / "curves.html"
    options = ("--settings", str(tmp_path / "s.yaml"), "--members", "2", "--folds", "3")
    code, _, err = run("train", str(data), str(model), *options, "--plot", str(plot))
    assert code == 0, err
    return model, plot


def test_curves_of_a_file(trained: tuple[Path, Path], run: Run, tmp_path: Path) -> None:
    model, plot = trained
    members, training = read_members(model)
    code, out, err = run("curves", str(model), "--json", "--plot", str(tmp_path / "a.png"))
    assert code == 0, err
    found = json.loads(out)
    assert [t["history"] for t in found["trainings"]] == training["history"]
    assert [t["member"] for t in found["trainings"]] == [0, 1]
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    again = tmp_path / "again.html"
    assert run("curves", str(model), "--plot", str(again))[0] == 0
    for text in ("training loss", "moments (Bohr magnetons)", "charges (e)", "member 2"):
        assert text in again.read_text() and text in plot.read_text()
    code, out, _ = run("curves", str(model))
    assert code == 0
    assert "best" in out and "round" not in out
    write_model(tmp_path / "bare", members[:1])
    code, _, err = run("curves", str(tmp_path / "bare"))
    assert (code, err.strip().count("\n")) == (2, 0)
    assert "it has no training history" in err


def test_an_ending_is_refused_before_anything_is_trained(run: Run, tmp_path: Path) -> None:
    data = write_labels(tmp_path / "labels.extxyz", [labelled_image(0)])
    command = ("train", str(data), str(tmp_path / "m"), "--kind", "painn", "--plot", "c.gif")
    code, _, err = run(*command)
    assert (code, err.strip().count("\n")) == (2, 0)
    assert "c.gif: unknown ending '.gif'; use .png, .svg, .pdf or .html" in err
    assert not (tmp_path / "m").exists()


def test_curves_of_a_campaign_by_round(labelled: Campaign, run: Run, tmp_path: Path) -> None:
    code, _, err = run("curves", "labelled")
    assert (code, err.strip().count("\n")) == (1, 0)
    assert "campaign 'labelled': no potential has been trained yet" in err
    for number in (0, 1):
        for member in (0, 1):
            history = [
                {"epoch": float(k), "loss": 1.0 / k, "held_out_loss": 0.1 * k, "energy": 0.002 * k}
                for k in range(1, 4 - number)
            ]
            labelled.store.models.put(
                ModelDoc(
                    campaign="labelled", round=number, member=member, config={}, history=history
                ),
                b"weights",
                {},
            )
    code, out, err = run("curves", "labelled", "--json")
    assert code == 0, err
    found = json.loads(out)["trainings"]
    assert [(t["round"], t["member"], t["epochs"], t["best_epoch"]) for t in found] == [
        (0, 0, 3, 1), (0, 1, 3, 1), (1, 0, 2, 1), (1, 1, 2, 1),
    ]  # fmt: skip
    code, out, _ = run("curves", "labelled", "--plot", str(tmp_path / "a.png"))
    assert code == 0 and "round" in out
    assert (tmp_path / "a.png").exists()
    code, _, err = run("curves", "labeled")
    assert code == 2
    assert "campaign 'labeled': there is no such campaign; did you mean 'labelled'?" in err
