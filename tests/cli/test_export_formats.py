"""`al-charge export --format`: what is written, as the programs that it is for read it."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase.db import connect
from monty.json import MontyDecoder
from pymatgen.analysis.phase_diagram import PhaseDiagram
from pymatgen.core.structure import Structure
from pymatgen.entries.computed_entries import ComputedEntry
from pymatgen.io.optimade import OptimadeStructureAdapter

from al_charge.loop.campaign import Campaign
from al_charge.report.entries import entries_of, entry_of
from al_charge.report.formats import FORMATS
from al_charge.store.documents import LabelDoc
from al_charge.store.labels import ALL_FRAMES

DIGITS = "123456789012345678901234"
"""A label's key that looks like a number."""
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def labels(labelled: Campaign) -> dict[str, LabelDoc]:
    """The labels of the campaign ``labelled``, by key."""
    return {one.key: one for one in labelled.store.labels.read(ALL_FRAMES, campaign="labelled")}


def test_mace_reads_it_by_its_default_keys(
    run: Run, labels: dict[str, LabelDoc], tmp_path: Path
) -> None:
    """As `mace_run_train` does that is told a name, the file and the average for E0s alone."""
    from mace.data import AtomicData, load_from_xyz
    from mace.data.utils import KeySpecification, compute_average_E0s, update_keyspec_from_kwargs
    from mace.tools import AtomicNumberTable, build_default_arg_parser

    file = tmp_path / "train.xyz"
    code, out, _ = run("export", "labelled", str(file), "--format", "mace")
    assert code == 0
    assert out == f"5 labels written to {file} as mace; 1 left out, unusable or not converged\n"
    given = ["--name", "olivine", "--train_file", str(file), "--E0s", "average"]
    told = vars(build_default_arg_parser().parse_args(given))
    keys = update_keyspec_from_kwargs(KeySpecification(), told)
    _, found = load_from_xyz(str(file), key_specification=keys)
    order = [DIGITS, "exact", "other", "blurred", "whole"]
    expected = [(labels[key], frame) for key in order for frame in labels[key].frames]
    assert len(found) == len(expected)
    table = AtomicNumberTable(sorted({8, 11, 15, 26}))
    for label, frame in expected:
        alike = [one for one in found if len(one.positions) == len(label.numbers)]
        near = [np.abs(one.properties["forces"] - frame.forces).sum() for one in alike]
        one = alike[int(np.argmin(near))]
        assert one.properties["energy"] == frame.energy
        np.testing.assert_allclose(one.properties["forces"], frame.forces, atol=1e-8)
        np.testing.assert_allclose(one.positions, frame.positions, atol=1e-8)
        assert one.property_weights["energy"] == one.property_weights["forces"] == 1
        assert one.property_weights["stress"] == (1 if frame.stress is not None else 0)
        assert one.property_weights["virials"] == one.property_weights["dipole"] == 0
        data = AtomicData.from_config(one, z_table=table, cutoff=3.0)
        assert float(data.weight * data.energy_weight * data.forces_weight) == 1
        if frame.stress is not None:
            np.testing.assert_allclose(data.stress[0], np.array(frame.stress), rtol=1e-6)
            assert float(data.stress_weight.max()) == 1
        if frame is label.frames[-1] and label.bader is not None:
            np.testing.assert_allclose(one.properties["charges"], label.bader, atol=1e-8)
    # The average for E0s is a least-squares fit of the energies, around -193 eV.
    average = compute_average_E0s(found, table)
    for one in found:
        total = sum(average[int(z)] for z in one.atomic_numbers)
        assert total == pytest.approx(one.properties["energy"], abs=3)


def test_a_database_of_ase(run: Run, labels: dict[str, LabelDoc], tmp_path: Path) -> None:
    file = tmp_path / "labels.db"
    assert run("export", "labelled", str(file), "--format", "ase")[0] == 0
    with connect(file) as database:
        rows = list(database.select())
        assert len(rows) == 8
        assert database.count("x=0.5") == 4
        assert database.count("unusable=True") == 1
    for row in rows:
        label = labels[row.data["label"]]
        frame = label.frames[row.frame]
        atoms = row.toatoms()
        np.testing.assert_allclose(atoms.positions, frame.positions)
        np.testing.assert_allclose(atoms.cell.array, frame.cell)
        assert atoms.get_potential_energy() == frame.energy
        np.testing.assert_allclose(atoms.get_forces(), frame.forces)
        if frame.stress is not None:
            np.testing.assert_allclose(atoms.get_stress(voigt=False), frame.stress)
        assert row.data["resolved_species"] == label.states_found
        assert row.data["settings_hash"] == label.settings_hash
        assert row.data["settings"] == label.settings
        assert row.data.get("refused", "") == label.refused
        assert bool(row.unusable) is bool(label.unusable)
        if row.frame == len(label.frames) - 1:
            np.testing.assert_allclose(atoms.get_magnetic_moments(), label.moments)
            if label.bader is not None:
                np.testing.assert_allclose(row.data["bader_charges"], label.bader)


