"""Workers go on by themselves: after kills, outages of the database, and when told to stop."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import psutil
import pytest
from pymongo import MongoClient

from al_charge.stopping import SIGNALS
from al_charge.store.embedded import EmbeddedServer
from al_charge.testing.site import Site

pytestmark = [pytest.mark.slow, pytest.mark.mongod, pytest.mark.timeout(1800)]


def wait_until(condition: Callable[[], Any]) -> Any:
    """Wait for something to be true, and return it."""
    deadline = time.monotonic() + 120
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found


def pids_of(site: Site, victim: str) -> list[int]:
    return site.victims()[victim]


class Fireworks:
    """FireWorks' collections of a site, looked at from outside."""

    def __init__(self, site: Site) -> None:
        self._server = EmbeddedServer(site.home)

    def look(self, collection: str, query: dict[str, Any]) -> list[dict[str, Any]]:
        uri = self._server.start().uri("admin")
        with MongoClient[dict[str, Any]](uri) as client:
            return list(client["al_charge"][collection].find(query))

    def running(self) -> list[dict[str, Any]]:
        return self.look("fireworks", {"state": "RUNNING"})


@pytest.mark.parametrize("sent", SIGNALS)
def test_told_to_stop_workers_hand_back_what_they_do(
    make_site: Callable[[str], Site], sent: signal.Signals
) -> None:
    site = make_site("site")
    fireworks = Fireworks(site)
    site.run("campaign", "submit", str(site.file))
    site.start_worker()
    wait_until(fireworks.running)
    assert site.worker is not None
    site.worker.send_signal(sent)
    assert site.worker.wait(timeout=60) == 128 + sent
    assert fireworks.running() == []
    assert fireworks.look("workers", {}) == []
    assert fireworks.look("fireworks", {"state": "FIZZLED"}) == []
    ended = fireworks.look("launches", {"action.stored_data.handed_back": True})
    assert all(not launch["action"]["stored_data"]["crashed"] for launch in ended)


@pytest.mark.xdist_group("calm")
def test_workers_need_no_help(calm: Site, make_site: Callable[[str], Site]) -> None:
    """Nobody calls `campaign resume`: what is killed is replaced, and its work handed back."""
    rng = random.Random(11)
    rough = make_site("rough")
    rough.run("campaign", "submit", str(rough.file))
    rough.start_worker()
    for victim in ("child", "mongod", "child", "mongod", "child"):
        time.sleep(rng.uniform(2.0, 6.0))
        pids = wait_until(partial(pids_of, rough, victim))
        psutil.Process(rng.choice(pids)).kill()
    assert rough.worker is not None
    assert rough.worker.wait(timeout=900) == 0
    assert rough.differences(calm) == []
