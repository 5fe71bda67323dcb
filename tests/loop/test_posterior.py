"""What is known of all energies together: sizes from the bars, likeness from the labels alone."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from al_charge.crystal.configuration import Configuration
from al_charge.crystal.enumeration import enumerate_distinct
from al_charge.crystal.host import Host
from al_charge.crystal.symmetry import canonical_hash
from al_charge.loop.campaign import Campaign
from al_charge.loop.cells import Cells
from al_charge.loop.posterior import (
    Posterior,
    fit_posterior,
    observations,
    of_minima,
    relaxed_candidates,
)
from al_charge.store.documents import Assessment, Calibration, CandidateDoc, Geometry
from al_charge.store.labels import LabelSummary
from al_charge.surrogate.polynomial import occupations_of
from al_charge.surrogate.surrogate import fit_surrogate

BARS = Calibration(floor=0.004, scale=2.0)
NOWHERE = Geometry(numbers=[], positions=[], cell=[], species=[], host_site=[])


def label(host: Host, config: Configuration, energy: float, **changes: Any) -> LabelSummary:
    n_ions = sum(site > 0 for site in config.occupation[: len(host.ion_sites)])
    fields = {
        "key": f"{canonical_hash(host, config)}{energy}",
        "config_hash": canonical_hash(host, config),
        "colours": list(config.occupation),
        "energy": energy * host.formula_units,
        "n_ions": n_ions,
        "composition": str(host.composition(n_ions)),
        "refusal": None,
    }
    return cast(LabelSummary, SimpleNamespace(**(fields | changes)))


def candidate(host: Host, config: Configuration, energy: float, bar: float) -> CandidateDoc:
    n_ions = sum(site > 0 for site in config.occupation[: len(host.ion_sites)])
    return CandidateDoc(
        campaign="c",
        round=1,
        n_ions=n_ions,
        composition=str(host.composition(n_ions)),
        config_hash=canonical_hash(host, config),
        colours=list(config.occupation),
        geometry=NOWHERE,
        energy=energy * host.formula_units,
        spread=bar * host.formula_units,
        origin="search",
    )


@pytest.fixture(scope="module")
def campaign(olivine_doubled: Host) -> Campaign:
    rounds = {1: assessed(BARS), 3: assessed(None)}
    store = SimpleNamespace(rounds=SimpleNamespace(get=lambda name, number: rounds.get(number)))
    return cast(
        Campaign,
        SimpleNamespace(
            name="c",
            host=olivine_doubled,
            cells=Cells((olivine_doubled,)),
            store=store,
            static_labels=False,
        ),
    )


def assessed(calibration: Calibration | None) -> SimpleNamespace:
    found = Assessment(
        spread_scale=2.0, vertices=[], labels=0, criteria=[], calibration=calibration
    )
    return SimpleNamespace(assessment=found)


@pytest.mark.parametrize(("number", "bar"), [(1, 0.003), (2, 0.005), (4, 0.003)])
def test_bars_are_those_that_the_round_before_has_calibrated(
    campaign: Campaign, configs: list[Configuration], number: int, bar: float
) -> None:
    """The spread is scaled already; round 0 is not known here, round 3 of an earlier version."""
    one = candidate(campaign.host, configs[7], -5.0, 0.003)
    (found,) = observations(campaign, [], [one.model_copy(update={"round": number})])
    assert found.noise == pytest.approx(bar)
    (found,) = observations(campaign, [], [one], Calibration(floor=0.04))
    assert found.noise == pytest.approx(np.hypot(0.04, 0.003))


@pytest.fixture(scope="module")
def configs(olivine_doubled: Host) -> list[Configuration]:
    host = olivine_doubled
    rng = np.random.default_rng(3)
    every = [one for n in host.ion_counts for one in enumerate_distinct(host, n)]
    inner = [every[i] for i in rng.permutation(np.arange(1, len(every) - 1))[:58]]
    return [every[0], every[-1], *inner]


@pytest.fixture(scope="module")
def energies(olivine_doubled: Host, configs: list[Configuration]) -> np.ndarray:
    """A line, a bowl, and noise: no lattice model is exact."""
    ions = len(olivine_doubled.ion_sites)
    x = np.array([np.mean(np.array(one.occupation[:ions]) > 0) for one in configs])
    return -50.0 - 3 * x - 0.2 * x * (1 - x) + 0.02 * np.random.default_rng(1).normal(size=len(x))


@pytest.fixture(scope="module")
def known(
    campaign: Campaign, configs: list[Configuration], energies: np.ndarray
) -> tuple[list[LabelSummary], list[CandidateDoc]]:
    host = campaign.host
    bars = np.random.default_rng(2).uniform(0.005, 0.05, len(configs))
    labels = [label(host, one, e) for one, e in zip(configs[:20], energies[:20], strict=True)]
    rest = zip(configs[20:40], energies[20:40], bars[20:40], strict=True)
    return labels, [candidate(host, *one) for one in rest]


@pytest.fixture(scope="module")
def posterior(
    campaign: Campaign, known: tuple[list[LabelSummary], list[CandidateDoc]]
) -> Posterior:
    return fit_posterior(campaign, *known)


def test_of_each_configuration_the_lowest_usable_label_is_exact(
    campaign: Campaign, configs: list[Configuration]
) -> None:
    host, one = campaign.host, configs[5]
    labels = [
        label(host, one, -2.0),
        label(host, one, -3.0),
        label(host, one, -4.0, refusal="ambiguous"),
        label(host, configs[6], -1.0, delocalised=True),
    ]
    found = observations(campaign, labels, [candidate(host, configs[7], -5.0, 0.03)])
    assert {o.config: (o.energy, o.noise) for o in found} == {
        one: (pytest.approx(-3.0), 0.0),
        configs[6]: (pytest.approx(-1.0), 0.0),
        configs[7]: (pytest.approx(-5.0), pytest.approx(0.03)),
    }
    assert len(found) == 3


def test_a_candidate_without_an_energy_says_nothing(
    campaign: Campaign, configs: list[Configuration]
) -> None:
    unknown = candidate(campaign.host, configs[3], 0.0, 0.0).model_copy(update={"energy": None})
    assert observations(campaign, [], [unknown]) == []


def test_candidates_have_the_energies_and_bars_of_the_committee(
    campaign: Campaign, posterior: Posterior, known: Any
) -> None:
    _, candidates = known
    found = relaxed_candidates(campaign, posterior, candidates)
    units = campaign.host.formula_units
    assert found.mean == pytest.approx([one.energy / units for one in candidates])
    assert found.deviation == pytest.approx([one.spread / units for one in candidates])


def test_their_errors_are_as_alike_as_those_of_a_surrogate_that_knows_the_labels_alone(
    campaign: Campaign, posterior: Posterior, known: Any
) -> None:
    labels, candidates = known
    covariance = relaxed_candidates(campaign, posterior, candidates).covariance()
    deviation = np.sqrt(np.diag(covariance))
    alone = fit_surrogate(observations(campaign, labels))
    rows = np.array([one.colours for one in candidates], dtype=np.int8)
    expected = alone.predict(campaign.host, rows).covariance()
    scale = np.sqrt(np.diag(expected))
    found = covariance / np.outer(deviation, deviation)
    assert found == pytest.approx(expected / np.outer(scale, scale), abs=1e-9)
    assert np.abs(found - np.eye(len(found))).max() > 0.05


def test_what_nobody_relaxed_has_the_surrogates_error_and_the_committees(
    campaign: Campaign, posterior: Posterior, known: Any, configs: list[Configuration]
) -> None:
    labels, candidates = known
    rows = occupations_of(configs[40:], campaign.host)
    plain = fit_surrogate(observations(campaign, labels, candidates)).predict(campaign.host, rows)
    units = campaign.host.formula_units
    bar = np.sqrt(np.mean([(one.spread / units) ** 2 for one in candidates]))
    found = posterior.unrelaxed(campaign.host, rows)
    assert found.mean == pytest.approx(plain.mean)
    assert found.deviation == pytest.approx(
        np.sqrt(bar**2 + (posterior.widening * plain.deviation) ** 2)
    )
    mean, deviation = posterior.screen(campaign.host, rows)
    assert mean == pytest.approx(found.mean)
    assert deviation == pytest.approx(found.deviation)


def test_the_two_kinds_share_the_committees_error(
    campaign: Campaign, posterior: Posterior, known: Any
) -> None:
    """Were a candidate not relaxed, its error would go with that of the candidate it was."""
    rows = np.array([one.colours for one in known[1]], dtype=np.int8)
    one = relaxed_candidates(campaign, posterior, known[1])
    other = posterior.unrelaxed(campaign.host, rows)
    shape = posterior.shape.predict(campaign.host, rows)
    shared = (shape.root**2).sum(axis=1) / shape.deviation**2
    across = (one.root * other.root).sum(axis=1)
    assert across == pytest.approx(shared * one.deviation * posterior.bar)


def test_another_geometry_of_a_labelled_configuration_errs_for_itself(
    campaign: Campaign, posterior: Posterior, configs: list[Configuration]
) -> None:
    rows = occupations_of([configs[5], configs[50]], campaign.host)
    found = posterior.relaxed(campaign.host, rows, np.array([0.0, 0.0]), np.array([0.01, 0.02]))
    assert found.covariance() == pytest.approx(np.diag([0.01**2, 0.02**2]))


def test_a_surrogate_that_errs_more_than_it_says_is_widened(posterior: Posterior) -> None:
    error, deviation = posterior.surrogate.left_out()
    ratio = np.sqrt(np.mean((error / deviation) ** 2))
    assert posterior.widening == pytest.approx(max(1.0, ratio))


def test_static_labels_of_ideal_sites_are_what_was_learnt_not_what_is_known(
    campaign: Campaign, known: Any, configs: list[Configuration], energies: np.ndarray
) -> None:
    labels, candidates = known
    static = cast(Campaign, SimpleNamespace(**{**vars(campaign), "static_labels": True}))
    facts = [{"used": int(i > 5), "relax": "ions" if i == 0 else "none"} for i in range(20)]
    told = [SimpleNamespace(**{**vars(one), **f}) for one, f in zip(labels, facts, strict=True)]
    kept = [told[0], *told[6:]]
    assert of_minima(static, cast(Any, told)) == kept
    assert of_minima(campaign, cast(Any, told)) == told
    found = fit_posterior(static, cast(Any, told), candidates)
    rows = occupations_of(configs[40:], campaign.host)
    expected = fit_surrogate(observations(campaign, cast(Any, kept), candidates))
    learnt = fit_surrogate(observations(campaign, labels))
    means = expected.predict(campaign.host, rows).mean
    assert found.surrogate.predict(campaign.host, rows).mean == pytest.approx(means)
    likeness = learnt.predict(campaign.host, rows).deviation
    assert found.shape.predict(campaign.host, rows).deviation == pytest.approx(likeness)
    # Of ideal sites alone: better than nothing.
    first = fit_posterior(static, cast(Any, told[1:6]), [])
    assert len(first.surrogate.observations) == 5


def test_without_candidates_the_labels_alone_are_known(
    campaign: Campaign, known: Any, configs: list[Configuration]
) -> None:
    found = fit_posterior(campaign, known[0], [])
    assert found.bar == 0
    rows = occupations_of(configs[:20], campaign.host)
    assert found.unrelaxed(campaign.host, rows).deviation == pytest.approx(np.zeros(20), abs=1e-9)
