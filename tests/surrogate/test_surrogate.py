"""The surrogate: against a process written with its kernel, and on energies that are known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from al_charge.crystal.configuration import Configuration
from al_charge.crystal.enumeration import enumerate_distinct
from al_charge.crystal.host import Host
from al_charge.crystal.symmetry import permutations
from al_charge.errors import InputError
from al_charge.surrogate import design, surrogate
from al_charge.surrogate.clusters import Clusters, features
from al_charge.surrogate.polynomial import occupations_of
from al_charge.surrogate.regression import Scale
from al_charge.surrogate.surrogate import Observation, Surrogate, fit_surrogate

Draw = Callable[..., NDArray[np.int8]]


def x_of(host: Host, occupations: NDArray[np.int8]) -> NDArray[np.float64]:
    ions = host.inert_ions + (occupations[:, : len(host.ion_sites)] > 0).sum(axis=1)
    return np.array([float(host.composition(int(n))) for n in ions])


def made_up(host: Host, reference: Host, occupations: NDArray[np.int8]) -> NDArray[np.float64]:
    """Return energies of pairs, some of the Ewald energy, and a curve in x."""
    values = features(host, Clusters(reference, 5.0)).of(occupations)
    x = x_of(host, occupations)
    pairs = 0.1 * values[:, 1:-1] @ np.cos(np.arange(values.shape[1] - 2))
    return -100 + 7 * x - 0.2 * np.sin(2 * x) + pairs + 0.05 * values[:, -1]


def observed(
    host: Host, occupations: NDArray[np.int8], energies: NDArray[np.float64], noise: float = 0.0
) -> list[Observation]:
    configs = [Configuration(tuple(row.tolist())) for row in occupations]
    return [Observation(host, c, float(e), noise) for c, e in zip(configs, energies, strict=True)]


@pytest.fixture(scope="module")
def every(olivine_doubled: Host) -> NDArray[np.int8]:
    configs = [c for n in range(9) for c in enumerate_distinct(olivine_doubled, n)]
    return occupations_of(configs, olivine_doubled)


@pytest.fixture(scope="module")
def fitted(olivine_doubled: Host, every: NDArray[np.int8]) -> Surrogate:
    """Fitted to some labels of made-up energies with noise of their own, and to predictions."""
    rng = np.random.default_rng(0)
    energies = made_up(olivine_doubled, olivine_doubled, every)
    energies += 0.004 * rng.standard_normal(len(energies))
    labels = observed(olivine_doubled, every[::25], energies[::25])
    committee = energies[7::40] + 0.01 * rng.standard_normal(len(energies[7::40]))
    alike = 0.01 * rng.standard_normal((len(committee), 3))
    told = observed(olivine_doubled, every[7::40], committee + alike @ [0.5, -1.0, 0.8], 0.01)
    told = [replace(one, common=row) for one, row in zip(told, alike, strict=True)]
    return fit_surrogate(labels + told, triplet_cutoff=4.5)


def test_small_cells_tell_the_energies_of_large_ones(
    olivine: Host, olivine_doubled: Host, randomly: Draw
) -> None:
    small = occupations_of(
        [c for n in olivine.ion_counts for c in enumerate_distinct(olivine, n)], olivine
    )
    large = randomly(olivine_doubled, 60)
    some = observed(olivine, small, made_up(olivine, olivine, small))
    some += observed(olivine_doubled, large[:30], made_up(olivine_doubled, olivine, large[:30]))
    surrogate = fit_surrogate(some, triplet_cutoff=0.0)
    mean, deviation = surrogate.screen(olivine_doubled, large[30:])
    error = mean - made_up(olivine_doubled, olivine, large[30:])
    assert np.abs(error).max() < 0.002
    assert np.sqrt((error**2).mean()) < 0.25 * np.std(error + mean)
    assert (np.abs(error) < 3 * deviation + 1e-9).mean() > 0.9


@pytest.fixture(scope="module")
def fixed(fitted: Surrogate) -> Surrogate:
    """The same with scales of the prior that are given."""
    with pytest.MonkeyPatch.context() as patch:
        given = {name: Scale(scale.usual, 1e-6) for name, scale in design.SCALES.items()}
        patch.setattr(design, "SCALES", given)
        patch.setattr(surrogate, "NUGGET", Scale(surrogate.NUGGET.usual, 1e-6))
        return fit_surrogate(fitted.observations)


def kernel_of(
    fixed: Surrogate, host: Host, rows: NDArray[np.int8]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the covariance of energies before any was observed, and the line under them."""
    values, line = fixed._design(host, rows)
    groups, scales = design.groups_of(fixed.clusters, values.shape[1])
    prior = np.where(groups < 0, 1.0, np.array([scale.usual for scale in scales])[groups])
    same = (rows[:, None] == rows[None]).all(axis=2)
    return (values * prior**2) @ values.T + surrogate.NUGGET.usual**2 * same, line


def errors_of(fixed: Surrogate) -> NDArray[np.float64]:
    """Return the covariance of the errors of what was observed."""
    seen = fixed.observations
    common = np.array([one.common if len(one.common) else np.zeros(3) for one in seen])
    return common @ common.T + np.diag([one.noise**2 for one in seen])


