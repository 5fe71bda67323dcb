"""A potential's labels against its own ASE calculator, ASE's optimiser, and what is refused."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.filters import FrechetCellFilter
from ase.optimize import BFGS

from al_charge.crystal.configuration import to_atoms
from al_charge.crystal.enumeration import enumerate_distinct
from al_charge.crystal.host import Host
from al_charge.errors import AlChargeError, InputError
from al_charge.labelers.labelling import make_label
from al_charge.labelers.protocol import Relax, settings_hash
from al_charge.potentials import drift
from al_charge.potentials.committee import Committee
from al_charge.potentials.model_file import load_model, write_model
from al_charge.potentials.painn import PainnSettings
from al_charge.potentials.potential import Potential
from al_charge.potentials.vocabulary import Vocabulary
from al_charge.rehearsal import ModelPlugin
from al_charge.rehearsal.labeler import ModelLabeler
from al_charge.rehearsal.settings import ModelSettings


@pytest.fixture(scope="module")
def start(olivine: Host) -> Atoms:
    """A mixed configuration at x = 1/2, off its ideal sites."""
    atoms = to_atoms(olivine, enumerate_distinct(olivine, 2)[3])
    atoms.rattle(0.03, seed=5)
    return atoms


@pytest.fixture
def calculated(members: list[Potential], start: Atoms) -> Atoms:
    """The same with the committee's own calculator, in double precision."""
    atoms = start.copy()
    double = [member.to(dtype=torch.float64) for member in members]
    atoms.calc = Committee(double).calculator()
    return atoms


def test_a_static_label_is_what_the_calculator_says(
    model: Path, start: Atoms, calculated: Atoms, tmp_path: Path
) -> None:
    found = make_label(ModelLabeler(ModelSettings(model=model)), start, tmp_path, relax=Relax.NONE)
    (frame,) = found.reading.frames
    assert frame.energy == pytest.approx(calculated.get_potential_energy(), abs=1e-9)
    np.testing.assert_allclose(frame.forces, calculated.get_forces(), atol=1e-9)
    np.testing.assert_allclose(frame.stress, calculated.get_stress(voigt=False), atol=1e-10)
    assert found.resolved == tuple(start.arrays["species"])
    assert found.reading.engine.startswith("rehearsal ")
    # The file as everybody else reads it, in single precision.
    plain = load_model(model).predict([start])[0]
    assert frame.energy == pytest.approx(plain.energy, abs=1e-3)


@pytest.mark.parametrize("relax", [Relax.IONS, Relax.CELL])
def test_a_relaxed_label_is_where_ase_ends(
    relax: Relax, model: Path, start: Atoms, calculated: Atoms, tmp_path: Path
) -> None:
    labeler = ModelLabeler(ModelSettings(model=model, fmax="0.005 eV/A"))
    last = make_label(labeler, start, tmp_path, relax=relax).reading.frames[-1]
    moving = calculated if relax is Relax.IONS else FrechetCellFilter(calculated)
    assert BFGS(moving, logfile=None).run(fmax=0.005, steps=300)
    assert last.energy == pytest.approx(calculated.get_potential_energy(), abs=2e-3)
    assert np.linalg.norm(last.forces, axis=1).max() <= 0.005
    assert np.abs(last.cell - calculated.cell.array).max() < 0.02


def test_a_relaxation_that_does_not_end_fails(model: Path, start: Atoms, tmp_path: Path) -> None:
    labeler = ModelLabeler(ModelSettings(model=model, fmax="0.0001 eV/A", max_steps=10))
    with pytest.raises(AlChargeError, match="ended after 10 steps without small forces"):
        make_label(labeler, start, tmp_path)


def test_a_blind_potential_is_refused_where_valence_is_mixed(olivine: Host, tmp_path: Path) -> None:
    blind = Potential.fresh(
        PainnSettings(channels=8, charge_aware=False),
        Vocabulary.of(olivine.species, charge_aware=False),
        mean_neighbours=20.0,
        seed=0,
    )
    write_model(tmp_path / "blind.model", [blind])
    settings = ModelSettings(model=tmp_path / "blind.model")
    with pytest.raises(InputError, match=r"blind to charge states and cannot tell Fe2\+, Fe3\+"):
        ModelPlugin().check(olivine, settings)
    alone = ["Fe3+", "P5+", "O2-"]
    ModelLabeler(settings).check(alone, "Na")


def test_unknown_species_are_refused_by_name(model: Path, vanadium: Host) -> None:
    with pytest.raises(InputError, match=r"does not know V3\+, V4\+, V5\+; it knows Fe2\+"):
        ModelPlugin().check(vanadium, ModelSettings(model=model))


def test_what_is_no_model_is_refused(tmp_path: Path, olivine: Host) -> None:
    with pytest.raises(InputError, match="cannot read the model: No such file"):
        ModelPlugin().check(olivine, ModelSettings(model=tmp_path / "absent.model"))
    (tmp_path / "text.model").write_text("no model")
    with pytest.raises(InputError, match="not a model of al-charge"):
        ModelPlugin().check(olivine, ModelSettings(model=tmp_path / "text.model"))


def test_a_file_that_has_changed_is_refused(
    model: Path, single: Path, olivine: Host, tmp_path: Path
) -> None:
    path = Path(shutil.copy(model, tmp_path / "one.model"))
    pinned = ModelSettings(model=path).pinned().reading_from(path)
    assert pinned.sha256 == hashlib.sha256(model.read_bytes()).hexdigest()
    ModelPlugin().check(olivine, pinned)
    before = settings_hash(ModelLabeler(pinned))
    shutil.copy(single, path)
    other = tmp_path / "two.model"  # a path that nothing has read yet
    shutil.copy(single, other)
    with pytest.raises(InputError, match="not the one with this checksum"):
        ModelPlugin().check(olivine, pinned.reading_from(other))
    assert settings_hash(ModelLabeler(pinned)) == before
    assert settings_hash(ModelLabeler(ModelSettings(model=path))) != before


def test_the_identity_is_that_of_the_content_not_of_the_path(model: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copy(model, tmp_path / "another-name.model"))
    one, two = (ModelLabeler(ModelSettings(model=path)) for path in (model, copy))
    assert settings_hash(one) == settings_hash(two)


def test_a_charge_order_that_the_potential_contradicts_is_refused(
    model: Path, start: Atoms, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    iron = [i for i, token in enumerate(start.arrays["species"]) if token == "Fe3+"]
    monkeypatch.setattr(drift, "drifted_sites", lambda *_: iron[:1])
    labeler = ModelLabeler(ModelSettings(model=model))
    with pytest.raises(AlChargeError, match=rf"the state of Fe3\+ {iron[0]} has flipped"):
        make_label(labeler, start, tmp_path, relax=Relax.NONE)


def test_the_metal_is_what_the_file_says(model: Path, tmp_path: Path) -> None:
    assert ModelLabeler(ModelSettings(model=model)).metal_energy("Na", tmp_path) == 0.0
    given = ModelSettings(model=model, metal_energy="-1.25 eV")
    assert ModelLabeler(given).metal_energy("Na", tmp_path) == -1.25
    assert "voltages mean something only" in ModelPlugin().remark(ModelSettings(model=model))
    assert "voltages" not in ModelPlugin().remark(given)
