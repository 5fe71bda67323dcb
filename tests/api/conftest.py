"""A small campaign that a worker has run to its end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient

import al_charge as ac
from al_charge.fw.launchpad import connect_launchpad
from al_charge.fw.tasks import CATEGORIES, ensure_round
from al_charge.fw.worker import work
from al_charge.loop.campaign import open_campaign
from al_charge.loop.spec import parse_spec
from al_charge.loop.submit import submit
from al_charge.store.connection import connect
from al_charge.store.mongo import Store

HOST = Path(__file__).parents[2] / "workflows" / "hosts" / "NaFePO4.cif"
NAME = "face"
SPEC: dict[str, Any] = {
    "name": NAME,
    "host": {
        "structure": str(HOST),
        "working_ion": "Na",
        "redox": {"Fe": [2, 3]},
        "fixed": {"P": 5, "O": -2},
    },
    "labeler": {"kind": "born", "fmax": "0.05 eV/A"},
    "potential": {"kind": "painn", "cutoff": "4 A", "channels": 8},
    "training": {"epochs": 1},
    "committee": {"size": 2},
    "search": {"seeds": 4},
    "acquisition": {"first_round": 7},
    "convergence": {"max_rounds": 1, "max_labels": 7},
}


@pytest.fixture(scope="module")
def ended(
    mongodb_client: MongoClient[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The name of the campaign, in the embedded database."""
    store = Store(connect(None))
    store.ensure_schema()
    submit(store, parse_spec(SPEC, source=HOST))
    launchpad = connect_launchpad(None)
    with launchpad.connection:
        ensure_round(launchpad, open_campaign(store, NAME), 0)
    store.close()
    folder = tmp_path_factory.mktemp("face")
    work(None, NAME, folder / "runs", categories=CATEGORIES, until_idle=True)
    yield NAME
    mongodb_client.drop_database("al_charge")


@pytest.fixture
def campaign(ended: str) -> Iterator[ac.Campaign]:
    """The campaign, opened."""
    with ac.open(ended) as opened:
        yield opened


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """A text log of GPAW: NaFe2O3, one iron of each charge state."""
    symbols = ["Na", "Fe", "Fe", "O", "O", "O"]
    rows = [f"| {i} | {s} | {float(i)} | 0.0 | 0.0 | start |" for i, s in enumerate(symbols)]
    lengths = ("9.0 | 0.0 | 0.0", "0.0 | 9.0 | 0.0", "0.0 | 0.0 | 9.0")
    axes = [f"| yes | {length} | 9.0 | 90.0 |" for length in lengths]
    moments = [0.0, 3.68, 4.30, 0.1, 0.1, 0.1]
    lines = [
        " | _ |_)|_||  |\n |__||  | ||/\\| - 26.7.0\n\n  mode=PW(ecut=500.0),",
        "\nAtoms  # Å, Bohr magnetons", *rows, "\n\nUnit cell  # Å", *axes,
        "\n  Extrapolated:   -31.250000\n\nLocal magnetic moments",
        *[f"| 0.0 | 0.0 | {moment:.6f} |  # X" for moment in moments], "",
    ]  # fmt: skip
    path = tmp_path / "gpaw.txt"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path
