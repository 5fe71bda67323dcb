"""Campaigns and rounds: written once, told apart, moved between states."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from al_charge.errors import AlChargeError, InputError
from al_charge.store.documents import CampaignDoc, CampaignState, RoundDoc
from al_charge.store.mongo import Store


def test_a_campaign_is_stored_once(store: Store, make_campaign: Callable[..., CampaignDoc]) -> None:
    doc = make_campaign(spec={"seed": 1, "search": {"x": [1.5, None, True]}})
    assert store.add_campaign(doc) is True
    assert store.add_campaign(doc) is False
    assert store.campaign("olivine") == doc
    assert store.campaigns() == [doc]


@pytest.mark.parametrize(
    "change", [{"spec": {"seed": 2}}, {"host_fingerprint": "x"}, {"settings_hash": "x"}]
)
def test_a_name_taken_by_another_campaign_is_refused(
    store: Store, make_campaign: Callable[..., CampaignDoc], change: dict[str, object]
) -> None:
    store.add_campaign(make_campaign())
    with pytest.raises(InputError, match=r"'olivine'.*taken"):
        store.add_campaign(make_campaign(**change))
    assert store.campaigns()[0].spec == {"seed": 1}


def test_an_unknown_campaign_is_refused_with_the_nearest_name(
    store: Store, make_campaign: Callable[..., CampaignDoc]
) -> None:
    with pytest.raises(InputError, match="submit it first"):
        store.campaign("olivin")
    store.add_campaign(make_campaign())
    with pytest.raises(InputError, match="did you mean 'olivine'"):
        store.campaign("olivin")


def test_states_follow_their_transitions(
    store: Store, make_campaign: Callable[..., CampaignDoc]
) -> None:
    store.add_campaign(make_campaign())
    store.set_campaign_state("olivine", CampaignState.FAILED, "no labels")
    failed = store.campaign("olivine")
    assert (failed.state, failed.reason) == (CampaignState.FAILED, "no labels")
    with pytest.raises(InputError, match="failed cannot become paused"):
        store.set_campaign_state("olivine", CampaignState.PAUSED)
    store.set_campaign_state("olivine", CampaignState.RUNNING)
    store.set_campaign_state("olivine", CampaignState.CONVERGED)
    store.set_campaign_state("olivine", CampaignState.CONVERGED)
    with pytest.raises(InputError, match="converged cannot become running"):
        store.set_campaign_state("olivine", CampaignState.RUNNING)
    with pytest.raises(InputError, match="no such campaign"):
        store.set_campaign_state("other", CampaignState.RUNNING)


def test_rounds_are_stored_once_and_listed_in_order(store: Store) -> None:
    for number in (0, 2, 1, 10):
        assert store.add_round(RoundDoc(campaign="olivine", number=number)) is True
    store.add_round(RoundDoc(campaign="other", number=99))
    assert store.add_round(RoundDoc(campaign="olivine", number=1)) is False
    assert [r.number for r in store.rounds("olivine")] == [0, 1, 2, 10]
    last = store.last_round("olivine")
    assert last is not None
    assert last.number == 10
    assert store.last_round("none") is None
    assert store.round("olivine", 3) is None


def test_the_first_selection_and_assessment_win(store: Store) -> None:
    store.add_round(RoundDoc(campaign="olivine", number=0))
    assert store.record_selection("olivine", 0, {"b": "vertex", "a": "spread"}) == ["b", "a"]
    assert store.record_selection("olivine", 0, {"c": "other"}) == ["b", "a"]
    assert store.record_assessment("olivine", 0, {"moved": 0.1}) == {"moved": 0.1}
    closed = store.round("olivine", 0)
    assert closed is not None
    assert closed.closed is not None
    assert closed.reasons == ["vertex", "spread"]
    assert store.record_assessment("olivine", 0, {"moved": 9.0}) == {"moved": 0.1}
    assert store.round("olivine", 0) == closed


def test_an_empty_selection_is_a_selection(store: Store) -> None:
    store.add_round(RoundDoc(campaign="olivine", number=0))
    assert store.record_selection("olivine", 0, {}) == []
    assert store.record_selection("olivine", 0, {"a": "vertex"}) == []


def test_a_missing_round_is_told(store: Store) -> None:
    with pytest.raises(AlChargeError, match="there is no round 4"):
        store.record_selection("olivine", 4, {"a": "vertex"})
    with pytest.raises(AlChargeError, match="there is no round 4"):
        store.add_stage_seconds("olivine", 4, "train", 1.0)


def test_stage_seconds_add_up(store: Store) -> None:
    store.add_round(RoundDoc(campaign="olivine", number=0))
    store.add_stage_seconds("olivine", 0, "train", 1.5)
    store.add_stage_seconds("olivine", 0, "train", 2.0)
    store.add_stage_seconds("olivine", 0, "label", 1.0)
    found = store.round("olivine", 0)
    assert found is not None
    assert found.stage_seconds == {"train": 3.5, "label": 1.0}
    with pytest.raises(ValueError, match="no name of a stage"):
        store.add_stage_seconds("olivine", 0, "a.b", 1.0)


def test_progress_of_tasks_is_kept_beside_each_other(
    store: Store, make_campaign: Callable[..., CampaignDoc]
) -> None:
    store.add_campaign(make_campaign())
    store.add_round(RoundDoc(campaign="olivine", number=0))
    store.set_progress("olivine", 0, "train 0", 1, 5)
    store.set_progress("olivine", 0, "train 1", 2, 5)
    store.set_progress("olivine", 0, "train 0", 3, 5)
    record = store.round("olivine", 0)
    assert record is not None
    assert record.progress == {"train 0": [3, 5], "train 1": [2, 5]}
