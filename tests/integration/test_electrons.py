"""LiCoO2 by GPAW: the runs in other spin states find low-spin cobalt below high-spin cobalt.

That such a campaign is stopped, and told what to write, is in ``tests/loop/test_explore.py``.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml
from pymongo.database import Database

from al_charge.loop.campaign import open_campaign
from al_charge.loop.explore import explore, explore_slots
from al_charge.loop.ground_state import electrons, lower_spin_states
from al_charge.loop.label import label
from al_charge.loop.propose import propose
from al_charge.loop.rounds import open_round
from al_charge.loop.select import select_candidates
from al_charge.loop.spec import parse_spec
from al_charge.loop.submit import submit
from al_charge.store.mongo import Store

pytestmark = [
    pytest.mark.slow,
    pytest.mark.gpaw,
    pytest.mark.mongod,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(find_spec("gpaw") is None, reason="GPAW is not installed"),
    pytest.mark.usefixtures("forked_gpaw"),
]

CAMPAIGN = Path(__file__).parents[1] / "cases" / "hosts" / "licoo2_high_spin.yaml"

LOOSE = {
    "xc": "LDA",
    "cutoff": "300 eV",
    "kpoints": [2, 1, 1],
    "energy_tolerance": "1e-4 eV",
    "density_tolerance": 1e-3,
    "eigenstates_tolerance": 1e-4,
}
"""Settings that save time; those of the file make 1.52 eV of the difference."""
LOW, HIGH = -9.178, -6.979
"""eV of low-spin LiCoO2, and of high-spin LiCoO2 with its moment held at 4: GPAW run by hand
with these settings, on the same structure."""


@contextmanager
def no_lock(_: str) -> Iterator[None]:
    yield


def test_low_spin_licoo2_is_found_below_high_spin(
    database: Database[dict[str, Any]], tmp_path: Path
) -> None:
    store = Store(database)
    store.ensure_schema()
    settings = yaml.safe_load(CAMPAIGN.read_text(encoding="utf-8"))
    settings["labeler"] |= LOOSE
    spec = parse_spec(settings, source=CAMPAIGN)
    submit(store, spec)
    campaign = open_campaign(store, spec.name)
    open_round(campaign, 0)
    for n_ions in campaign.host.ion_counts:
        propose(campaign, 0, n_ions)
    candidates = [store.candidates.get(doc_id) for doc_id in select_candidates(campaign, 0)]
    (full,) = [slot for slot, one in enumerate(candidates) if one and one.composition == "1"]
    label(campaign, 0, full, tmp_path / "label", spool=tmp_path / "spool")
    for slot, (which, _) in explore_slots(campaign, 0).items():
        if which == 1:  # x = 1
            folder = tmp_path / f"explore-{slot}"
            explore(campaign, 0, slot, folder, spool=tmp_path / "spool", lock=no_lock)
    assert lower_spin_states(campaign) == "", "CoO2 was not run yet"
    discharged = next(one for one in electrons(campaign, 0) if one.x == "1")
    assert not discharged.pending
    assert discharged.label is not None
    assert discharged.label.energy == pytest.approx(HIGH, abs=0.01)
    lower = discharged.lower_spin
    assert lower is not None
    assert lower.energy == pytest.approx(LOW, abs=0.01)
    assert lower.species == ("Co3+,spin=0",)
    assert discharged.lowest_as_asked is not None
    by = discharged.lowest_as_asked.energy - lower.energy
    assert by == pytest.approx(HIGH - LOW, abs=0.01)
    assert discharged.outcome == f"Co3+ low lies {1e3 * by:.0f} meV/f.u. below Co3+ high"
