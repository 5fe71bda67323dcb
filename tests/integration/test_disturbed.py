"""Campaigns that are disturbed go on, by themselves or resumed, and end at the same hull."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

import psutil
import pytest
from pymongo import MongoClient

from al_charge.stopping import SIGNALS
from al_charge.store.embedded import EmbeddedServer
from al_charge.testing.site import ENDED, Site

pytestmark = [pytest.mark.slow, pytest.mark.mongod, pytest.mark.timeout(1800)]
KILLS = 12
"""Others, at more kinds of moments, are those of `benchmarks/faults.py`."""
VICTIMS = ("worker", "child", "mongod")


def wait_until(condition: Callable[[], Any]) -> Any:
    """Wait for something to be true, and return it."""
    deadline = time.monotonic() + 120
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found


def pids_of(site: Site, victim: str) -> list[int]:
    return site.victims()[victim]


def works_or_has_ended(site: Site) -> bool:
    victims = site.victims()
    return victims["child"] != [] or victims["worker"] == []


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
    make_site: Callable[..., Site], sent: signal.Signals
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


def test_workers_need_no_help(calm: Site, make_site: Callable[..., Site]) -> None:
    """Nobody calls `campaign resume`: what is killed is replaced, and its work handed back."""
    rng = random.Random(11)
    rough = make_site("rough", forked=True)
    rough.run("campaign", "submit", str(rough.file))
    rough.start_worker()
    for victim in ("child", "mongod", "child", "mongod", "child"):
        time.sleep(rng.uniform(2.0, 6.0))
        pids = wait_until(partial(pids_of, rough, victim))
        psutil.Process(rng.choice(pids)).kill()
    assert rough.worker is not None
    assert rough.worker.wait(timeout=900) == 0, rough.log.read_text()
    assert rough.differences(calm) == []


def disturb(site: Site, rng: random.Random) -> Counter[str]:
    """Kill something at random moments until there were enough kills; return how many of which."""
    killed: Counter[str] = Counter()
    kinds = [kind for _ in range(KILLS // len(VICTIMS)) for kind in rng.sample(VICTIMS, k=3)]
    while kinds and site.status()["state"] not in ENDED:
        if site.worker is None:
            site.start_worker()
        wait_until(partial(works_or_has_ended, site))
        time.sleep(rng.uniform(0.0, 2.5))
        pids = site.victims()[kinds[0]]
        if pids:
            os.kill(rng.choice(pids), signal.SIGKILL)
            killed[kinds.pop(0)] += 1
        if site.victims()["worker"] == [] or rng.random() < 0.5:
            site.end_worker()
            site.run("campaign", "resume", "kills")
    return killed


def test_killed_campaign_ends_at_the_same_hull(calm: Site, make_site: Callable[..., Site]) -> None:
    rough = make_site("rough", forked=True)
    rough.run("campaign", "submit", str(rough.file))
    killed = disturb(rough, random.Random(7))
    print(f"killed: {dict(killed)}")
    assert killed == dict.fromkeys(VICTIMS, KILLS // len(VICTIMS))
    rough.finish()
    assert rough.differences(calm) == []
