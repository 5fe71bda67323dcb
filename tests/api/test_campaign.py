"""``al_charge.open``: what a campaign has found, against the store and against pymatgen."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase.io import read
from pymatgen.analysis.phase_diagram import PDEntry, PhaseDiagram
from pymatgen.core.composition import Composition
from pymatgen.core.periodic_table import Element, Species
from pymatgen.core.structure import Structure
from pymatgen.entries.computed_entries import ComputedEntry

import al_charge as ac
from al_charge.api import electrode
from al_charge.errors import UnfinishedError
from al_charge.loop import campaign as loop
from al_charge.report.entries import entries_of
from al_charge.store.documents import LabelDoc
from al_charge.store.labels import ALL_FRAMES, SUMMARY, Labels


def test_an_open_campaign_reads_new_labels_only(
    ended: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, asked = Labels.read, list[Any]()

    def noted(self: Labels, wanted: Any, **query: Any) -> Any:
        if wanted is SUMMARY:
            asked.append(query["keys"])
        return read(self, wanted, **query)

    monkeypatch.setattr(Labels, "read", noted)
    with ac.open(ended) as campaign:
        first, labels = campaign.hull(), campaign._campaign.store.labels
        assert campaign.hull().hull == first.hull == campaign.hull(first.round).hull
        assert campaign.voltage().steps and asked == [None]
        vertices = {one.key for one in first.vertices}
        key = next(one.key for one in first.entries if one.key not in vertices)
        used = labels.uses(ended)[key]
        labels.unlink(ended, key)
        try:
            assert key not in {one.key for one in campaign.hull().entries}
        finally:
            labels.link(ended, used, key)
        assert campaign.hull().hull == first.hull
        assert asked == [None, set(), {key}]
        assert len(first.document["entries"]) == len(first.entries)


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
    assert hull._repr_html_().startswith("<pre>") and "FePO4" in hull._repr_html_()
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
    with pytest.raises(ac.InputError, match="there is no label"):
        campaign.atoms("0" * 24)
    # A worker that meets it hands its task back.
    with pytest.raises(UnfinishedError, match="has no potential 0"):
        campaign.committee(round=5)


@pytest.mark.parametrize(
    "condition",
    [
        "x = 1/2 and Fe2+ >= 2",
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
        with pytest.raises(ac.InputError, match=r"round 3 has not been assessed; the last .* 0"):
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
    with pytest.raises(ac.InputError, match="implies no structure format"):
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
    with pytest.raises(ac.InputError, match="there is no label 'zz'"):
        campaign.label("zz")
    with pytest.raises(ac.InputError, match="there is no label"):
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


def test_entries_are_the_labels(campaign: ac.Campaign) -> None:
    found = {entry.entry_id: entry for entry in campaign.entries()}
    labels = {one.key: one for one in campaign._campaign.store.labels.read(ALL_FRAMES)}
    assert found.keys() == labels.keys()
    for key, entry in found.items():
        label = labels[key]
        assert entry.energy == label.energy
        assert entry.structure.volume == pytest.approx(abs(np.linalg.det(label.frames[-1].cell)))
        states = entry.data["oxidation_states"]
        assert states["Fe"] == pytest.approx(3 - label.n_ions / 4)
        charge = sum(states[el.symbol] * n for el, n in entry.composition.items())
        assert charge == pytest.approx(0.0)
        assert all(isinstance(el, Element) for el in entry.composition)


def test_pymatgens_hull_of_the_entries_is_the_campaigns(campaign: ac.Campaign) -> None:
    some, ours = campaign.entries(), campaign.hull()
    # The elements must not come between, and Born's energies lie far below those of VASP.
    high = max(entry.energy_per_atom for entry in some) + 50.0
    elements = {el for entry in some for el in entry.composition}
    diagram = PhaseDiagram([*some, *(PDEntry(Composition({el: 1}), high) for el in elements)])
    stable = {entry.entry_id for entry in diagram.stable_entries if entry in some}
    assert stable == {vertex.key for vertex in ours.vertices}
    for entry in some:
        (same,) = [one for one in ours.entries if one.key == entry.entry_id]
        above = diagram.get_e_above_hull(entry) * entry.composition.num_atoms / 4
        assert ours.hull.distance(same) == pytest.approx(above, abs=1e-9)


def test_the_electrode_has_the_campaigns_voltages(campaign: ac.Campaign) -> None:
    found, ours = campaign.electrode(), campaign.voltage()
    assert [pair.voltage for pair in found] == [step.voltage for step in ours.steps]
    assert found.get_average_voltage() == pytest.approx(ours.mean, abs=1e-9)
    assert found.get_capacity_grav() == pytest.approx(ours.capacity, abs=1e-9)
    assert found.get_capacity_vol() == pytest.approx(ours.electrode.volume_capacity, abs=1e-9)
    assert found.get_specific_energy() == pytest.approx(ours.electrode.specific_energy, abs=1e-9)
    assert found.get_energy_density() == pytest.approx(ours.electrode.energy_density, abs=1e-9)
    assert found.max_delta_volume == pytest.approx(ours.electrode.volume_change, abs=1e-9)
    assert (found.working_ion.symbol, found.framework_formula) == ("Na", "FePO4")
    assert len(found.get_all_entries()) == len(campaign.hull().entries)
    assert ours.document["electrode"]["capacity"] == ours.capacity
    assert "mAh/cm3" in str_of(ours.summary())


def str_of(table: Any) -> str:
    from rich.console import Console

    console = Console(width=80)
    with console.capture() as captured:
        console.print(table)
    return captured.get()


def as_of_vasp(campaign: loop.Campaign) -> Iterator[LabelDoc]:
    """Yield the labels with energies, settings and datasets of the Materials Project's runs."""
    titles = {
        "Fe": "PAW_PBE Fe_pv 06Sep2000 sha256:0a",
        "P": "PAW_PBE P 17Jan2003 sha256:0b",
        "O": "PAW_PBE O 08Apr2002 sha256:0c",
        "Na": "PAW_PBE Na_pv 05Jan2001 sha256:0d",
    }
    for label in campaign.store.labels.read(ALL_FRAMES, campaign=campaign.name):
        present = set(label.requested) and {"Fe", "P", "O"} | ({"Na"} if label.n_ions else set())
        yield label.model_copy(
            update={
                "engine": "VASP 6.4.2",
                "settings": {"engine": "vasp", "hubbard_u": {"Fe": 5.3}, "incar": {}},
                "datasets": {el: titles[el] for el in sorted(present)},
            }
        )


