"""A campaign that is killed at random moments ends at the same hull as one left alone."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable

import pytest

from al_charge.testing.site import ENDED, Site

KILLS = 20
VICTIMS = ("worker", "child", "mongod")


def disturb(site: Site, rng: random.Random) -> Counter[str]:
    """Kill something at random moments until there were enough kills; return how many of which."""
    killed: Counter[str] = Counter()
    while killed.total() < KILLS and site.status()["state"] not in ENDED:
        if site.worker is None:
            site.start_worker()
        time.sleep(rng.uniform(1.0, 8.0))
        kind = rng.choice(VICTIMS)
        pids = site.victims()[kind]
        if pids:
            os.kill(rng.choice(pids), signal.SIGKILL)
            killed[kind] += 1
        if kind != "child" or rng.random() < 0.5:
            site.end_worker()
            site.run("campaign", "resume", "kills")
    return killed


@pytest.mark.slow
@pytest.mark.mongod
@pytest.mark.timeout(1800)
@pytest.mark.xdist_group("calm")
def test_killed_campaign_ends_at_the_same_hull(
    calm: Site, make_site: Callable[[str], Site]
) -> None:
    rough = make_site("rough")
    rough.run("campaign", "submit", str(rough.file))
    killed = disturb(rough, random.Random(7))
    print(f"killed: {dict(killed)}")
    assert killed.total() >= KILLS
    assert all(killed[kind] for kind in VICTIMS)
    rough.finish()
    assert rough.differences(calm) == []
