"""Many structures at once: the energies of a committee, and the minima of relaxing one by one."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms

from al_charge.crystal.configuration import to_atoms
from al_charge.crystal.enumeration import enumerate_distinct
from al_charge.crystal.host import Host
from al_charge.errors import AlChargeError, InputError, NotInstalledError
from al_charge.labelers.born.labeler import BornLabeler
from al_charge.labelers.born.settings import BornSettings
from al_charge.labelers.labelling import make_label
from al_charge.potentials.baseline.fit import Baseline, fit_baseline
from al_charge.potentials.baseline.pairs import PairTerms
from al_charge.potentials.chgnet import ChgnetSettings
from al_charge.potentials.committee import Committee
from al_charge.potentials.data.frames import TrainingFrame
from al_charge.potentials.mace import MaceSettings
from al_charge.potentials.networks.neighbours import Neighbours, find_neighbours
from al_charge.potentials.painn import CpainnSettings, PainnSettings
from al_charge.potentials.potential import Potential
from al_charge.potentials.relaxation import batched as batched_relaxation
from al_charge.potentials.relaxation import batched_neighbours
from al_charge.potentials.relaxation.batched import relax_batched
from al_charge.potentials.relaxation.batched_committee import BatchedCommittee, BatchedPrediction
from al_charge.potentials.relaxation.batched_run import BatchedRun
from al_charge.potentials.relaxation.one_by_one import VOLUME_RANGE, Relaxed, relax
from al_charge.potentials.settings import PotentialSettings
from al_charge.potentials.vocabulary import Vocabulary
from al_charge.testing.potentials import small_salt, swapped_iron, untrained

CPU = torch.device("cpu")
KINDS: dict[str, PotentialSettings] = {
    "painn": PainnSettings(cutoff="3.5 A", channels=4, radial=4),
    "cpainn blind": CpainnSettings(cutoff="3.5 A", channels=4, radial=4, charge_aware=False),
    "painn spin": PainnSettings(cutoff="3.5 A", channels=4, radial=4, spin=True),
    "mace": MaceSettings(cutoff="3.5 A", channels=4, max_ell=1, radial=4),
    "chgnet": ChgnetSettings(cutoff="4 A", channels=8, layers=2, radial=5, angular=5),
}
with_torch_sim = pytest.mark.skipif(
    importlib.util.find_spec("torch_sim") is None, reason="torch-sim is not installed"
)
FMAX = 0.001


def say(table: BatchedCommittee, numbers: list[int], structures: list[Atoms]) -> BatchedPrediction:
    """Return what a table says of some of its structures, in geometries of their own."""
    places = [np.arange(table.places(n).start, table.places(n).stop) for n in numbers]
    return table.evaluate(
        torch.as_tensor(np.concatenate(places)),
        torch.as_tensor(np.concatenate([atoms.positions for atoms in structures])),
        torch.as_tensor(np.array([atoms.cell.array for atoms in structures])),
        torch.repeat_interleave(
            torch.arange(len(structures)), torch.tensor([len(atoms) for atoms in structures])
        ),
    )


def assert_alike(
    found: BatchedPrediction, committee: Committee, structures: list[Atoms], tolerance: float
) -> None:
    expected = committee.predict(structures)
    scale = committee.spread_scale
    spread = scale * np.std(found.energies.numpy(), axis=0, ddof=min(1, len(found.energies) - 1))
    sites = {"moments": found.moments, "charges": found.charges}
    for what, told in (
        (found.energy, [p.energy for p in expected]),
        (torch.as_tensor(spread), [p.spread for p in expected]),
        (found.forces, np.concatenate([p.forces for p in expected])),
        (found.stress, np.array([p.stress for p in expected])),
    ):
        np.testing.assert_allclose(what.numpy(), told, rtol=0, atol=tolerance)
    for name, values in sites.items():
        assert (values is None) == (getattr(expected[0], name) is None)
        if values is not None:
            told = np.concatenate([getattr(p, name) for p in expected])
            np.testing.assert_allclose(values.numpy(), told, rtol=0, atol=tolerance)


@pytest.mark.parametrize("settings", KINDS.values(), ids=KINDS)
def test_a_batch_says_what_the_committee_says(settings: PotentialSettings) -> None:
    """Pair terms, network, heads, given and typical moments; structures of any size and order."""
    members = [untrained(settings, seed=seed) for seed in (0, 1)]
    for member in members:
        member.typical_moments = np.arange(len(member.vocabulary)) / 2.0
    committee = Committee(members, spread_scale=1.3)
    structures = [small_salt(0), small_salt(1).repeat((2, 1, 1)), swapped_iron(small_salt(2))]
    structures[2].set_array("moments", np.linspace(-4.0, 4.0, 8))
    table = BatchedCommittee(committee, structures, CPU)
    assert_alike(say(table, [0, 1, 2], structures), committee, structures, 1e-10)
    other = [structures[2], structures[0]]
    assert_alike(say(table, [2, 0], other), committee, other, 1e-10)


def test_a_prior_is_added_in_single_precision() -> None:
    """CHGNet in our own form, against its package."""
    settings = PainnSettings(cutoff="3.5 A", channels=4, radial=4, prior="chgnet")
    committee = Committee([untrained(settings), untrained(KINDS["painn"])])
    structures = [small_salt(0), small_salt(1)]
    table = BatchedCommittee(committee, structures, CPU)
    assert_alike(say(table, [0, 1], structures), committee, structures, 1e-4)


def test_neighbours_are_found_again_as_atoms_and_cells_move() -> None:
    committee = Committee([untrained(KINDS["painn"])])
    structures = [small_salt(0), small_salt(1)]
    table = BatchedCommittee(committee, structures, CPU)
    rng = np.random.default_rng(0)
    for _ in range(6):
        for atoms in structures:
            strain = np.eye(3) + 0.02 * rng.normal(size=(3, 3))
            atoms.set_cell(atoms.cell.array @ strain, scale_atoms=True)
            atoms.positions += 0.1 * rng.normal(size=(8, 3))
        assert_alike(say(table, [0, 1], structures), committee, structures, 1e-9)
    assert_alike(say(table, [0], structures[:1]), committee, structures[:1], 1e-9)


@pytest.fixture(scope="module")
def starts(olivine: Host) -> list[Atoms]:
    """Return olivine with one, two and three Na, rattled."""
    found = [to_atoms(olivine, enumerate_distinct(olivine, n)[0]) for n in (1, 2, 3)]
    for seed, atoms in enumerate(found):
        atoms.rattle(0.05, seed=seed)
    return found


@pytest.fixture(scope="module")
def committee(olivine: Host, tmp_path_factory: pytest.TempPathFactory) -> Committee:
    """Return pair terms fitted to the ionic model, with small networks and heads on top."""
    folder = tmp_path_factory.mktemp("born")
    all_of_them = [c for n in olivine.ion_counts for c in enumerate_distinct(olivine, n)]
    frames = [f for config in all_of_them for f in labelled(to_atoms(olivine, config), folder)]
    species = {str(token) for frame in frames for token in frame.atoms.arrays["species"]}
    vocabulary = Vocabulary.of(species, charge_aware=True)
    baseline = fit_baseline(vocabulary, frames, pair_cutoff=8.0, pair_intervals=24)
    members = []
    for seed in (0, 1):
        potential = Potential.fresh(
            CpainnSettings(cutoff="3.5 A", channels=4, radial=4),
            vocabulary,
            mean_neighbours=20.0,
            seed=seed,
            baseline=baseline,
            scale=0.005,
        )
        potential.module.double()
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for weight in potential.module.parameters():
                noise = torch.randn(weight.shape, generator=generator, dtype=weight.dtype)
                weight.add_(0.2 * noise)
        members.append(potential)
    return Committee(members, spread_scale=2.0)


def labelled(atoms: Atoms, folder: Path) -> list[TrainingFrame]:
    """Return the frames of a structure's relaxation by the ionic model."""
    found = []
    for frame in make_label(BornLabeler(BornSettings()), atoms, folder).reading.frames:
        geometry = atoms.copy()
        geometry.set_cell(frame.cell)
        geometry.positions = frame.positions
        found.append(TrainingFrame(geometry, frame.energy, frame.forces, frame.stress, "one"))
    return found


