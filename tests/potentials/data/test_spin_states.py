"""The usual spin states, and how little a label in another one weighs where no moment is seen."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import ase.io
import numpy as np
import pytest

from al_charge.potentials.data.dataset import Reading, read_dataset
from al_charge.potentials.data.frames import TrainingFrame
from al_charge.potentials.data.spin_states import MOMENT_WIDTH, spin_weights, typical_moments
from al_charge.potentials.vocabulary import Vocabulary
from al_charge.testing.potentials import TOKENS, teacher_frames

DATA = Path(__file__).parents[3] / "examples" / "data" / "nafepo4_gpaw_spin.extxyz"
VOCABULARY = Vocabulary.of(TOKENS, charge_aware=True)
MOMENTS = np.array([{"Fe2+": 3.7, "Fe3+": 4.3}.get(token, 0.05) for token in TOKENS])
IRON = [place for place, token in enumerate(TOKENS) if token.startswith("Fe")]
OXYGEN = TOKENS.index("O2-")


def told(off: float, site: int = IRON[0]) -> TrainingFrame:
    """Return a frame that tells moments, of which one is off; an antiferromagnet's signs."""
    moments = MOMENTS.copy()
    moments[site] -= off
    moments[IRON[1]] *= -1.0
    frame = replace(teacher_frames(1)[0], moments=moments)
    frame.atoms.set_array("moments", moments)
    return frame


def test_typical_moments_are_those_of_the_usual_state() -> None:
    frames = [told(off) for off in (0.0, 2.0, 0.0, 1.7, 0.0)]
    typical = typical_moments(VOCABULARY, frames)
    np.testing.assert_allclose(typical[VOCABULARY.index(TOKENS)], MOMENTS)


def test_no_moment_is_known_without_a_label_that_has_it() -> None:
    """Unlike one that is zero, as of a low-spin ion."""
    assert np.isnan(typical_moments(VOCABULARY, [replace(told(0.0), moments=None)])).all()
    zero = replace(told(0.0), moments=np.zeros(len(TOKENS)))
    assert not typical_moments(VOCABULARY, [zero]).any()


def test_the_weight_falls_with_the_cation_that_is_furthest_off() -> None:
    silent = teacher_frames(1)[0]
    frames = [told(0.0), told(0.0), told(0.0), told(0.1), told(-MOMENT_WIDTH), told(2.0), silent]
    found = spin_weights(frames)
    assert found == pytest.approx([1.0, 1.0, 1.0, 0.8, 0.5, 1.0 / 101.0, 1.0])


def test_moments_that_anions_are_lent_do_not_count() -> None:
    frames = [told(0.0), told(0.0), told(-0.3, OXYGEN)]
    assert spin_weights(frames) == pytest.approx([1.0, 1.0, 1.0])


def test_the_largest_weight_is_one() -> None:
    """So that penalties stand where they were found to work, even between two spin states."""
    assert spin_weights([told(0.0), told(2.0)]) == pytest.approx([1.0, 1.0])
    assert spin_weights([told(0.3), told(0.3)]) == pytest.approx([1.0, 1.0])


def test_states_are_told_apart_for_potentials_that_do_not() -> None:
    """A blind one has one row for both irons; a cell of Fe2+ is as usual as one of Fe3+."""
    frames = []
    for token, moment in (("Fe2+", 3.7), ("Fe3+", 4.3), ("Fe3+", 4.3)):
        frame = teacher_frames(1)[0]
        species, moments = np.array(TOKENS), MOMENTS.copy()
        species[IRON], moments[IRON] = token, moment
        frame.atoms.set_array("species", species)
        frame.atoms.set_array("moments", moments)
        frames.append(frame)
    assert spin_weights(frames) == pytest.approx([1.0, 1.0, 1.0])


def test_real_labels_fall_apart_into_usual_and_other_states() -> None:
    """Of GPAW; whether a label is ambiguous was decided by the audit."""
    frames = read_dataset(DATA, Reading(share_moments=True)).frames
    ambiguous = np.array([image.info["ambiguous"] for image in ase.io.iread(DATA)])
    weights = spin_weights(frames)
    assert weights[~ambiguous].min() > 0.8
    assert weights[ambiguous].max() < 0.1
