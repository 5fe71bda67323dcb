"""What may lie below a hull, on a host that is small enough to know everything."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from scipy.stats import norm

from al_charge.crystal.configuration import Configuration
from al_charge.crystal.enumeration import enumerate_distinct
from al_charge.crystal.host import Host
from al_charge.crystal.identity import written_in
from al_charge.crystal.symmetry import canonical_hash
from al_charge.labelers.protocol import Relax
from al_charge.loop import assess, outlook
from al_charge.loop.cells import Cells
from al_charge.loop.convergence import HullState, criteria
from al_charge.loop.energies import LabelledHull
from al_charge.loop.outlook import Ahead, in_doubt, look_ahead
from al_charge.loop.posterior import fit_posterior, predicted_together
from al_charge.loop.request_ledger import RequestLedger
from al_charge.loop.spec import ConvergenceSettings
from al_charge.store.documents import (
    Assessment,
    Calibration,
    CampaignState,
    CandidateDoc,
    Criterion,
    Forecast,
    Geometry,
    RoundDoc,
    Verification,
    Vertex,
)
from al_charge.store.labels import LabelSummary
from al_charge.surrogate.polynomial import occupations_of
from al_charge.thermo.hull import Entry, Hull, build_hull
from al_charge.thermo.uncertainty import Unlabelled

NOWHERE = Geometry(numbers=[], positions=[], cell=[], species=[], host_site=[])
HALF = Fraction(1, 2)


def every(host: Host) -> list[Configuration]:
    return [one for n_ions in host.ion_counts for one in enumerate_distinct(host, n_ions)]


def ions_of(host: Host, config: Configuration) -> int:
    return sum(site > 0 for site in config.occupation[: len(host.ion_sites)])


def total(host: Host, config: Configuration) -> float:
    """Return energies on a line with a bowl of 100 meV, and 5 meV more for each next one."""
    x = host.composition(ions_of(host, config))
    place = enumerate_distinct(host, ions_of(host, config)).index(config)
    return float(-10 + 2 * x - 0.4 * x * (1 - x)) + 0.005 * place


def found(host: Host, labelled: list[Configuration]) -> LabelledHull:
    labels: dict[str, LabelSummary] = {}
    entries = []
    for config in labelled:
        key = canonical_hash(host, config)
        x = host.composition(ions_of(host, config))
        energy = total(host, config)
        entries.append(Entry(key, key, x, energy))
        summary = SimpleNamespace(
            key=key,
            config_hash=key,
            colours=list(config.occupation),
            host_fingerprint=host.fingerprint,
            energy=energy * host.formula_units,
            refusal=None,
            relax="none",
            used=1,
        )
        labels[key] = cast(LabelSummary, summary)
    hull = build_hull(entries, framework="FePO4", working_ion="Na", metal_energy=-1.0)
    return LabelledHull(hull, labels, lambda: labels)


def candidate(host: Host, config: Configuration, energy: float, bar: float) -> CandidateDoc:
    n_ions = ions_of(host, config)
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


def campaign(host: Host, requested: list[CandidateDoc], *, static: bool = False) -> Any:
    record = SimpleNamespace(selected=[one.doc_id for one in requested])
    store = SimpleNamespace(
        rounds=SimpleNamespace(all=lambda name: [record]),
        candidates=SimpleNamespace(
            stream=lambda ids: (one for one in requested if one.doc_id in ids)
        ),
    )
    return SimpleNamespace(
        name="c",
        host=host,
        cells=Cells((host,)),
        store=store,
        static_labels=static,
        settings_hash="",
        labeler=SimpleNamespace(relax=Relax.NONE if static else Relax.CELL),
        spec=SimpleNamespace(convergence=ConvergenceSettings()),
    )


def ledger(here: Any, labels: LabelledHull, missed: Counter[str] | None = None) -> RequestLedger:
    """Return what a campaign knows that has requested nothing but these labels."""
    lowest = {one.config_hash: here.cells.energy_of(one) for one in labels.labels.values()}
    known = frozenset(lowest)
    return RequestLedger(
        here, known, frozenset(), lowest, missed or Counter(), frozenset(), tolerance=0.001
    )


def ahead(
    host: Host,
    labels: LabelledHull,
    candidates: list[CandidateDoc],
    requested: list[CandidateDoc] | None = None,
    *,
    missed: int | None = None,
    static: bool = False,
) -> Ahead:
    given = requested or []
    misses = Counter({one.config_hash: missed or 0 for one in given})
    here = campaign(host, given, static=static or missed is not None)
    return look_ahead(
        here,
        labels,
        ledger(here, labels, misses),
        candidates,
        Calibration(),
        np.random.default_rng(1),
    )


def test_one_candidate_that_alone_has_no_label_has_the_closed_form(olivine: Host) -> None:
    host = olivine
    one = enumerate_distinct(host, 2)[3]
    labels = found(host, [config for config in every(host) if config != one])
    lowest = -0.1
    for said in (0.003, 0.020, -0.004):
        told = candidate(host, one, -9 + lowest + said, 0.010)
        result = ahead(host, labels, [told])
        here = campaign(host, [])
        posterior = fit_posterior(here, labels.labels.values(), [told], Calibration())
        known = predicted_together(here, posterior, [told])
        above = float(known.mean[0]) + 9 - lowest
        expected = norm.cdf((-0.001 - above) / known.deviation[0])
        assert result.p_below_hull == pytest.approx(expected, abs=0.02)
        at = {Fraction(each.x): each for each in result.compositions}
        assert at[HALF].p_lower == pytest.approx(expected, abs=0.02)
        assert at[HALF].lowest_labelled == pytest.approx(lowest)
        assert at[HALF].lowest_predicted == pytest.approx(lowest + above)
        assert {each.p_lower for x, each in at.items() if x != HALF} == {0.0}
        assert {each.lowest_predicted for x, each in at.items() if x != HALF} == {None}
        missing = assess._unlabelled_vertices(campaign(host, []), labels.hull, result)
        assert missing == (("1/2",) if above < -0.001 else ())
        assert 0.001 < expected < 0.999
        assert result.exhaustive


def test_in_several_cells_everything_is_ranked_once(
    olivine: Host, olivine_doubled: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    cells = Cells((olivine, olivine_doubled))
    labels = found(olivine, [enumerate_distinct(olivine, n)[0] for n in olivine.ion_counts])
    # One that the small cell holds was found in the large one.
    other = enumerate_distinct(olivine, 2)[1]
    same = written_in(olivine_doubled, olivine, other)
    assert same is not None
    labels.labels["found"] = cast(
        LabelSummary,
        SimpleNamespace(
            key="found",
            config_hash=canonical_hash(olivine_doubled, same),
            colours=list(same.occupation),
            host_fingerprint=olivine_doubled.fingerprint,
            energy=total(olivine, other) * olivine_doubled.formula_units,
            refusal=None,
            relax="cell",
            used=1,
        ),
    )
    both = campaign(olivine, [])
    both.cells = cells
    ranked: dict[Fraction, int] = {}
    real = outlook.outlook

    def counted(hull: Hull, unlabelled: list[Unlabelled], *rest: Any) -> Any:
        ranked.update({one.x: len(one.mean) + len(one.likely.mean) for one in unlabelled})
        return real(hull, unlabelled, *rest)

    monkeypatch.setattr(outlook, "outlook", counted)
    look_ahead(both, labels, ledger(both, labels), [], Calibration(), np.random.default_rng(1))
    everything = Counter(cells.numbers[0]) + Counter(cells.numbers[1])
    labelled = Counter(Fraction(n, 4) for n in olivine.ion_counts) + Counter([HALF])
    assert ranked == {x: everything[x] - labelled[x] for x in everything}


@pytest.mark.parametrize("bar", [0.002, 0.020, 0.040, 0.200])
def test_no_error_bar_makes_the_fourth_criterion_hold_with_candidates_below(
    olivine: Host, bar: float
) -> None:
    """Two candidates at 1/4, 30 meV below the line between labels at 0 and 1/2."""
    host = olivine
    labels = found(host, [one for one in every(host) if ions_of(host, one) != 1])
    below = [
        candidate(host, one, -9.5 - 0.050 - 0.030, bar) for one in enumerate_distinct(host, 1)[:2]
    ]
    result = ahead(host, labels, below)
    vertices = tuple(Vertex(str(one.x), one.config_hash) for one in labels.hull.vertices)
    missing = assess._unlabelled_vertices(campaign(host, []), labels.hull, result)
    state = HullState(vertices, 0.0, missing, result.p_below_hull)
    held = criteria(state, state, ConvergenceSettings())
    assert [one.met for one in held] == [True, True, True, False]


@pytest.mark.parametrize("doubt", [outlook.DOUBT, 1.0])
def test_in_doubt_is_what_may_lie_below_unless_it_is_labelled_or_relaxed(
    olivine_doubled: Host, monkeypatch: pytest.MonkeyPatch, doubt: float
) -> None:
    """The likeliest first, until the others hardly count together."""
    n_ions = 2
    host, x = olivine_doubled, olivine_doubled.composition(n_ions)
    monkeypatch.setattr(outlook, "DOUBT", doubt)
    monkeypatch.setattr(outlook, "MOST_IN_DOUBT", 1000)
    here = enumerate_distinct(host, n_ions)
    others = [enumerate_distinct(host, n)[0] for n in host.ion_counts if n != n_ions]
    labels = found(host, [*others, here[-1]])
    relaxed = [candidate(host, one, total(host, one), 0.002) for one in here[2:4]]
    campaign_ = campaign(host, [])
    posterior = fit_posterior(campaign_, labels.labels.values(), relaxed, Calibration())
    told = in_doubt(campaign_, labels, posterior, x, relaxed)
    left = [one for one in here if one not in (here[-1], *here[2:4])]
    known = posterior.predict(host, occupations_of(left, host))
    level = labels.hull.reference(x) + labels.hull.lower(x) - 0.001
    chance = dict(zip(left, norm.cdf((level - known.mean) / known.deviation).tolist(), strict=True))
    asked = [config for _, config in told]
    assert {home for home, _ in told} == {host}
    assert asked == sorted(asked, key=lambda one: -chance[one]) and set(asked) <= set(left)
    rest = sum(p for one, p in chance.items() if one not in asked)
    assert rest <= doubt < rest + chance[asked[-1]]
    assert len(asked) < len(left) or doubt < 1
    monkeypatch.setattr(outlook, "MOST_IN_DOUBT", 3)
    assert in_doubt(campaign_, labels, posterior, x, relaxed) == told[:3]


def test_in_doubt_in_a_large_cell_is_what_a_smaller_one_does_not_hold(
    olivine: Host, olivine_doubled: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And nothing of a cell whose configurations cannot be listed."""
    both = campaign(olivine, [])
    both.cells = Cells((olivine, olivine_doubled))
    labels = found(olivine, [enumerate_distinct(olivine, n)[0] for n in olivine.ion_counts])
    posterior = fit_posterior(both, labels.labels.values(), [], Calibration())
    monkeypatch.setattr(outlook, "DOUBT", -1.0)
    monkeypatch.setattr(outlook, "MOST_IN_DOUBT", 1000)
    told = in_doubt(both, labels, posterior, HALF, [])
    by_home = Counter(home.fingerprint for home, _ in told)
    assert by_home[olivine.fingerprint] == both.cells.numbers[0][HALF] - 1
    assert by_home[olivine_doubled.fingerprint] == both.cells.numbers[1][HALF]
    monkeypatch.setattr(outlook, "LARGEST_LISTED", both.cells.numbers[0][HALF])
    told = in_doubt(both, labels, posterior, HALF, [])
    assert {home for home, _ in told} == {olivine}