def check_rows(rows: list[dict[str, Any]], labels: dict[str, LabelDoc]) -> None:
    """Compare a table with the labels; texts or numbers."""
    assert rows[0]["label"] == DIGITS
    assert {row["label"] for row in rows} == labels.keys()
    for row in rows:
        label = labels[row["label"]]
        last = label.frames[-1]
        assert float(row["energy"]) == label.energy
        assert float(row["energy_per_formula_unit"]) == label.energy / 4
        assert float(row["x"]) == label.n_ions / 4
        assert float(row["volume"]) == pytest.approx(abs(np.linalg.det(np.array(last.cell))))
        largest = max(float(np.linalg.norm(force)) for force in last.forces)
        assert float(row["largest_force"]) == pytest.approx(largest)
        assert str(row["usable"]) == str(label.refusal is None)
        assert row["refused"] == label.refused
    states = {row["label"]: row["states"] for row in rows}
    assert states["exact"] == "2xFe2+ 2xFe3+ 2xNa+ 16xO2- 4xP5+"
    assert "2xFe?" in states["blurred"]


def test_a_table(run: Run, labels: dict[str, LabelDoc], tmp_path: Path) -> None:
    file = tmp_path / "labels.csv"
    assert run("export", "labelled", str(file), "--format", "csv")[0] == 0
    with file.open(newline="") as lines:
        check_rows(list(csv.DictReader(lines)), labels)


def test_parquet(run: Run, labels: dict[str, LabelDoc], tmp_path: Path) -> None:
    file = tmp_path / "labels.parquet"
    code, _, err = run("export", "labelled", str(file), "--format", "parquet")
    if find_spec("pyarrow") is None:
        assert (code, err.count("\n")) == (2, 1)
        assert "pyarrow is not installed; pip install pyarrow" in err
        assert not list(tmp_path.iterdir())
        return
    parquet = import_module("pyarrow.parquet")
    assert code == 0
    rows = parquet.read_table(file).to_pylist()
    check_rows(rows, labels)
    for row in rows:
        label = labels[row["label"]]
        np.testing.assert_array_equal(row["forces"], label.frames[-1].forces)
        np.testing.assert_array_equal(row["moments"], label.moments)
        assert (row["stress"] is None) is (label.frames[-1].stress is None)


