"""The usual spin states, and how little a label in another one weighs where no moment is seen."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import ase.io
import numpy as np
import pytest

from al_charge.potentials.data.dataset import Reading, read_dataset
from al_charge.potentials.data.frames import TrainingFrame
from al_charge.potentials.data.spin_states import USUAL, spin_weights, typical_moments
from al_charge.potentials.vocabulary import Vocabulary
from al_charge.testing.potentials import TOKENS, teacher_frames

DATA = Path(__file__).parents[3] / "examples" / "data" / "nafepo4_gpaw_spin.extxyz"
VOCABULARY = Vocabulary.of(TOKENS, charge_aware=True)
MOMENTS = np.array([{"Fe2+": 3.7, "Fe3+": 4.3}.get(token, 0.05) for token in TOKENS])
IRON = [place for place, token in enumerate(TOKENS) if token.startswith("Fe")]


def told(off: float) -> TrainingFrame:
    """Return a frame that tells moments, of which one is off; an antiferromagnet's signs."""
    moments = MOMENTS.copy()
    moments[IRON[0]] -= off
    moments[IRON[1]] *= -1.0
    frame = replace(teacher_frames(1)[0], moments=moments)
    frame.atoms.set_array("moments", moments)
    return frame


def test_typical_moments_are_those_of_the_usual_state() -> None:
    frames = [told(off) for off in (0.0, 2.0, 0.0, 1.7, 0.0)]
    typical = typical_moments(VOCABULARY, frames)
    np.testing.assert_allclose(typical[VOCABULARY.index(TOKENS)], MOMENTS)


def test_species_without_moments_have_none() -> None:
    frames = [replace(told(0.0), moments=None)]
    assert not typical_moments(VOCABULARY, frames).any()


def test_the_weight_falls_with_the_site_that_is_furthest_off() -> None:
    typical = typical_moments(VOCABULARY, [told(0.0)])
    silent = teacher_frames(1)[0]
    frames = [told(0.0), told(0.1), told(-USUAL), told(2.0), silent]
    found = spin_weights(VOCABULARY, frames, typical)
    assert found == pytest.approx([1.0, 0.8, 0.5, 1.0 / 101.0, 1.0])


def test_real_labels_fall_apart_into_usual_and_other_states() -> None:
    """Of GPAW; whether a label is ambiguous was decided by the audit."""
    frames = read_dataset(DATA, Reading(share_moments=True)).frames
    ambiguous = np.array([image.info["ambiguous"] for image in ase.io.iread(DATA)])
    vocabulary = Vocabulary.of(
        {str(token) for frame in frames for token in frame.atoms.arrays["species"]},
        charge_aware=True,
    )
    weights = spin_weights(vocabulary, frames, typical_moments(vocabulary, frames))
    assert weights[~ambiguous].min() > 0.6
    assert weights[ambiguous].max() < 0.25
