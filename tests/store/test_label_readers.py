"""Labels read one by one: the same as those read at once, and light heads of them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from al_charge.store import base, labels
from al_charge.store.documents import CampaignDoc, LabelDoc
from al_charge.store.mongo import Store

Make = Callable[..., LabelDoc]


@pytest.fixture
def filled(
    store: Store,
    make_label: Make,
    make_campaign: Callable[..., CampaignDoc],
    monkeypatch: pytest.MonkeyPatch,
) -> Store:
    """Seven labels, of which a campaign uses five in three rounds; one has its frames in GridFS."""
    monkeypatch.setattr(base, "KEYS_AT_ONCE", 2)
    store.campaigns.add(make_campaign())
    for key, fields in {
        "g": {},
        "b": {"resolved": None},
        "f": {"unusable": "another cutoff", "resolved": None, "converged": False},
        "a": {"converged": False, "resolved": None},
        "d": {"moments": None, "composition": "1/2", "n_ions": 2},
        "other": {},
    }.items():
        store.labels.put(make_label(key, **fields))
    with monkeypatch.context() as patch:
        patch.setattr(labels, "LARGEST_INLINE_FRAMES", 0)
        store.labels.put(make_label("c"))
    for number, key in enumerate("gbfac"):
        store.labels.link("olivine", number // 2, key)
    return store


def test_heads_of_a_campaign_tell_the_round_that_uses_them(filled: Store) -> None:
    used = {head.key: head.used for head in filled.labels.heads("olivine")}
    assert (
        used == {"g": 0, "b": 0, "f": 1, "a": 1, "c": 2} == filled.labels.rounds_of_use("olivine")
    )
    assert {head.key for head in filled.labels.heads("olivine", up_to=1)} == {"a", "b", "f", "g"}
    assert {head.used for head in filled.labels.heads()} == {None}


def test_refused_labels_of_a_campaign(filled: Store) -> None:
    filled.labels.put(filled.labels.get("a").model_copy(update={"key": "z"}))  # type: ignore[union-attr]
    found = filled.labels.light_of_campaign("olivine", refused=True)
    assert [label.key for label in found] == ["b", "f", "a"]
    everything = filled.labels.light_of_campaign("olivine")
    assert found == [label for label in everything if label.refused]


def test_labels_of_a_composition_have_their_last_frame(filled: Store) -> None:
    filled.labels.link("olivine", 2, "d")
    assert [label.key for label in filled.labels.at("olivine", [2])] == ["d"]
    assert filled.labels.at("olivine", [2], up_to=1) == []
    (label,) = [one for one in filled.labels.at("olivine", [1]) if one.key == "c"]
    whole = filled.labels.get("c")
    assert whole is not None
    assert label.frames == whole.frames[-1:]


def test_results_are_the_last_geometries(filled: Store) -> None:
    found = dict(filled.labels.stream_results(["c", "d", "g"]))
    assert found.keys() == {"c", "d", "g"}
    for key, geometry in found.items():
        label = filled.labels.get(key)
        assert label is not None
        assert geometry.positions == label.frames[-1].positions
        assert geometry.cell == label.frames[-1].cell
        assert geometry.species == label.resolved
        assert (geometry.numbers, geometry.host_site) == (label.numbers, label.host_site)


def test_heads_tell_what_documents_do(filled: Store) -> None:
    heads = list(filled.labels.heads())
    assert [head.key for head in heads] == ["a", "b", "c", "d", "f", "g", "other"]
    for head in heads:
        label = filled.labels.get(head.key)
        assert label is not None
        for name in ("config_hash", "host_fingerprint", "settings_hash", "engine", "composition"):
            assert getattr(head, name) == getattr(label, name)
        assert (head.n_ions, head.energy, head.created) == (
            label.n_ions,
            label.energy,
            label.created,
        )
        assert (head.refused == "") == (label.refused == "")
        assert head.has_moments == (label.moments is not None)
    refused = {head.key: head.refused for head in heads}
    assert {key: why for key, why in refused.items() if why} == {
        "a": "not converged",
        "b": "ambiguous",
        "f": "unusable",
    }


def test_heads_of_a_campaign_up_to_a_round(filled: Store) -> None:
    assert [head.key for head in filled.labels.heads("olivine")] == ["a", "b", "c", "f", "g"]
    assert [head.key for head in filled.labels.heads("olivine", up_to=0)] == ["b", "g"]


def test_streamed_labels_are_the_stored_ones(filled: Store) -> None:
    keys = ["g", "c", "a", "d", "b"]
    found = {label.key: label for label in filled.labels.stream(keys)}
    assert set(found) == set(keys)
    for key, label in found.items():
        assert label == filled.labels.get(key)
        assert len(label.frames) == 2
    assert list(filled.labels.stream([])) == []
