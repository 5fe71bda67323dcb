"""The driver of a label: tries in order, which one is kept, failures, interruptions."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms

from al_charge.crystal.configuration import configuration, to_atoms
from al_charge.crystal.host import Host
from al_charge.crystal.valence import Audit, Windows, audit
from al_charge.errors import AlChargeError, CrashedError, InputError, UnfinishedError
from al_charge.labelers.born.labeler import BornLabeler
from al_charge.labelers.born.settings import BornSettings
from al_charge.labelers.files import read_json
from al_charge.labelers.in_process import INPUT, RESULT
from al_charge.labelers.labelling import make_label, progress
from al_charge.labelers.protocol import Attempt, Reading, Relax

WINDOWS = Windows({"Fe2+": (3.8, 4.2), "Fe3+": (4.8, 5.2)})
ASKED = (2, 3, 2, 3)
OTHER = (3, 2, 3, 2)
SHARED = (2, 3, 2.5, 2.5)
CHARGED = (3, 3, 2, 3)

Outcome = tuple[Sequence[float], float] | BaseException
"""Charges that the moments of iron show, and the energy in eV; or how the engine fails."""


class SpinningLabeler(BornLabeler):
    """The ionic model with moments, and with an outcome of each try that is given to it."""

    def __init__(self, *outcomes: Outcome, relax: Relax = Relax.NONE) -> None:
        super().__init__(BornSettings(relax=relax))
        self.outcomes = outcomes
        self.tries = len(outcomes)
        self.prepared: list[tuple[int, Relax]] = []
        self.windows: list[Windows | None] = []

    def prepare(self, atoms: Atoms, directory: Path, *, relax: Relax, attempt: int) -> None:
        super().prepare(atoms, directory, relax=relax, attempt=attempt)
        (directory / "attempt").write_text(str(attempt))
        self.prepared.append((attempt, relax))

    def outcome(self, directory: Path) -> Outcome:
        return self.outcomes[int((directory / "attempt").read_text())]

    def run(self, directory: Path) -> None:
        outcome = self.outcome(directory)
        if isinstance(outcome, BaseException):
            raise outcome
        super().run(directory)

    def read(self, directory: Path) -> Reading:
        reading, outcome = super().read(directory), self.outcome(directory)
        assert not isinstance(outcome, BaseException)
        charges, energy = outcome
        species = read_json(directory / INPUT)["species"]
        moments = np.zeros(len(species))
        # High-spin Fe2+ has four unpaired electrons, Fe3+ five.
        moments[[token.startswith("Fe") for token in species]] = np.array(charges) + 2.0
        frames = tuple(dataclasses.replace(frame, energy=energy) for frame in reading.frames)
        how = (Attempt(directory.name, "converged"),)
        return dataclasses.replace(reading, frames=frames, moments=moments, attempts=how)

    def audit(self, reading: Reading, species: Sequence[str], windows: Windows | None) -> Audit:
        self.windows.append(windows)
        assert reading.moments is not None
        return audit(reading.moments, species, windows or WINDOWS)


@pytest.fixture
def atoms(olivine: Host) -> Atoms:
    """Olivine with two of four Na, and the iron as asked for."""
    return to_atoms(olivine, configuration(olivine, [1, -1, -1, 1, *ASKED]))


def iron(species: Sequence[str] | None) -> tuple[int, ...]:
    assert species is not None
    return tuple(int(token[2]) for token in species if token.startswith("Fe"))


def tried(labeler: SpinningLabeler) -> list[int]:
    return [attempt for attempt, _ in labeler.prepared]


def test_the_first_try_that_finds_the_order_is_the_label(atoms: Atoms, tmp_path: Path) -> None:
    labeler = SpinningLabeler((ASKED, -1.0), (ASKED, -2.0))
    label = make_label(labeler, atoms, tmp_path)
    assert tried(labeler) == [0]
    assert label.resolved == label.species == tuple(atoms.arrays["species"])
    assert label.reading.frames[-1].energy == -1.0
    assert label.directory == tmp_path / "try-0"


def test_an_order_that_is_lost_is_steered_for_again(atoms: Atoms, tmp_path: Path) -> None:
    labeler = SpinningLabeler((OTHER, -9.0), (SHARED, -8.0), (ASKED, -1.0), (ASKED, -2.0))
    label = make_label(labeler, atoms, tmp_path)
    assert tried(labeler) == [0, 1, 2]
    assert iron(label.resolved) == ASKED
    assert label.reading.frames[-1].energy == -1.0
    assert label.directory == tmp_path / "try-2"
    assert [attempt.changed for attempt in label.attempts] == ["try-0", "try-1", "try-2"]


def test_an_order_that_is_never_found_leaves_the_lowest_that_is_certain(
    atoms: Atoms, tmp_path: Path
) -> None:
    labeler = SpinningLabeler((OTHER, -1.0), (OTHER, -3.0), (SHARED, -9.0), (CHARGED, -8.0))
    label = make_label(labeler, atoms, tmp_path)
    assert tried(labeler) == [0, 1, 2, 3]
    assert iron(label.species) == ASKED
    assert iron(label.resolved) == OTHER
    assert label.directory == tmp_path / "try-1"
    assert len(label.attempts) == 4


@pytest.mark.parametrize("uncertain", [SHARED, CHARGED])
def test_a_label_without_certain_states_is_ambiguous(
    atoms: Atoms, tmp_path: Path, uncertain: Sequence[float]
) -> None:
    labeler = SpinningLabeler((uncertain, -2.0), (uncertain, -3.0), (uncertain, -1.0))
    label = make_label(labeler, atoms, tmp_path)
    assert label.resolved is None
    assert label.audit.describe() != "every moment fits a charge state"
    assert label.reading.frames[-1].energy == -3.0


@pytest.mark.parametrize(
    ("outcomes", "delocalised"),
    [
        ([(SHARED, -2.0), (SHARED, -3.0)], True),
        ([(SHARED, -2.0), ((2.5, 2.5, 2.5, 2.5), -3.0), (SHARED, -1.0)], True),
        ([(SHARED, -2.0)], False),  # one start proves nothing
        ([(SHARED, -2.0), (CHARGED, -3.0)], False),
        ([(SHARED, -2.0), (OTHER, -1.0)], False),
        ([(SHARED, -2.0), (ASKED, -1.0)], False),
        ([(SHARED, -2.0), (SHARED, -2.0), AlChargeError("SCF did not converge")], False),
        ([((2, 3, 2.5, 3), -2.0)] * 2, False),
    ],
)
def test_a_charge_that_is_shared_whatever_the_start_is_delocalised(
    outcomes: list[Outcome], delocalised: bool, atoms: Atoms, tmp_path: Path
) -> None:
    label = make_label(SpinningLabeler(*outcomes), atoms, tmp_path)
    assert label.delocalised is delocalised
    assert not (delocalised and label.resolved)


@pytest.mark.parametrize("change", [{"converged": False}, {"unusable": "another cutoff"}])
def test_what_is_not_comparable_is_not_delocalised(
    change: dict[str, Any], atoms: Atoms, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = SpinningLabeler.read

    def reading(self: SpinningLabeler, directory: Path) -> Reading:
        number = int((directory / "attempt").read_text())
        return dataclasses.replace(read(self, directory), **(change if number else {}))

    monkeypatch.setattr(SpinningLabeler, "read", reading)
    label = make_label(SpinningLabeler((SHARED, -2.0), (SHARED, -3.0)), atoms, tmp_path)
    assert not label.delocalised


def test_a_try_that_fails_is_told_and_costs_only_itself(atoms: Atoms, tmp_path: Path) -> None:
    failure = AlChargeError("SCF did not converge", where="engine.log")
    label = make_label(SpinningLabeler(failure, (OTHER, -1.0), failure), atoms, tmp_path)
    assert iron(label.resolved) == OTHER
    assert [attempt.outcome for attempt in label.attempts] == [
        "engine.log: SCF did not converge",
        "converged",
        "engine.log: SCF did not converge",
    ]
    assert [attempt.changed for attempt in label.attempts] == ["try 1", "try-1", "try 3"]


def test_if_all_tries_fail_the_last_reason_is_the_labels(atoms: Atoms, tmp_path: Path) -> None:
    labeler = SpinningLabeler(AlChargeError("no convergence"), AlChargeError("out of time"))
    with pytest.raises(AlChargeError, match="out of time"):
        make_label(labeler, atoms, tmp_path)
    assert tried(labeler) == [0, 1]


def test_what_is_missing_in_every_try_is_tried_once(atoms: Atoms, tmp_path: Path) -> None:
    labeler = SpinningLabeler(InputError("no POTCAR of Fe"), (ASKED, -1.0))
    with pytest.raises(InputError, match="POTCAR"):
        make_label(labeler, atoms, tmp_path)
    assert tried(labeler) == [0]


def test_a_result_that_cannot_be_read_is_made_again(atoms: Atoms, tmp_path: Path) -> None:
    class Truncating(SpinningLabeler):
        def run(self, directory: Path) -> None:
            super().run(directory)
            if not (tmp_path / "once").exists():
                (tmp_path / "once").touch()
                (directory / RESULT).write_text((directory / RESULT).read_text()[:200])

    labeler = Truncating((ASKED, -1.0), (ASKED, -2.0))
    with pytest.raises(CrashedError, match="truncated"):
        make_label(labeler, atoms, tmp_path)
    label = make_label(labeler, atoms, tmp_path)
    assert label.directory == tmp_path / "try-0"
    assert label.reading.frames[0].energy == -1.0


def test_an_engine_that_is_killed_is_not_steered_harder(atoms: Atoms, tmp_path: Path) -> None:
    labeler = SpinningLabeler(CrashedError("killed by SIGKILL"), (ASKED, -1.0))
    with pytest.raises(CrashedError):
        make_label(labeler, atoms, tmp_path)
    assert tried(labeler) == [0]


def test_an_interrupted_label_goes_on_where_it_stopped(atoms: Atoms, tmp_path: Path) -> None:
    outcomes: tuple[Outcome, ...] = ((OTHER, -1.0), (SHARED, -2.0), (ASKED, -3.0))
    stopped = SpinningLabeler(outcomes[0], KeyboardInterrupt(), outcomes[2])
    with pytest.raises(KeyboardInterrupt):
        make_label(stopped, atoms, tmp_path / "stopped")
    first = tmp_path / "stopped" / "try-0" / RESULT
    made = first.stat().st_mtime_ns
    resumed = make_label(SpinningLabeler(*outcomes), atoms, tmp_path / "stopped")
    whole = make_label(SpinningLabeler(*outcomes), atoms, tmp_path / "whole")
    assert first.stat().st_mtime_ns == made
    assert resumed.audit == whole.audit
    assert resumed.attempts == whole.attempts
    assert resumed.directory.name == whole.directory.name == "try-2"
    np.testing.assert_array_equal(resumed.reading.frames[0].forces, whole.reading.frames[0].forces)


def test_the_folder_of_another_label_is_used_afresh(
    olivine: Host, atoms: Atoms, tmp_path: Path
) -> None:
    plain = BornLabeler(BornSettings())
    make_label(plain, to_atoms(olivine, configuration(olivine, [1, -1, -1, 1, *OTHER])), tmp_path)
    here, elsewhere = (make_label(plain, atoms, tmp_path / d) for d in (".", "new"))
    assert here.reading.frames[-1].energy == elsewhere.reading.frames[-1].energy


@pytest.mark.parametrize("default", [Relax.NONE, Relax.CELL])
@pytest.mark.parametrize("asked", [None, Relax.NONE, Relax.IONS, Relax.CELL])
def test_a_job_may_relax_otherwise_than_the_labeler(
    atoms: Atoms, tmp_path: Path, default: Relax, asked: Relax | None
) -> None:
    labeler = SpinningLabeler((ASKED, -1.0), relax=default)
    label = make_label(labeler, atoms, tmp_path, relax=asked)
    expected = default if asked is None else asked
    assert labeler.prepared == [(0, expected)]
    assert (len(label.reading.frames) == 1) == (expected is Relax.NONE)


def test_the_campaigns_windows_reach_the_audit(atoms: Atoms, tmp_path: Path) -> None:
    # With these, 3.5 and 4.5 Bohr magnetons are Fe2+ and Fe3+.
    shifted = Windows({"Fe2+": (3.3, 3.7), "Fe3+": (4.3, 4.7)})
    labeler = SpinningLabeler(([charge - 0.5 for charge in ASKED], -1.0))
    assert make_label(labeler, atoms, tmp_path).resolved is None
    assert iron(make_label(labeler, atoms, tmp_path, windows=shifted).resolved) == ASKED
    assert labeler.windows == [None, shifted]


def test_atoms_without_species_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    labeler = SpinningLabeler((ASKED, -1.0))
    with pytest.raises(InputError, match=r"^atoms\.arrays: .*species"):
        make_label(labeler, Atoms("Fe", cell=[3, 3, 3], pbc=True), tmp_path / "job")
    assert not labeler.prepared
    assert not (tmp_path / "job").exists()


class BrokenComparison(SpinningLabeler):
    """An engine whose first try ends with other settings than were asked for."""

    def read(self, directory: Path) -> Reading:
        reading = super().read(directory)
        return dataclasses.replace(
            reading, unusable="" if directory.name != "try-0" else "ENCUT was changed"
        )


def test_a_result_that_cannot_be_compared_is_tried_for_again(atoms: Atoms, tmp_path: Path) -> None:
    labeler = BrokenComparison((ASKED, -9.0), (ASKED, -1.0))
    label = make_label(labeler, atoms, tmp_path)
    assert tried(labeler) == [0, 1]
    assert label.reading.unusable == ""
    assert label.reading.frames[-1].energy == -1.0


def test_one_state_of_each_element_leaves_no_order_to_steer_to(
    olivine: Host, tmp_path: Path
) -> None:
    full = to_atoms(olivine, configuration(olivine, [1, 1, 1, 1, 2, 2, 2, 2]))
    labeler = SpinningLabeler(((2.5, 2.5, 2.5, 2.5), -1.0), ((2, 2, 2, 2), -2.0))
    label = make_label(labeler, full, tmp_path)
    assert tried(labeler) == [0]
    assert label.resolved is None


def test_a_job_whose_time_was_up_is_not_steered_but_goes_on(atoms: Atoms, tmp_path: Path) -> None:
    labeler = SpinningLabeler(UnfinishedError("stopped after 4 h"), (ASKED, -1.0))
    with pytest.raises(UnfinishedError, match="stopped"):
        make_label(labeler, atoms, tmp_path)
    assert tried(labeler) == [0]
    labeler.outcomes = ((ASKED, -2.0), (ASKED, -1.0))
    assert make_label(labeler, atoms, tmp_path).directory == tmp_path / "try-0"


def test_an_engine_that_does_not_tell_its_progress_has_made_none(tmp_path: Path) -> None:
    """As one that fulfils the protocol of earlier versions, and does not derive from it."""

    class Silent:
        pass

    class Telling(SpinningLabeler):
        def progress(self, directory: Path) -> int:
            return len(list(directory.iterdir()))

    for number in range(2):
        folder = tmp_path / f"try-{number}"
        folder.mkdir()
        (folder / "step").touch()
    assert progress(Silent(), tmp_path) == 0  # type: ignore[arg-type]
    assert progress(Telling(), tmp_path) == 2
