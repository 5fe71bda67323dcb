"""A real Chromium, where there is one: tests are skipped elsewhere."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
"""Nothing but the page may use the network."""
PHONE = {"width": 390, "height": 844}
DESK = {"width": 1200, "height": 900}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that need a browser."""
    for item in items:
        if "chromium" in getattr(item, "fixturenames", []):
            item.add_marker("browser")


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """Chromium, driven by playwright, with an empty profile."""
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed: extra 'browser'"
    )
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("there is no chromium on this machine")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=list(ARGUMENTS))
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def opened(chromium: Any) -> Callable[..., Any]:
    """Open pages, and keep their requests and whatever they complain of."""

    @contextmanager
    def open_page(address: str, *, phone: bool = False, dark: bool = False) -> Iterator[Any]:
        context = chromium.new_context(
            viewport=PHONE if phone else DESK, color_scheme="dark" if dark else "light"
        )
        page = context.new_page()
        page.requests, page.complaints = [], []
        page.on("request", lambda request: page.requests.append(request.url))
        page.on("console", lambda message: page.complaints.append(message.text))
        page.on("pageerror", lambda error: page.complaints.append(str(error)))
        page.goto(address)
        yield page
        context.close()

    return open_page


@pytest.fixture(scope="session")
def serious() -> Callable[[Any], list[str]]:
    """Return what axe-core finds serious or critical in a page."""
    axe = pytest.importorskip(
        "axe_playwright_python.sync_playwright", reason="axe is not installed: extra 'browser'"
    )

    def find(page: Any) -> list[str]:
        found = axe.Axe().run(page).response["violations"]
        return [
            f"{one['id']}: {one['nodes'][0]['html']}"
            for one in found
            if one["impact"] in ("serious", "critical")
        ]

    return find
