"""Errors of the database's client in words."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.errors import (
    AutoReconnect,
    ConnectionFailure,
    NotPrimaryError,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
    WriteError,
)

from al_charge.errors import InputError
from al_charge.store import addresses
from al_charge.store.addresses import limits
from al_charge.store.connection import connect
from al_charge.store.embedded import EmbeddedServer
from al_charge.store.outages import reason_of
from al_charge.store.settings import PASSWORD_ENV, USERNAME_ENV, DatabaseSettings

TOPOLOGY = ", Timeout: 5.0s, Topology Description: <TopologyDescription id: 6, ...>"


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OperationFailure("x, full error: {}", 1, {"errmsg": "no such thing"}), "no such thing"),
        (
            WriteError("Document failed validation, full error: {}", 121, {"errmsg": "failed"}),
            "it refuses a document that does not fit its validators",
        ),
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


class Line:
    """A line to a server that listens on a unix socket; once it is cut, it swallows everything."""

    def __init__(self, server: Path) -> None:
        self._server = server
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self.port = self._listener.getsockname()[1]
        self.is_cut = False
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client = self._listener.accept()[0]
                server = socket.socket(socket.AF_UNIX)
                server.connect(str(self._server))
                self._open += [client, server]
                for ends in ((client, server), (server, client)):
                    self._threads.append(threading.Thread(target=self._carry, args=ends))
                    self._threads[-1].start()

    def _carry(self, one: socket.socket, other: socket.socket) -> None:
        with suppress(OSError):
            while part := one.recv(65536):
                if not self.is_cut:
                    other.sendall(part)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._threads[0].join()
        for one in self._open:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for one in (self._listener, *self._open):
            one.close()


@pytest.fixture
def line(private_home: Path, mongodb_client: MongoClient[dict[str, Any]]) -> Iterator[Line]:
    """A line to the session's server."""
    found = Line(EmbeddedServer(private_home).start().address)
    yield found
    found.close()


@pytest.fixture
def settings(line: Line, private_home: Path, monkeypatch: pytest.MonkeyPatch) -> DatabaseSettings:
    """The server at the end of that line."""
    login = json.loads((private_home / "mongodb" / "credentials.json").read_text())
    monkeypatch.setenv(USERNAME_ENV, login["username"])
    monkeypatch.setenv(PASSWORD_ENV, login["password"])
    return DatabaseSettings(uri=f"mongodb://127.0.0.1:{line.port}/al_charge?authSource=admin")


def test_a_server_that_is_cut_off_is_told(
    line: Line, settings: DatabaseSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(addresses, "SELECTION_TIMEOUT", 0.3)
    line.is_cut = True
    with pytest.raises(InputError, match="no MongoDB answers there; check that it runs") as told:
        connect(settings)
    assert "\n" not in str(told.value)


def test_what_is_under_way_when_the_line_is_cut_ends(
    line: Line, settings: DatabaseSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As soon as the patience is over, rather than when the network gives up, which is never."""
    monkeypatch.setattr(addresses, "SELECTION_TIMEOUT", 0.3)
    database = connect(settings)
    assert database.client.options.pool_options.connect_timeout == 0.6
    line.is_cut = True
    try:
        with pytest.raises(ConnectionFailure) as told:
            database["labels"].find_one()
    finally:
        database.client.close()
    assert reason_of(told.value) in ("no MongoDB answers there", "the connection was lost")


def test_a_client_is_no_more_patient_than_its_user() -> None:
    """And no less than pymongo where that waits long; what a URI says itself counts."""
    assert limits("mongodb://h") == {"connectTimeoutMS": 10000, "heartbeatFrequencyMS": 5000}
    assert limits("mongodb://h", 600) == {"connectTimeoutMS": 20000, "heartbeatFrequencyMS": 10000}
    assert limits("mongodb://h", 0.1) == {"connectTimeoutMS": 200, "heartbeatFrequencyMS": 500}
    own = "mongodb://h/?ConnectTimeoutMS=7&x=1"
    assert limits(own) == {"heartbeatFrequencyMS": 5000}
