"""One label of a campaign, and those that fulfil a condition, against the store."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from ase.io import read
from pymatgen.core.periodic_table import Species
from pymatgen.core.structure import Structure

import al_charge as ac
from al_charge.store.labels import ALL_FRAMES


def stored(campaign: ac.Campaign) -> dict[str, object]:
    return {one.key: one for one in campaign._campaign.store.labels.read(ALL_FRAMES)}


@pytest.mark.parametrize(
    "condition",
    [
        "x = 1/2 and Fe2+ >= 2",
        "Fe3+ > Na+_is_no_field",
        "Na+ = 4 or Na+ = 0",
        "Fe2+ = 2 and not above_hull > 0",
        "volume > 71.5 and P5+ = 4",
        "round = 0 and atoms < 27",
        "energy < -300 and formation_energy <= 0.001",
        "ions = 3 and relax = ions",
    ],
)
def test_conditions_choose_the_labels_that_python_chooses(
    campaign: ac.Campaign, condition: str
) -> None:
    if "no_field" in condition:
        with pytest.raises(ac.InputError, match="not a number"):
            campaign.labels(where=condition)
        return
    whole = campaign.hull()
    expected = []
    for label in campaign._campaign.store.labels.read(ALL_FRAMES, campaign=campaign.name):
        count = Counter(label.resolved)
        energy, x = label.energy / 4, Fraction(label.n_ions, 4)
        ends = [whole.vertices[0].energy, whole.vertices[-1].energy]
        vertices = {vertex.key for vertex in whole.vertices}
        holds = {
            "x = 1/2 and Fe2+ >= 2": x == Fraction(1, 2) and count["Fe2+"] >= 2,
            "Na+ = 4 or Na+ = 0": count["Na+"] in (0, 4),
            "Fe2+ = 2 and not above_hull > 0": count["Fe2+"] == 2 and label.key in vertices,
            "volume > 71.5 and P5+ = 4": abs(np.linalg.det(label.frames[-1].cell)) / 4 > 71.5,
            "round = 0 and atoms < 27": len(label.numbers) < 27,
            "energy < -300 and formation_energy <= 0.001": energy < -300
            and energy - (1 - x) * ends[0] - x * ends[1] <= 0.001,
            "ions = 3 and relax = ions": label.n_ions == 3 and label.relax == "ions",
        }[condition]
        expected += [label.key] if holds else []
    found = campaign.labels(where=condition)
    assert sorted(row["label"] for row in found.rows()) == sorted(expected)
    assert found.document["where"] == condition


def test_conditions_choose_some_and_not_all(campaign: ac.Campaign) -> None:
    """Those above would pass if all of them chose nothing."""
    numbers = [
        len(campaign.labels(where=text))
        for text in ("Fe2+ >= 2", "above_hull = 0", "volume > 0", "energy > 0")
    ]
    assert 0 < numbers[0] < 7 and 1 < numbers[1] < 7 and numbers[2:] == [7, 0]
    with pytest.raises(ac.InputError, match=r"no site of the host can be Fe4\+; did you mean"):
        campaign.labels(where="Fe4+ > 0")


def test_frames_have_the_rows_and_their_units(campaign: ac.Campaign) -> None:
    hull = campaign.hull().to_frame()
    assert list(hull["label"]) == [entry.key for entry in campaign.hull().entries]
    assert hull["vertex"].sum() == len(campaign.hull().vertices)
    assert (hull["distance_to_hull"] >= -1e-9).all()
    assert hull.attrs["units"]["formation_energy"].startswith("eV per formula unit")
    steps = campaign.voltage().to_frame()
    assert list(steps["voltage"]) == [step.voltage for step in campaign.voltage().steps]
    labels = campaign.labels().to_frame()
    assert len(labels) == 7
    assert (labels["Fe2+"] + labels["Fe3+"] == 4).all()
    lines = campaign.hull().to_csv().splitlines()
    assert len(lines) == 1 + len(hull) and lines[0].startswith("x,formula,")


def test_a_round_is_asked_for_by_its_number(campaign: ac.Campaign) -> None:
    assert campaign.hull(round=0).document == campaign.hull().document
    assert campaign.hull().round == campaign.hull().document["round"] == 0
    assert campaign.voltage(round=0).round == 0
    for ask in (campaign.hull, campaign.voltage):
        with pytest.raises(ac.InputError, match="round 3 has not been assessed; the last .* 0"):
            ask(round=3)


def test_a_ground_state_has_states_and_spins(campaign: ac.Campaign, tmp_path: Path) -> None:
    found = campaign.ground_state("1/2")
    half = [entry for entry in campaign.hull().entries if entry.x == Fraction(1, 2)]
    assert found.key == half[0].key == campaign.ground_state(Fraction(1, 2)).key
    assert found.energy == half[0].energy
    ions = Counter(str(site.specie) for site in found.structure)
    assert ions == {"Na+": 2, "Fe2+,spin=4": 2, "Fe3+,spin=5": 2, "P5+": 4, "O2-": 16}
    assert found.structure.charge == 0
    last = campaign._campaign.store.labels.get(found.key).frames[-1]  # type: ignore[union-attr]
    assert np.allclose(found.structure.cart_coords, last.positions)
    assert found.atoms.get_potential_energy() == last.energy
    assert np.allclose(found.atoms.get_forces(), last.forces)
    assert found.document["volume"] == pytest.approx(found.structure.volume / 4)
    found.write(tmp_path / "gs.cif")
    again = Structure.from_file(tmp_path / "gs.cif")
    assert (
        Counter(site.specie.oxi_state for site in again if isinstance(site.specie, Species))[3] == 2
    )
    found.write(tmp_path / "POSCAR_gs")
    assert "MAGMOM" in (tmp_path / "POSCAR_gs").read_text()
    found.write(tmp_path / "gs.extxyz")
    assert read(tmp_path / "gs.extxyz").get_potential_energy() == pytest.approx(last.energy)
    with pytest.raises(ac.InputError, match="tells no format"):
        found.write(tmp_path / "gs.json")
    with pytest.raises(ac.InputError, match=r"no composition x = 1/3; there are 0, 1/4, 1/2"):
        campaign.ground_state("1/3")


def test_the_beginning_of_an_id_is_enough(campaign: ac.Campaign) -> None:
    keys = [row["label"] for row in campaign.labels().rows()]
    key = keys[2]
    short = next(n for n in range(1, 25) if sum(one.startswith(key[:n]) for one in keys) == 1)
    found = campaign.label(key[: max(short, 4)])
    assert found.key == key
    assert campaign.label(found.document["hash"][:10]).document["hash"] == found.document["hash"]
    assert campaign.label(campaign.hull().vertices[0]).key == campaign.hull().vertices[0].key
    with pytest.raises(ac.InputError, match="no such label as 'zz'"):
        campaign.label("zz")
    with pytest.raises(ac.InputError, match="no such label"):
        campaign.label("")


def test_a_label_says_why_it_was_chosen(campaign: ac.Campaign) -> None:
    record = campaign._campaign.store.rounds.get(campaign.name, 0)
    assert record is not None and record.selected is not None
    for place, (doc_id, reason) in enumerate(zip(record.selected, record.reasons, strict=True)):
        (label,) = [
            one
            for one in campaign._campaign.store.labels.read(ALL_FRAMES, campaign=campaign.name)
            if one.requested_hash == doc_id.rsplit("/", 1)[-1]
        ]
        why = campaign.label(label.key).document["why"]
        assert (why["round"], why["place"], why["of"]) == (0, place + 1, 7)
        assert why["reason"] == reason != ""
        assert reason in str(campaign.label(label.key))
