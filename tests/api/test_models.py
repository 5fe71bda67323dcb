"""``relax`` and ``train`` from Python."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms

import al_charge as ac
from al_charge.potentials.committee import Committee
from al_charge.potentials.painn import PainnSettings
from al_charge.testing.potentials import teacher_frames, untrained

SMALL = PainnSettings(cutoff="4 A", channels=4, radial=4, pair_cutoff="0 A")


@pytest.fixture(scope="module")
def images() -> list[Atoms]:
    return [frame.atoms for frame in teacher_frames(2)[:2]]


def test_one_structure_gives_one_result_and_several_a_list(images: list[Atoms]) -> None:
    model = untrained(SMALL)
    told: list[tuple[int, int]] = []
    several = ac.relax(images, model, max_steps=3, progress=lambda *done: told.append(done))
    one = ac.relax(images[1], Committee([model]), max_steps=3)
    assert told == [(1, 2), (2, 2)]
    assert one.energy == several[1].energy
    np.testing.assert_array_equal(one.atoms.positions, several[1].atoms.positions)


def test_the_cell_stays_where_it_is_asked_to(images: list[Atoms]) -> None:
    model = untrained(SMALL)
    fixed = ac.relax(images[0], model, max_steps=5, cell=False)
    np.testing.assert_array_equal(fixed.atoms.cell.array, images[0].cell.array)
    free = ac.relax(images[0], model, max_steps=5)
    assert np.abs(free.atoms.cell.array - images[0].cell.array).max() > 1e-4


def test_processes_find_what_one_process_finds(images: list[Atoms]) -> None:
    model = untrained(SMALL)
    serial = ac.relax(images, model, max_steps=3)
    spread = ac.relax(images, model, max_steps=3, method="processes", processes=2)
    assert [one.energy for one in serial] == [one.energy for one in spread]


def test_wrong_arguments_are_refused(images: list[Atoms]) -> None:
    model = untrained(SMALL)
    with pytest.raises(ac.InputError, match="did you mean 'serial'"):
        ac.relax(images, model, method="seriel")
    with pytest.raises(ac.InputError, match="no number of processes"):
        ac.relax(images, model, processes=2)
    with pytest.raises(ac.InputError, match="fmax"):
        ac.relax(images, model, fmax=0.0)
    bare = Atoms("Fe", cell=[3, 3, 3], pbc=True)
    with pytest.raises(ac.InputError, match="no array 'species'"):
        ac.relax(bare, model)
    bare.set_array("species", np.array(["Xe+"]))
    with pytest.raises(ac.InputError, match=r"does not know Xe\+"):
        ac.relax(bare, model)


def test_train_writes_a_model_that_loads(tmp_path: Path) -> None:
    data = Path(__file__).parents[2] / "examples" / "data" / "nafepo4_gpaw.extxyz"
    settings = tmp_path / "settings.yaml"
    settings.write_text(
        "potential: {kind: painn, cutoff: 4 A, channels: 4, radial: 4, pair_cutoff: 0 A}\n"
        "training: {epochs: 2}\n"
    )
    told: list[tuple[int, int]] = []
    path = tmp_path / "model.safetensors"
    found = ac.train(
        data, path, settings=settings, progress=lambda done, of, _: told.append((done, of))
    )
    assert found is not None and told == [(1, 2), (2, 2)]
    assert found.document["kind"] == "painn" and "1" in str(found)
    loaded = ac.load(path)
    assert loaded.vocabulary.tokens == found.members[0].vocabulary.tokens
    with pytest.raises(ac.InputError, match="already there"):
        ac.train(data, path, settings=settings)
    with pytest.raises(ac.InputError, match="choose one of chgnet, cpainn, mace, painn"):
        ac.train(data, tmp_path / "other.safetensors")
