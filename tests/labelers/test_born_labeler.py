"""The Born labeler: relaxed labels of olivine, settings, refusals."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from al_charge.crystal.configuration import configuration, from_atoms, set_species, to_atoms
from al_charge.crystal.enumeration import enumerate_distinct
from al_charge.crystal.host import Host
from al_charge.errors import AlChargeError, InputError
from al_charge.labelers import make_labeler
from al_charge.labelers.born.labeler import BornLabeler
from al_charge.labelers.born.model import BornModel
from al_charge.labelers.born.parameters import FITTED_VOLTAGE
from al_charge.labelers.born.relaxation import STRESS_PER_FORCE
from al_charge.labelers.born.settings import BornSettings
from al_charge.labelers.labelling import make_label
from al_charge.labelers.plugin import LabelerSettings
from al_charge.labelers.protocol import Labeler, LabelResult, Relax, settings_hash
from al_charge.loop.spec import load_spec
from al_charge.thermo.hull import Entry, Hull, build_hull

EXPERIMENT = {0: (9.76, 5.75, 4.76), 4: (10.41, 6.22, 4.95)}
"""Cells of olivine FePO4 and NaFePO4 in experiment, angstrom."""

LABELER = BornLabeler(BornSettings())
CAMPAIGN = Path(__file__).parents[2] / "workflows" / "nafepo4_born.yaml"
TRUTHS = Path(__file__).parents[2] / "benchmarks" / "data"


def label(atoms: Atoms, folder: Path, labeler: Labeler = LABELER) -> LabelResult:
    return make_label(labeler, atoms, folder)


def relaxed(atoms: Atoms, result: LabelResult) -> Atoms:
    last = result.reading.frames[-1]
    moved = atoms.copy()
    moved.set_cell(last.cell, scale_atoms=False)
    moved.positions = last.positions
    return moved


def bond_lengths(atoms: Atoms, species: str, number: int) -> NDArray[np.float64]:
    """Return the shortest distances to oxygen of every ion of a species, shape (ions, number)."""
    tokens = atoms.arrays["species"]
    centres, oxygens = np.flatnonzero(tokens == species), np.flatnonzero(tokens == "O2-")
    repeated = atoms.repeat(3)
    middle = 13 * len(atoms)
    others = (np.arange(27)[:, None] * len(atoms) + oxygens).ravel()
    return np.array([np.sort(repeated.get_distances(middle + c, others))[:number] for c in centres])


@pytest.fixture(scope="module")
def small_labels(
    olivine: Host, tmp_path_factory: pytest.TempPathFactory
) -> list[tuple[Atoms, LabelResult]]:
    """All 16 distinct configurations of one cell, relaxed."""
    folder = tmp_path_factory.mktemp("born")
    chosen = [c for n in olivine.ion_counts for c in enumerate_distinct(olivine, n)]
    return [(atoms, label(atoms, folder)) for atoms in (to_atoms(olivine, c) for c in chosen)]


@pytest.fixture(scope="module")
def small_hull(olivine: Host, small_labels: list[tuple[Atoms, LabelResult]]) -> Hull:
    entries = []
    for number, (atoms, result) in enumerate(small_labels):
        sodium = result.species.count("Na+")
        energy = result.reading.frames[-1].energy / olivine.formula_units
        entries.append(Entry(str(number), str(number), Fraction(sodium, 4), energy))
        assert len(atoms) == len(result.species)
    return build_hull(
        entries,
        framework="FePO4",
        working_ion="Na",
        metal_energy=LABELER.metal_energy("Na", Path()),
    )


def test_frames_go_from_the_geometry_asked_for_to_the_relaxed_one(
    small_labels: list[tuple[Atoms, LabelResult]],
) -> None:
    for atoms, result in small_labels:
        energies = [frame.energy for frame in result.reading.frames]
        assert 4 <= len(energies) <= 5
        assert energies == sorted(energies, reverse=True)
        np.testing.assert_array_equal(result.reading.frames[0].positions, atoms.positions)
        np.testing.assert_array_equal(result.reading.frames[0].cell, atoms.cell.array)
        model = BornModel(list(result.species))
        for frame in result.reading.frames:
            again = model.evaluate(frame.positions, frame.cell)
            assert frame.stress is not None
            assert again.energy == pytest.approx(frame.energy, abs=1e-9)
            np.testing.assert_allclose(frame.forces, again.forces, atol=1e-9)
            np.testing.assert_allclose(frame.stress, again.stress, atol=1e-11)
        assert np.abs(result.reading.frames[-1].forces).max() <= BornSettings().fmax
        assert result.reading.converged
        assert result.reading.moments is None
        assert result.resolved == result.species == tuple(atoms.arrays["species"])


def test_relaxed_energies_are_converged_to_a_tenth_of_a_mev_per_formula_unit(
    olivine: Host, small_labels: list[tuple[Atoms, LabelResult]], tmp_path: Path
) -> None:
    tight = BornLabeler(BornSettings.model_validate({"fmax": "0.0002 eV/A"}))
    for atoms, result in small_labels[::5]:
        energy = label(atoms, tmp_path, tight).reading.frames[-1].energy
        difference = (result.reading.frames[-1].energy - energy) / olivine.formula_units
        assert 0.0 <= difference < 1e-5


def test_a_configuration_relaxes_to_one_energy_from_other_starts(
    olivine: Host, small_labels: list[tuple[Atoms, LabelResult]], tmp_path: Path
) -> None:
    rng = np.random.default_rng(3)
    for atoms, result in small_labels[2::4]:
        start = atoms.copy()
        start.positions += rng.normal(scale=0.08, size=start.positions.shape)
        start.set_cell(start.cell.array @ np.diag([0.98, 1.02, 0.97]), scale_atoms=True)
        energy = label(start, tmp_path).reading.frames[-1].energy
        assert energy == pytest.approx(result.reading.frames[-1].energy, abs=1e-4)


def test_every_ion_stays_on_its_site(
    olivine: Host, small_labels: list[tuple[Atoms, LabelResult]]
) -> None:
    for atoms, result in small_labels:
        assert result.reading.details["largest_move"] < 1.0
        final = relaxed(atoms, result)
        del final.arrays["host_site"]
        assert from_atoms(olivine, final) == from_atoms(olivine, atoms)


@pytest.mark.parametrize(("index", "n_ions"), [(0, 0), (15, 4)])
def test_olivine_keeps_its_cell(
    small_labels: list[tuple[Atoms, LabelResult]], index: int, n_ions: int
) -> None:
    atoms, result = small_labels[index]
    final = relaxed(atoms, result)
    lengths, angles = final.cell.lengths(), final.cell.angles()
    np.testing.assert_allclose(lengths, EXPERIMENT[n_ions], rtol=0.03)
    np.testing.assert_allclose(angles, 90.0, atol=1e-2)


def test_phosphates_stay_tetrahedral(small_labels: list[tuple[Atoms, LabelResult]]) -> None:
    for atoms, result in small_labels:
        final = relaxed(atoms, result)
        lengths = bond_lengths(final, "P5+", 5)
        assert (lengths[:, :4] > 1.40).all()
        assert (lengths[:, :4] < 1.65).all()
        assert (lengths[:, 4] > 2.4).all()
        for phosphorus in np.flatnonzero(final.arrays["species"] == "P5+"):
            oxygens = np.flatnonzero(final.arrays["species"] == "O2-")
            vectors = final.get_distances(phosphorus, oxygens, mic=True, vector=True)
            near = vectors[np.argsort(np.linalg.norm(vectors, axis=1))[:4]]
            units = near / np.linalg.norm(near, axis=1)[:, None]
            cosines = (units @ units.T)[np.triu_indices(4, 1)]
            angles = np.degrees(np.arccos(cosines))
            assert (angles > 98.0).all()
            assert (angles < 122.0).all()


def test_fe3_has_shorter_bonds_than_fe2(small_labels: list[tuple[Atoms, LabelResult]]) -> None:
    mixed = [(a, r) for a, r in small_labels if {"Fe2+", "Fe3+"} <= set(r.species)]
    assert len(mixed) == 14
    for atoms, result in mixed:
        final = relaxed(atoms, result)
        two, three = (bond_lengths(final, f"Fe{q}+", 6).mean(axis=1) for q in (2, 3))
        assert three.max() + 0.02 < two.min()
        assert three.mean() + 0.05 < two.mean()


def test_the_hull_of_one_cell_has_two_intermediate_vertices(small_hull: Hull) -> None:
    assert small_hull.compositions == (0, Fraction(1, 2), Fraction(3, 4), 1)


def test_the_mean_voltage_is_the_fitted_one(small_hull: Hull) -> None:
    first, last = small_hull.vertices[0], small_hull.vertices[-1]
    mean = small_hull.metal_energy - (last.energy - first.energy)
    assert mean == pytest.approx(FITTED_VOLTAGE, abs=1e-4)


def test_one_cell_and_two_have_the_same_energy_per_formula_unit(
    olivine: Host,
    olivine_doubled: Host,
    small_labels: list[tuple[Atoms, LabelResult]],
    tmp_path: Path,
) -> None:
    single, result = small_labels[8]
    double = single.repeat((1, 2, 1))
    energy = label(double, tmp_path).reading.frames[-1].energy / olivine_doubled.formula_units
    expected = result.reading.frames[-1].energy / olivine.formula_units
    assert energy == pytest.approx(expected, abs=2e-5)


def test_labels_are_deterministic(olivine: Host, tmp_path: Path) -> None:
    atoms = to_atoms(olivine, configuration(olivine, [1, -1, -1, 1, 2, 3, 2, 3]))
    first, second = (label(atoms, tmp_path).reading.frames[-1] for _ in range(2))
    assert first.energy == second.energy
    np.testing.assert_array_equal(first.positions, second.positions)


def test_the_given_atoms_are_left_alone(olivine: Host, tmp_path: Path) -> None:
    atoms = to_atoms(olivine, configuration(olivine, [1, 1, 1, 1, 2, 2, 2, 2]))
    before = atoms.copy()
    label(atoms, tmp_path)
    assert atoms == before


def test_a_static_label_has_one_frame(olivine: Host, tmp_path: Path) -> None:
    atoms = to_atoms(olivine, configuration(olivine, [1, 1, 1, 1, 2, 2, 2, 2]))
    static = make_labeler(BornSettings(relax=Relax.NONE))
    (frame,) = label(atoms, tmp_path, static).reading.frames
    assert frame.energy == pytest.approx(label(atoms, tmp_path).reading.frames[0].energy, abs=1e-12)
    assert settings_hash(static) == settings_hash(LABELER)


def test_ions_relax_in_a_cell_that_stays(olivine: Host, tmp_path: Path) -> None:
    atoms = to_atoms(olivine, configuration(olivine, [1, -1, -1, 1, 2, 3, 2, 3]))
    fixed = label(atoms, tmp_path, BornLabeler(BornSettings(relax=Relax.IONS))).reading
    for frame in fixed.frames:
        np.testing.assert_array_equal(frame.cell, atoms.cell.array)
    first, last = fixed.frames[0], fixed.frames[-1]
    assert np.abs(last.forces).max() <= BornSettings().fmax
    assert last.stress is not None
    assert np.abs(last.stress).max() > 100 * STRESS_PER_FORCE * BornSettings().fmax
    energy = label(atoms, tmp_path).reading.frames[-1].energy
    assert energy + 0.1 < last.energy < first.energy - 0.1


def test_lithium_works_as_well(olivine: Host, tmp_path: Path) -> None:
    atoms = to_atoms(olivine, configuration(olivine, [1, 1, 1, 1, 2, 2, 2, 2]))
    tokens = np.char.replace(atoms.arrays["species"], "Na", "Li")
    atoms.symbols[atoms.symbols == "Na"] = "Li"
    set_species(atoms, [str(token) for token in tokens])
    lengths = np.linalg.norm(label(atoms, tmp_path).reading.frames[-1].cell, axis=1)
    np.testing.assert_allclose(lengths, (10.33, 6.01, 4.69), rtol=0.04)


def test_a_relaxation_that_does_not_end_is_an_error(olivine: Host, tmp_path: Path) -> None:
    atoms = to_atoms(olivine, configuration(olivine, [1, -1, -1, 1, 2, 3, 2, 3]))
    with pytest.raises(AlChargeError, match="not converged after 10 steps"):
        label(atoms, tmp_path, BornLabeler(BornSettings(max_steps=10)))


def test_a_structure_that_collapses_is_an_error(olivine: Host, tmp_path: Path) -> None:
    atoms = to_atoms(olivine, configuration(olivine, [1, 1, 1, 1, 2, 2, 2, 2]))
    atoms.set_cell(0.4 * atoms.cell.array, scale_atoms=True)
    with pytest.raises(AlChargeError, match="collapsed"):
        label(atoms, tmp_path)


def test_an_ion_that_leaves_its_site_is_an_error(olivine: Host, tmp_path: Path) -> None:
    atoms = to_atoms(olivine, configuration(olivine, [-1, -1, -1, 1, 2, 3, 3, 3]))
    sodium = int(np.flatnonzero(atoms.symbols == "Na")[0])
    atoms.positions[sodium] += [0.0, 0.0, 2.0]
    with pytest.raises(AlChargeError, match="another configuration"):
        label(atoms, tmp_path)


def test_a_metal_without_a_reference_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no metal reference for Li; it has one for Na"):
        LABELER.metal_energy("Li", tmp_path)


def test_atoms_without_species_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="species"):
        label(Atoms("Na", cell=[4, 4, 4], pbc=True), tmp_path)


@pytest.mark.parametrize(
    "document",
    [
        {"kind": "born", "fmax": "1 meV"},
        {"kind": "born", "fmax": 0.01},
        {"kind": "born", "fmax": "5 eV/A"},
        {"kind": "born", "relaxed": True},
        {"kind": "born", "relax": True},
        {"kind": "born", "relax": "all"},
        {"kind": "lammps"},
    ],
)
def test_settings_that_make_no_sense_are_refused(document: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(LabelerSettings).validate_python(document)


def test_settings_name_the_model_and_its_parameters() -> None:
    settings = LABELER.settings()
    assert settings["engine"] == "born"
    assert set(settings) == {"engine", "version", "parameters"}
    assert len(settings["parameters"]) == 16


@pytest.mark.parametrize("supercell", [(1, 1, 2), (1, 2, 1), (1, 3, 1)])
def test_the_truths_of_the_benchmarks_are_what_it_finds(
    supercell: tuple[int, int, int], tmp_path: Path
) -> None:
    """The largest was made by other steps, from other starts."""
    spec = load_spec(CAMPAIGN)
    host = Host.from_spec(spec.host.model_copy(update={"supercell": supercell}))
    labeler = make_labeler(spec.labeler)
    with np.load(TRUTHS / f"nafepo4_born_{'x'.join(map(str, supercell))}.npz") as truth:
        known = {n: (truth[f"energies_{n}"], truth[f"outcomes_{n}"]) for n in host.ion_counts}
    rng = np.random.default_rng(len(known))
    for n_ions in rng.choice(host.ion_counts, 3, replace=False).tolist():
        configs = enumerate_distinct(host, n_ions)
        energies, outcomes = known[n_ions]
        assert len(configs) == len(energies) and (outcomes > 0).all()
        place = int(rng.choice(np.flatnonzero(outcomes == 1)))
        found = label(to_atoms(host, configs[place]), tmp_path / f"{n_ions}", labeler)
        energy = found.reading.frames[-1].energy / host.formula_units
        assert energy == pytest.approx(energies[place], abs=1e-5)
