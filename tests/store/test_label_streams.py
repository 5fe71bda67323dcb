"""Labels read one by one: the same as those read at once, and light heads of them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from al_charge.store import label_streams, labels
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
    monkeypatch.setattr(label_streams, "KEYS_AT_ONCE", 2)
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
