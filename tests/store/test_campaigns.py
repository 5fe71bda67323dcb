"""Campaigns and rounds: written once, told apart, moved between states."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from pymongo import WriteConcern

from al_charge.errors import AlChargeError, InputError
from al_charge.store.documents import Assessment, CampaignDoc, CampaignState, RoundDoc
from al_charge.store.mongo import Store


def test_a_campaign_is_stored_once(store: Store, make_campaign: Callable[..., CampaignDoc]) -> None:
    doc = make_campaign(spec={"seed": 1, "search": {"x": [1.5, None, True]}})
    assert store.campaigns.add(doc) is True
    assert store.campaigns.add(doc) is False
    assert store.campaigns.get("olivine") == doc
    assert store.campaigns.all() == [doc]


def test_a_name_is_taken_once(store: Store, make_campaign: Callable[..., CampaignDoc]) -> None:
    store.campaigns.add(make_campaign())
    assert store.campaigns.add(make_campaign(spec={"seed": 2})) is False
    assert store.campaigns.all()[0].spec == {"seed": 1}


def test_names_are_sorted(store: Store, make_campaign: Callable[..., CampaignDoc]) -> None:
    assert store.campaigns.names() == []
    for name in ("olivine", "maricite"):
        store.campaigns.add(make_campaign(name))
    assert store.campaigns.names() == ["maricite", "olivine"]


def test_an_unknown_campaign_is_refused_with_the_nearest_name(
    store: Store, make_campaign: Callable[..., CampaignDoc]
) -> None:
    with pytest.raises(InputError, match="submit it first"):
        store.campaigns.get("olivin")
    store.campaigns.add(make_campaign())
    with pytest.raises(InputError, match="did you mean 'olivine'"):
        store.campaigns.get("olivin")


def test_states_follow_their_transitions(
    store: Store, make_campaign: Callable[..., CampaignDoc]
) -> None:
    store.campaigns.add(make_campaign())
    store.campaigns.set_state("olivine", CampaignState.FAILED, "no labels")
    failed = store.campaigns.get("olivine")
    assert (failed.state, failed.reason) == (CampaignState.FAILED, "no labels")
    with pytest.raises(InputError, match="failed cannot become paused"):
        store.campaigns.set_state("olivine", CampaignState.PAUSED)
    store.campaigns.set_state("olivine", CampaignState.RUNNING)
    store.campaigns.set_state("olivine", CampaignState.CONVERGED)
    store.campaigns.set_state("olivine", CampaignState.CONVERGED)
    with pytest.raises(InputError, match="converged cannot become running"):
        store.campaigns.set_state("olivine", CampaignState.RUNNING)
    with pytest.raises(InputError, match="no such campaign"):
        store.campaigns.set_state("other", CampaignState.RUNNING)


def test_rounds_are_stored_once_and_listed_in_order(store: Store) -> None:
    for number in (0, 2, 1, 10):
        assert store.rounds.add(RoundDoc(campaign="olivine", number=number)) is True
    store.rounds.add(RoundDoc(campaign="other", number=99))
    assert store.rounds.add(RoundDoc(campaign="olivine", number=1)) is False
    assert [r.number for r in store.rounds.all("olivine")] == [0, 1, 2, 10]
    last = store.rounds.last("olivine")
    assert last is not None
    assert last.number == 10
    assert store.rounds.last("none") is None
    assert store.rounds.get("olivine", 3) is None


def test_the_first_selection_and_assessment_win(
    store: Store, make_assessment: Callable[..., Assessment]
) -> None:
    store.rounds.add(RoundDoc(campaign="olivine", number=0))
    assert store.rounds.record_selection("olivine", 0, {"b": "vertex", "a": "spread"}) == ["b", "a"]
    assert store.rounds.record_selection("olivine", 0, {"c": "other"}) == ["b", "a"]
    found = make_assessment(hull_shift=0.1, vertices=[["0", "a"]])
    stored = store.rounds.record_assessment("olivine", 0, found, ["k"], np.zeros((2, 1)))
    assert stored == found.model_copy(update={"predictions_file": stored.predictions_file})
    closed = store.rounds.get("olivine", 0)
    assert closed is not None
    assert closed.closed is not None
    assert closed.assessment == stored
    assert closed.reasons == ["vertex", "spread"]
    other = make_assessment(hull_shift=9.0)
    assert store.rounds.record_assessment("olivine", 0, other, ["l"], np.ones((2, 1))) == stored
    assert store.rounds.get("olivine", 0) == closed


def test_an_empty_selection_is_a_selection(store: Store) -> None:
    store.rounds.add(RoundDoc(campaign="olivine", number=0))
    assert store.rounds.record_selection("olivine", 0, {}) == []
    assert store.rounds.record_selection("olivine", 0, {"a": "vertex"}) == []


def test_a_missing_round_is_told(store: Store) -> None:
    with pytest.raises(AlChargeError, match="there is no round 4"):
        store.rounds.record_selection("olivine", 4, {"a": "vertex"})
    with pytest.raises(AlChargeError, match="there is no round 4"):
        store.rounds.add_seconds("olivine", 4, "train", 1.0)
    with pytest.raises(AlChargeError, match=r"olivine/4: the round is not assessed"):
        store.rounds.predictions(RoundDoc(campaign="olivine", number=4))


def test_stage_seconds_add_up(store: Store) -> None:
    store.rounds.add(RoundDoc(campaign="olivine", number=0))
    store.rounds.add_seconds("olivine", 0, "train", 1.5)
    store.rounds.add_seconds("olivine", 0, "train", 2.0)
    store.rounds.add_seconds("olivine", 0, "label", 1.0)
    found = store.rounds.get("olivine", 0)
    assert found is not None
    assert found.stage_seconds == {"train": 3.5, "label": 1.0}
    with pytest.raises(ValueError, match="not a valid name of a stage"):
        store.rounds.add_seconds("olivine", 0, "a.b", 1.0)


def test_progress_of_tasks_is_kept_beside_each_other(
    store: Store, make_campaign: Callable[..., CampaignDoc]
) -> None:
    store.campaigns.add(make_campaign())
    store.rounds.add(RoundDoc(campaign="olivine", number=0))
    store.rounds.set_progress("olivine", 0, "train 0", 1, 5)
    store.rounds.set_progress("olivine", 0, "train 1", 2, 5)
    store.rounds.set_progress("olivine", 0, "train 0", 3, 5)
    record = store.rounds.get("olivine", 0)
    assert record is not None
    assert record.progress == {"train 0": [3, 5], "train 1": [2, 5]}


def test_writes_reach_the_journals_of_a_majority_whatever_the_database_asks_for(
    store: Store,
) -> None:
    hasty = store.database.with_options(write_concern=WriteConcern(w=0))
    for part in (Store(hasty), Store(hasty).campaigns, Store(hasty).labels):
        assert part.database.write_concern.document == {"w": "majority", "j": True}
