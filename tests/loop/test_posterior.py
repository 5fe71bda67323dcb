"""What is known of all energies together: labels, and what a committee says beside them."""

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
    fit_posterior,
    lower_one,
    observations,
    of_minima,
    predicted_together,
)
from al_charge.store.documents import Assessment, Calibration, CandidateDoc, Geometry
from al_charge.store.labels import LabelSummary
from al_charge.surrogate.polynomial import occupations_of
from al_charge.surrogate.posterior import WIDER, Posterior, alike, combine
from al_charge.surrogate.surrogate import Surrogate, fit_surrogate

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
            spec=SimpleNamespace(convergence=SimpleNamespace(hull_tolerance=0.005)),
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
    _, (found,) = observations(campaign, [], [one.model_copy(update={"round": number})])
    assert found.noise == pytest.approx(bar)
    _, (found,) = observations(campaign, [], [one], Calibration(floor=0.04))
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
    others = [candidate(host, configs[7], -5.0, 0.03), candidate(host, one, -9.0, 0.01)]
    labelled, (predicted,) = observations(campaign, labels, others)
    assert {o.config: (o.energy, o.noise) for o in labelled} == {
        one: (pytest.approx(-3.0), 0.0),
        configs[6]: (pytest.approx(-1.0), 0.0),
    }
    assert len(labelled) == 2
    assert (predicted.config, predicted.energy) == (configs[7], pytest.approx(-5.0))
    assert predicted.noise == pytest.approx(0.03)


def test_a_candidate_without_an_energy_says_nothing(
    campaign: Campaign, configs: list[Configuration]
) -> None:
    unknown = candidate(campaign.host, configs[3], 0.0, 0.0).model_copy(update={"energy": None})
    assert observations(campaign, [], [unknown]) == ([], [])


def test_what_a_committee_says_errs_as_a_surrogate_that_knows_the_labels_alone(
    campaign: Campaign, known: Any, configs: list[Configuration]
) -> None:
    """As large as its bar, and as alike as that surrogate's errors are."""
    labels, candidates = known
    learnt = fit_surrogate(observations(campaign, labels)[0])
    _, noisy = observations(campaign, [], candidates)
    found = alike(noisy, learnt)
    common, own = np.array([one.common for one in found]), [one.noise for one in found]
    covariance = common @ common.T + np.diag(np.square(own))
    bars = np.array([one.noise for one in noisy])
    assert np.sqrt(np.diag(covariance)) == pytest.approx(bars)
    rows = np.array([one.colours for one in candidates], dtype=np.int8)
    expected = learnt.predict(campaign.host, rows).covariance()
    scale = np.sqrt(np.diag(expected))
    likeness = covariance / np.outer(bars, bars)
    assert likeness == pytest.approx(expected / np.outer(scale, scale), abs=1e-9)
    assert np.abs(likeness - np.eye(len(likeness))).max() > 0.05
    # Another geometry of a labelled configuration errs for itself.
    other = [candidate(campaign.host, configs[5], -50.0, 0.01)]
    (again,) = alike(observations(campaign, [], other, None, learnt)[1], learnt)
    assert (again.noise, len(again.common)) == (pytest.approx(0.01), 0)


def test_the_less_a_surrogate_knows_of_a_candidate_the_less_a_committee_does(
    campaign: Campaign, known: Any, configs: list[Configuration]
) -> None:
    """Members that have learnt the same labels may agree on what is wrong."""
    labels, candidates = known
    learnt = fit_surrogate(observations(campaign, labels)[0])
    other = candidate(campaign.host, configs[5], -50.0, 0.01)
    x = next(one.composition for one in candidates if one.composition != other.composition)
    calibration = Calibration(floor=0.004, share=0.6, factors={x: 2.0})
    _, found = observations(campaign, [], candidates, calibration, learnt)
    rows = np.array([one.colours for one in candidates], dtype=np.int8)
    deviation = learnt.predict(campaign.host, rows).deviation
    spread = np.array([one.spread or 0.0 for one in candidates]) / campaign.host.formula_units
    factor = np.array([2.0 if one.composition == x else 1.0 for one in candidates])
    bars = factor * np.sqrt(0.004**2 + spread**2 + (0.6 * deviation) ** 2)
    assert [one.noise for one in found] == pytest.approx(bars)
    assert deviation.max() > 1.2 * deviation.min() and 1 < factor.sum() - len(factor) < len(factor)
    _, (again,) = observations(campaign, [], [other], calibration, learnt)
    assert again.noise == pytest.approx(np.hypot(0.004, 0.01))  # of a configuration that it knows


