"""Labelled structures of a file: what is taken, what is left out, what is refused."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms

from al_charge.errors import InputError
from al_charge.potentials.data.dataset import Reading, last_of_groups, read_dataset
from al_charge.testing.labelled import CHARGES, SPECIES, labelled, write_labels

PUBLISHED = Path(__file__).parents[4] / "shared" / "data" / "cathodes_bader_moments.xyz"


def test_frames_hold_what_the_file_holds(tmp_path: Path) -> None:
    images = [labelled(seed) for seed in range(4)]
    found = read_dataset(write_labels(tmp_path / "a.extxyz", images), Reading())
    assert [frame.group for frame in found.frames] == ["c0", "c0", "c1", "c1"]
    assert found.groups_from == "config_hash"
    assert found.states_from == {"given in the file": 4}
    for frame, image in zip(found.frames, images, strict=True):
        assert frame.atoms.arrays["species"].tolist() == list(SPECIES)
        assert frame.energy == pytest.approx(image.get_potential_energy(), abs=1e-7)
        np.testing.assert_allclose(frame.forces, image.get_forces(), atol=1e-7)
        assert frame.stress is not None and frame.moments is not None
        np.testing.assert_allclose(frame.stress, image.get_stress(voigt=False), atol=1e-9)
        np.testing.assert_allclose(frame.moments, image.get_magnetic_moments(), atol=1e-7)
        np.testing.assert_allclose(frame.charges, CHARGES)
        np.testing.assert_allclose(frame.atoms.positions, image.positions, atol=1e-7)


def test_what_a_frame_may_lack(tmp_path: Path) -> None:
    bare = labelled(0, stress=None, magmoms=None, bader_charges=None)
    (frame,) = read_dataset(write_labels(tmp_path / "a.extxyz", [bare]), Reading()).frames
    assert (frame.stress, frame.moments, frame.charges) == (None, None, None)


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"forces": None}, "it has no forces; give every frame energy and forces"),
        ({"energy": None}, "it has no energy"),
        ({"energy": np.nan}, "NaN or infinite values in its energy"),
        ({"forces": np.full((8, 3), np.nan)}, "NaN or infinite values in its forces"),
        ({"magmoms": np.full(8, np.inf)}, "NaN or infinite values in its magmoms"),
        ({"bader_charges": np.full(8, np.nan)}, "NaN or infinite values in its Bader charges"),
        ({"magmoms": np.ones((8, 3))}, "its moments are vectors"),
        ({"resolved_species": [*SPECIES[:-1], "Fe"]}, "'Fe' is not a charge state"),
        ({"resolved_species": ["Na+", *["O2-"] * 7]}, "atom 2 is Fe, not O2-"),
        ({"bader_charges": -CHARGES}, "cations are negative in its bader_charges"),
        ({"bader_charges": np.full(8, 6.5)}, "sum to +52.00 e, so they are not net charges"),
    ],
)  # fmt: skip
def test_what_is_refused(changes: dict[str, object], what: str, tmp_path: Path) -> None:
    file = write_labels(tmp_path / "a.extxyz", [labelled(0), labelled(1, **changes)])
    with pytest.raises(InputError, match=re.escape(what)) as error:
        read_dataset(file, Reading())
    assert f"{file}, frame 1" in str(error.value)
    assert "\n" not in str(error.value)


def test_charges_are_turned_over_only_when_told(tmp_path: Path) -> None:
    file = write_labels(tmp_path / "a.extxyz", [labelled(0, bader_charges=-CHARGES)])
    with pytest.raises(InputError, match="give --flip-charges"):
        read_dataset(file, Reading())
    (frame,) = read_dataset(file, Reading(flip_charges=True)).frames
    np.testing.assert_allclose(frame.charges, CHARGES)
    right = write_labels(tmp_path / "b.extxyz", [labelled(0)])
    with pytest.raises(InputError, match="leave --flip-charges out"):
        read_dataset(right, Reading(flip_charges=True))


@pytest.mark.skipif(not PUBLISHED.exists(), reason="the published file is not here")
def test_the_published_file() -> None:
    with pytest.raises(InputError, match="cations are negative in its bader_charge;"):
        read_dataset(PUBLISHED, Reading(need_states=False))
    found = read_dataset(PUBLISHED, Reading(need_states=False, flip_charges=True))
    assert len(found.frames) == 3
    for frame in found.frames:
        assert frame.charges is not None and frame.moments is not None
        symbols = np.array(frame.atoms.get_chemical_symbols())
        assert frame.charges[symbols == "O"].max() < -1.0
        assert frame.charges[symbols == "P"].min() > 3.0
        assert abs(frame.charges.sum()) < 1e-2


def test_charge_states_are_not_needed_by_a_blind_potential(tmp_path: Path) -> None:
    bare = labelled(0, resolved_species=None, magmoms=None)
    file = write_labels(tmp_path / "a.extxyz", [bare])
    with pytest.raises(InputError, match="does not say which charge states its 2 Fe have"):
        read_dataset(file, Reading())
    found = read_dataset(file, Reading(need_states=False))
    assert found.states_from == {"not told": 1}
    assert found.frames[0].atoms.arrays["species"][2] == "Fe0+"
    given = read_dataset(file, Reading(states=("Fe2+", "Fe3+")))
    assert given.frames[0].atoms.arrays["species"].tolist() == list(SPECIES)
    assert given.states_from == {"as given": 1}


def test_exported_labels_that_stand_on_no_hull_are_left_out(tmp_path: Path) -> None:
    images = [labelled(seed) for seed in range(5)]
    images[1].info |= {"ambiguous": True, "refused": "moments fit no state"}
    images[1].arrays["resolved_species"] = np.array([s.replace("2+", "?") for s in SPECIES])
    images[2].info |= {"unusable": True}
    images[3].info |= {"converged": False}
    found = read_dataset(write_labels(tmp_path / "a.extxyz", images), Reading())
    assert found.left_out == {"ambiguous": 1, "unusable": 1, "not converged": 1}
    assert [frame.group for frame in found.frames] == ["c0", "c2"]
    images[1].info |= {"delocalised": True}
    del images[1].info["refused"]
    found = read_dataset(write_labels(tmp_path / "c.extxyz", images), Reading())
    assert found.left_out == {"delocalised": 1, "unusable": 1, "not converged": 1}
    images[1].info |= {"delocalised": False}
    none = write_labels(tmp_path / "b.extxyz", images[1:2])
    with pytest.raises(InputError, match="none of its frames can be used; 1 ambiguous"):
        read_dataset(none, Reading())


def test_groups_by_a_name(tmp_path: Path) -> None:
    images = [labelled(seed) for seed in range(3)]
    for seed, image in enumerate(images):
        image.info["run"] = seed % 2
    found = read_dataset(write_labels(tmp_path / "a.extxyz", images), Reading(group="run"))
    assert [frame.group for frame in found.frames] == ["0", "1", "0"]
    assert last_of_groups(found.frames) == [1, 2]
    with pytest.raises(InputError, match=r"frame 0 of those used.*did you mean 'run'"):
        read_dataset(tmp_path / "a.extxyz", Reading(group="runs"))
    del images[1].info["config_hash"]
    with pytest.raises(InputError, match="frame 1 of those used: a frame has no 'config_hash'"):
        read_dataset(write_labels(tmp_path / "b.extxyz", images), Reading())


def test_formula_units_are_those_of_the_export(tmp_path: Path) -> None:
    images = [labelled(seed) for seed in range(3)]
    images[0].info |= {"n_ions": 1, "x": 0.5}
    empty = labelled(4)
    del empty[0]
    empty.arrays["resolved_species"] = np.array([*SPECIES[1:4], "Fe3+", *SPECIES[5:]])
    empty.arrays["resolved_species"][1] = "Fe3+"
    empty.arrays["bader_charges"] += 0.9 / 7
    results = labelled(4).calc.results
    empty.calc = labelled(4, forces=results["forces"][1:], magmoms=None).calc
    empty.calc.atoms = empty.copy()
    empty.info |= {"n_ions": 0, "x": 0.0}
    found = read_dataset(write_labels(tmp_path / "a.extxyz", [*images, empty]), Reading())
    assert found.formula_units == [2, None, None, 2]


def test_moments_are_shared_by_the_frames_of_one_label(tmp_path: Path) -> None:
    images = [labelled(0, magmoms=None), labelled(1), labelled(2, magmoms=None)]
    for image, label in zip(images, ("a", "a", "b"), strict=True):
        image.info["label"] = label
    file = write_labels(tmp_path / "a.extxyz", images)
    apart = read_dataset(file, Reading()).frames
    assert [frame.moments is None for frame in apart] == [True, False, True]
    shared = read_dataset(file, Reading(share_moments=True)).frames
    assert [frame.moments is None for frame in shared] == [False, False, True]
    np.testing.assert_array_equal(shared[0].moments, shared[1].moments)
    np.testing.assert_array_equal(shared[0].atoms.arrays["moments"], shared[1].moments)
    assert ["moments" in frame.atoms.arrays for frame in shared] == [True, True, False]
    assert not any("moments" in frame.atoms.arrays for frame in apart)


def test_frames_of_no_label_share_nothing(tmp_path: Path) -> None:
    """Of any program's file: each frame has its own moments or none."""
    images = [labelled(0, magmoms=None), labelled(1)]
    for image in images:
        image.info.pop("label", None)
    file = write_labels(tmp_path / "a.extxyz", images)
    found = read_dataset(file, Reading(share_moments=True)).frames
    assert [frame.moments is None for frame in found] == [True, False]
    assert ["moments" in frame.atoms.arrays for frame in found] == [False, True]


