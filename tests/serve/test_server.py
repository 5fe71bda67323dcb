"""The command itself: a real server, with a browser's cookie, until it is told to stop."""

from __future__ import annotations

import http.cookiejar
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from pymongo import MongoClient

pytestmark = pytest.mark.mongod


def test_a_page_is_served_until_it_is_told_to_stop(mongodb_client: MongoClient) -> None:  # type: ignore[type-arg]
    command = [sys.executable, "-m", "al_charge", "serve", "--port", "0"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        address = process.stdout.readline().strip()
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/\?token=[\w-]{43}", address)
        page = address.partition("?")[0]
        assert f"-L {page.rpartition(':')[2][:-1]}:127.0.0.1:" in process.stdout.readline()
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(page)
        jar = http.cookiejar.CookieJar()
        browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(jar))
        with browser.open(address) as entered, browser.open(page) as seen:
            assert "http-equiv" in entered.read().decode()
            assert "no campaign in this database" in seen.read().decode()
            assert "unsafe" not in seen.headers["Content-Security-Policy"]
        with browser.open(f"{page}static/page.js") as script:
            assert script.headers["Content-Type"].startswith("text/javascript")
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        assert process.stderr.read() == ""
    mongodb_client.drop_database("al_charge")


def test_templates_and_scripts_are_beside_the_modules() -> None:
    """A wheel has what lies in the package."""
    import al_charge.serve

    folder = Path(al_charge.serve.__file__).parent
    assert {one.name for one in (folder / "static").iterdir()} == {
        "icon.svg",
        "page.css",
        "page.js",
    }
    assert (folder / "templates" / "base.html").is_file()