def test_mean_and_covariance_are_those_of_the_kernel(
    fixed: Surrogate, olivine_doubled: Host, every: NDArray[np.int8]
) -> None:
    host, seen = olivine_doubled, fixed.observations
    asked = np.concatenate([every[3:300:13], every[[0, 25, 7, 47]]])  # the last are observed
    rows = np.concatenate([occupations_of([one.config for one in seen], host), asked])
    kernel, line = kernel_of(fixed, host, rows)
    n = len(seen)
    of_seen = kernel[:n, :n] + errors_of(fixed)
    energies = np.array([one.energy for one in seen]) - line[:n]
    mean = line[n:] + kernel[n:, :n] @ np.linalg.solve(of_seen, energies)
    covariance = kernel[n:, n:] - kernel[n:, :n] @ np.linalg.solve(of_seen, kernel[:n, n:])
    found = fixed.predict(host, asked)
    assert found.mean == pytest.approx(mean, abs=1e-5)
    assert found.covariance() == pytest.approx(covariance, abs=1e-8)
    assert found.deviation == pytest.approx(np.sqrt(np.diag(found.covariance())))


def test_errors_that_are_alike_do_not_tell_the_scales(fitted: Surrogate) -> None:
    labels = [one for one in fitted.observations if not len(one.common)]
    assert 0 < len(labels) < len(fitted.observations)
    alone = fit_surrogate(labels, triplet_cutoff=4.5)
    # The line that is taken off before differs a little.
    assert fitted.fitted.scales == pytest.approx(alone.fitted.scales, rel=1e-3)
    assert fitted.fitted.nugget == pytest.approx(alone.fitted.nugget, rel=3e-3)
    rest = [one for one in fitted.observations if len(one.common)]
    assert np.isfinite(fit_surrogate(rest).fitted.scales).all()


def test_labels_are_returned_in_every_image(fitted: Surrogate, olivine_doubled: Host) -> None:
    group = permutations(olivine_doubled)
    for one in (fitted.observations[5], fitted.observations[-5]):
        images = np.unique(one.config.as_array()[group], axis=0)
        found = fitted.predict(olivine_doubled, images)
        if one.noise:
            assert 0 < found.deviation.min() < np.hypot(one.noise, np.linalg.norm(one.common))
        else:
            assert found.mean == pytest.approx(one.energy)
            assert found.deviation == pytest.approx(0.0)


def test_the_polynomial_is_the_mean(
    fitted: Surrogate, olivine_doubled: Host, every: NDArray[np.int8]
) -> None:
    known = {one.config for one in fitted.observations}
    for n in (0, 3, 8):
        configs = enumerate_distinct(olivine_doubled, n)
        left = occupations_of([c for c in configs if c not in known], olivine_doubled)
        energy = fitted.energy(olivine_doubled, n)
        mean, _ = fitted.screen(olivine_doubled, left)
        assert energy.of(left) == pytest.approx(mean, abs=1e-8)


def test_bars_hold(fitted: Surrogate, olivine_doubled: Host, every: NDArray[np.int8]) -> None:
    rng = np.random.default_rng(0)
    energies = made_up(olivine_doubled, olivine_doubled, every)
    energies += 0.004 * rng.standard_normal(len(energies))
    mean, deviation = fitted.screen(olivine_doubled, every)
    far = deviation > 0.003
    scores = np.abs(energies - mean)[far] / deviation[far]
    assert 0.58 < (scores < 1).mean() < 0.8
    assert 0.9 < (scores < 1.96).mean() < 0.99


