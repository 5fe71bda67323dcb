"""Static labels: which configurations stay open, whose moments are read how, what is the lowest."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import pytest

from al_charge.crystal.charge_balance import end_member_species
from al_charge.crystal.configuration import to_atoms
from al_charge.crystal.enumeration import enumerate_distinct
from al_charge.crystal.host import Host
from al_charge.crystal.symmetry import canonical_hash
from al_charge.labelers.protocol import Relax
from al_charge.loop.campaign import geometry_of, label_key
from al_charge.loop.cells import Cells
from al_charge.loop.energies import lowest_labels
from al_charge.loop.label_document import windows_for
from al_charge.loop.request_ledger import RequestLedger, request_ledger, requests_of_round
from al_charge.store.documents import Assessment, CandidateDoc, Refusal
from al_charge.store.label_documents import refusal_of

TOLERANCE = 0.005


def candidate(host: Host, energy: float | None, *, round_number: int = 1) -> CandidateDoc:
    """Return a candidate with one Na; energy in eV per cell."""
    config = enumerate_distinct(host, 1)[0]
    atoms = to_atoms(host, config)
    atoms.positions += 0.01 * round_number
    return CandidateDoc(
        campaign="c",
        round=round_number,
        n_ions=1,
        composition="1/4",
        config_hash=canonical_hash(host, config),
        colours=list(config.occupation),
        geometry=geometry_of(atoms),
        energy=energy,
        origin="search",
    )


def label(asked: CandidateDoc, key: str, energy: float, **facts: Any) -> Any:
    usual = {
        "key": key,
        "config_hash": asked.config_hash,
        "energy": energy,
        "converged": True,
        "resolved": ["Fe3+"],
        "unusable": "",
        "relax": "none",
        "n_ions": asked.n_ions,
        "used": asked.round,
    }
    return SimpleNamespace(**usual | facts, refusal=refusal(usual | facts))


def refusal(facts: dict[str, Any]) -> Refusal | None:
    """Return why a label of such facts is on no hull."""
    return refusal_of(facts["unusable"], facts["converged"], facts["resolved"])


class Store:
    """A store with one campaign, "c", that holds what a test puts into it."""

    def __init__(self) -> None:
        self.asked: dict[int, list[CandidateDoc]] = {}
        self.made: list[Any] = []
        self.given_up: set[str] = set()
        self.assessments: dict[int, Assessment] = {}
        self.rounds = SimpleNamespace(all=self._rounds, get=self._round)
        self.candidates = SimpleNamespace(stream=self._stream)
        self.failures = SimpleNamespace(among=lambda keys: self.given_up & set(keys))
        self.labels = SimpleNamespace(
            read=self._read,
            get=lambda key: next((found for found in self.made if found.key == key), None),
        )

    def _rounds(self, name: str) -> list[Any]:
        return [
            SimpleNamespace(
                number=n,
                selected=[c.doc_id for c in asked],
                assessment=self.assessments.get(n),
            )
            for n, asked in self.asked.items()
            if name == "c"
        ]

    def _round(self, name: str, number: int) -> Any:
        return next((r for r in self._rounds(name) if r.number == number), None)

    def _stream(self, ids: Sequence[str]) -> Iterator[CandidateDoc]:
        return (c for asked in self.asked.values() for c in asked if c.doc_id in ids)

    def _read(
        self,
        wanted: Any,
        *,
        campaign: str,
        up_to: int | None = None,
        compositions: Collection[str] | None = None,
        refused: bool | None = None,
    ) -> Iterator[Any]:
        last = math.inf if up_to is None else up_to
        return (
            label
            for label in self.made
            if campaign == "c"
            and label.used <= last
            and (compositions is None or label.composition in compositions)
            and refused in (None, label.refusal is not None)
        )


@pytest.fixture
def campaign(olivine: Host) -> Any:
    """A campaign of static labels with nothing in it."""
    return SimpleNamespace(
        name="c",
        host=olivine,
        cells=Cells((olivine,)),
        store=Store(),
        static_labels=True,
        labeler=SimpleNamespace(relax=Relax.NONE),
        settings_hash="settings",
        spec=SimpleNamespace(
            convergence=SimpleNamespace(hull_tolerance=TOLERANCE),
            labeler=SimpleNamespace(fmax=0.05),
        ),
    )


def ask(campaign: Any, asked: CandidateDoc, result: Any = None) -> str:
    """Select a candidate, with a label's facts, None for a failure; return the label's key."""
    campaign.store.asked.setdefault(asked.round, []).append(asked)
    key = label_key(campaign, asked)
    if result is None:
        campaign.store.given_up.add(key)
    else:
        campaign.store.made.append(label(asked, key, **result))
    return key


def test_a_relaxed_label_is_valid_for_its_configuration(campaign: Any) -> None:
    campaign.static_labels = False
    first = candidate(campaign.host, None, round_number=0)
    assert request_ledger(campaign).needs_label(first)
    ask(campaign, first, {"energy": -100.0})
    assert not request_ledger(campaign).needs_label(candidate(campaign.host, -200.0))


def test_a_static_label_is_valid_until_a_geometry_is_predicted_lower(campaign: Any) -> None:
    host = campaign.host
    ask(campaign, candidate(host, None, round_number=0), {"energy": -100.0})
    ledger = request_ledger(campaign)
    limit = -100.0 - TOLERANCE * host.formula_units
    assert not ledger.needs_label(candidate(host, limit + 1e-6))
    assert ledger.needs_label(candidate(host, limit - 1e-6))
    assert not ledger.needs_label(candidate(host, None, round_number=2))
    assert ledger.may_need_label(candidate(host, -50.0))


def test_the_lowest_label_counts(campaign: Any) -> None:
    host = campaign.host
    ask(campaign, candidate(host, None, round_number=0), {"energy": -100.0})
    ask(campaign, candidate(host, -103.0, round_number=1), {"energy": -102.0})
    ask(campaign, candidate(host, -104.0, round_number=2), {"energy": -101.0})
    ledger = request_ledger(campaign)
    assert ledger.lowest[candidate(host, None).config_hash] == -102.0 / host.formula_units
    assert not ledger.needs_label(candidate(host, -101.9, round_number=3))
    assert ledger.needs_label(candidate(host, -102.1, round_number=3))


def test_one_geometry_is_asked_for_once(campaign: Any) -> None:
    asked = candidate(campaign.host, -500.0)
    ask(campaign, asked, {"energy": -100.0})
    assert not request_ledger(campaign).needs_label(asked)
    assert not request_ledger(campaign).may_need_label(asked)
    assert request_ledger(campaign).needs_label(candidate(campaign.host, -500.0, round_number=2))


@pytest.mark.parametrize(
    "result",
    [
        None,
        {"energy": -100.0, "resolved": None},
        {"energy": -100.0, "config_hash": "another"},
        {"energy": -100.0, "unusable": "another functional"},
        {"energy": -100.0, "converged": False},
    ],
)
def test_what_was_missed_twice_at_relaxed_geometries_is_given_up(
    campaign: Any, result: dict[str, Any] | None
) -> None:
    host = campaign.host
    ask(campaign, candidate(host, None, round_number=0), result)  # a seed does not count
    for number in (1, 2):
        coming = candidate(host, -500.0, round_number=number)
        assert request_ledger(campaign).needs_label(coming)
        ask(campaign, coming, result)
    assert not request_ledger(campaign).needs_label(candidate(host, -500.0, round_number=3))


def test_what_the_labeler_has_relaxed_is_closed(campaign: Any) -> None:
    asked = candidate(campaign.host, -100.0)
    campaign.store.made.append(label(asked, "relaxed", -100.0, relax="cell"))
    assert not request_ledger(campaign).may_need_label(
        candidate(campaign.host, -500.0, round_number=2)
    )


def test_what_an_assessment_remembers_is_not_looked_up(
    campaign: Any, make_assessment: Callable[..., Assessment]
) -> None:
    host, store = campaign.host, campaign.store
    for number in (1, 2):
        ask(campaign, candidate(host, -500.0, round_number=number), None)
    before = request_ledger(campaign)
    store.assessments = {
        n: make_assessment(requests=requests_of_round(campaign, n, [])) for n in (1, 2)
    }
    store.candidates.stream = lambda ids: iter(() if not ids else pytest.fail("looked up"))
    after = request_ledger(campaign)
    assert (after.keys, after.missed) == (before.keys, before.missed)
    assert after.missed[candidate(host, None).config_hash] == 2


def test_an_open_question_of_the_same_round_is_not_missed(campaign: Any) -> None:
    asked = candidate(campaign.host, -500.0)
    campaign.store.asked[1] = [asked]
    found: RequestLedger = request_ledger(campaign)
    assert found.missed == Counter({asked.config_hash: 0})
    assert not found.needs_label(asked)


def test_the_key_of_a_label(campaign: Any) -> None:
    one, other = (candidate(campaign.host, -1.0, round_number=n) for n in (1, 2))
    assert label_key(campaign, one) != label_key(campaign, other)
    keys = {relax: label_key(campaign, one, relax) for relax in Relax}
    assert len(set(keys.values())) == 3
    assert keys[Relax.NONE] == label_key(campaign, one)
    assert label_key(campaign, other, Relax.CELL) == keys[Relax.CELL]
    assert label_key(campaign, other, Relax.IONS) == keys[Relax.IONS]
    campaign.spec.labeler.fmax = 0.5
    assert label_key(campaign, one) == keys[Relax.NONE]
    assert label_key(campaign, one, Relax.CELL) != keys[Relax.CELL]  # not as far relaxed
    campaign.spec.labeler.fmax = 0.05
    campaign.settings_hash = "others"
    assert label_key(campaign, one, Relax.CELL) != keys[Relax.CELL]


def test_the_lowest_label_of_each_configuration(campaign: Any) -> None:
    asked = candidate(campaign.host, -1.0)
    labels = [label(asked, key, energy) for key, energy in [("a", -1.0), ("b", -3.0), ("c", -2.0)]]
    labels.append(label(asked, "d", -0.5, config_hash="another"))
    assert {found.key for found in lowest_labels(campaign, labels)} == {"b", "d"}


def end_member(n_ions: int, state: str, moments: list[float], **facts: Any) -> Any:
    usual = {
        "composition": str(Fraction(n_ions, 4)),
        "used": 0,
        "converged": True,
        "unusable": "",
        "resolved": [state] * len(moments) + ["O2-"],
        "moments": [*moments, 0.1],
        "bader": [1.8 if state == "Fe3+" else 1.5] * len(moments) + [-1.4],
    }
    return SimpleNamespace(**usual | facts, refusal=refusal(usual | facts))


def test_windows_come_from_both_end_members(campaign: Any) -> None:
    store = campaign.store
    store.made = [end_member(0, "Fe3+", [4.20, 4.22])]
    assert windows_for(campaign, 0, "1/2") is None  # nothing shows Fe2+ yet
    store.made.append(end_member(4, "Fe2+", [3.65, 3.69]))
    found = windows_for(campaign, 0, "1/2")
    assert found is not None
    assert set(found.ranges) == {"Fe2+", "Fe3+"}
    assert found.state("Fe", 4.21) == "Fe3+"
    assert found.state("Fe", 3.67) == "Fe2+"
    assert found.state("Fe", 3.95) is None
    assert windows_for(campaign, 3, "0") is None  # an end member is what they come from
    assert windows_for(campaign, 3, "1") is None


def test_a_third_state_leaves_those_of_the_end_members_to_be_calibrated(
    campaign: Any, vanadium: Host
) -> None:
    """Of V3+, V4+ and V5+ NaVO2 must be V3+, and VO2 may be V4+ or disproportionate."""
    campaign.host, campaign.cells = vanadium, Cells((vanadium,))
    assert end_member_species(vanadium) == {"V3+"}
    full = vanadium.ion_counts[-1]
    empty = end_member(0, "V4+", [1.02, 1.04])
    campaign.store.made = [empty]
    assert windows_for(campaign, 1, "1/2") is None
    campaign.store.made = [empty, end_member(full, "V3+", [1.95, 1.97], composition="1")]
    found = windows_for(campaign, 1, "1/2")
    assert found is not None
    assert set(found.ranges) == {"V3+", "V4+"}


@pytest.mark.parametrize("spoilt", [{"converged": False}, {"resolved": None}, {"unusable": "U"}])
def test_an_unusable_end_member_calibrates_nothing(campaign: Any, spoilt: dict[str, Any]) -> None:
    campaign.store.made = [
        end_member(0, "Fe3+", [4.20, 4.22]),
        end_member(4, "Fe2+", [3.65, 3.69], **spoilt),
    ]
    assert windows_for(campaign, 0, "1/2") is None


def test_windows_of_a_round_come_from_the_rounds_before_it(campaign: Any) -> None:
    """A repeated round has the same windows, whatever it and later ones have labelled."""
    campaign.store.made = [
        end_member(0, "Fe3+", [4.20, 4.22]),
        end_member(4, "Fe2+", [3.65, 3.69]),
    ]
    first = windows_for(campaign, 0, "1/2")
    assert first is not None
    campaign.store.made.append(end_member(4, "Fe2+", [3.75], used=1))
    assert windows_for(campaign, 0, "1/2") == windows_for(campaign, 1, "1/2") == first
    later = windows_for(campaign, 2, "1/2")
    assert later is not None
    assert later.ranges["Fe2+"][1] == pytest.approx(first.ranges["Fe2+"][1] + 0.06, abs=0.02)


def test_windows_come_from_end_members_alone(campaign: Any) -> None:
    ends = [end_member(0, "Fe3+", [4.20]), end_member(4, "Fe2+", [3.65])]
    campaign.store.made = ends
    found = windows_for(campaign, 1, "1/2")
    campaign.store.made = [*ends, end_member(2, "Fe2+", [3.75])]
    assert windows_for(campaign, 1, "1/2") == found
