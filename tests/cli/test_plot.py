"""`al-charge plot` and `structure --picture`: what is drawn of labels with moments and charges."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pytest import approx

from al_charge.loop.campaign import Campaign
from al_charge.report.structure_picture import VACANCY, structure_figure, view_of
from al_charge.store.labels import ALL_FRAMES

Run = Callable[..., tuple[int, str, str]]


def test_moments_and_charges_by_state(labelled: Campaign, run: Run, tmp_path: Path) -> None:
    up = labelled.store.labels.get("exact")
    assert up is not None and up.moments is not None
    down = up.model_copy(update={"key": "down", "moments": [-one for one in up.moments]})
    labelled.store.labels.put(down)
    labelled.store.labels.link("labelled", 0, "down")
    labels = {
        one.key: one
        for one in labelled.store.labels.read(ALL_FRAMES, campaign="labelled")
        if not one.unusable
    }
    for kind in ("moments", "charges"):
        code, out, err = run("plot", "labelled", kind, "--json")
        assert code == 0, err
        found = json.loads(out)
        expected = {}
        for key, label in labels.items():
            values = label.moments if kind == "moments" else label.bader
            for atom, value in enumerate(values or []):
                if label.numbers[atom] == 26:
                    shown = abs(value) if kind == "moments" else value
                    expected[key, atom] = (label.composition, label.states_found[atom], shown)
        assert len(expected) == {"moments": 24, "charges": 20}[kind]  # one label has no charges
        assert {
            (row["label"], row["atom"]): (row["x"], row["state"], approx(row["value"]))
            for row in found["rows"]
        } == expected
        assert {row["state"] for row in found["rows"]} == {"Fe2+", "Fe3+", "Fe?"}
    code, out, _ = run("plot", "labelled", "moments", "-o", str(tmp_path / "m.png"), "--csv")
    assert code == 0 and (tmp_path / "m.png").read_bytes().startswith(b"\x89PNG")
    assert len(list(csv.DictReader(io.StringIO(out)))) == 24
    assert "Bohr magnetons" in found["units"]["value"] or kind == "charges"


def test_what_cannot_be_drawn_is_refused(labelled: Campaign, run: Run, tmp_path: Path) -> None:
    code, out, err = run("plot", "labelled", "parity", "-o", str(tmp_path / "p.pdf"))
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "no label was predicted before it was made" in err
    code, _, err = run("plot", "labelled", "cost", "-o", "cost.jpg")
    assert code == 2 and "use .png, .svg, .pdf or .html" in err
    code, _, err = run("plot", "labelled", "pairity")
    assert code == 2 and "parity" in err


def test_a_structure_is_drawn_with_its_order(labelled: Campaign, run: Run, tmp_path: Path) -> None:
    file = tmp_path / "half.svg"
    command = ("structure", "labelled", "--label", "exact", "--picture", str(file))
    code, out, err = run(*command, "--json")
    assert code == 0, err
    assert json.loads(out)["files"] == [str(file)]
    assert file.read_bytes().startswith(b"<?xml")
    assert "add --force" in run(*command)[2]
    assert "use .png, .svg or .pdf" in run(*command[:-1], "half.html")[2]
    assert "give -o or --picture" in run(*command[:-2])[2]

    label = labelled.store.labels.get("exact")
    assert label is not None
    view = view_of(label, labelled.host)
    assert view.species.count(VACANCY) == 2
    assert view.axes == (0, 1)  # c is the shortest
    # The plane keeps lengths, and the sites are those of the label.
    cell = np.array(label.frames[-1].cell)
    assert np.linalg.norm(view.flat, axis=1) == approx(np.linalg.norm(cell, axis=1))
    positions = np.array(label.frames[-1].positions)
    apart = view.fractional[: len(positions)] @ cell - positions
    whole = np.linalg.solve(cell.T, apart.T)
    assert whole == approx(np.round(whole), abs=1e-9)
    figure = structure_figure(label, labelled.host, title="half")
    (axes,) = figure.axes
    shown = {line.get_label(): line for line in axes.lines if "(" in str(line.get_label())}
    assert set(shown) == {
        "Fe\u00b2\u207a (2)", "Fe\u00b3\u207a (2)", "Na\u207a (2)", "vacancy (2)",
        "P\u2075\u207a (4)", "O\u00b2\u207b (16)",
    }  # fmt: skip
    iron = [i for i, one in enumerate(label.states_found) if one == "Fe2+"]
    drawn = np.array(shown["Fe\u00b2\u207a (2)"].get_xydata())
    for place in (view.fractional[iron] @ view.flat)[:, :2]:
        assert np.linalg.norm(drawn - place, axis=1).min() == approx(0, abs=1e-9)
    assert len({line.get_marker() for line in shown.values()}) >= 5
    box, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width and box.y1 <= height


@pytest.mark.parametrize("key", ["blurred"])
def test_an_uncertain_order_is_drawn_as_such(labelled: Campaign, key: str) -> None:
    label = labelled.store.labels.get(key)
    assert label is not None
    figure = structure_figure(label, labelled.host, title="blurred")
    texts = [one.get_text() for one in figure.legends[0].get_texts()]
    assert any(one.startswith("Fe, uncertain (2)") for one in texts)
