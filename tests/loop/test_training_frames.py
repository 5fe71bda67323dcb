"""What potentials are trained on: certain labels, and uncertain ones where moments are told."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from al_charge.loop.campaign import Campaign
from al_charge.loop.labelled_frames import frames_of
from al_charge.loop.predicted import _is_what_was_predicted
from al_charge.loop.train import _is_taken_over, training_frames
from al_charge.potentials.painn import PainnSettings
from al_charge.store.documents import CandidateDoc, FrameDoc, LabelDoc, ModelDoc
from al_charge.store.label_documents import Refusal, refusal_of
from al_charge.store.labels import ALL_FRAMES, SUMMARY, LabelSummary

MOMENTS = [4.31, -3.66, 3.95, 4.05, 0.1]
CHARGES = [1.9, 1.5, 1.7, 1.7, -6.8]


CELLS = SimpleNamespace(order_of=lambda one: f"order {one.config_hash}")
"""Cells of a campaign, in which orders have other names than in the cell of a label."""


def _label(resolved: list[str] | None) -> LabelDoc:
    frames = [
        FrameDoc(positions=np.eye(5, 3) * k, cell=np.eye(3) * 9, energy=-k, forces=np.zeros((5, 3)))
        for k in (1.0, 2.0)
    ]
    return LabelDoc.model_construct(
        key="k",
        config_hash="c",
        numbers=[26, 26, 26, 26, 8],
        host_site=[0, 1, 2, 3, 4],
        frames=frames,
        requested=["Fe3+", "Fe2+", "Fe3+", "Fe2+", "O2-"],
        resolved=resolved,
        sites=["Fe3+", "Fe2+", None, None, "O2-"],
        windows={"Fe2+": [3.6, 3.75], "Fe3+": [4.2, 4.4]},
        moments=MOMENTS,
        bader=CHARGES,
        converged=True,
        unusable="",
    )


def _campaign(label: LabelDoc, *, spin: bool, aware: bool = True, used: int = 0) -> Campaign:
    """Return a campaign "x" that has used one label since a round."""
    summary = LabelSummary(
        key=label.key,
        config_hash=label.config_hash,
        colours=[],
        host_fingerprint="h",
        settings_hash="s",
        engine="e",
        relax="none",
        composition="1/2",
        n_ions=1,
        energy=-2.0,
        created=datetime(2026, 1, 1, tzinfo=UTC),
        refusal=refusal_of(label.unusable, label.converged, label.resolved, label.delocalised),
        has_moments=True,
        delocalised=label.delocalised,
        used=used,
    )

    def read(wanted: Any, **query: Any) -> Iterator[Any]:
        if wanted is SUMMARY:
            assert query.keys() == {"campaign", "up_to"}
            return iter([summary] if query["campaign"] == "x" and used <= query["up_to"] else [])
        assert wanted is ALL_FRAMES
        return iter([label] if label.key in query["keys"] else [])

    store = SimpleNamespace(labels=SimpleNamespace(read=read))
    spec = SimpleNamespace(potential=PainnSettings(spin=spin, charge_aware=aware))
    campaign = SimpleNamespace(name="x", store=store, spec=spec, cells=CELLS)
    return cast(Campaign, cast(Any, campaign))


@pytest.mark.parametrize("spin", [False, True])
def test_an_uncertain_label_is_learned_from_only_where_moments_are_told(
    spin: bool, tmp_path: Path
) -> None:
    uncertain, certain = _label(None), _label(["Fe3+", "Fe2+", "Fe2+", "Fe3+", "O2-"])
    frames = training_frames(_campaign(uncertain, spin=spin), 0, tmp_path / "a")
    assert len(frames) == (2 if spin else 0)
    assert all("moments" in frame.atoms.arrays for frame in frames)
    assert len(training_frames(_campaign(certain, spin=spin), 0, tmp_path / "b")) == 2
    broken = certain.model_copy(update={"unusable": "another functional"})
    assert len(training_frames(_campaign(broken, spin=spin), 0, tmp_path / "c")) == 0


@pytest.mark.parametrize(("aware", "n_frames"), [(True, 0), (False, 2)])
def test_a_shared_charge_is_learned_from_where_charge_states_are_not_told(
    aware: bool, n_frames: int, tmp_path: Path
) -> None:
    uncertain, shared = _label(None), _label(None).model_copy(update={"delocalised": True})
    campaign = _campaign(shared, spin=False, aware=aware)
    assert len(training_frames(campaign, 0, tmp_path / "a")) == n_frames
    assert not training_frames(_campaign(uncertain, spin=False, aware=aware), 0, tmp_path / "b")


@pytest.mark.parametrize("delocalised", [False, True])
@pytest.mark.parametrize("aware", [False, True])
def test_what_a_potential_does_not_know_is_no_error_of_its_prediction(
    aware: bool, delocalised: bool
) -> None:
    """A shared charge is no order that an aware committee predicted; a blind one predicts none."""
    label = cast(LabelSummary, SimpleNamespace(config_hash="c", delocalised=delocalised))
    asked, other = (
        cast(CandidateDoc, SimpleNamespace(config_hash=f"order {name}")) for name in "cd"
    )
    known = not (aware and delocalised)
    potential = SimpleNamespace(charge_aware=aware)
    spec = SimpleNamespace(potential=potential)
    campaign = cast(Campaign, SimpleNamespace(cells=CELLS, spec=spec))
    assert _is_what_was_predicted(campaign, label, asked) is known
    assert not _is_what_was_predicted(campaign, label, other)


@pytest.mark.parametrize(("round_number", "n_frames"), [(0, 0), (1, 2), (2, 2)])
def test_a_round_trains_on_labels_up_to_its_own(
    round_number: int, n_frames: int, tmp_path: Path
) -> None:
    campaign = _campaign(_label(["Fe3+", "Fe2+", "Fe2+", "Fe3+", "O2-"]), spin=False, used=1)
    frames = training_frames(campaign, round_number, tmp_path)
    assert [frame.group for frame in frames] == n_frames * ["order c"]


def test_one_cache_serves_potentials_with_and_without_spin(tmp_path: Path) -> None:
    label = _label(["Fe3+", "Fe2+", "Fe2+", "Fe3+", "O2-"])
    for spin in (False, True, False):
        for frame in training_frames(_campaign(label, spin=spin), 0, tmp_path):
            assert ("moments" in frame.atoms.arrays) == spin


def test_an_uncertain_site_has_the_state_nearest_to_its_moment() -> None:
    """3.95 is 0.275 from the middle of Fe2+ and 0.35 from that of Fe3+; 4.05 is nearer Fe3+.

    No choice of states makes these five atoms neutral.
    """
    for frame in frames_of(_label(None), spin=True):
        assert frame.atoms.arrays["species"].tolist() == ["Fe3+", "Fe2+", "Fe2+", "Fe3+", "O2-"]


def test_moments_are_an_input_everywhere_and_a_target_at_the_end() -> None:
    first, last = frames_of(_label(None), spin=True)
    for frame in (first, last):
        assert frame.atoms.arrays["moments"].tolist() == MOMENTS
    assert first.moments is None and first.charges is None
    assert last.moments is not None and last.moments.tolist() == MOMENTS
    assert last.charges is not None and last.charges.tolist() == CHARGES
    plain = frames_of(_label(["Fe3+", "Fe2+", "Fe2+", "Fe3+", "O2-"]), spin=False)
    assert all("moments" not in frame.atoms.arrays for frame in plain)


@pytest.mark.parametrize("spin", [False, True])
def test_a_member_that_has_learnt_all_labels_is_taken_over(spin: bool) -> None:
    """Not if any was added or removed, or one that tells moments alone may be new to it."""
    parent = ModelDoc(
        campaign="c",
        round=3,
        member=1,
        config={},
        history=[{"loss": 1.0}],
        held_out={"x": 0.1},
        sha256="s",
    )
    put: list[Any] = []

    def taken_over(
        usable: list[str], others: list[int], known: dict[str, float], before: Any = parent
    ) -> bool:
        def read(_: Any, **query: Any) -> Iterator[Any]:
            assert query == {"campaign": "c", "up_to": 4, "refused": True}
            return iter(
                SimpleNamespace(
                    refusal=Refusal.AMBIGUOUS, delocalised=False, has_moments=True, used=used
                )
                for used in others
            )

        models = SimpleNamespace(
            get=lambda name, number, member: (
                (before, b"w") if before and (name, number, member) == ("c", 3, 1) else None
            ),
            predictions=lambda doc: known,
            put=lambda *parts: put.append(parts),
        )
        campaign: Any = SimpleNamespace(
            name="c",
            store=SimpleNamespace(models=models, labels=SimpleNamespace(read=read)),
            spec=SimpleNamespace(potential=PainnSettings(spin=spin)),
        )
        return _is_taken_over(campaign, 4, 1, usable)

    both = {"a": 1.0, "b": 2.0}
    assert not taken_over(["a", "b"], [], both, before=None)
    for usable in (["a"], ["a", "b", "c"], []):
        assert not taken_over(usable, [], both)
    assert taken_over(["a", "b"], [3], both) is not spin
    assert taken_over(["a", "b"], [4], both) is not spin
    put.clear()
    assert taken_over(["a", "b"], [2], both)
    ((taken, weights, predictions),) = put
    assert (taken.doc_id, taken.start, taken.history) == ("c/4/1", "c/3/1", [])
    assert (taken.held_out, taken.sha256, weights) == ({"x": 0.1}, "s", b"w")
    assert predictions == both
