"""``check``, ``audit`` and ``label`` from Python."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from ase.io import read

import al_charge as ac
from al_charge.labelers.born.settings import BornSettings

ROOT = Path(__file__).parents[2]
HOST = ROOT / "workflows" / "hosts" / "NaFePO4.cif"


def test_check_counts_the_configurations_of_a_file() -> None:
    found = ac.check(ROOT / "workflows" / "nafepo4_born.yaml")
    assert sum(found.compositions.values()) == 874 and len(found.compositions) == 9
    assert (found.spec.name, found.missing) == (found.document["name"], "")
    assert "is valid: 874 distinct configurations" in str(found)


def test_check_refuses_a_wrong_field(tmp_path: Path) -> None:
    file = tmp_path / "one.yaml"
    file.write_text((ROOT / "workflows" / "nafepo4_born.yaml").read_text() + "\nlabler: {}\n")
    with pytest.raises(ac.InputError, match="did you mean 'labeler'"):
        ac.check(file)


def test_audit_tells_the_state_of_every_iron(output: Path) -> None:
    found = ac.audit(output)
    assert found.certain and found.species is not None
    assert found.species[:3] == ("Na+", "Fe2+", "Fe3+")
    assert "1 Fe3+, 1 Fe2+; neutral" in str(found)


def test_given_windows_come_first(output: Path) -> None:
    """Turned round, the two irons change places; the sum stays zero."""
    found = ac.audit(output, windows={"Fe2+": (4.2, 4.4), "Fe3+": (3.6, 3.8)})
    assert found.species is not None and found.species[1:3] == ("Fe3+", "Fe2+")
    nothing_fits = ac.audit(output, windows={"Fe2+": (1.0, 1.1), "Fe3+": (2.0, 2.1)})
    assert not nothing_fits.certain and nothing_fits.species is None


def test_label_takes_files_and_atoms(tmp_path: Path) -> None:
    settings = BornSettings(relax="none")
    first = ac.label(HOST, settings, folder=tmp_path / "one")
    atoms = read(HOST)
    second = ac.label(atoms, settings, folder=tmp_path / "two")
    assert second.energy == pytest.approx(first.energy, abs=1e-6)
    assert first.usable and "Fe2+" in first.result.species
    stored = json.loads((tmp_path / "one" / "label.json").read_text())
    assert stored["energy"] == first.energy and stored["relax"] == "none"
    relaxed = ac.label(HOST, "born", folder=tmp_path / "three")
    assert relaxed.energy < first.energy


def test_label_names_an_unknown_engine(tmp_path: Path) -> None:
    with pytest.raises(ac.InputError, match="unknown kind 'bron'; did you mean 'born'"):
        ac.label(HOST, "bron", folder=tmp_path)