def shape(atoms: Atoms) -> tuple[np.ndarray, np.ndarray]:
    """Return cell and positions, angstrom, without drift and rotation."""
    fractions = atoms.positions @ np.linalg.inv(atoms.cell.array)
    upright = atoms.cell.standard_form()[0].array
    return upright, (fractions - fractions.mean(axis=0)) @ upright


@pytest.fixture(scope="module")
def one_by_one(committee: Committee, starts: list[Atoms]) -> list[Relaxed]:
    return relax(committee, starts, fmax=FMAX, max_steps=300)


@pytest.fixture(scope="module")
def batched(committee: Committee, starts: list[Atoms]) -> list[Relaxed]:
    return relax_batched(committee, starts, fmax=FMAX, max_steps=1000, device="cpu")


@with_torch_sim
def test_the_same_minima(
    starts: list[Atoms], one_by_one: list[Relaxed], batched: list[Relaxed]
) -> None:
    for start, ours, theirs in zip(starts, batched, one_by_one, strict=True):
        assert ours.converged and theirs.converged
        assert ours.energy == pytest.approx(theirs.energy, abs=1e-3)
        assert ours.spread == pytest.approx(theirs.spread, abs=1e-3)
        (cell, positions), (expected_cell, expected) = shape(ours.atoms), shape(theirs.atoms)
        np.testing.assert_allclose(cell, expected_cell, rtol=0, atol=0.01)
        assert np.linalg.norm(positions - expected, axis=1).max() < 0.01
        assert np.abs(shape(start)[1] - expected).max() > 0.05  # there was something to do
        assert set(ours.atoms.arrays) == set(start.arrays)
        for name in set(start.arrays) - {"positions"}:
            np.testing.assert_array_equal(ours.atoms.arrays[name], start.arrays[name])