def test_committee_and_surrogate_are_weighed_by_how_sure_they_are(
    campaign: Campaign, known: Any, configs: list[Configuration], energies: np.ndarray
) -> None:
    labels, _ = known
    host, one = campaign.host, configs[30]
    rows = occupations_of([one], host)
    alone = fit_posterior(campaign, labels, []).predict(host, rows)
    said = float(alone.mean[0]) + 0.01
    sure, unsure = (
        predicted_together(campaign, fit_posterior(campaign, labels, [told]), [told])
        for told in (candidate(host, one, said, bar) for bar in (1e-4, 1.0))
    )
    assert sure.mean == pytest.approx([said], abs=1e-4)
    assert sure.deviation == pytest.approx([WIDER * 1e-4], rel=0.1)
    assert unsure.mean == pytest.approx(alone.mean, abs=1e-4)
    assert unsure.deviation == pytest.approx(alone.deviation, rel=0.01)
    # In between, as two independent measurements: by one of scales that are averaged over.
    bar = float(alone.deviation[0]) / fit_posterior(campaign, labels, []).widening
    told = candidate(host, one, said, bar)
    both = predicted_together(campaign, fit_posterior(campaign, labels, [told]), [told])
    assert both.mean == pytest.approx([said - 0.005], abs=1e-3)
    widened = alone.deviation / np.sqrt(2)
    assert both.deviation == pytest.approx(widened, rel=0.1)


def test_all_are_one_distribution_that_left_out_labels_widen(
    campaign: Campaign, posterior: Posterior, known: Any, configs: list[Configuration]
) -> None:
    _, candidates = known
    host, wider = campaign.host, posterior.widening
    some = predicted_together(campaign, posterior, candidates)
    rows = occupations_of(configs[20:], host)
    every = posterior.predict(host, rows)
    assert some.mean == pytest.approx(every.mean[:20])
    assert some.root == pytest.approx(every.root[:20])
    plain = posterior.surrogate.predict(host, rows)
    assert every.mean == pytest.approx(plain.mean)
    assert every.covariance() == pytest.approx(wider**2 * plain.covariance())
    mean, deviation = posterior.screen(host, rows)
    assert mean == pytest.approx(every.mean)
    assert deviation == pytest.approx(every.deviation)


def test_the_lower_of_a_label_and_what_is_predicted() -> None:
    """Against draws."""
    drawn = np.random.default_rng(0).normal(size=1_000_000)
    for depth, deviation in ((0.001, 0.010), (0.010, 0.010), (0.030, 0.010)):
        lower = np.minimum(-3.0, -3.0 - depth + deviation * drawn)
        found = lower_one(-3.0, -3.0 - depth, deviation)
        assert found == pytest.approx((lower.mean(), lower.std()), abs=3e-5)