def test_of_many_the_lowest_are_exact_and_no_other_is_told_too_certain(
    fitted: Surrogate,
    olivine_doubled: Host,
    every: NDArray[np.int8],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    known = {one.config.occupation for one in fitted.observations}
    rows = np.array([row for row in every.tolist() if tuple(row) not in known], dtype=np.int8)
    mean, deviation = fitted.screen(olivine_doubled, rows)
    monkeypatch.setattr(surrogate, "AT_ONCE", 7)
    monkeypatch.setattr(surrogate, "EXACT", 60)
    found, told = fitted.screen(olivine_doubled, rows)
    lowest, others = np.split(np.argsort(mean), [60])
    assert found == pytest.approx(mean, abs=1e-8)
    assert told[lowest] == pytest.approx(deviation[lowest])
    assert told[others] == pytest.approx(deviation.max())  # all are in the sample
    assert deviation[others].min() < 0.9 * deviation.max()
    monkeypatch.setattr(surrogate, "SAMPLED", 5)  # the same ones each time
    _, few = fitted.screen(olivine_doubled, rows)
    assert few[others].max() < deviation.max()
    for _ in range(3):
        assert np.array_equal(fitted.screen(olivine_doubled, rows)[1], few)


def test_a_cell_may_have_one_observation(olivine: Host, olivine_doubled: Host) -> None:
    some = [Observation(olivine, one, -3.0) for one in enumerate_distinct(olivine, 2)[:3]]
    large = enumerate_distinct(olivine_doubled, 3)[5]
    found = fit_surrogate([*some, Observation(olivine_doubled, large, -4.0)])
    known = found.predict(olivine_doubled, occupations_of([large], olivine_doubled))
    assert known.mean == pytest.approx([-4.0])


def test_left_out_is_what_the_others_say_by_the_kernel(
    fixed: Surrogate, olivine_doubled: Host
) -> None:
    host, seen = olivine_doubled, fixed.observations
    errors, deviations = fixed.left_out()
    kernel, line = kernel_of(fixed, host, occupations_of([one.config for one in seen], host))
    kernel += errors_of(fixed)
    energies = np.array([one.energy for one in seen]) - line
    for i in (0, 11, len(seen) - 1):
        others = np.arange(len(seen)) != i
        weights = np.linalg.solve(kernel[np.ix_(others, others)], kernel[others, i])
        assert errors[i] == pytest.approx(energies[i] - weights @ energies[others], abs=1e-6)
        variance = kernel[i, i] - weights @ kernel[others, i]
        assert deviations[i] == pytest.approx(np.sqrt(variance), rel=1e-4)


def test_few_labels_do_not_rule_out_the_ground_states(
    olivine_doubled: Host, every: NDArray[np.int8]
) -> None:
    """One label at each composition says little of how far others scatter."""
    energies = made_up(olivine_doubled, olivine_doubled, every)
    x = x_of(olivine_doubled, every)
    here = [np.flatnonzero(x == one) for one in np.unique(x)]
    scores = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        some = np.array([rng.choice(one) for one in here])
        found = fit_surrogate(observed(olivine_doubled, every[some], energies[some]))
        lowest = np.array([one[energies[one].argmin()] for one in here])
        mean, deviation = found.screen(olivine_doubled, every[np.setdiff1d(lowest, some)])
        scores += ((energies[np.setdiff1d(lowest, some)] - mean) / deviation).tolist()
    # Of some hundred that are the lowest of up to 344; with the most likely scales it is -5.6.
    assert -4.5 < min(scores) < -3.0


def test_samples_have_the_covariance(
    fitted: Surrogate, olivine_doubled: Host, every: NDArray[np.int8]
) -> None:
    found = fitted.predict(olivine_doubled, every[100:104])
    drawn = found.samples(40_000, np.random.default_rng(2))
    assert drawn.mean(axis=0) == pytest.approx(found.mean, abs=1e-3)
    assert np.cov(drawn.T) == pytest.approx(found.covariance(), rel=0.1, abs=2e-7)


def test_of_one_configuration_the_surest_and_lowest_counts(olivine: Host) -> None:
    config, other = enumerate_distinct(olivine, 2)[:2]
    image = Configuration(tuple(config.as_array()[permutations(olivine)[5]].tolist()))
    some = [
        Observation(olivine, config, -3.0, 0.1),
        Observation(olivine, image, -1.0),
        Observation(olivine, config, -1.5),
        Observation(olivine, other, -1.2),
    ]
    surrogate = fit_surrogate(some)
    assert len(surrogate.observations) == 2
    found = surrogate.predict(olivine, occupations_of([config], olivine))
    assert found.mean == pytest.approx(-1.5)


def test_the_same_energies_are_fitted_once(
    olivine: Host, every: NDArray[np.int8], olivine_doubled: Host
) -> None:
    """In any order and symmetry image, and again if anything that is known differs."""
    told = observed(olivine_doubled, every[::40], np.arange(len(every[::40])) / 100)
    first = fit_surrogate(told, triplet_cutoff=0.0)
    image = permutations(olivine_doubled)[-1]
    turned = [
        replace(one, config=Configuration(tuple(one.config.as_array()[image].tolist())))
        for one in told
    ]
    assert fit_surrogate(turned, triplet_cutoff=0.0) is first
    last = told[-1]
    for other in (
        replace(last, energy=last.energy + 1e-9),
        replace(last, noise=0.01),
        replace(last, common=np.array([0.01])),
    ):
        assert fit_surrogate([*told[:-1], other], triplet_cutoff=0.0) is not first
    assert fit_surrogate(told, triplet_cutoff=4.5) is not first
    assert fit_surrogate(told[:-1], triplet_cutoff=0.0) is not first


@pytest.mark.parametrize(
    ("energy", "noise", "common"),
    [
        (np.nan, 0.0, ()),
        (np.inf, 0.0, ()),
        (1.0, np.nan, ()),
        (1.0, -0.1, ()),
        (1.0, 0.1, (0.0, np.nan)),
        (1.0, 0.1, (-np.inf,)),
    ],
)
def test_what_is_no_energy_is_refused(
    olivine: Host, energy: float, noise: float, common: tuple[float, ...]
) -> None:
    config, other = enumerate_distinct(olivine, 2)[:2]
    label = Observation(olivine, other, 1.0)  # without one, prior scales are of all
    with pytest.raises(InputError, match="cannot be fitted"):
        fit_surrogate([label, Observation(olivine, config, energy, noise, np.array(common))])
    with pytest.raises(InputError, match="no energies") as refused:
        fit_surrogate([])
    assert refused.value.where == "observations"