def test_ambiguous_labels_are_learned_from_where_moments_are_an_input(tmp_path: Path) -> None:
    """Under the neutral states that are nearest; unusable ones are not."""
    certain, first, last = labelled(0), labelled(1, magmoms=None), labelled(2)
    unusable, without = labelled(3), labelled(4, magmoms=None)
    last.calc.results["magmoms"] = np.array([0, 0, 4.1, 0, -4.0, 0, 0, 0])
    for image, label in zip(
        (certain, first, last, unusable, without), ("a", "b", "b", "c", "d"), strict=True
    ):
        image.info["label"] = label
        image.set_array("requested_species", np.array(SPECIES))
        if label != "a":
            image.info |= {"ambiguous": True, "refused": "moments fit no state"}
            image.arrays["resolved_species"] = np.array(
                ["Fe?" if token.startswith("Fe") else token for token in SPECIES]
            )
    unusable.info["unusable"] = True
    images = [certain, first, last, unusable, without]
    file = write_labels(tmp_path / "a.extxyz", images)
    assert read_dataset(file, Reading()).left_out == {"ambiguous": 3, "unusable": 1}
    found = read_dataset(file, Reading(share_moments=True))
    assert found.left_out == {"unusable": 1, "ambiguous": 1}
    assert found.states_from["nearest to uncertain moments"] == 2
    for frame in found.frames[1:]:
        assert frame.atoms.arrays["species"][[2, 4]].tolist() == ["Fe3+", "Fe2+"]
        np.testing.assert_array_equal(frame.atoms.arrays["moments"], last.calc.results["magmoms"])


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        read_dataset(tmp_path / "missing.extxyz", Reading())
    (tmp_path / "text.extxyz").write_text("nothing of the kind\n")
    with pytest.raises(InputError, match="cannot read a structure"):
        read_dataset(tmp_path / "text.extxyz", Reading())
    molecule = Atoms("H2", [[0, 0, 0], [0, 0, 0.8]])
    with pytest.raises(InputError, match="no cell"):
        read_dataset(write_labels(tmp_path / "m.extxyz", [molecule]), Reading())
