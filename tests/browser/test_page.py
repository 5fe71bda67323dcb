"""The live page in a browser: up to date by itself, nothing from elsewhere, for everybody."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from werkzeug.serving import WSGIRequestHandler, make_server

from al_charge.serve.access import LOOPBACK
from al_charge.serve.app import create_app
from al_charge.serve.source import Source

from ..serve.conftest import TOKEN, Scene, launchpad, scene

__all__ = ["launchpad", "scene"]


class _Quiet(WSGIRequestHandler):
    def log_request(self, *_: Any) -> None:
        pass


class Page:
    """The page of a campaign, which can be switched off and on."""

    def __init__(self, scene: Scene) -> None:
        source = Source(None, scene.runs, lambda *_: scene.launchpad)
        self._app = create_app(source, TOKEN, LOOPBACK)
        self.port = 0

    @contextmanager
    def on(self) -> Iterator[str]:
        """Serve it, always at the same address."""
        server = make_server(
            "127.0.0.1", self.port, self._app, threaded=True, request_handler=_Quiet
        )
        self.port = server.server_port
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{self.port}/"
        finally:
            server.shutdown()
            server.server_close()
            thread.join()


@pytest.fixture
def page(scene: Scene) -> Page:
    scene.three_labels()
    return Page(scene)


def test_the_page_goes_on_by_itself(scene: Scene, page: Page, opened: Callable[..., Any]) -> None:
    with page.on() as address, opened(f"{address}?token={TOKEN}") as tab:
        tab.wait_for_url(address)
        assert TOKEN not in tab.content()
        assert tab.evaluate("document.cookie") == ""
        tab.get_by_role("link", name=scene.name).click()
        tab.locator("#connection.good").wait_for()
        assert tab.locator("#hull circle.vertex").count() == 3 + 1  # and its legend
        assert tab.locator("#voltage path.voltage").count() == 1 + 1
        tab.locator("#vertices summary").click()
        tab.locator("#vertices summary").focus()
        scene.label("eeee0000below", 3, -23.05)
        tab.locator("[data-part=latest] code", has_text="eeee0000").wait_for()
        assert tab.locator("#hull circle.vertex").count() == 4 + 1
        # What was open and had the focus is and has it still; who does not see is told.
        assert tab.locator("#vertices tbody tr").count() == 4
        assert tab.locator("#vertices[open]").count() == 1
        assert tab.evaluate("document.activeElement.tagName") == "SUMMARY"
        assert "4 labels" in tab.locator("#news[aria-live=polite]").inner_text()
        assert {url.split("/")[2] for url in tab.requests} == {f"127.0.0.1:{page.port}"}
        assert tab.complaints == []
        # What is no longer there is told, and what was shown stays.
    with opened_while_on(page, opened, scene) as tab:
        tab.locator("#connection.bad").wait_for()
        assert "does not answer" in tab.locator("#connection").inner_text()
        assert tab.locator("#hull circle.vertex").count() == 4 + 1
        with page.on():
            tab.locator("#connection.good").wait_for(timeout=20000)


@contextmanager
def opened_while_on(page: Page, opened: Callable[..., Any], scene: Scene) -> Iterator[Any]:
    """Open the campaign's page; its server goes away then."""
    with page.on() as address:
        entry = opened(f"{address}campaign?name={scene.name}&token={TOKEN}")
        tab = entry.__enter__()
        tab.locator("#connection.good").wait_for()
    yield tab
    entry.__exit__(None, None, None)


def test_a_wrong_token_is_refused(page: Page, opened: Callable[..., Any]) -> None:
    with page.on() as address, opened(f"{address}?token=wrong") as tab:
        assert tab.inner_text("body").strip() == "403 Forbidden"


@pytest.mark.parametrize(("phone", "dark"), [(False, False), (False, True), (True, True)])
def test_all_pages_are_for_everybody(
    scene: Scene,
    page: Page,
    opened: Callable[..., Any],
    serious: Callable[[Any], list[str]],
    phone: bool,
    dark: bool,
) -> None:
    (job,) = scene.launchpad.fireworks.find({"name": f"{scene.name}/0 select"})
    paths = [
        "",
        f"campaign?name={scene.name}",
        f"round?name={scene.name}&number=0",
        f"job?name={scene.name}&id={job['fw_id']}",
    ]
    with page.on() as address, opened(f"{address}?token={TOKEN}", phone=phone, dark=dark) as tab:
        tab.wait_for_url(address)
        for path in paths:
            tab.goto(address + path)
            tab.locator("#connection.good").wait_for()
            assert serious(tab) == []
            assert not tab.evaluate("document.documentElement.scrollWidth > innerWidth"), path
            back = tab.evaluate("getComputedStyle(document.body).backgroundColor")
            light = sum(map(int, re.findall(r"\d+", back)[:3])) / 3
            assert (light < 64) if dark else (light > 192)
        assert tab.complaints == []


def test_the_graph_is_zoomed_by_mouse_and_keys(
    scene: Scene, page: Page, opened: Callable[..., Any]
) -> None:
    with page.on() as address:
        there = f"{address}round?name={scene.name}&number=0&token={TOKEN}"
        with opened(there) as tab:
            tab.locator("#connection.good").wait_for()

            def view() -> list[float]:
                box = tab.locator("[data-zoom] svg").get_attribute("viewBox")
                return [float(one) for one in box.split()]

            whole = view()
            tab.get_by_role("button", name="Zoom in").click()
            assert view()[2] == pytest.approx(0.8 * whole[2])
            tab.locator("[data-zoom]").focus()
            tab.keyboard.press("ArrowRight")
            tab.keyboard.press("-")
            assert view()[2] == pytest.approx(whole[2]) and view()[0] > whole[0]
            scene.launchpad.fireworks.update_one(
                {"name": f"{scene.name}/0 select"}, {"$set": {"state": "PAUSED"}}
            )
            tab.locator("g.node.paused").wait_for()
            assert view()[0] > whole[0]  # where one looks stays
            tab.keyboard.press("0")
            assert view()[0] == 0 and view()[2] == pytest.approx(whole[2], rel=0.1)
            tab.locator("g.node.paused").click()
            tab.wait_for_url(re.compile("job"))
