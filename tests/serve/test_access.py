"""Nobody sees anything without the token, under another name, or by another method."""

from __future__ import annotations

import re
import socket
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from al_charge.errors import InputError
from al_charge.serve.access import LOOPBACK
from al_charge.serve.app import create_app
from al_charge.serve.server import listen
from al_charge.serve.source import Source

from .conftest import TOKEN

PATHS = ("/", "/campaign?name=x", "/round?name=x&number=0", "/job?name=x&id=1", "/static/page.js")


@pytest.fixture
def client() -> FlaskClient:
    """A browser without the token, and a page without a database."""

    def no_database(*_: Any) -> Any:
        raise InputError("there is no such campaign")

    source = Source(None, Path(), no_database)
    source.campaigns = lambda: []  # type: ignore[method-assign]
    return create_app(source, TOKEN, LOOPBACK).test_client()


@pytest.fixture
def visitor(client: FlaskClient) -> FlaskClient:
    """A browser with it."""
    assert client.get("/", query_string={"token": TOKEN}).status_code == 200
    return client


@pytest.mark.parametrize("path", [*PATHS, "/nowhere"])
@pytest.mark.parametrize("token", [None, "", "wrong", TOKEN[:-1], f"{TOKEN}x", "ü"])
def test_without_the_token_nothing_is_told(
    client: FlaskClient, path: str, token: str | None
) -> None:
    given = {} if token is None else {"token": token}
    query = dict(part.split("=") for part in path.partition("?")[2].split("&") if part)
    answer = client.get(path.partition("?")[0], query_string=query | given)
    assert (answer.status_code, answer.text) == (403, "403 Forbidden\n")
    assert "Set-Cookie" not in answer.headers


def test_a_wrong_cookie_is_refused(client: FlaskClient) -> None:
    client.get("/", query_string={"token": TOKEN})
    (name,) = (cookie.key for cookie in client._cookies.values())
    client.set_cookie(name, "wrong")
    assert client.get("/").status_code == 403


def test_the_token_becomes_a_cookie_that_no_script_and_no_other_site_has(
    client: FlaskClient,
) -> None:
    answer = client.get("/campaign", query_string={"token": TOKEN, "name": "a/b&c"})
    cookie = answer.headers["Set-Cookie"]
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(cookie.split("; "))
    assert answer.headers["Cache-Control"] == "no-store"
    # The browser goes on to the page itself, whose address does not have the token.
    (there,) = re.findall(r"url=([^\"]*)\"", answer.text)
    assert there.startswith("campaign?name=") and TOKEN not in answer.text
    assert there == "campaign?name=a%2Fb%26c"
    assert client.get("/").status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "evil.example:8431", ""]
)
@pytest.mark.parametrize("query", [{}, {"token": TOKEN}])
def test_other_names_of_this_machine_are_refused(
    visitor: FlaskClient, host: str, query: dict[str, str]
) -> None:
    """A page of theirs could otherwise ask us under its own name (DNS rebinding)."""
    answer = visitor.get("/", query_string=query, headers={"Host": host})
    assert (answer.status_code, answer.text) == (403, "403 Forbidden\n")


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:1234", "localhost:65000"])
def test_a_tunnel_may_end_at_any_port(client: FlaskClient, host: str) -> None:
    answer = client.get("/", query_string={"token": TOKEN}, headers={"Host": host})
    assert answer.status_code == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize("path", ["/", "/campaign", "/round", "/job"])
def test_nothing_can_be_changed(visitor: FlaskClient, method: str, path: str) -> None:
    assert visitor.open(path, method=method).status_code == 405


@pytest.mark.parametrize("path", [*PATHS, "/nowhere"])
def test_every_answer_keeps_the_browser_at_home(visitor: FlaskClient, path: str) -> None:
    with visitor.get(path) as answer:
        headers = answer.headers
    policy = headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none';") and "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy and "http" not in policy
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["X-Content-Type-Options"] == "nosniff"


def test_other_addresses_are_refused_unless_that_is_wanted() -> None:
    with pytest.raises(InputError, match="not encrypted"):
        listen("0.0.0.0", 0)
    with listen("0.0.0.0", 0, expose=True) as exposed:
        assert exposed.getsockname()[0] == "0.0.0.0"
    with listen("localhost", 0) as here:
        assert here.getsockname()[0] == "127.0.0.1"
        with pytest.raises(InputError, match="choose another one"):
            listen("127.0.0.1", here.getsockname()[1])
        with socket.create_connection(here.getsockname()):
            pass