def test_parquet_without_its_package(
    run: Run, labelled: Campaign, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setattr("al_charge.report.formats.find_spec", lambda name: None)
    code, _, err = run("export", "labelled", str(tmp_path / "a.parquet"), "--format", "parquet")
    assert (code, err.count("\n")) == (2, 1)
    assert "pyarrow is not installed" in err


def test_entries(run: Run, labelled: Campaign, labels: dict[str, LabelDoc], tmp_path: Path) -> None:
    file = tmp_path / "entries.json"
    assert run("export", "labelled", str(file), "--format", "entries", "--usable-only")[0] == 0
    *entries, metal = json.loads(file.read_text(), cls=MontyDecoder)
    assert (metal.composition.formula, metal.energy) == ("Na1", -1.25)
    assert {one.entry_id for one in entries} == {DIGITS, "exact", "other", "whole"}
    for one in entries:
        label = labels[one.entry_id]
        assert one.energy == label.energy
        assert one.structure.site_properties["magmom"] == pytest.approx(label.moments)
        assert one.structure.site_properties["species"] == label.resolved
    # Its hull is pymatgen's: x = 1/2 lies 1 eV above the line from x = 0 to 1.
    by_id = {one.entry_id: one for one in entries}
    elements = [ComputedEntry(symbol, 0.0) for symbol in ("Fe", "Na", "O", "P")]
    above = PhaseDiagram([*entries, *elements]).get_e_above_hull(by_id["exact"])
    expected = labels["exact"].energy - (labels["whole"].energy + labels[DIGITS].energy) / 2
    assert above == pytest.approx(expected / len(labels["exact"].numbers))
    assert above > 0.03
    assert [one.entry_id for one in entries_of(labelled)] == sorted(by_id)
    assert len(entries_of(labelled, usable_only=False)) == 6


def test_the_corrections_of_the_materials_project_apply(labels: dict[str, LabelDoc]) -> None:
    """U and POTCARs are those that MP's scheme asks for; its sum is by its published values."""
    from pymatgen.entries.compatibility import MaterialsProject2020Compatibility

    titles = {
        "Fe": "PAW_PBE Fe_pv 06Sep2000 sha256:0000000000000000",
        "Na": "PAW_PBE Na_pv 05Jan2001 sha256:0000000000000000",
        "O": "PAW_PBE O 08Apr2002 sha256:0000000000000000",
        "P": "PAW_PBE P 17Jan2003 sha256:0000000000000000",
    }
    settings = {"engine": "vasp", "incar": {"GGA": "PE"}, "hubbard_u": {"Fe": 5.3, "Mn": 3.9}}
    label = labels["exact"].model_copy(update={"settings": settings, "datasets": titles})
    entry = entry_of(label)
    assert entry.parameters["run_type"] == "GGA+U"
    assert entry.parameters["hubbards"] == {"Fe": 5.3, "P": 0.0, "O": 0.0, "Na": 0.0}
    assert entry.data["oxidation_states"] == {"Fe": 2.5, "P": 5.0, "O": -2.0, "Na": 1.0}
    (corrected,) = MaterialsProject2020Compatibility().process_entries([entry], inplace=False)
    assert corrected.correction == pytest.approx(4 * -2.256 + 16 * -0.687)
    other = settings | {"hubbard_u": {"Fe": 4.0}}
    wrong = entry_of(label.model_copy(update={"settings": other}))
    assert MaterialsProject2020Compatibility().process_entries([wrong], inplace=False) == []
    soft = label.model_copy(update={"datasets": titles | {"Na": "PAW_PBE Na_sv 28Sep2000"}})
    assert MaterialsProject2020Compatibility().process_entries([entry_of(soft)]) == []
    # Corrections are fitted to VASP: an engine with another zero of energy gets none.
    gpaw = {"engine": "gpaw", "xc": "PBE", "hubbard_u": {"Fe": 5.3}}
    other_zero = entry_of(label.model_copy(update={"settings": gpaw}))
    assert other_zero.parameters["run_type"] == "GGA+U (gpaw)"
    assert MaterialsProject2020Compatibility().process_entries([other_zero], inplace=False) == []
    plain = entry_of(label.model_copy(update={"settings": settings | {"hubbard_u": {}}}))
    assert (plain.parameters["run_type"], plain.parameters["is_hubbard"]) == ("GGA", False)


def test_optimade(run: Run, labels: dict[str, LabelDoc], tmp_path: Path) -> None:
    file = tmp_path / "structures.json"
    assert run("export", "labelled", str(file), "--format", "optimade")[0] == 0
    document = json.loads(file.read_text())
    assert document["meta"]["data_returned"] == len(document["data"]) == 6
    for resource in document["data"]:
        assert resource["type"] == "structures"
        label = labels[resource["id"]]
        structure = OptimadeStructureAdapter.get_structure(resource)
        assert isinstance(structure, Structure)
        np.testing.assert_allclose(structure.cart_coords, label.frames[-1].positions, atol=1e-9)
        assert [site.specie.Z for site in structure] == label.numbers
        attributes = resource["attributes"]
        assert sum(attributes["elements_ratios"]) == pytest.approx(1)
        assert attributes["last_modified"].startswith("2026-01-01T")
        assert attributes["_al_charge_energy"] == label.energy
        assert attributes["_al_charge_moments"] == label.moments
    assert document["data"][0]["attributes"]["chemical_formula_reduced"] == "FeO4P"


@pytest.mark.parametrize("name", sorted(FORMATS.keys() - {"parquet"}))
def test_nothing_is_overwritten_unasked(
    name: str, run: Run, labelled: Campaign, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / f"labels{FORMATS[name].endings[0]}"
    arguments = ("export", "labelled", str(file), "--format", name)
    file.write_text("mine")
    code, out, err = run(*arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "already there; use --force" in err
    assert file.read_text() == "mine"
    code, out, _ = run(*arguments, "--force", "--json")
    assert code == 0
    assert json.loads(out)["labels"] == (5 if name == "mace" else 6)
    assert [path.name for path in tmp_path.iterdir()] == [file.name]
    code, _, err = run("export", "labelled", str(tmp_path / "a.txt"), "--format", name)
    assert (code, err.count("\n")) == (2, 1)
    assert f"unknown ending '.txt' for {name}" in err
