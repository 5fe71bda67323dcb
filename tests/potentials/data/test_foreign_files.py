"""Files of other programs: virials, isolated atoms, molecules, other keys, mixed settings."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.io import read
from ase.stress import full_3x3_to_voigt_6_stress

from al_charge.crystal.structure_file import load_structure, read_structures
from al_charge.errors import InputError
from al_charge.potentials.data.dataset import Reading, read_dataset
from al_charge.testing.labelled import labelled, write_labels

FRAMES = Path(__file__).parents[2] / "cases" / "frames"


def alone(config_type: str = "", **changes: object) -> Atoms:
    atoms = Atoms("Fe", cell=[12.0, 12.1, 12.2], **changes)  # type: ignore[arg-type]
    if config_type:
        atoms.info["config_type"] = config_type
    return atoms


def test_the_virial_of_a_file_becomes_stress() -> None:
    """The same frames with a stress lie among the isolated atoms."""
    found = read_dataset(FRAMES / "virial.extxyz", Reading())
    assert found.remarks == ["stress of 12 frames is -virial / volume"]
    other = read_dataset(FRAMES / "isolated_atoms.extxyz", Reading())
    assert other.remarks == []
    for frame, known in zip(found.frames, other.frames, strict=True):
        assert frame.energy == known.energy
        assert frame.stress is not None and known.stress is not None
        np.testing.assert_allclose(frame.stress, known.stress, atol=1e-9)


@pytest.mark.parametrize(("name", "numbers"), [("virial", 9), ("virials", 9), ("virials", 6)])
def test_a_virial_in_either_form(name: str, numbers: int, tmp_path: Path) -> None:
    image = labelled(0)
    stress = image.get_stress(voigt=False)
    bare = labelled(0, stress=None)
    virial = -stress * bare.get_volume()
    bare.info[name] = full_3x3_to_voigt_6_stress(virial) if numbers == 6 else virial
    (frame,) = read_dataset(write_labels(tmp_path / "a.extxyz", [bare]), Reading()).frames
    np.testing.assert_allclose(frame.stress, stress, atol=1e-8)
    # One that says the same as the stress is no matter; one that does not, is.
    image.info[name] = virial
    found = read_dataset(write_labels(tmp_path / "b.extxyz", [image]), Reading())
    np.testing.assert_allclose(found.frames[0].stress, stress, atol=1e-8)
    assert found.remarks == []
    image.info[name] = -virial
    file = write_labels(tmp_path / "c.extxyz", [image])
    with pytest.raises(InputError, match=rf"c\.extxyz, frame 0: its stress is not -{name} / vol"):
        read_dataset(file, Reading())
    image.info[name] = "none"  # ASE itself refuses it as a virial
    with pytest.raises(InputError, match=f"{name}.* is not "):
        read_dataset(write_labels(tmp_path / "d.extxyz", [image]), Reading())
    bare.info[name] = np.full((3, 3), np.nan)
    with pytest.raises(InputError, match="NaN or infinite values in its stress"):
        read_dataset(write_labels(tmp_path / "e.extxyz", [bare]), Reading())


def test_isolated_atoms_are_left_out() -> None:
    found = read_dataset(FRAMES / "isolated_atoms.extxyz", Reading())
    assert len(found.frames) == 12
    assert found.left_out == {"isolated atoms": 2}


@pytest.mark.parametrize(
    "atom",
    [
        alone("IsolatedAtom"),
        alone("isolated_atom", pbc=True),
        alone(),
        Atoms("Fe"),
    ],
)
def test_what_is_an_isolated_atom(atom: Atoms, tmp_path: Path) -> None:
    atom.info["REF_energy"] = -0.3
    file = write_labels(tmp_path / "a.extxyz", [labelled(0), atom])
    found = read_dataset(file, Reading())
    assert (len(found.frames), found.left_out) == (1, {"isolated atoms": 1})
    only = write_labels(tmp_path / "b.extxyz", [atom])
    with pytest.raises(InputError, match="none of its frames can be used; 1 isolated atoms"):
        read_dataset(only, Reading())
    if not atom.pbc.all():
        with pytest.raises(InputError, match=r"not periodic along every axis|no cell in three"):
            load_structure(only)


def test_a_single_atom_in_a_crystal_is_none(tmp_path: Path) -> None:
    iron = Atoms("Na", cell=[[0, 2.1, 2.1], [2.1, 0, 2.1], [2.1, 2.1, 0]], pbc=True)
    (atoms,) = read_structures(write_labels(tmp_path / "a.extxyz", [iron]))
    assert atoms.pbc.all()
    assert read_structures(tmp_path / "a.extxyz")[0].get_volume() == pytest.approx(18.522)


def test_molecules_are_refused() -> None:
    with pytest.raises(
        InputError, match=r"frame 0: it is not periodic along every axis \(pbc F F F\); leave it"
    ):
        read_dataset(FRAMES / "no_pbc.extxyz", Reading())


def test_slabs_are_refused(tmp_path: Path) -> None:
    slab = labelled(1)
    slab.pbc = (True, True, False)
    file = write_labels(tmp_path / "a.extxyz", [labelled(0), slab])
    with pytest.raises(InputError, match=r"frame 1: it is not periodic .*\(pbc T T F\)"):
        read_structures(file)
    with pytest.raises(InputError, match=r"pbc T T F"):
        load_structure(file)


def renamed(names: dict[str, str]) -> Atoms:
    """Return labels of which some results have other names."""
    image = labelled(0)
    results = image.calc.results
    for name, other in names.items():
        value = results.pop(name)
        if np.ndim(value) > 0 and len(value) == len(image):
            image.set_array(other, value)
        else:
            image.info[other] = value
    return image


@pytest.mark.parametrize(
    ("names", "what"),
    [
        (
            {"energy": "REF_energy", "forces": "REF_forces", "stress": "REF_stress"},
            "frame 0: it has no energy, but REF_energy; rename REF_energy to energy in every frame",
        ),
        ({"energy": "dft_energy"}, "it has no energy, but dft_energy; rename dft_energy to energy"),
        ({"energy": "Energy"}, "it has no energy, but Energy;"),
        ({"energy": "e_total_energy"}, "it has no energy, but e_total_energy;"),
        ({"forces": "force"}, "it has no forces, but force; rename force to forces in every frame"),
        ({"forces": "REF_forces"}, "it has no forces, but REF_forces; rename REF_forces to forces"),
        ({"forces": "dft_force"}, "it has no forces, but dft_force;"),
    ],
)
def test_other_keys_are_named_where_one_is_needed(
    names: dict[str, str], what: str, tmp_path: Path
) -> None:
    file = write_labels(tmp_path / "a.extxyz", [renamed(names)])
    with pytest.raises(InputError, match=re.escape(what)):
        read_dataset(file, Reading())


def test_other_keys_are_told_where_none_is_needed(tmp_path: Path) -> None:
    images = [
        renamed({"stress": "REF_stress", "magmoms": "REF_magmoms"}),
        renamed({"stress": "dft_virial"}),
        labelled(2),
    ]
    images[2].info["REF_energy"] = -1.0
    images[2].info["energy_of"] = "nothing"
    images[2].set_array("initial_magmoms", np.ones(8))
    found = read_dataset(write_labels(tmp_path / "a.extxyz", images), Reading())
    assert sorted(found.remarks) == [
        f"{key} of 1 frames is not read; name it {name} if it is what to learn from"
        for key, name in (
            ("REF_energy", "energy"),
            ("REF_magmoms", "magmoms"),
            ("REF_stress", "stress"),
            ("dft_virial", "stress"),
        )
    ]
    assert [frame.stress is None for frame in found.frames] == [True, True, False]


def test_a_free_energy_alone_is_named(tmp_path: Path) -> None:
    image = labelled(0)
    image.calc.results["free_energy"] = image.calc.results.pop("energy")
    file = write_labels(tmp_path / "a.extxyz", [image])
    assert "free_energy" in file.read_text()
    assert "energy" not in read(file).calc.results
    with pytest.raises(InputError, match="it has no energy, but free_energy;"):
        read_dataset(file, Reading())


def test_labels_of_different_settings_are_refused(tmp_path: Path) -> None:
    images = [labelled(seed) for seed in range(4)]
    for image, name in zip(images, ("3fa1" * 16, "3fa1" * 16, "77c0" * 16, ""), strict=True):
        if name:
            image.info["settings_hash"] = name
    file = write_labels(tmp_path / "a.extxyz", images)
    with pytest.raises(
        InputError,
        match=r"a\.extxyz: labels of different settings are not comparable: 3fa13fa1 \(2 frames\), "
        r"77c077c0 \(1 frames\); keep the frames of one settings_hash$",
    ):
        read_dataset(file, Reading())
    # What is left out does not count.
    images[2].info["unusable"] = True
    assert len(read_dataset(write_labels(tmp_path / "b.extxyz", images), Reading()).frames) == 3
