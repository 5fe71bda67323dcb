"""Errors of a potential, against the same sums written out by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from ase import Atoms
from scipy.stats import kendalltau

from al_charge.potentials.accuracy import accuracy, formula
from al_charge.potentials.data.dataset import Dataset
from al_charge.potentials.data.frames import TrainingFrame
from al_charge.potentials.prediction import Prediction
from al_charge.testing.labelled import SPECIES, salt


class Known:
    """Says what it was told to, in order."""

    def __init__(self, predictions: Sequence[Prediction]) -> None:
        self.left = list(predictions)

    def predict(self, structures: Sequence[Atoms]) -> list[Prediction]:
        found, self.left = self.left[: len(structures)], self.left[len(structures) :]
        return found


def frame(seed: int, group: str) -> TrainingFrame:
    rng = np.random.default_rng(seed)
    atoms = salt(seed)
    atoms.set_array("species", np.array(SPECIES))
    stress = rng.normal(size=(3, 3))
    return TrainingFrame(
        atoms,
        float(rng.normal(-50, 1)),
        rng.normal(size=(8, 3)),
        stress + stress.T,
        group,
        moments=rng.normal(size=8),
        charges=rng.normal(size=8),
    )


def guess(of: TrainingFrame, seed: int) -> Prediction:
    rng = np.random.default_rng(1000 + seed)
    assert of.stress is not None and of.moments is not None and of.charges is not None
    return Prediction(
        of.energy + rng.normal(),
        of.forces + rng.normal(size=(8, 3)),
        of.stress + rng.normal(size=(3, 3)),
        np.abs(of.moments) + rng.normal(size=8),
        of.charges + rng.normal(size=8),
    )


def data(frames: list[TrainingFrame], units: list[int | None]) -> Dataset:
    return Dataset(frames, units, {}, "config_hash", {})


def test_errors_are_those_written_out() -> None:
    frames = [frame(seed, f"g{seed // 2}") for seed in range(40)]
    guesses = [guess(f, seed) for seed, f in enumerate(frames)]
    units: list[int | None] = [2] * 30 + [None] * 10
    found = accuracy(Known(guesses), data(frames, units))["all"]
    energy = np.array([g.energy - f.energy for f, g in zip(frames, guesses, strict=True)])
    forces = np.array([g.forces - f.forces for f, g in zip(frames, guesses, strict=True)])
    stress = np.array([g.stress - f.stress for f, g in zip(frames, guesses, strict=True)])
    moments = np.array([g.moments - abs(f.moments) for f, g in zip(frames, guesses, strict=True)])
    charges = np.array([g.charges - f.charges for f, g in zip(frames, guesses, strict=True)])
    for name, values in {
        "energy_per_atom": 1e3 * energy / 8,
        "energy_per_formula": 1e3 * energy[:30] / 2,
        "forces": 1e3 * forces,
        "stress": 1e3 * stress,
        "moments": moments,
        "moments_of_redox_sites": moments[:, [2, 4]],
        "charges": charges,
        "charges_of_redox_sites": charges[:, [2, 4]],
    }.items():
        assert found[name]["values"] == values.size, name
        assert found[name]["rmse"] == pytest.approx((values**2).mean() ** 0.5), name
        assert found[name]["mae"] == pytest.approx(abs(values).mean()), name
        assert found[name]["mean"] == pytest.approx(values.mean()), name
    assert (found["frames"], found["configurations"]) == (40, 20)


def test_what_cannot_be_compared_is_none() -> None:
    bare = replace(frame(0, "g"), stress=None, moments=None)
    silent = replace(guess(frame(0, "g"), 0), charges=None)
    found = accuracy(Known([silent]), data([bare], [None]))
    for name in ("energy_per_formula", "stress", "moments", "charges", "charges_of_redox_sites"):
        assert found["all"][name] is None
    assert found["compositions"][0]["kendall"] is None


def test_the_order_is_that_of_the_last_frames_within_a_composition() -> None:
    frames = [frame(seed, f"g{seed // 2}") for seed in range(24)]
    for seed in range(12, 24):  # another composition, whose energies are far away
        atoms = frames[seed].atoms
        atoms.symbols[6] = "Ca"
        frames[seed] = replace(frames[seed], energy=frames[seed].energy - 500.0)
    guesses = [guess(f, seed) for seed, f in enumerate(frames)]
    found = accuracy(Known(guesses), data(frames, [None] * 24))["compositions"]
    assert [row["formula"] for row in found] == sorted(
        [formula(frames[0].atoms), formula(frames[23].atoms)]
    )
    for row in found:
        first = 1 if row["formula"] == formula(frames[0].atoms) else 13
        places = range(first, first + 11, 2)
        true = [frames[i].energy for i in places]
        said = [guesses[i].energy for i in places]
        signs = [
            np.sign(true[i] - true[j]) * np.sign(said[i] - said[j])
            for i, j in combinations(range(6), 2)
        ]
        assert row["kendall"] == pytest.approx(sum(signs) / 15)
        assert row["kendall"] == pytest.approx(kendalltau(true, said).statistic)
        assert (row["frames"], row["configurations"]) == (12, 6)


def test_progress_and_formula() -> None:
    frames = [frame(seed, "g") for seed in range(40)]
    told: list[tuple[int, int]] = []
    accuracy(
        Known([guess(f, 0) for f in frames]),
        data(frames, [None] * 40),
        lambda done, total: told.append((done, total)),
    )
    assert told == [(32, 40), (40, 40)]
    assert formula(Atoms("Na4Fe8P8O32")) == "NaFe2(PO4)2"