@with_torch_sim
def test_what_it_says_holds_where_it_ends(committee: Committee, batched: list[Relaxed]) -> None:
    for found in batched:
        (there,) = committee.predict([found.atoms])
        assert found.energy == pytest.approx(there.energy, abs=1e-8)
        assert found.spread == pytest.approx(there.spread, abs=1e-8)
        np.testing.assert_allclose(found.moments, there.moments, atol=1e-8)
        np.testing.assert_allclose(found.charges, there.charges, atol=1e-8)
        assert np.linalg.norm(there.forces, axis=1).max() <= FMAX
        (again,) = relax(committee, [found.atoms], fmax=1.02 * FMAX, max_steps=1)
        assert again.converged  # by the same criterion, cell included


@with_torch_sim
def test_memory_that_runs_out_halves_the_batch(
    committee: Committee, near: list[Atoms], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Down to one structure; after that, one line says so."""
    largest, asked, evaluate = [2], [], BatchedCommittee.evaluate

    def short_of_memory(self: BatchedCommittee, *arguments: Any) -> BatchedPrediction:
        systems = len(arguments[2])
        asked.append(systems)
        if systems > largest[0]:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return evaluate(self, *arguments)

    four = [*near, near[0]]
    options: dict[str, Any] = {"fmax": 0.1, "max_steps": 100, "device": "cpu"}
    expected = relax_batched(committee, four, **options)
    monkeypatch.setattr(BatchedCommittee, "evaluate", short_of_memory)
    found = relax_batched(committee, four, **options)
    assert asked[0] == 4 and max(asked[1:]) == 2
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.energy == pytest.approx(theirs.energy, abs=1e-3)
    largest[0], before = 0, len(asked)
    with pytest.raises(AlChargeError, match=r"a batch of \d+ atoms does not fit"):
        relax_batched(committee, four, **options)
    assert asked[before:] == [4, 2, 1]
    # Small ones that fill as much memory as the largest needs do not go round for ever.
    largest[0] = 1
    with pytest.raises(AlChargeError, match=r"a batch of \d+ atoms does not fit"):
        relax_batched(committee, [*near, near[2].repeat((2, 1, 1))], **options)


@pytest.mark.parametrize(("needed", "most"), [(2**20, 19600), (2**30, 19)])
def test_the_first_batch_on_a_gpu_fills_part_of_its_memory(
    needed: int, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """28 atoms took `needed` of 1000 MiB free, a quarter of them held by torch but unused."""
    held = {"peak": 0}

    def probe() -> int:
        held["peak"] = 50 * 2**20 + needed
        return 28

    for name, value in {
        "reset_peak_memory_stats": lambda _: None,
        "memory_allocated": lambda _: 50 * 2**20,
        "memory_reserved": lambda _: 300 * 2**20,
        "max_memory_allocated": lambda _: held["peak"],
        "mem_get_info": lambda _: (750 * 2**20, 800 * 2**20),
    }.items():
        monkeypatch.setattr(torch.cuda, name, value)
    table = SimpleNamespace(device=torch.device("cuda", 0), sizes=[26, 28])
    run: Any = SimpleNamespace(table=table, probe=probe)
    assert batched_relaxation._first_limit(run) == most

    def fails() -> int:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    run.probe = fails
    assert batched_relaxation._first_limit(run) == 28


@with_torch_sim
def test_the_largest_structure_is_what_memory_is_measured_with(committee: Committee) -> None:
    structures = [small_salt(0), small_salt(1).repeat((2, 1, 1)), small_salt(2)]
    for atoms in structures:
        atoms.set_array("species", np.resize(["Na+", "O2-"], len(atoms)), str)
    run = BatchedRun(committee, structures, CPU, 0.1, 3, True, None)
    assert run.probe() == len(structures[1])
    assert (run.atoms, run.systems, run.done) == (len(structures[1]), 1, {})


def all_pairs(found: Neighbours) -> list[tuple[int, ...]]:
    rows = np.column_stack([found.centres, found.neighbours, np.rint(found.shifts)])
    return sorted(map(tuple, rows.astype(int).tolist()))


@pytest.mark.parametrize("limit", [1, 10**5, 10**9])
def test_neighbours_are_those_of_matscipy(limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Skewed and left-handed cells, atoms outside them, several sizes; one by one and together."""
    monkeypatch.setitem(batched_neighbours.DISTANCES, "cpu", limit)
    rng = np.random.default_rng(4)
    structures = []
    for size in (3, 1, 8, 5):
        cell = 3.5 * np.eye(3) + rng.normal(scale=0.6, size=(3, 3))
        cell = -cell if size == 5 else cell
        structures.append(Atoms(f"H{size}", rng.uniform(-9, 9, (size, 3)), cell=cell, pbc=True))
    reach = 4.0 + batched_neighbours.SKIN
    lists = batched_neighbours.BatchedNeighbours(structures, 4.0, CPU)
    starts = np.cumsum([0, *map(len, structures)])
    for chosen, moved in (([0, 1, 2, 3], 0.0), ([0, 2, 3], 0.0), ([0, 2], 1.0), ([3, 0, 1], 1.0)):
        structures[2].positions += moved * rng.normal(size=(8, 3))
        own = [structures[number] for number in chosen]
        places = np.concatenate([np.arange(starts[n], starts[n + 1]) for n in chosen])
        found = lists.find(
            chosen,
            torch.as_tensor(places),
            torch.as_tensor(np.concatenate([atoms.positions for atoms in own])),
            torch.as_tensor(np.array([atoms.cell.array for atoms in own])),
            torch.as_tensor(np.repeat(np.arange(len(own)), [len(atoms) for atoms in own])),
        )
        expected, first = [], 0
        for atoms in own:
            pairs = find_neighbours(atoms, reach)
            shifted = Neighbours(pairs.centres + first, pairs.neighbours + first, pairs.shifts)
            expected += all_pairs(shifted)
            first += len(atoms)
        arrays = [v.numpy() for v in (found.centres, found.neighbours, found.shifts)]
        assert all_pairs(Neighbours(*arrays)) == sorted(expected)
        assert (np.diff(arrays[0]) >= 0).all()
        back = found.opposites.numpy()
        np.testing.assert_array_equal(arrays[0][back], arrays[1])
        np.testing.assert_array_equal(arrays[2][back], -arrays[2])
        np.testing.assert_array_equal(back[back], np.arange(len(back)))


@pytest.fixture(scope="module")
def near(one_by_one: list[Relaxed]) -> list[Atoms]:
    """Return structures a little off their minima."""
    found = [relaxed.atoms.copy() for relaxed in one_by_one]
    for seed, atoms in enumerate(found):
        atoms.rattle(0.02, seed=10 + seed)
    return found


@with_torch_sim
def test_structures_come_and_go_and_report(
    committee: Committee,
    one_by_one: list[Relaxed],
    near: list[Atoms],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """More structures than a batch holds, one that is at its minimum, one that gets few steps."""
    monkeypatch.setattr(batched_relaxation, "LARGEST_BATCH", 2 * len(near[-1]))
    many = [one_by_one[0].atoms, *near, near[0]]
    options: dict[str, Any] = {"fmax": 0.05, "device": "cpu"}
    reported = []
    found = relax_batched(
        committee,
        many,
        **options,
        max_steps=300,
        progress=lambda done, of: reported.append((done, of)),
    )
    assert reported == [(k + 1, 5) for k in range(5)]
    assert (found[0].converged, found[0].steps) == (True, 1)
    np.testing.assert_array_equal(found[0].atoms.positions, one_by_one[0].atoms.positions)
    for ours, theirs in zip(found[1:4], one_by_one, strict=True):
        assert ours.converged and 1 < ours.steps < 300
        assert ours.energy == pytest.approx(theirs.energy, abs=5e-3)
    assert found[4].energy == pytest.approx(found[1].energy, abs=5e-3)
    (short,) = relax_batched(committee, near[:1], **options, max_steps=3)
    assert (short.converged, short.steps) == (False, 3)
    assert relax_batched(committee, [], **options, max_steps=3) == []


@with_torch_sim
def test_ions_alone_relax_in_the_cell_they_have(committee: Committee, near: list[Atoms]) -> None:
    options: dict[str, Any] = {"fmax": FMAX, "cell": False}
    (ours,) = relax_batched(committee, near[:1], **options, max_steps=1000, device="cpu")
    (theirs,) = relax(committee, near[:1], **options, max_steps=300)
    assert ours.converged
    assert np.array_equal(ours.atoms.cell.array, near[0].cell.array)
    assert ours.energy == pytest.approx(theirs.energy, abs=1e-3)
    assert np.linalg.norm(ours.atoms.positions - theirs.atoms.positions, axis=1).max() < 0.01


@with_torch_sim
@pytest.mark.parametrize("strength", [-30.0, 30.0, np.nan])
def test_a_potential_without_a_minimum_ends_unconverged_and_sound(
    starts: list[Atoms], strength: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All atoms attract each other, or repel each other, or there is no number at all."""
    # Which no file may hold, but an evaluation may come to.
    monkeypatch.setattr("al_charge.potentials.state._check_values", lambda *_: None)
    vocabulary = Vocabulary.of(set(starts[1].arrays["species"]), charge_aware=True)
    n = len(vocabulary)
    terms = PairTerms(6.0, np.tile(strength * np.linspace(1.0, 0.0, 21) ** 2, (n, n, 1)))
    potential = Potential.fresh(
        PainnSettings(cutoff="3 A", channels=2, layers=1, radial=4),
        vocabulary,
        mean_neighbours=10.0,
        seed=0,
        baseline=Baseline(np.zeros(n), terms),
        scale=0.0,
    )
    (found,) = relax_batched(
        Committee([potential]), starts[1:2], fmax=0.05, max_steps=300, device="cpu"
    )
    assert not found.converged
    assert np.isfinite(found.atoms.positions).all()
    ratio = found.atoms.get_volume() / starts[1].get_volume()
    assert VOLUME_RANGE[0] < ratio < VOLUME_RANGE[1]


def test_a_limit_of_displacements_is_refused(committee: Committee, starts: list[Atoms]) -> None:
    with pytest.raises(InputError, match="largest_displacement: a batched relaxation cannot limit"):
        relax_batched(committee, starts, fmax=0.1, max_steps=3, largest_displacement=0.2)


def test_without_torch_sim_a_line_says_so(
    committee: Committee, starts: list[Atoms], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch_sim", None)
    with pytest.raises(NotInstalledError, match="extra 'gpu', or relax by processes"):
        relax_batched(committee, starts, fmax=0.1, max_steps=3)