def test_the_corrections_of_the_materials_project_apply(
    campaign: ac.Campaign, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pymatgen.entries.compatibility import MaterialsProject2020Compatibility

    inner = campaign._campaign
    labels = list(as_of_vasp(inner))

    def read(self: object, wanted: object, **query: Any) -> list[LabelDoc]:
        assert query == {"campaign": inner.name, "refused": False}
        return labels

    monkeypatch.setattr(type(inner.store.labels), "read", read)
    found = entries_of(inner)
    assert {entry.parameters["run_type"] for entry in found} == {"GGA+U"}
    assert {entry.parameters["hubbards"]["Fe"] for entry in found} == {5.3}
    processed = MaterialsProject2020Compatibility().process_entries(found, on_error="raise")
    assert len(processed) == len(labels)
    for entry in processed:
        assert entry.parameters["potcar_symbols"][0] == "PAW_PBE Fe_pv 06Sep2000"
        # Kingsbury et al., Phys. Rev. B 103, 012014 (2021): oxide -0.687 eV/O, Fe -2.256 eV.
        assert entry.correction == pytest.approx(-0.687 * 16 - 2.256 * 4, abs=1e-6)


def test_emmet_builds_a_document_or_says_why_not(
    campaign: ac.Campaign, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Born's energies lie too deep for the hull that emmet makes; nearer to VASP's it is ours."""
    with pytest.raises(ac.AlChargeError, match=r"^campaign 'face': emmet "):
        campaign.electrode_document()

    # The framework at -39 eV and each ion at -4, and so the metal; voltages stay what they are.
    ends = campaign.hull().vertices
    up, ion = -39.0 - ends[0].energy, -4.0 - (ends[-1].energy - ends[0].energy)
    entry, metal = electrode.entry_of, electrode.metal_entry

    def raised(label: LabelDoc) -> Any:
        energy = label.energy + 4 * up + label.n_ions * ion
        return entry(label.model_copy(update={"energy": energy}))

    def raised_metal(inner: loop.Campaign) -> ComputedEntry:
        known = metal(inner)
        assert known is not None
        return ComputedEntry({"Na": 1}, known.energy + ion)

    monkeypatch.setattr(electrode, "entry_of", raised)
    monkeypatch.setattr(electrode, "metal_entry", raised_metal)
    found, ours = campaign.electrode_document(), campaign.voltage()
    assert found.average_voltage == pytest.approx(ours.mean, abs=1e-9)
    assert found.capacity_grav == pytest.approx(ours.capacity, abs=1e-9)
    assert (found.battery_id, str(found.working_ion)) == ("face", "Na")
    assert len(found.material_ids) == len(campaign.hull().entries)
