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
    store.add_campaign(make_campaign())
    for key, fields in {
        "g": {},
        "b": {"resolved": None},
        "f": {"unusable": "another cutoff", "resolved": None, "converged": False},
        "a": {"converged": False, "resolved": None},
        "d": {"moments": None, "composition": "1/2", "n_ions": 2},
        "other": {},
    }.items():
        store.put_label(make_label(key, **fields))
    with monkeypatch.context() as patch:
        patch.setattr(labels, "LARGEST_INLINE_FRAMES", 0)
        store.put_label(make_label("c"))
    for number, key in enumerate("gbfac"):
        store.link_label("olivine", number // 2, key)
    return store


def test_heads_of_a_campaign_tell_the_round_that_uses_them(filled: Store) -> None:
    used = {head.key: head.used for head in filled.label_heads("olivine")}
    assert used == {"g": 0, "b": 0, "f": 1, "a": 1, "c": 2} == filled.rounds_of_use("olivine")
    assert {head.key for head in filled.label_heads("olivine", up_to=1)} == {"a", "b", "f", "g"}
    assert {head.used for head in filled.label_heads()} == {None}


def test_refused_labels_of_a_campaign(filled: Store) -> None:
    filled.put_label(filled.label("a").model_copy(update={"key": "z"}))  # type: ignore[union-attr]
    found = filled.label_heads_of_campaign("olivine", refused=True)
    assert [label.key for label in found] == ["b", "f", "a"]
    everything = filled.label_heads_of_campaign("olivine")
    assert found == [label for label in everything if label.refused]


def test_labels_of_a_composition_have_their_last_frame(filled: Store) -> None:
    filled.link_label("olivine", 2, "d")
    assert [label.key for label in filled.labels_at("olivine", [2])] == ["d"]
    assert filled.labels_at("olivine", [2], up_to=1) == []
    (label,) = [one for one in filled.labels_at("olivine", [1]) if one.key == "c"]
    whole = filled.label("c")
    assert whole is not None
    assert label.frames == whole.frames[-1:]


def test_results_are_the_last_geometries(filled: Store) -> None:
    found = dict(filled.stream_results(["c", "d", "g"]))
    assert found.keys() == {"c", "d", "g"}
    for key, geometry in found.items():
        label = filled.label(key)
        assert label is not None
        assert geometry.positions == label.frames[-1].positions
        assert geometry.cell == label.frames[-1].cell
        assert geometry.species == label.resolved
        assert (geometry.numbers, geometry.host_site) == (label.numbers, label.host_site)


def test_heads_tell_what_documents_do(filled: Store) -> None:
    heads = list(filled.label_heads())
    assert [head.key for head in heads] == ["a", "b", "c", "d", "f", "g", "other"]
    for head in heads:
        label = filled.label(head.key)
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
    assert [head.key for head in filled.label_heads("olivine")] == ["a", "b", "c", "f", "g"]
    assert [head.key for head in filled.label_heads("olivine", up_to=0)] == ["b", "g"]


def test_streamed_labels_are_the_stored_ones(filled: Store) -> None:
    keys = ["g", "c", "a", "d", "b"]
    found = {label.key: label for label in filled.stream_labels(keys)}
    assert set(found) == set(keys)
    for key, label in found.items():
        assert label == filled.label(key)
        assert len(label.frames) == 2
    assert list(filled.stream_labels([])) == []