def test_what_nobody_relaxed_counts_too(olivine: Host) -> None:
    host = olivine
    some = [one for one in every(host) if ions_of(host, one) != 1]
    result = ahead(host, found(host, some), [])
    at = {Fraction(each.x): each for each in result.compositions}
    quarter = at[Fraction(1, 4)]
    assert quarter.lowest_labelled is None and quarter.lower_by is None and quarter.p_lower == 1
    assert quarter.lowest_predicted is not None
    assert result.p_below_hull > 0.01
    low, high = quarter.band_95
    assert low < quarter.band_68[0] and high == pytest.approx(labels_lower(host, some))
    assert len(result.voltages.band_68) == len(result.compositions) - 1


def labels_lower(host: Host, some: list[Configuration]) -> float:
    return found(host, some).hull.lower(Fraction(1, 4))


@pytest.mark.parametrize(("missed", "counts"), [(None, False), (1, True), (2, False)])
def test_what_was_requested_in_vain_is_left_out(
    olivine: Host, missed: int | None, counts: bool
) -> None:
    """A static label is requested a second time, a relaxed one is not."""
    host = olivine
    one = enumerate_distinct(host, 2)[3]
    labels = found(host, [config for config in every(host) if config != one])
    result = ahead(host, labels, [], [candidate(host, one, -9.0, 0.01)], missed=missed)
    predicted = {each.x: each.lowest_predicted for each in result.compositions}
    assert (predicted["1/2"] is not None) is counts


