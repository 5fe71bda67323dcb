"""Charge states that a potential's own moments and charges disagree with."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms

from al_charge.potentials.committee import Committee
from al_charge.potentials.drift import drifted_sites, site_means, updated
from al_charge.potentials.painn import CpainnSettings
from al_charge.potentials.potential import Potential
from al_charge.potentials.settings import PotentialSettings, TrainingSettings
from al_charge.potentials.state import SiteMeans
from al_charge.potentials.training.train import train
from al_charge.testing.potentials import TOKENS, small_salt, teacher_frames, untrained

MOMENTS = np.array([{"Fe2+": 3.7, "Fe3+": 4.3}.get(token, 0.05) for token in TOKENS])
CHARGES = np.array(
    [{"Fe2+": 1.4, "Fe3+": 1.8, "Na+": 0.9, "P5+": 3.6}.get(token, -1.2) for token in TOKENS]
)
FE3 = 4
MEANS: SiteMeans = {"moments": {"Fe2+": 3.7, "Fe3+": 4.3}, "charges": {"Fe2+": 1.4, "Fe3+": 1.8}}

BLIND = CpainnSettings(cutoff="4 A", channels=2, layers=1, radial=4, charge_aware=False)


def stretched(atoms: Atoms) -> Atoms:
    """Return the structure with longer distances: where the hole has left its site."""
    other: Atoms = atoms.copy()
    other.set_cell(1.12 * np.asarray(atoms.cell), scale_atoms=True)
    return other


@pytest.fixture(scope="module")
def potential(tmp_path_factory: pytest.TempPathFactory) -> Potential:
    """Return cPaiNN trained on sites of both states, of which one loses its hole when stretched."""
    frames = []
    lost = np.where(np.arange(len(TOKENS)) == FE3, 3.75, MOMENTS)
    for number, frame in enumerate(teacher_frames(4)):
        frames.append(replace(frame, moments=MOMENTS, charges=CHARGES))
        if number % 3 == 0:
            other = stretched(frame.atoms)
            frames.append(replace(frame, atoms=other, moments=-lost, charges=CHARGES))
    sites_alone = {"energy_weight": 0.0, "force_weight": 0.0, "stress_weight": 0.0}
    training = TrainingSettings(
        epochs=40, learning_rate=0.03, averaging=0.0, moment_weight=1.0, **sites_alone
    )
    folder = tmp_path_factory.mktemp("drift")
    settings = CpainnSettings(cutoff="4 A", channels=8, radial=6, pair_cutoff="0 A")
    trained = train(
        settings, training, frames, seed=1, fold=0, n_folds=1, checkpoint=folder / "checkpoint"
    ).potential
    config, weights = trained.state()
    return Potential.from_state(json.loads(json.dumps(config)), weights)


def test_a_site_whose_moment_is_another_states_is_flagged(potential: Potential) -> None:
    """The potential itself says so, of a geometry that it has not seen; elsewhere it does not."""
    atoms = small_salt(seed=99)
    for structure, expected in ((atoms, []), (stretched(atoms), [FE3])):
        for predictor in (potential, Committee([potential, potential])):
            (found,) = predictor.predict([structure])
            sites = drifted_sites(predictor, TOKENS, found.moments, found.charges)
            assert sites == expected, found.moments


def known(settings: PotentialSettings = BLIND, means: SiteMeans = MEANS) -> Potential:
    """Return a potential whose labels told the means of both states."""
    potential = untrained(settings)
    potential.site_means = means
    return potential


def test_moments_and_charges_are_compared_with_each_states_mean() -> None:
    """Either disagrees; signs of moments do not count; a blind potential is judged like any."""
    low = np.where(np.arange(len(TOKENS)) == FE3, 3.9, MOMENTS)
    smaller = np.where(np.arange(len(TOKENS)) == FE3, 1.5, CHARGES)
    turned = MOMENTS * np.where(np.arange(len(TOKENS)) == FE3, -1.0, 1.0)
    for moments, charges, expected in (
        (turned, CHARGES, []),
        (low, CHARGES, [FE3]),
        (MOMENTS, smaller, [FE3]),
        (low, None, [FE3]),
        (None, smaller, [FE3]),
        (np.where(np.isin(TOKENS, ["Na+", "O2-"]), 2.0, MOMENTS), None, []),  # no rival state
    ):
        assert drifted_sites(known(), TOKENS, moments, charges) == expected
    swapped = ["Fe2+" if t == "Fe3+" else "Fe3+" if t == "Fe2+" else t for t in TOKENS]
    assert drifted_sites(known(), swapped, MOMENTS, CHARGES) == [2, FE3]


def test_what_cannot_be_compared_is_none_and_not_fine() -> None:
    """Without heads, labels or another state, and where moments are an input."""
    assert drifted_sites(known(), TOKENS, None, None) is None
    assert drifted_sites(untrained(BLIND), TOKENS, MOMENTS, CHARGES) is None
    one = {"moments": {"Fe3+": 4.3}}
    assert drifted_sites(known(means=one), TOKENS, MOMENTS, None) is None
    alike = {"charges": {"Fe2+": 1.5, "Fe3+": 1.51}}
    assert drifted_sites(known(means=alike), TOKENS, None, CHARGES) is None
    assert drifted_sites(known(), ["Na+", "Mn2+"], MOMENTS[:2], None) is None
    told = known(CpainnSettings(cutoff="4 A", channels=2, layers=1, radial=4, spin=True))
    low = np.where(np.arange(len(TOKENS)) == FE3, 3.9, MOMENTS)
    assert drifted_sites(told, TOKENS, low, None) is None
    assert drifted_sites(told, TOKENS, low, CHARGES) == []
    committee = Committee([known(), untrained(BLIND)])
    assert drifted_sites(committee, TOKENS, MOMENTS, CHARGES) is None


def test_means_are_those_of_the_labels_that_tell() -> None:
    """By hand; a new label's species replace old means, and others stay."""
    first, second, silent = teacher_frames(2)[:3]
    frames = [
        replace(first, moments=MOMENTS, charges=CHARGES),
        replace(second, moments=-1.1 * MOMENTS),
        silent,
    ]
    means = site_means(frames)
    assert means["moments"]["Fe3+"] == pytest.approx(1.05 * 4.3)
    assert means["moments"]["Na+"] == pytest.approx(1.05 * 0.05)
    assert means["charges"] == pytest.approx(
        {"Fe2+": 1.4, "Fe3+": 1.8, "Na+": 0.9, "P5+": 3.6, "O2-": -1.2}
    )
    assert site_means([silent]) == {}
    newer = updated({"moments": {"Fe3+": 1.0, "Mn2+": 4.6}}, means)
    assert newer["moments"] == means["moments"] | {"Mn2+": 4.6}
    assert newer["charges"] == means["charges"]


def test_means_stay_with_the_potential() -> None:
    """Saved, loaded, and given to a child with more species."""
    potential = known()
    config, weights = potential.state()
    assert Potential.from_state(json.loads(json.dumps(config)), weights).site_means == MEANS
    assert potential.extend(["Mn2+"]).site_means == MEANS
    assert "site_means" not in untrained(BLIND).state()[0]
