"""The contract of labelers, whatever their engine.

Subclass ``LabelerContract`` in a test module under a name that starts with ``Test``, define
``settings``, ``atoms``, ``physical``, ``other``, ``results`` and ``unknown_species``, and adapt the
tolerances to your engine; pytest collects the tests. Whatever the engine needs around it, such as a
program on ``PATH``, goes into an autouse fixture of class scope. ``tests/labelers`` has examples.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from ase import Atoms

from al_charge.errors import AlChargeError, InputError
from al_charge.labelers import make_labeler
from al_charge.labelers.labelling import make_label
from al_charge.labelers.protocol import Labeler, Relax
from al_charge.testing.jobs import (
    check_numbers,
    exchanged,
    finish,
    prepared,
    random_direction,
    refuses,
    stamps,
    tokens,
)
from al_charge.testing.settings import SettingsContract


class LabelerContract(SettingsContract):
    """Tests that every labeler must pass.

    Attributes
    ----------
    results
        Files, relative to a job's folder, without which its result is incomplete.
    unknown_species
        A species token that `check` must refuse with these settings.
    ion
        Element of the working ion.
    relaxes
        Which relaxations to test: those that the engine can do and that are quick enough.
    force_step, force_tolerance, force_sum
        Displacement for the central difference (norm over all atoms, angstrom), how much forces may
        differ from it, and how far their sum may be from zero (eV/angstrom).
    strain_step, stress_tolerance
        Strain for the central difference, and how much the stress may differ (eV/angstrom^3).
    energy_tolerance
        How much two energies of one geometry may differ, eV for the cell.
    recorded
        Why only one recorded job can be run, where the engine itself is not here; tests that need
        other jobs are skipped with this reason. Empty if every job can be run.
    """

    results: ClassVar[tuple[str, ...]]
    unknown_species: ClassVar[str]
    ion: ClassVar[str] = "Na"
    relaxes: ClassVar[tuple[Relax, ...]] = (Relax.IONS, Relax.CELL)
    force_step: ClassVar[float] = 1e-3
    force_tolerance: ClassVar[float] = 1e-5
    force_sum: ClassVar[float] = 1e-9
    strain_step: ClassVar[float] = 1e-4
    stress_tolerance: ClassVar[float] = 1e-7
    energy_tolerance: ClassVar[float] = 1e-9
    recorded: ClassVar[str] = ""

    @classmethod
    def atoms(cls) -> Atoms:
        """Return a small structure to label; to be overridden.

        Returns
        -------
        Atoms
            A neutral cell with an array ``species``, two charge states of one element, no symmetry.

        Raises
        ------
        NotImplementedError
            If a subclass does not override it.
        """
        raise NotImplementedError

    @pytest.fixture(scope="class")
    @classmethod
    def done(cls, tmp_path_factory: pytest.TempPathFactory) -> Path:
        """Run a static job, once for all tests of the class.

        Parameters
        ----------
        tmp_path_factory
            pytest's fixture.

        Returns
        -------
        Path
            Folder of the finished job.
        """
        folder = tmp_path_factory.mktemp("contract") / "job"
        finish(make_labeler(cls.settings()), cls.atoms(), folder)
        return folder

    @pytest.fixture
    def copy(self, done: Path, tmp_path: Path) -> Path:
        """Copy the finished job, so that a test may damage it.

        Parameters
        ----------
        done
            Folder of the finished job.
        tmp_path
            pytest's fixture.

        Returns
        -------
        Path
            Folder of the copy.
        """
        return Path(shutil.copytree(done, tmp_path / "copy"))

    def test_it_knows_what_it_can_label(self, labeler: Labeler) -> None:
        """`check` accepts the species of `atoms` and refuses others before anything is computed."""
        species = tokens(self.atoms())
        labeler.check(species, self.ion)
        with pytest.raises(InputError):
            labeler.check([*species, self.unknown_species], self.ion)
        assert labeler.tries >= 1
        assert isinstance(labeler.relax, Relax)

    def test_prepare_leaves_the_atoms_alone(self, labeler: Labeler, tmp_path: Path) -> None:
        """`prepare` does not change the structure it is given, in any attempt."""
        atoms = self.atoms()
        for attempt in range(labeler.tries):
            labeler.prepare(atoms, tmp_path / f"{attempt}", relax=Relax.NONE, attempt=attempt)
            assert atoms == self.atoms()

    def test_preparing_again_changes_nothing(self, labeler: Labeler, tmp_path: Path) -> None:
        """The same job gives the same files, in this folder and in another one."""
        first = [prepared(labeler, self.atoms(), tmp_path / "one") for _ in range(2)]
        second = prepared(make_labeler(self.settings()), self.atoms(), tmp_path / "two")
        assert first[0] == first[1] == second

    def test_preparing_the_same_job_keeps_its_result(self, labeler: Labeler, copy: Path) -> None:
        """An interrupted label continues: preparing it again does not discard what was computed."""
        energy, before = labeler.read(copy).frames[-1].energy, stamps(copy, self.results)
        assert finish(labeler, self.atoms(), copy).frames[-1].energy == energy
        assert stamps(copy, self.results) == before

    def test_preparing_another_job_removes_the_old_one(
        self, labeler: Labeler, copy: Path, tmp_path: Path
    ) -> None:
        """No file of the old job may be taken for the new one's."""
        other = self.atoms()
        other.positions[0] += 0.05
        fresh = prepared(labeler, other, tmp_path / "fresh")
        assert prepared(labeler, other, copy) == fresh
        with pytest.raises(AlChargeError):
            labeler.read(copy)

    def test_atoms_without_species_are_refused(self, labeler: Labeler, tmp_path: Path) -> None:
        """Without species there is no charge order to prepare."""
        atoms = self.atoms()
        del atoms.arrays["species"]
        with pytest.raises(InputError, match="species"):
            labeler.prepare(atoms, tmp_path / "job", relax=Relax.NONE, attempt=0)

    def test_a_folder_that_cannot_be_written_fails_the_label(
        self, labeler: Labeler, tmp_path: Path
    ) -> None:
        """A folder that cannot be made is an error of one line."""
        (tmp_path / "file").write_text("")
        refuses(
            lambda: labeler.prepare(
                self.atoms(), tmp_path / "file" / "job", relax=Relax.NONE, attempt=0
            )
        )

    def test_a_job_that_has_ended_is_not_run_again(self, labeler: Labeler, copy: Path) -> None:
        """`run` does nothing for a finished job, also from another labeler or process."""
        before = stamps(copy, self.results)
        labeler.run(copy)
        assert stamps(copy, self.results) == before

    def test_a_job_that_has_not_run_cannot_be_read(self, labeler: Labeler, tmp_path: Path) -> None:
        """A job cannot be read before it has run, nor run before it is prepared."""
        labeler.prepare(self.atoms(), tmp_path / "job", relax=Relax.NONE, attempt=0)
        refuses(lambda: labeler.read(tmp_path / "job"))
        refuses(lambda: labeler.read(tmp_path / "absent"))
        refuses(lambda: labeler.run(tmp_path / "absent"))

    def test_a_file_that_is_not_whole_is_not_read(self, labeler: Labeler, copy: Path) -> None:
        """Truncated, empty and missing files are errors of one line."""
        for name in self.results:
            whole = (copy / name).read_bytes()
            for damaged in (whole[: len(whole) // 2], b""):
                (copy / name).write_bytes(damaged)
                refuses(lambda: labeler.read(copy))
            (copy / name).unlink()
            refuses(lambda: labeler.read(copy))
            (copy / name).write_bytes(whole)
            labeler.read(copy)

    def test_a_static_label_has_the_geometry_that_was_asked_for(
        self, labeler: Labeler, done: Path
    ) -> None:
        """A static job has one frame with finite numbers, and says what made it."""
        atoms, reading = self.atoms(), labeler.read(done)
        (frame,) = reading.frames
        np.testing.assert_allclose(frame.positions, atoms.positions, rtol=0, atol=1e-6)
        np.testing.assert_allclose(frame.cell, atoms.cell.array, rtol=0, atol=1e-6)
        check_numbers(labeler, reading, len(atoms))
        assert reading.converged and not reading.unusable
        assert reading.engine and reading.attempts
        assert reading.cores >= 1 and reading.wall_time > 0

    def test_forces_sum_to_zero(self, labeler: Labeler, done: Path) -> None:
        """As closely as the engine's grid allows."""
        (frame,) = labeler.read(done).frames
        assert np.abs(frame.forces).max() > 10 * self.force_tolerance
        assert np.abs(frame.forces.sum(axis=0)).max() <= self.force_sum

    def test_forces_are_derivatives(self, labeler: Labeler, done: Path, tmp_path: Path) -> None:
        """Central difference along a random direction of all atoms with some force."""
        self._needs_other_jobs()
        (frame,) = labeler.read(done).frames
        direction = random_direction(frame.forces)
        energies = []
        for sign in (-1, 1):
            moved = self.atoms()
            moved.positions += sign * self.force_step * direction
            energies.append(finish(labeler, moved, tmp_path / f"{sign}").frames[-1].energy)
        found = (energies[0] - energies[1]) / (2 * self.force_step)
        expected = float((frame.forces * direction).sum())
        assert abs(found - expected) <= self.force_tolerance

    def test_stress_is_the_derivative_by_strain(
        self, labeler: Labeler, done: Path, tmp_path: Path
    ) -> None:
        """Central difference per volume, along a random symmetric strain with some stress."""
        (frame,) = labeler.read(done).frames
        if not labeler.gives_stress:
            assert frame.stress is None
            return
        self._needs_other_jobs()
        assert frame.stress is not None
        atoms, direction = self.atoms(), random_direction(frame.stress)
        direction = (direction + direction.T) / np.linalg.norm(direction + direction.T)
        energies = []
        for sign in (-1, 1):
            strained = self.atoms()
            deformation = np.eye(3) + sign * self.strain_step * direction
            strained.set_cell(atoms.cell.array @ deformation, scale_atoms=True)
            energies.append(finish(labeler, strained, tmp_path / f"{sign}").frames[-1].energy)
        found = (energies[1] - energies[0]) / (2 * self.strain_step) / atoms.get_volume()
        assert abs(found - float((frame.stress * direction).sum())) <= self.stress_tolerance

    def test_a_relaxation_starts_at_the_geometry_and_goes_down(
        self, labeler: Labeler, tmp_path: Path
    ) -> None:
        """The first frame is as asked for, the last has less energy; the cell moves if asked to."""
        self._needs_other_jobs()
        if not self.relaxes:
            pytest.skip("no relaxation is quick enough")
        atoms = self.atoms()
        for relax in self.relaxes:
            reading = finish(labeler, atoms, tmp_path / relax.value, relax)
            first, last = reading.frames[0], reading.frames[-1]
            np.testing.assert_allclose(first.positions, atoms.positions, rtol=0, atol=1e-6)
            np.testing.assert_allclose(first.cell, atoms.cell.array, rtol=0, atol=1e-6)
            check_numbers(labeler, reading, len(atoms))
            assert last.energy < first.energy
            same_cell = bool(np.abs(last.cell - first.cell).max() < 1e-6)
            assert same_cell == (relax == Relax.IONS)

    def test_the_order_of_atoms_does_not_matter(
        self, labeler: Labeler, done: Path, tmp_path: Path
    ) -> None:
        """Energy, forces, moments and charge states come back in the order of the atoms given."""
        self._needs_other_jobs()
        atoms = self.atoms()
        order = np.random.default_rng(7).permutation(len(atoms))
        first, second = labeler.read(done), finish(labeler, atoms[order], tmp_path / "job")
        one, two = first.frames[0], second.frames[0]
        assert abs(one.energy - two.energy) <= self.energy_tolerance
        np.testing.assert_allclose(two.forces, one.forces[order], atol=self.force_tolerance)
        if first.moments is not None:
            assert second.moments is not None
            np.testing.assert_allclose(second.moments, first.moments[order], atol=0.02)
        species = tokens(atoms)
        sites = labeler.audit(first, species, None).sites
        again = labeler.audit(second, [species[i] for i in order], None).sites
        assert again == tuple(sites[i] for i in order)

    def test_the_audit_is_of_every_atom_and_neutral(self, labeler: Labeler, done: Path) -> None:
        """The audit covers all atoms, is neutral, and follows the moments, not the request."""
        atoms, reading = self.atoms(), labeler.read(done)
        species = tokens(atoms)
        audit = labeler.audit(reading, species, None)
        assert len(audit.sites) == len(atoms)
        assert audit.charge == 0
        assert audit.species == tuple(species)
        if reading.moments is not None:
            others = exchanged(atoms)
            assert others != species
            assert labeler.audit(reading, others, None).species == tuple(species)

    def test_a_label_is_made_and_made_again_from_its_files(
        self, labeler: Labeler, done: Path, tmp_path: Path
    ) -> None:
        """`make_label` agrees with the four steps and computes nothing twice."""
        shutil.copytree(done, tmp_path / "label" / "try-0")
        atoms = self.atoms()
        made = make_label(labeler, atoms, tmp_path / "label", relax=Relax.NONE)
        assert made.resolved == made.species == tuple(tokens(atoms))
        assert made.reading.frames[0].energy == labeler.read(done).frames[0].energy
        before = stamps(made.directory, self.results)
        again = make_label(labeler, atoms, tmp_path / "label", relax=Relax.NONE)
        assert again.reading.frames[0].energy == made.reading.frames[0].energy
        assert again.attempts == made.attempts
        assert stamps(made.directory, self.results) == before

    def test_the_metal_has_an_energy(self, labeler: Labeler, tmp_path: Path) -> None:
        """The reference energy is finite, and the same when asked for again in its folder."""
        self._needs_other_jobs()
        first, second = (labeler.metal_energy(self.ion, tmp_path / "metal") for _ in range(2))
        assert np.isfinite(first)
        assert first == second

    def _needs_other_jobs(self) -> None:
        if self.recorded:
            pytest.skip(self.recorded)
