"""Figures of a campaign: the numbers behind them, against labels, ledger and assessments."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from pymatgen.core.lattice import Lattice
from pytest import approx

import al_charge as ac
from al_charge.loop.calibration import bar
from al_charge.loop.energies import calibration_of
from al_charge.report.state_charts import parent_lattice
from al_charge.report.style import CHARTS
from al_charge.store.documents import (
    CandidateDoc,
    Coverage,
    LabelDoc,
    PredictedLabel,
    ProposalDoc,
    Prospective,
    RoundDoc,
    Shares,
)
from al_charge.store.labels import ALL_FRAMES

ABOVE = (0.010, -0.020, 0.030, 0.005, -0.015)
"""How far predictions lie above the labels by number of ions, eV per formula unit."""
SPREAD = 0.005
"""Of the members, eV per formula unit."""


@pytest.fixture(scope="module")
def foretold(ended: str) -> Iterator[ac.Campaign]:
    """The campaign with a second round, which predicts what is labelled already.

    It is taken back at the end.
    """
    with ac.open(ended) as campaign:
        store, name = campaign._campaign.store, campaign.name
        energy = {one.requested_hash: one.energy for one in labels_of(campaign)}
        first = store.rounds.get(name, 0)
        assert first is not None and first.assessment is not None
        for n_ions in range(5):
            store.proposals.put(
                name,
                1,
                n_ions,
                [
                    one.model_copy(
                        update={
                            "round": 1,
                            "energy": energy[one.config_hash] + 4 * ABOVE[n_ions],
                            "spread": 4 * SPREAD,
                        }
                    )
                    for one in store.candidates.all(name, 0)
                    if one.n_ions == n_ions and one.config_hash in energy
                ],
            )
        chosen = [one.doc_id for one in store.candidates.all(name, 1)]
        store.rounds.add(RoundDoc(campaign=name, number=1, selected=chosen))
        shares = {"labels": 3, "within_68": 0.5, "within_95": 1.0}
        found = first.assessment.model_copy(
            update={
                "hull_shift": 0.012,
                "p_below_hull": 0.25,
                "prospective": Prospective(
                    labels=2,
                    rmse=0.05,
                    predictions=[
                        PredictedLabel("0", 0.03, 0.01, 0.02, False),
                        PredictedLabel("1", -0.04, 0.01, 0.06, False),
                    ],
                ),
                "coverage": Coverage(**shares, deciding=Shares(**shares)),
            }
        )
        keys, members = store.rounds.predictions(first)
        store.rounds.record_assessment(name, 1, found, keys, members)
        yield campaign
        for document in (RoundDoc, CandidateDoc, ProposalDoc):  # others use the campaign, too
            number = "number" if document is RoundDoc else "round"
            store.rounds._collection(document).delete_many({"campaign": name, number: 1})


def labels_of(campaign: ac.Campaign) -> list[LabelDoc]:
    return list(campaign._campaign.store.labels.read(ALL_FRAMES, campaign=campaign.name))


def test_parity_sets_predictions_beside_the_labels_made_afterwards(foretold: ac.Campaign) -> None:
    found = foretold.chart("parity")
    labels = {one.key: one for one in labels_of(foretold)}
    ends = [min(one.energy for one in labels.values() if one.n_ions == n) / 4 for n in (0, 4)]
    calibration = calibration_of(foretold._campaign, 0)
    assert len(found.rows()) == len(labels) == 7
    for row in found.rows():
        label = labels[row["label"]]
        x = label.n_ions / 4
        assert row["round"] == 1 and Fraction(row["x"]) == x
        reference = (1 - x) * ends[0] + x * ends[1]
        assert row["labelled"] == approx(label.energy / 4 - reference)
        assert row["predicted"] - row["labelled"] == approx(ABOVE[label.n_ions])
        assert row["error_bar"] == approx(bar(calibration, row["x"], SPREAD))
    (panel,) = found.chart.panels
    (series,) = panel.series
    assert series.name == "round 1"
    assert list(series.x) == approx([1e3 * row["labelled"] for row in found.rows()])
    assert list(series.y) == approx([1e3 * row["predicted"] for row in found.rows()])
    assert series.error == approx([1e3 * row["error_bar"] for row in found.rows()])
    some = [ABOVE[labels[row["label"]].n_ions] for row in found.rows()]
    assert f"7 labels, RMSE {1e3 * np.sqrt(np.mean(np.square(some))):.1f} meV" in found.chart.source
    assert len(found.to_frame()) == 7 and "7 labels" in str(found)


def test_errors_are_those_of_the_assessments(foretold: ac.Campaign) -> None:
    found = foretold.chart("error")
    assert found.rows() == [
        {
            "round": 1, "labels": 2, "rmse": 0.05,
            "error_bar": approx(np.sqrt((0.02**2 + 0.06**2) / 2)),
            "within_68": 0.5, "within_95": 1.0,
        }
    ]  # fmt: skip
    errors, shares = found.chart.panels
    assert [one.y for one in errors.series] == [[approx(50)], [approx(44.72136)]]
    assert [one.y for one in shares.series] == [[50], [100]]
    assert [value for value, _ in shares.levels] == [68, 95]


def test_the_hull_evolves_round_by_round(foretold: ac.Campaign) -> None:
    found = foretold.chart("evolution")
    for number in (0, 1):
        hull = foretold.hull(round=number)
        rows = [row for row in found.rows() if row["round"] == number]
        assert [row["label"] for row in rows] == [vertex.key for vertex in hull.vertices]
        assert [row["formation_energy"] for row in rows] == approx(
            [hull.hull.formation_energy(vertex) for vertex in hull.vertices]
        )
    assert {row["hull_shift"] for row in found.rows() if row["round"] == 1} == {0.012}
    hulls, shift, chance = found.chart.panels
    assert [one.name for one in hulls.series] == ["rounds 0 to 1"]  # the hull is the same
    assert (shift.series[0].x, shift.series[0].y) == ([1], [approx(12)])
    assert chance.series[0].y == [approx(25)]


def test_cost_is_that_of_the_ledger(foretold: ac.Campaign) -> None:
    found = foretold.chart("cost")
    entries = [
        one for one in foretold._campaign.store.ledger.all(foretold.name) if one.round is not None
    ]
    spent = sum(
        (one.ended - one.started).total_seconds() * one.cores
        for one in entries
        if one.ended is not None
    )
    assert sum(row["core_hours"] for row in found.rows()) == approx(spent / 3600, rel=1e-3)
    (panel,) = found.chart.panels
    assert {one.name for one in panel.series} == {one.task.split()[0] for one in entries}
    unit = {"Core seconds": 1, "Core minutes": 60}[panel.y_label]
    assert sum(sum(one.y) for one in panel.series) == approx(spent / unit, rel=1e-3)


def test_volume_and_lattice_are_those_of_the_last_cells(foretold: ac.Campaign) -> None:
    cells = {one.key: np.array(one.frames[-1].cell) for one in labels_of(foretold)}
    vertices = {vertex.key for vertex in foretold.hull().vertices}
    volumes = foretold.chart("volume")
    for row in volumes.rows():
        assert row["volume"] == approx(abs(np.linalg.det(cells[row["label"]])) / 4)
        assert row["vertex"] == (row["label"] in vertices)
    for row in foretold.chart("lattice").rows():
        lengths = np.linalg.norm(cells[row["label"]], axis=1)
        assert [row[axis] for axis in "abc"] == approx(lengths.tolist())
    on_hull, others = volumes.chart.panels[0].series
    assert (len(on_hull.x), len(others.x)) == (len(vertices), 7 - len(vertices))
    assert on_hull.kind == "line" and others.kind == "points"


def test_lattice_parameters_are_those_of_the_repeated_cell() -> None:
    cell = Lattice.from_parameters(5.1, 6.2, 7.3, 80, 95, 101)
    rows = ((1, 1, 0), (0, 2, -1), (1, 0, 3))
    found = parent_lattice(rows, np.array(rows) @ cell.matrix)
    assert found.parameters == approx(cell.parameters)
    assert parent_lattice((1, 2, 3), np.diag([1, 2, 3]) @ cell.matrix).abc == approx(cell.abc)


def test_charts_are_drawn_or_refused_in_one_line(foretold: ac.Campaign, tmp_path: Path) -> None:
    foretold.chart("cost").plot(tmp_path / "cost.svg", width="double")
    assert (tmp_path / "cost.svg").read_bytes().startswith(b"<?xml")
    with pytest.raises(ac.InputError, match="no figure 'paritty'; did you mean 'parity'"):
        foretold.chart("paritty")
    for kind, what in (("moments", "moments"), ("charges", "Bader charges")):
        with pytest.raises(ac.AlChargeError, match=f"no label has {what}; its engine is Born"):
            foretold.chart(kind)
    with pytest.raises(ac.InputError, match=r"unknown ending '\.gif'"):
        foretold.chart("cost").plot(tmp_path / "cost.gif")
    assert len(CHARTS) == 8