def test_a_static_label_of_ideal_sites_settles_nothing(olivine: Host) -> None:
    """Its configuration is ranked, until the committee relaxes it; and then if that is lower."""
    host = olivine
    one = enumerate_distinct(host, 2)[3]
    labels = found(host, every(host))
    first = labels.labels[canonical_hash(host, one)]
    above = first.energy + 1.0 * host.formula_units
    raw = SimpleNamespace(**{**vars(first), "used": 0, "energy": above})

    def predicted(label: Any, candidates: list[CandidateDoc], *, static: bool = True) -> Any:
        labels.labels[first.key] = cast(LabelSummary, label)
        told = ahead(host, labels, candidates, static=static).compositions
        return {each.x: each.lowest_predicted for each in told}["1/2"]

    assert predicted(first, []) is None
    assert predicted(raw, [], static=False) is None
    engine = SimpleNamespace(**{**vars(raw), "relax": "ions"})
    assert predicted(engine, []) is None
    # From its neighbours, not from the label, 1 eV above.
    assert predicted(raw, []) == pytest.approx(-0.085, abs=0.02)
    energy = above / host.formula_units
    higher = candidate(host, one, energy + 0.01, 0.02)
    assert predicted(raw, [higher]) is None
    lower = candidate(host, one, energy - 0.9, 1e-5)
    at = energy - 0.9 - (-10 + 2 * 0.5)
    assert predicted(raw, [lower]) == pytest.approx(at, abs=1e-6)