def test_a_static_label_bounds_the_energy_of_its_configuration(
    campaign: Campaign, known: Any, configs: list[Configuration], energies: np.ndarray
) -> None:
    """Else a false minimum of a potential, once labelled, is the energy of its configuration."""
    host, (labels, _) = campaign.host, known
    static = cast(Campaign, SimpleNamespace(**{**vars(campaign), "static_labels": True}))
    told = [SimpleNamespace(**vars(one), used=1, relax="none") for one in labels]
    told[8] = SimpleNamespace(**vars(labels[8]), used=1, relax="ions")
    later = {"round": 2}  # its committee has learnt the labels of round 1
    moved = {7: -0.05, 8: -0.05, 9: 0.05, 10: -0.004}
    candidates = [
        candidate(host, configs[i], energies[i] + by, 0.006).model_copy(update=later)
        for i, by in moved.items()
    ]
    found, predicted = observations(static, cast(Any, told), candidates)
    by_config = {one.config: (one.energy, one.noise) for one in found}
    assert not predicted and len(by_config) == 20
    bar = float(np.hypot(BARS.floor, 0.006))
    expected = lower_one(energies[7], energies[7] - 0.05, bar)
    assert by_config.pop(configs[7]) == pytest.approx(expected)
    assert by_config == {configs[i]: (pytest.approx(energies[i]), 0.0) for i in range(20) if i != 7}
    rows = occupations_of([configs[7]], host)
    bounded, exact = (
        fit_posterior(one, cast(Any, told), candidates).predict(host, rows)
        for one in (static, campaign)
    )
    assert exact.mean == pytest.approx(energies[7:8])
    assert bounded.mean == pytest.approx(energies[7:8] - 0.05, abs=bar)
    assert 0.5 * bar < bounded.deviation < 1.5 * bar
    # A bar of 0 would make it a label.
    sure = [candidates[0].model_copy(update={"spread": 0.0, "round": 1})]
    (found_sure,), _ = observations(static, cast(Any, told[7:8]), sure, Calibration())
    assert found_sure.noise > 0


@pytest.mark.parametrize("newest", [False, True])
def test_what_a_label_has_refuted_does_not_count(
    campaign: Campaign, configs: list[Configuration], energies: np.ndarray, newest: bool
) -> None:
    """A candidate of the label's own round, unless the committee of that round predicts it."""
    host = campaign.host
    static = cast(Campaign, SimpleNamespace(**{**vars(campaign), "static_labels": True}))
    made = label(host, configs[7], energies[7], used=1, relax="none")
    one = candidate(host, configs[7], energies[7] - 0.05, 0.004)
    assert one.round == 1
    (found,), _ = observations(static, [made], [one], Calibration() if newest else None)
    assert (found.noise > 0) is newest
    assert found.energy == pytest.approx(energies[7] - 0.05 * newest, abs=0.001)


def test_a_surrogate_that_errs_more_than_it_says_is_widened(
    posterior: Posterior, monkeypatch: pytest.MonkeyPatch
) -> None:
    exact = np.array([one.noise == 0 for one in posterior.surrogate.observations])
    error, deviation = posterior.surrogate.left_out()
    ratio = np.sqrt(np.mean((error / deviation)[exact] ** 2))
    assert posterior.widening == pytest.approx(WIDER * max(1.0, ratio))
    for factor, expected in ((3.0 / ratio, 3.0 * WIDER), (0.5 / ratio, WIDER)):
        wrong = np.where(exact, factor, 1000.0) * error
        monkeypatch.setattr(Surrogate, "left_out", lambda self, e=wrong: (e, deviation))
        assert Posterior(posterior.surrogate).widening == pytest.approx(expected)


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
    learnt = fit_surrogate(observations(campaign, labels)[0])
    minima, noisy = observations(campaign, cast(Any, kept), candidates)
    expected = combine(minima, noisy, learnt).predict(campaign.host, rows)
    assert found.predict(campaign.host, rows).mean == pytest.approx(expected.mean)
    assert found.predict(campaign.host, rows).deviation == pytest.approx(expected.deviation)
    other = combine(minima, noisy, fit_surrogate(minima)).predict(campaign.host, rows)
    assert np.abs(other.mean - expected.mean).max() > 1e-3
    # Of ideal sites alone: better than nothing.
    first = fit_posterior(static, cast(Any, told[1:6]), [])
    assert len(first.surrogate.observations) == 5


def test_without_candidates_the_labels_alone_are_known(
    campaign: Campaign, known: Any, configs: list[Configuration]
) -> None:
    found = fit_posterior(campaign, known[0], [])
    rows = occupations_of(configs[:20], campaign.host)
    assert found.predict(campaign.host, rows).deviation == pytest.approx(np.zeros(20), abs=1e-9)
