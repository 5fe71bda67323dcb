"""How much time is left, and when nothing is said of it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from al_charge.fw import status
from al_charge.fw.status import seconds_left
from al_charge.store.documents import Assessment, RoundDoc
from al_charge.store.round_documents import Criterion

LENGTHS = (12.0, 31.0, 64.0, 22.0, 48.0, 35.0, 30.0, 27.0)
"""Of rounds, s; as uneven as those of a demo."""
HELD = (False, False, True, False, False, False, True, True)
"""Whether every criterion held in them."""
START = datetime(2026, 1, 1, tzinfo=UTC)


def campaign(*, static: bool = False, verify: bool | None = None) -> Any:
    convergence = SimpleNamespace(rounds=2, verify=verify)
    return SimpleNamespace(static_labels=static, spec=SimpleNamespace(convergence=convergence))


def rounds(number: int, make: Callable[..., Assessment]) -> list[RoundDoc]:
    """Return the rounds of the demo when some have ended and the next has just begun."""
    found, begun = [], START
    for i in range(number + 1):
        record = RoundDoc(campaign="demo", number=i, created=begun)
        if i < number:
            begun += timedelta(seconds=LENGTHS[i])
            met = Criterion(name="it stays", met=HELD[i], value="")
            fields = {"closed": begun, "assessment": make(criteria=[met])}
            record = record.model_copy(update=fields)
        found.append(record)
    return found


def left(
    monkeypatch: pytest.MonkeyPatch, of: Any, some: list[RoundDoc], later: float = 0.0
) -> float | None:
    monkeypatch.setattr(status, "now", lambda: some[-1].created + timedelta(seconds=later))
    return seconds_left(of, some)


def test_time_is_told_only_where_the_end_is_in_sight(
    monkeypatch: pytest.MonkeyPatch, make_assessment: Callable[..., Assessment]
) -> None:
    told = [left(monkeypatch, campaign(), rounds(n, make_assessment)) for n in range(8)]
    assert told == [None, None, None, 64.0, None, None, None, 64.0]
    assert told[7] is not None and told[7] >= LENGTHS[7]  # no sooner than it ended
    some = rounds(7, make_assessment)
    assert left(monkeypatch, campaign(), some, later=24.0) == 40.0
    assert left(monkeypatch, campaign(), some, later=100.0) == 0.0


def test_how_long_a_verification_takes_is_not_known(
    monkeypatch: pytest.MonkeyPatch, make_assessment: Callable[..., Assessment]
) -> None:
    some = rounds(7, make_assessment)
    assert left(monkeypatch, campaign(static=True), some) is None
    assert left(monkeypatch, campaign(static=True, verify=False), some) == 64.0
    assert left(monkeypatch, campaign(verify=True), some) == 64.0
