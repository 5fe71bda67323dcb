"""Labels are read as far as they are needed, and by any query as one would by hand."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import pytest

from al_charge.store import base, labels
from al_charge.store.documents import CampaignDoc, LabelDoc, Refusal
from al_charge.store.labels import (
    ALL_FRAMES,
    LAST_FRAME,
    LAST_GEOMETRY,
    SUMMARY,
    WITHOUT_FRAMES,
    LabelSummary,
)
from al_charge.store.mongo import Store

Make = Callable[..., LabelDoc]
USES = {"g": 0, "b": 0, "f": 1, "a": 1, "c": 2}
REFUSED = {"a": Refusal.NOT_CONVERGED, "b": Refusal.AMBIGUOUS, "f": Refusal.UNUSABLE}


@pytest.fixture
def filled(
    store: Store,
    make_label: Make,
    make_campaign: Callable[..., CampaignDoc],
    monkeypatch: pytest.MonkeyPatch,
) -> Store:
    """Seven labels, of which a campaign uses five in three rounds; two have frames in GridFS."""
    monkeypatch.setattr(base, "KEYS_AT_ONCE", 2)
    for name in ("olivine", "other"):
        store.campaigns.add(make_campaign(name))
    for key, fields in {
        "g": {"n_ions": 2, "composition": "1/2"},
        "b": {"resolved": None},
        "f": {"unusable": "another cutoff", "resolved": None, "converged": False},
        "a": {"converged": False, "resolved": None},
        "other": {},
    }.items():
        store.labels.put(make_label(key, n_frames=3, **fields))
    with monkeypatch.context() as patch:
        patch.setattr(labels, "LARGEST_INLINE_FRAMES", 0)
        store.labels.put(make_label("c", n_frames=3))
        store.labels.put(make_label("d", moments=None, n_ions=2, composition="1/2"))
    for key, number in USES.items():
        store.labels.link("olivine", number, key)
    store.labels.link("other", 0, "d")
    return store


def keys_of(store: Store, **query: object) -> list[str]:
    return [found.key for found in store.labels.read(SUMMARY, **query)]  # type: ignore[arg-type]


def test_every_query_finds_what_fits_it_in_the_order_of_the_keys(filled: Store) -> None:
    everything = [filled.labels.get(key) for key in ("a", "b", "c", "d", "f", "g", "other")]
    chosen = ["other", "nowhere", "g", "d", "c", "a"]
    count = 0
    for campaign, up_to, keys, compositions, refused in product(
        (None, "olivine", "other", "nobody"),
        (None, 0, 1),
        (None, chosen, []),
        (None, ["1/2"], ["1/4", "1/2"], ["3/4"]),
        (None, True, False),
    ):
        if campaign is None and up_to is not None:
            continue
        last = 9 if up_to is None else up_to
        used = {"olivine": {k for k, n in USES.items() if n <= last}, "other": {"d"}}
        expected = [
            label.key
            for label in everything
            if label is not None
            and (campaign is None or label.key in used.get(campaign, ()))
            and (keys is None or label.key in keys)
            and (compositions is None or label.composition in compositions)
            and (refused is None or (label.key in REFUSED) is refused)
        ]
        query = {"campaign": campaign, "up_to": up_to, "keys": keys, "refused": refused}
        assert keys_of(filled, **query, compositions=compositions) == expected, (
            query,
            compositions,
        )
        count += bool(expected)
    assert count > 60


def test_summaries_say_what_documents_do(filled: Store) -> None:
    for summary in filled.labels.read(SUMMARY):
        label = filled.labels.get(summary.key)
        assert label is not None
        assert summary.has_moments is (label.moments is not None)
        assert summary.refusal is label.refusal is REFUSED.get(label.key)
        for name in set(LabelSummary.__slots__) - {"has_moments", "used"}:
            assert getattr(summary, name) == getattr(label, name), name


def test_summaries_tell_the_round_that_uses_them(filled: Store) -> None:
    found = {one.key: one.used for one in filled.labels.read(SUMMARY, campaign="olivine")}
    assert found == USES == filled.labels.uses("olivine")
    assert filled.labels.uses("olivine", up_to=1) == {"g": 0, "b": 0, "f": 1, "a": 1}
    assert {one.used for one in filled.labels.read(SUMMARY)} == {None}


def test_labels_are_read_with_as_many_frames_as_are_wanted(filled: Store) -> None:
    whole = {label.key: label for label in filled.labels.read(ALL_FRAMES)}
    assert {key: len(label.frames) for key, label in whole.items()} == {
        key: 2 if key == "d" else 3 for key in ("a", "b", "c", "d", "f", "g", "other")
    }
    for key, label in whole.items():
        assert filled.labels.get(key) == label
    for wanted, taken in ((WITHOUT_FRAMES, slice(0)), (LAST_FRAME, slice(-1, None))):
        for label in filled.labels.read(wanted):
            frames = whole[label.key].frames[taken]
            assert label == whole[label.key].model_copy(update={"frames": frames})


def test_last_geometries(filled: Store) -> None:
    found = dict(filled.labels.read(LAST_GEOMETRY, keys=["g", "d", "c"]))
    assert list(found) == ["c", "d", "g"]
    for key, geometry in found.items():
        label = filled.labels.get(key)
        assert label is not None
        last = label.frames[-1]
        assert (geometry.positions, geometry.cell) == (last.positions, last.cell)
        assert geometry.species == label.resolved
        assert (geometry.numbers, geometry.host_site) == (label.numbers, label.host_site)


def test_the_server_sends_nothing_of_atoms_for_a_summary(filled: Store) -> None:
    (sent,) = filled.database["labels"].aggregate([{"$match": {"_id": "g"}}, *SUMMARY.pipeline])
    assert sent.keys() == {"_id", *LabelSummary.__slots__} - {"key", "used"}
    (sent,) = filled.database["labels"].aggregate(
        [{"$match": {"_id": "g"}}, *LAST_GEOMETRY.pipeline]
    )
    assert [frame.keys() for frame in sent["frames"]] == [{"positions", "cell"}]


def test_which_labels_there_are(filled: Store) -> None:
    assert filled.labels.among(["a", "nowhere", "d", "g"]) == {"a", "d", "g"}
    assert filled.labels.has("a")
    assert not filled.labels.has("nowhere")
    assert filled.labels.get("nowhere") is None
