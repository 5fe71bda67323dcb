"""`al-charge campaign watch --notify`: what happens is sent, and so is the end of the watch."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from pymongo.errors import AutoReconnect

from al_charge.loop.campaign import Campaign
from al_charge.report import messengers
from al_charge.report.notices import Notice
from al_charge.store.documents import CampaignState

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[Notice]:
    """What is sent, in order."""
    found: list[Notice] = []

    def senders(kinds: tuple[str, ...]) -> dict[str, Callable[[Notice], None]]:
        assert kinds == ("webhook",)
        return {"webhook": found.append}

    monkeypatch.setattr(messengers, "senders", senders)
    return found


def test_the_end_is_sent(labelled: Campaign, run: Run, sent: list[Notice]) -> None:
    labelled.store.campaigns.set_state("labelled", CampaignState.FAILED, "no potential")
    code, _, _ = run("campaign", "watch", "labelled", "--notify", "webhook")
    assert code == 0
    assert [(one.event, one.state) for one in sent] == [("end", "failed")]
    assert "no potential" in sent[0].text


def test_a_watch_that_ends_before_the_campaign_says_so(
    labelled: Campaign, run: Run, sent: list[Notice], monkeypatch: pytest.MonkeyPatch
) -> None:
    from al_charge.fw import status

    def lost(*_: object) -> None:
        raise AutoReconnect("connection closed")

    monkeypatch.setattr(status, "status_document", lost)
    code, _, _ = run("campaign", "watch", "labelled", "--notify", "webhook")
    assert code == 1
    assert [one.event for one in sent] == ["unwatched"]


def test_without_settings_nothing_is_watched(labelled: Campaign, run: Run) -> None:
    code, _, err = run("campaign", "watch", "labelled", "--notify", "mail")
    assert code == 2 and "notify.json" in err
