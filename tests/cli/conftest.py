"""A campaign in the embedded database with labels of every kind, none of them computed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from jsonschema import Draft202012Validator, FormatChecker
from pymongo import MongoClient
from pymongo.database import Database

from al_charge.crystal.configuration import composition, ion_count, to_atoms
from al_charge.crystal.enumeration import enumerate_distinct
from al_charge.crystal.symmetry import canonical_hash
from al_charge.loop.campaign import Campaign, open_campaign
from al_charge.loop.spec import parse_spec
from al_charge.loop.submit import new_document
from al_charge.store.documents import FailureDoc, FrameDoc, LabelDoc, ReferenceDoc
from al_charge.store.mongo import Store

SCHEMA = Path(__file__).parents[2] / "docs" / "json.schema.json"
HOST = Path(__file__).parents[2] / "workflows" / "hosts" / "NaFePO4.cif"
SPEC: dict[str, Any] = {
    "name": "labelled",
    "host": {
        "structure": str(HOST),
        "working_ion": "Na",
        "redox": {"Fe": [2, 3]},
        "fixed": {"P": 5, "O": -2},
    },
    "labeler": {"kind": "born"},
    "potential": {"kind": "painn"},
}
DIGITS = "123456789012345678901234"
"""A label's key that looks like a number."""


@pytest.fixture(scope="session")
def json_schema() -> Draft202012Validator:
    """The JSON Schema of the docs."""
    schema = json.loads(SCHEMA.read_text())
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema, format_checker=FormatChecker())


@pytest.fixture(autouse=True)
def held_to_the_schema(json_schema: Draft202012Validator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever commands print as JSON in a test is held against the schema of the docs."""
    echo = click.echo

    def held(message: Any = None, *arguments: Any, **options: Any) -> None:
        if isinstance(message, str) and message.startswith('{\n  "schema": "al-charge/'):
            document = json.loads(message)
            wrong = json_schema.iter_errors(document)
            told = [(one.message[:200], list(one.absolute_path)) for one in wrong]
            assert told == [], document["schema"]
        echo(message, *arguments, **options)

    monkeypatch.setattr(click, "echo", held)


@pytest.fixture
def labelled(
    mongodb_client: MongoClient[dict[str, Any]],
    reset: Callable[[Database[dict[str, Any]]], bool],
) -> Iterator[Campaign]:
    """The campaign ``labelled``: six labels, one failure, and the metal."""
    store = Store(mongodb_client["al_charge"])
    store.ensure_schema()
    store.campaigns.add(new_document(parse_spec(SPEC, source=HOST)))
    campaign = open_campaign(store, "labelled")
    for number, label in enumerate(_labels(campaign)):
        created = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(hours=number)
        store.labels.put(label.model_copy(update={"created": created}))
        store.labels.link("labelled", 0, label.key)
    store.failures.put(
        FailureDoc(
            key="lost", campaign="labelled", round=0, reason="the SCF did not converge", attempts=3
        )
    )
    store.references.put(
        ReferenceDoc(
            settings_hash=campaign.settings_hash,
            ion="Na",
            energy=-1.25,
            settings={"engine": "gpaw", "xc": "PBE"},
            engine="gpaw 26.7.0",
            wall_time=9.0,
            directory="runs/metal",
        )
    )
    yield campaign
    reset(store.database)


def _labels(campaign: Campaign) -> list[LabelDoc]:
    requested = _species(campaign, 2)[0]
    iron = [i for i, token in enumerate(requested) if token.startswith("Fe")]
    swapped = list(requested)
    flip = {"Fe2+": "Fe3+", "Fe3+": "Fe2+"}
    for i in iron:
        swapped[i] = flip[requested[i]]
    spread: list[str | None] = list(requested)
    spread[iron[0]] = spread[iron[1]] = None
    return [
        _label(campaign, DIGITS, 0, n_frames=3),
        _label(campaign, "exact", 2),
        _label(campaign, "other", 2, resolved=swapped, sites=swapped),
        _label(
            campaign, "blurred", 2, resolved=None, sites=spread,
            audit=f"moments of atoms {iron[0]}, {iron[1]} fit no charge state",
        ),
        _label(campaign, "changed", 2, unusable="custodian changed ENCUT from 520 to 600"),
        _label(
            campaign, "whole", 4, bader=None, bader_electrons=None,
            bader_refused='the grid is too coarse: "fine" = 0.05 e',
        ),
    ]  # fmt: skip


def _species(campaign: Campaign, n_ions: int) -> tuple[list[str], Any, Any]:
    config = enumerate_distinct(campaign.host, n_ions)[0]
    atoms = to_atoms(campaign.host, config)
    return [str(token) for token in atoms.arrays["species"]], atoms, config


def _label(
    campaign: Campaign, key: str, n_ions: int, *, n_frames: int = 1, **fields: Any
) -> LabelDoc:
    species, atoms, config = _species(campaign, n_ions)
    rng = np.random.default_rng(n_ions + len(key))
    n_atoms = len(atoms)
    frames = []
    for i in range(n_frames):
        stress = rng.normal(scale=0.01, size=(3, 3))
        arrays: dict[str, Any] = {
            "positions": atoms.positions + 0.01 * i,
            "cell": atoms.cell.array * (1 + 0.001 * i),
            "forces": rng.normal(scale=0.1, size=(n_atoms, 3)),
            "stress": stress + stress.T if n_ions == 0 else None,
        }
        frames.append(FrameDoc(energy=-190.123456789012 - i - n_ions, **arrays))
    moments = atoms.get_initial_magnetic_moments() * 0.85
    known: dict[str, Any] = {
        "key": key,
        "config_hash": canonical_hash(campaign.host, config),
        "requested_hash": canonical_hash(campaign.host, config),
        "colours": config.as_array(),
        "composition": composition(campaign.host, config),
        "n_ions": ion_count(campaign.host, config),
        "host_fingerprint": campaign.host.fingerprint,
        "settings_hash": campaign.settings_hash,
        "settings": {"engine": "gpaw", "xc": "PBE"},
        "requested": species,
        "resolved": species,
        "sites": species,
        "audit": "every moment fits a charge state",
        "windows": {"Fe2+": [3.3, 3.5], "Fe3+": [4.2, 4.3]},
        "relax": "cell" if n_frames > 1 else "none",
        "numbers": atoms.numbers,
        "host_site": atoms.arrays["host_site"],
        "frames": frames,
        "energy": frames[-1].energy,
        "moments": moments,
        "bader": np.linspace(-1.5, 1.5, n_atoms),
        "bader_electrons": np.full(n_atoms, 6.0),
        "converged": True,
        "engine": "gpaw 26.7.0",
        "datasets": {"Fe": "f00"},
        "attempts": [
            {"changed": "moments", "outcome": "SCF did not converge"},
            {"changed": "slower mixing", "outcome": "converged"},
        ],
        "wall_time": 181.5,
        "cores": 1,
        "directory": "/somewhere/private",
        "campaign": "labelled",
        "round": 0,
    }
    return LabelDoc(**(known | fields))
