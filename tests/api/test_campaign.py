"""``al_charge.open``: what a campaign has found, against the store and an independent hull."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

import al_charge as ac
from al_charge.errors import UnfinishedError


def test_the_hull_is_the_lower_envelope_of_the_lowest_labels(campaign: ac.Campaign) -> None:
    found = campaign.hull()
    assert [str(vertex.x) for vertex in found.vertices][:: len(found.vertices) - 1] == ["0", "1"]
    x = np.array([float(entry.x) for entry in found.entries])
    energy = np.array([entry.energy for entry in found.entries])
    lower = np.interp(x, *zip(*((float(v.x), v.energy) for v in found.vertices), strict=True))
    assert (energy >= lower - 1e-9).all()
    keys = {entry.key for entry in found.entries}
    assert keys <= {label["label"] for label in campaign.labels().document["labels"]}


def test_the_voltage_follows_from_hull_and_metal(campaign: ac.Campaign) -> None:
    vertices, profile = campaign.hull().vertices, campaign.voltage()
    metal = campaign.hull().hull.metal_energy
    for step, low, high in zip(profile.steps, vertices[:-1], vertices[1:], strict=True):
        width = float(high.x - low.x)
        assert step.voltage == pytest.approx(-(high.energy - low.energy - width * metal) / width)
        assert (step.x_from, step.x_to) == (low.x, high.x)
    assert profile.mean == pytest.approx(-(vertices[-1].energy - vertices[0].energy - metal))


def test_results_print_as_tables_and_become_json(campaign: ac.Campaign) -> None:
    hull, voltage, labels = campaign.hull(), campaign.voltage(), campaign.labels()
    assert "FePO4" in str(hull) and "vertex" in str(hull) and "\x1b" not in str(hull)
    assert "V against Na metal" in str(voltage)
    assert len(labels) == 7 == len(labels.document["labels"])
    status = campaign.status()
    assert status.state == campaign.state == "exhausted"
    assert "exhausted" in str(status)
    for result in (hull, voltage, labels, status):
        assert json.loads(json.dumps(result.document))["campaign"] == campaign.name


def test_plots_are_written_by_their_ending(campaign: ac.Campaign, tmp_path: Path) -> None:
    for result in (campaign.hull(), campaign.voltage()):
        result.plot(tmp_path / "one.png")
        assert (tmp_path / "one.png").read_bytes()[:4] == b"\x89PNG"
        result.plot(str(tmp_path / "one.html"))
        assert "<html" in (tmp_path / "one.html").read_text()[:200]
        with pytest.raises(ac.InputError, match=r"\.gif"):
            result.plot(tmp_path / "one.gif")


def test_the_committee_relaxes_a_label_further(campaign: ac.Campaign) -> None:
    committee = campaign.committee()
    assert len(committee.members) == 2
    vertex = campaign.hull().vertices[0]
    atoms = campaign.atoms(vertex)
    assert set(map(str, atoms.arrays["species"])) == {"Fe3+", "P5+", "O2-"}
    assert vertex.x == Fraction(0) == atoms.get_chemical_symbols().count("Na")
    before = committee.predict([atoms])[0].energy
    relaxed = ac.relax(atoms, committee, max_steps=5)
    assert relaxed.energy <= before
    assert relaxed.energy == pytest.approx(committee.predict([relaxed.atoms])[0].energy, abs=1e-3)


def test_what_is_not_there_is_refused_in_one_line(
    campaign: ac.Campaign, ended: str, tmp_path: Path
) -> None:
    with pytest.raises(ac.InputError, match="did you mean 'face'"):
        ac.open("fase")
    with pytest.raises(ac.InputError, match=r"missing\.yaml"):
        ac.open(tmp_path / "missing.yaml")
    with pytest.raises(ac.InputError, match="no such label"):
        campaign.atoms("0" * 24)
    # A worker that meets it hands its task back.
    with pytest.raises(UnfinishedError, match="has no potential 0"):
        campaign.committee(round=5)
