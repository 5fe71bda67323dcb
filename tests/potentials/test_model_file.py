"""Models in files: what comes back, what is refused, and the calculator on it."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from ase.calculators.calculator import PropertyNotImplementedError
from safetensors.torch import save_file

from al_charge.errors import AlChargeError, InputError
from al_charge.potentials import load
from al_charge.potentials.checkpoint import read_checkpoint, write_checkpoint
from al_charge.potentials.committee import Committee
from al_charge.potentials.mace import MaceSettings
from al_charge.potentials.mace.foundation import read_foundation
from al_charge.potentials.model_file import read_members, write_model
from al_charge.potentials.painn import CpainnSettings, PainnSettings
from al_charge.potentials.potential import Potential
from al_charge.potentials.vocabulary import Vocabulary
from al_charge.testing.labelled import SPECIES, salt
from al_charge.testing.potentials import small_salt, swapped_iron, untrained

CPAINN = CpainnSettings(cutoff="4 A", channels=4, radial=4)


def test_a_potential_comes_back_with_its_training(tmp_path: Path) -> None:
    potential, atoms = untrained(CPAINN), small_salt()
    path = tmp_path / "model.safetensors"
    write_model(path, [potential], {"history": [[{"loss": 1.5}]], "seed": 3})
    (again,), training = read_members(path)
    assert training == {"history": [[{"loss": 1.5}]], "seed": 3}
    (one,), (two,) = potential.predict([atoms]), again.predict([atoms])
    assert one.energy == two.energy
    np.testing.assert_array_equal(one.moments, two.moments)


def test_a_committee_comes_back_scaled(tmp_path: Path) -> None:
    members = [untrained(CPAINN, seed=seed) for seed in range(3)]
    path = tmp_path / "model.safetensors"
    write_model(path, members, {"spread_scale": 2.5})
    again = load(path)
    assert isinstance(again, Committee)
    (one,) = Committee(members, spread_scale=2.5).predict([small_salt()])
    (two,) = again.predict([small_salt()])
    assert (one.energy, one.spread) == (two.energy, two.spread)
    by_member = [m.predict([small_salt()])[0] for m in members]
    np.testing.assert_allclose(two.moments, np.mean([p.moments for p in by_member], axis=0))
    np.testing.assert_allclose(two.charges, np.mean([p.charges for p in by_member], axis=0))


def test_a_committee_says_of_sites_only_what_all_members_say() -> None:
    members = [untrained(CPAINN), untrained(PainnSettings(cutoff="4 A", channels=4, radial=4))]
    (found,) = Committee(members).predict([small_salt()])
    assert (found.moments, found.charges) == (None, None)


def test_a_model_is_a_foundation_model(tmp_path: Path) -> None:
    settings = MaceSettings(cutoff="3.5 A", channels=4, max_ell=1, radial=4, charge_aware=False)
    parent = untrained(settings)
    write_model(tmp_path / "m", [parent], {"seed": 1})
    aware = settings.model_copy(update={"charge_aware": True})
    child = read_foundation(tmp_path / "m", aware, small_salt().arrays["species"])
    assert child.predict([small_salt()])[0].energy == pytest.approx(
        parent.predict([small_salt()])[0].energy, abs=1e-9
    )


def test_what_is_no_model(tmp_path: Path) -> None:
    files = {name: tmp_path / name for name in ("pickle", "other", "half", "text", "training")}
    files["pickle"].write_bytes(pickle.dumps({"weights": [1, 2]}))
    save_file({"a": torch.zeros(2)}, files["other"])
    files["text"].write_text("not a model")
    write_checkpoint(files["training"], {"latest.a": torch.zeros(1)}, {"identity": "x", "done": 1})
    write_model(files["half"], [untrained(CPAINN)])
    files["half"].write_bytes(files["half"].read_bytes()[:500])
    for path in files.values():
        with pytest.raises(
            InputError, match="it is not a model of al-charge; give a file"
        ) as error:
            load(path)
        assert str(error.value).startswith(str(path))
    with pytest.raises(InputError, match="no such file"):
        load(tmp_path / "missing")


def test_damaged_and_foreign_models(tmp_path: Path) -> None:
    path = tmp_path / "m"
    write_model(path, [untrained(CPAINN)])
    found = read_checkpoint(path)
    assert found is not None
    weights, config = found
    for changed, tensors, what in (
        (config, {k: v for k, v in weights.items() if k != "scale"}, "it is damaged"),
        (config | {"settings": {"kind": "nequip"}}, weights, "it is damaged, or from another"),
        (config | {"version": 99}, weights, "version 99 cannot be read"),
        (config, weights | {"module.extra": torch.zeros(1)}, "weights do not fit"),
    ):
        write_checkpoint(path, tensors, changed)
        with pytest.raises(InputError, match=what) as error:
            load(path)
        assert str(path) in str(error.value)


def test_two_lines_make_a_calculator(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    potential = untrained(CPAINN)
    write_model(path, [potential])
    atoms = small_salt()
    atoms.calc = load(path).calculator()
    (known,) = potential.predict([atoms])
    assert atoms.get_potential_energy() == known.energy
    np.testing.assert_array_equal(atoms.get_forces(), known.forces)
    np.testing.assert_allclose(atoms.get_stress(voigt=False), known.stress)
    np.testing.assert_array_equal(atoms.get_magnetic_moments(), known.moments)
    np.testing.assert_array_equal(atoms.get_charges(), known.charges)


def test_a_calculator_sees_that_charge_states_have_changed() -> None:
    """Where positions have not."""
    atoms = small_salt()
    atoms.calc = untrained(CPAINN).calculator()
    before = atoms.get_potential_energy()
    atoms.arrays["species"] = swapped_iron(atoms).arrays["species"]
    assert atoms.get_potential_energy() != before
    (known,) = untrained(CPAINN).predict([swapped_iron(small_salt())])
    assert atoms.get_potential_energy() == known.energy


def test_what_is_not_predicted_is_no_result() -> None:
    atoms = small_salt()
    atoms.calc = untrained(PainnSettings(cutoff="4 A", channels=4, radial=4)).calculator()
    atoms.get_potential_energy()
    assert "magmoms" not in atoms.calc.results
    with pytest.raises(PropertyNotImplementedError):
        atoms.get_charges()


def test_atoms_without_charge_states() -> None:
    """A blind potential needs none; else they are told as for a file, or refused."""
    for aware in (True, False):
        vocabulary = Vocabulary.of(SPECIES, charge_aware=aware)
        settings = CPAINN.model_copy(update={"charge_aware": aware})
        potential = Potential.fresh(settings, vocabulary, mean_neighbours=20.0, seed=0)
        atoms = salt(0)
        atoms.calc = potential.calculator()
        told = atoms.copy()
        told.set_array("species", np.array(SPECIES))
        (known,) = potential.predict([told])
        if aware:
            with pytest.raises(
                AlChargeError, match="does not say which charge states its 2 Fe have"
            ):
                atoms.get_potential_energy()
            atoms.set_initial_magnetic_moments([0, 0, 4, 0, 5, 0, 0, 0])
        assert atoms.get_potential_energy() == known.energy
        assert "species" not in atoms.arrays