@pytest.mark.parametrize(("missed", "counts"), [(1, True), (2, False)])
def test_what_missed_twice_after_ideal_sites_is_left_out(
    olivine: Host, missed: int, counts: bool
) -> None:
    host = olivine
    one = enumerate_distinct(host, 2)[3]
    labels = found(host, every(host))
    vars(labels.labels[canonical_hash(host, one)])["used"] = 0
    result = ahead(host, labels, [], [candidate(host, one, -9.0, 0.01)], missed=missed)
    predicted = {each.x: each.lowest_predicted for each in result.compositions}
    assert (predicted["1/2"] is not None) is counts


def test_a_space_that_is_too_large_is_sampled_and_says_so(
    olivine: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outlook, "LARGEST_LISTED", 3)
    monkeypatch.setattr(outlook, "SAMPLED", 5)
    host = olivine
    some = [one for one in every(host) if ions_of(host, one) in (0, 4)]
    result = ahead(host, found(host, some), [])
    assert not result.exhaustive
    at = {Fraction(each.x): each for each in result.compositions}
    assert at[HALF].lowest_predicted is not None and at[Fraction(0)].lowest_predicted is None


def test_those_that_are_far_above_are_not_drawn_but_count(
    olivine: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = olivine
    some = [one for one in every(host) if ions_of(host, one) in (0, 4)]
    some += [enumerate_distinct(host, 2)[0]]
    plain = ahead(host, found(host, some), [])
    monkeypatch.setattr(outlook, "MOST_JOINT", 0)
    alone = ahead(host, found(host, some), [])
    assert [one.lowest_predicted for one in alone.compositions] == pytest.approx(
        [one.lowest_predicted for one in plain.compositions]
    )
    assert alone.p_below_hull > plain.p_below_hull > 0


def ended(
    monkeypatch: pytest.MonkeyPatch,
    *assessments: Assessment,
    left: int = 10,
    max_rounds: int = 12,
) -> tuple[CampaignState, str]:
    monkeypatch.setattr(assess, "labels_left", lambda campaign, up_to: left)
    monkeypatch.setattr(assess, "_all_labelled", lambda campaign: False)
    rounds = {
        number: RoundDoc(campaign="c", number=number, assessment=one)
        for number, one in enumerate(assessments)
    }
    store = SimpleNamespace(all=lambda name: list(rounds.values()), get=lambda _, n: rounds.get(n))
    settings = ConvergenceSettings(max_rounds=max_rounds)
    here = SimpleNamespace(
        name="c",
        store=SimpleNamespace(rounds=store),
        spec=SimpleNamespace(convergence=settings),
    )
    return assess.next_state(cast(Any, here), len(assessments) - 1)


def round_of(make: Callable[..., Assessment], met: bool, **fields: Any) -> Assessment:
    return make(criteria=[Criterion(name="it stays", met=met, value="1 meV")] * 4, **fields)


def test_only_what_was_ranked_in_full_converges(
    monkeypatch: pytest.MonkeyPatch, make_assessment: Callable[..., Assessment]
) -> None:
    def last(exhaustive: bool | None) -> tuple[CampaignState, str]:
        known = round_of(make_assessment, True, exhaustive=True)
        now = round_of(make_assessment, True, exhaustive=exhaustive)
        return ended(monkeypatch, known, now)

    assert last(True) == (CampaignState.CONVERGED, "every criterion held for 2 rounds")
    assert last(None)[0] is CampaignState.CONVERGED, "as an earlier version assessed it"
    state, reason = last(False)
    assert state is CampaignState.SAMPLED
    assert reason == "every criterion held for 2 rounds, but only a sample was ranked"


@pytest.mark.parametrize("same", [True, False])
def test_a_verified_sample_is_no_more_than_a_sample(
    monkeypatch: pytest.MonkeyPatch, make_assessment: Callable[..., Assessment], same: bool
) -> None:
    known = round_of(make_assessment, True, exhaustive=False)
    result = Verification(
        relax="ions", relaxed=3, same_vertices=same, lowered=0.0, failed=[], verified=same
    )
    verified = make_assessment(verification=result)
    state, _ = ended(monkeypatch, known, known, verified)
    assert state is (CampaignState.SAMPLED if same else CampaignState.RUNNING)


def test_a_budget_that_is_spent_says_what_is_open(
    monkeypatch: pytest.MonkeyPatch, make_assessment: Callable[..., Assessment]
) -> None:
    compositions = [
        Forecast(
            x=x,
            lowest_labelled=0.0,
            lowest_predicted=0.0,
            p_lower=p_lower,
            lower_by=0.0,
            band_95=(0.0, 0.0),
            band_68=(0.0, 0.0),
        )
        for x, p_lower in (("0", 0.0), ("1/4", 0.06), ("1/2", 0.04))
    ]
    known = round_of(make_assessment, False, exhaustive=True, compositions=compositions)
    assert ended(monkeypatch, known)[0] is CampaignState.RUNNING
    state, reason = ended(monkeypatch, known, left=0)
    assert state is CampaignState.EXHAUSTED
    assert reason.startswith("100 labels without convergence; not met: it stays (1 meV); ")
    assert reason.endswith("lower states may lie at x = 1/4")
    # What has held once may hold again without another label.
    assert ended(monkeypatch, held := round_of(make_assessment, True), left=0)[0] is (
        CampaignState.RUNNING
    )
    assert ended(monkeypatch, held, held, left=0)[0] is CampaignState.CONVERGED
    assert ended(monkeypatch, held, left=0, max_rounds=1)[0] is CampaignState.EXHAUSTED
    state, reason = ended(monkeypatch, known, max_rounds=1)
    assert state is CampaignState.EXHAUSTED and reason.startswith("1 round without convergence; ")
