"""Errors of the database's client in words."""

from __future__ import annotations

import pytest
from pymongo.errors import (
    AutoReconnect,
    ConnectionFailure,
    NotPrimaryError,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
)

from al_charge.store.outages import reason_of

TOPOLOGY = ", Timeout: 5.0s, Topology Description: <TopologyDescription id: 6, ...>"


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OperationFailure("x, full error: {}", 1, {"errmsg": "no such thing"}), "no such thing"),
        (ConnectionFailure("a:1: timed out" + TOPOLOGY), "the connection was lost"),
        (ServerSelectionTimeoutError("a:1: refused" + TOPOLOGY), "no MongoDB answers there"),
        (
            ServerSelectionTimeoutError(
                'No replica set members match selector "Primary()"' + TOPOLOGY
            ),
            "its replica set has no primary at the moment",
        ),
        (NotPrimaryError("not primary"), "its replica set has no primary at the moment"),
        (
            AutoReconnect("a:1: connection closed" + TOPOLOGY),
            "no MongoDB answers there, or it has as many connections as it allows",
        ),
        (PyMongoError("two\nlines"), "two lines"),
    ],
)
def test_reasons_are_one_line(error: PyMongoError, reason: str) -> None:
    assert reason_of(error) == reason
