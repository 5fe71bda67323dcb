"""`al-charge export`: what is written is read back, and nothing is overwritten unasked."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.io import read

from al_charge.crystal.species import element_of
from al_charge.loop.campaign import Campaign
from al_charge.report.export import frames_of
from al_charge.store.labels import ALL_FRAMES

DIGITS = "123456789012345678901234"
Run = Callable[..., tuple[int, str, str]]


def images_of(path: Path) -> list[Atoms]:
    images = read(path, index=":", format="extxyz")
    assert isinstance(images, list)
    return images


def test_what_is_written_is_read_back(run: Run, labelled: Campaign, tmp_path: Path) -> None:
    file = tmp_path / "labels.extxyz"
    code, out, err = run("export", "labelled", str(file))
    assert (code, err) == (0, "")
    assert "8 frames of 6 labels (4 usable)" in out
    found = images_of(file)
    labels = sorted(
        labelled.store.labels.read(ALL_FRAMES, campaign="labelled"),
        key=lambda one: (one.n_ions, one.key),
    )
    found.sort(key=lambda one: (one.info["n_ions"], one.info["label"], one.info["frame"]))
    expected = [atoms for label in labels for atoms in frames_of(label, 4)]
    assert len(found) == len(expected) == 8
    for one, other in zip(found, expected, strict=True):
        assert one.info == other.info
        assert {name: type(v) for name, v in one.info.items() if isinstance(v, str)} == {
            name: type(v) for name, v in other.info.items() if isinstance(v, str)
        }
        assert set(one.arrays) == set(other.arrays)
        for name, array in other.arrays.items():
            if array.dtype.kind == "f":
                np.testing.assert_allclose(one.arrays[name], array, atol=1e-8)
            else:
                assert one.arrays[name].tolist() == array.tolist()
        np.testing.assert_array_equal(one.cell.array, other.cell.array)
        assert one.get_potential_energy() == other.get_potential_energy()
        assert set(one.calc.results) == set(other.calc.results)
        for name, value in other.calc.results.items():
            np.testing.assert_allclose(one.calc.results[name], value, atol=1e-8)


def test_frames_carry_results_and_charge_states(
    run: Run, labelled: Campaign, tmp_path: Path
) -> None:
    file = tmp_path / "labels.extxyz"
    run("export", "labelled", str(file))
    images = {(atoms.info["label"], atoms.info["frame"]): atoms for atoms in images_of(file)}
    label = labelled.store.labels.get(DIGITS)
    assert label is not None
    relaxed = images[DIGITS, 2]
    np.testing.assert_allclose(
        relaxed.get_stress(voigt=False), np.array(label.frames[2].stress), atol=1e-12
    )
    np.testing.assert_allclose(relaxed.get_magnetic_moments(), label.moments)
    np.testing.assert_allclose(relaxed.arrays["bader_charges"], label.bader, atol=1e-8)
    assert "magmoms" not in images[DIGITS, 0].calc.results
    assert "bader_charges" not in images[DIGITS, 0].arrays
    exact, other, blurred = (images[key, 0] for key in ("exact", "other", "blurred"))
    assert exact.info["x"] == 0.5
    assert exact.info["as_requested"] is True
    assert (exact.arrays["resolved_species"] == exact.arrays["requested_species"]).all()
    assert other.info["as_requested"] is False
    assert "refused" not in other.info
    assert (other.arrays["resolved_species"] != other.arrays["requested_species"]).sum() == 4
    assert blurred.info["ambiguous"] is True
    assert "fit no charge state" in blurred.info["refused"]
    assert (blurred.arrays["resolved_species"] == "Fe?").sum() == 2
    assert images["changed", 0].info["unusable"] is True
    assert images["changed", 0].info["refused"] == "custodian changed ENCUT from 520 to 600"
    assert "stress" not in images["whole", 0].calc.results
    assert images["whole", 0].info["bader_refused"].endswith('"fine" = 0.05 e')


def test_an_old_label_without_sites_makes_no_state_up(labelled: Campaign) -> None:
    label = labelled.store.labels.get("blurred")
    assert label is not None
    (atoms,) = frames_of(label.model_copy(update={"sites": []}), 4)
    assert atoms.arrays["resolved_species"].tolist() == [
        f"{element_of(token)}?" for token in label.requested
    ]


def test_only_results_and_only_usable_ones(run: Run, labelled: Campaign, tmp_path: Path) -> None:
    file = tmp_path / "labels.extxyz"
    assert run("export", "labelled", str(file), "--last", "--usable-only")[0] == 0
    images = images_of(file)
    assert [atoms.info["label"] for atoms in images] == [DIGITS, "exact", "other", "whole"]
    assert images[0].info["frame"] == 2
    counts = json.loads((tmp_path / "labels.json").read_text())["counts"]
    assert counts["labels"] == counts["frames"] == counts["usable"] == 4


def test_the_json_file_tells_settings_metal_and_counts(
    run: Run, labelled: Campaign, tmp_path: Path
) -> None:
    code, out, _ = run("export", "labelled", str(tmp_path / "labels.extxyz"), "--json")
    assert code == 0
    text = (tmp_path / "labels.json").read_text()
    document: dict[str, Any] = json.loads(text)
    printed = json.loads(out)
    assert printed.keys() - document.keys() == {"schema", "time"}
    assert document.items() <= printed.items()
    assert document["settings"] == {"engine": "gpaw", "xc": "PBE"}
    assert document["settings_hash"] == labelled.settings_hash
    assert document["metal"] == {"element": "Na", "energy": -1.25, "engine": "gpaw 26.7.0"}
    assert (document["formula"], document["formula_units"]) == ("NaxFePO4", 4)
    assert document["engines"] == ["gpaw 26.7.0"]
    assert document["datasets"] == {"Fe": "f00"}
    assert document["counts"] == {
        "labels": 6,
        "frames": 8,
        "usable": 4,
        "ambiguous": 1,
        "delocalised": 0,
        "unusable": 1,
        "not_converged": 0,
        "as_requested": 4,
        "quarantined": 1,
        "by_x": {"0": 1, "1/2": 4, "1": 1},
    }
    assert "private" not in text + (tmp_path / "labels.extxyz").read_text()


@pytest.mark.parametrize("there", ["labels.extxyz", "labels.json"])
def test_nothing_is_overwritten_unasked(
    run: Run, labelled: Campaign, tmp_path: Path, there: str
) -> None:
    (tmp_path / there).write_text("mine")
    file = str(tmp_path / "labels.extxyz")
    code, out, err = run("export", "labelled", file)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert there in err
    assert "--force" in err
    assert [path.name for path in tmp_path.iterdir()] == [there]
    assert (tmp_path / there).read_text() == "mine"
    assert run("export", "labelled", file, "--force")[0] == 0
    assert len(images_of(tmp_path / "labels.extxyz")) == 8
    assert {path.name for path in tmp_path.iterdir()} == {"labels.extxyz", "labels.json"}


def test_what_cannot_be_written_is_refused(run: Run, labelled: Campaign, tmp_path: Path) -> None:
    def refused(*arguments: str) -> str:
        code, out, err = run("export", *arguments)
        assert (code, out, err.count("\n")) == (2, "", 1), err
        return err

    assert "unknown ending '.xyz'; use .extxyz" in refused("labelled", str(tmp_path / "a.xyz"))
    assert "no such folder" in refused("labelled", str(tmp_path / "no" / "a.extxyz"))
    (tmp_path / "a.json").mkdir()
    line = refused("labelled", str(tmp_path / "a.extxyz"), "--force")
    assert "choose another name" in line
    assert "did you mean 'labelled'?" in refused("labeled", str(tmp_path / "b.extxyz"))
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_a_full_disk_leaves_no_half_file(
    run: Run, labelled: Campaign, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from al_charge.report import export as module

    def full(file: Any, atoms: Atoms) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "write_extxyz", full)
    code, _, err = run("export", "labelled", str(tmp_path / "labels.extxyz"))
    assert (code, err.count("\n")) == (2, 1)
    assert "No space left" in err
    assert not list(tmp_path.iterdir())


def test_a_campaign_without_labels(run: Run, labelled: Campaign, tmp_path: Path) -> None:
    labelled.store.database["label_uses"].delete_many({})
    code, _, err = run("export", "labelled", str(tmp_path / "labels.extxyz"))
    assert (code, err.count("\n")) == (1, 1)
    assert "no labels to export yet" in err
    assert not list(tmp_path.iterdir())
