"""A store on a real MongoDB, and documents to put into it."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from pymongo.database import Database

from al_charge.store.documents import (
    CampaignDoc,
    CandidateDoc,
    FrameDoc,
    Geometry,
    LabelDoc,
    ModelDoc,
    ReferenceDoc,
)
from al_charge.store.mongo import Store


@pytest.fixture
def database(empty_database: Database[dict[str, Any]]) -> Database[dict[str, Any]]:
    """Return a database without a schema: here tests make their own."""
    return empty_database


@pytest.fixture
def store(prepared_database: Database[dict[str, Any]]) -> Store:
    """Return an empty store with its schema."""
    return Store(prepared_database)


@pytest.fixture
def make_campaign() -> Callable[..., CampaignDoc]:
    """Return a maker of campaigns."""

    def make(name: str = "olivine", **fields: Any) -> CampaignDoc:
        known: dict[str, Any] = {
            "spec": {"seed": 1},
            "host_fingerprint": "host",
            "settings_hash": "born",
        }
        return CampaignDoc(name=name, **(known | fields))

    return make


@pytest.fixture
def make_candidate() -> Callable[..., CandidateDoc]:
    """Return a maker of candidates."""

    def make(config_hash: str, **fields: Any) -> CandidateDoc:
        arrays: dict[str, Any] = {
            "numbers": np.array([11, 26]),
            "positions": np.array([[0.0, 0.0, 0.0], [1.0, 1.0, 1.5]]),
            "cell": np.diag([4.0, 4.0, 5.0]),
            "species": np.array(["Na+", "Fe2+"], dtype="U8"),
            "host_site": np.array([0, 1]),
        }
        known: dict[str, Any] = {
            "campaign": "olivine",
            "round": 0,
            "n_ions": 1,
            "composition": Fraction(1, 4),
            "colours": np.array([1, 2], dtype=np.int8),
            "geometry": Geometry(**arrays),
            "origin": "enumerated",
        }
        return CandidateDoc(config_hash=config_hash, **(known | fields))

    return make


@pytest.fixture
def make_label() -> Callable[..., LabelDoc]:
    """Return a maker of labels."""

    def make(key: str, *, n_atoms: int = 2, n_frames: int = 2, **fields: Any) -> LabelDoc:
        rng = np.random.default_rng(1)
        frames = []
        for i in range(n_frames):
            arrays: dict[str, Any] = {
                "positions": rng.normal(size=(n_atoms, 3)),
                "cell": np.eye(3),
                "forces": rng.normal(size=(n_atoms, 3)),
                "stress": np.zeros((3, 3)),
            }
            frames.append(FrameDoc(energy=np.float64(-10.0 - i), **arrays))
        known: dict[str, Any] = {
            "config_hash": "hash",
            "requested_hash": "hash",
            "colours": [1, 2],
            "composition": "1/4",
            "n_ions": 1,
            "host_fingerprint": "host",
            "settings_hash": "born",
            "settings": {"kind": "born"},
            "requested": ["Na+", "Fe2+"],
            "resolved": ["Na+", "Fe2+"],
            "numbers": [11, 26],
            "host_site": [0, 1],
            "frames": frames,
            "energy": frames[-1].energy,
            "moments": np.array([0.0, 4.0]),
            "converged": True,
            "engine": "born 1",
            "relax": "cell",
            "windows": {"Fe2+": (3.5, 3.8)},
            "datasets": {"Na": "a1", "Fe": "b2"},
            "attempts": [{"changed": "moments", "outcome": "converged"}],
            "wall_time": 1.5,
            "cores": 1,
            "directory": "runs/k",
            "campaign": "olivine",
            "round": 0,
        }
        return LabelDoc(key=key, **(known | fields))

    return make


@pytest.fixture
def make_model() -> Callable[..., ModelDoc]:
    """Return a maker of models."""

    def make(member: int = 0, **fields: Any) -> ModelDoc:
        known: dict[str, Any] = {"campaign": "olivine", "round": 0, "config": {"channels": 16}}
        return ModelDoc(member=member, **(known | fields))

    return make


@pytest.fixture
def make_reference() -> Callable[..., ReferenceDoc]:
    """Return a maker of metals."""

    def make(energy: float = -1.5, **fields: Any) -> ReferenceDoc:
        known: dict[str, Any] = {
            "settings_hash": "born",
            "ion": "Na",
            "settings": {"kind": "born"},
            "engine": "born 1",
            "wall_time": 0.1,
            "directory": "runs/metal",
        }
        return ReferenceDoc(energy=energy, **(known | fields))

    return make
