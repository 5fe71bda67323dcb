"""What the pages show of a campaign, and that nothing of a database becomes part of a page."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pymongo.errors import ServerSelectionTimeoutError

from al_charge.fw.worker_registry import register
from al_charge.serve import followed
from al_charge.serve.access import LOOPBACK
from al_charge.serve.app import create_app
from al_charge.serve.source import Source
from al_charge.store.documents import Assessment, CampaignState, FailureDoc

from .conftest import TOKEN, Scene, Visitor

EVIL_NAME = 'x"><script>alert(1)</script>&name=y/../%2e'
EVIL = "<script>alert(2)</script><img src=x onerror=alert(3)>"


class Elements(HTMLParser):
    """Collects the elements of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def fail(scene: Scene, text: str) -> int:
    """Let the first job of the round fail; return its id."""
    firework = scene.launchpad.fireworks.find_one(
        {"spec.campaign": scene.name}, sort=[("fw_id", 1)]
    )
    scene.launchpad.launches.insert_one(
        {
            "launch_id": firework["fw_id"],
            "fw_id": firework["fw_id"],
            "launch_dir": str(scene.runs),
            "action": {"stored_data": {"_exception": {"_stacktrace": f"Traceback\n{text}"}}},
        }
    )
    scene.launchpad.fireworks.update_one(
        {"fw_id": firework["fw_id"]},
        {"$set": {"state": "FIZZLED", "launches": [firework["fw_id"]]}},
    )
    entry = scene.store.ledger.open(
        scene.name, firework["name"].partition(" ")[2], round=0, worker="1@node7@0.00"
    )
    assert entry
    return int(firework["fw_id"])


def pages(scene: Scene, fw_id: int) -> list[tuple[str, dict[str, Any]]]:
    return [
        ("/", {}),
        ("/campaign", {"name": scene.name}),
        ("/round", {"name": scene.name, "number": 0}),
        ("/job", {"name": scene.name, "id": fw_id}),
    ]


def test_what_a_database_holds_is_shown_and_never_run(scene: Scene, visitor: Visitor) -> None:
    scene.three_labels()
    fw_id = fail(scene, EVIL)
    scene.store.failures.put(
        FailureDoc(key="lost", campaign=scene.name, round=0, reason=EVIL, attempts=1)
    )
    register(scene.launchpad, scene.name, [EVIL])
    scene.store.campaigns.set_state(scene.name, CampaignState.PAUSED, EVIL)
    mine = scene.store.campaigns.get(scene.name)
    spec = mine.spec | {"campaign": mine.spec["campaign"] | {"name": EVIL_NAME}}
    scene.store.campaigns.add(mine.model_copy(update={"name": EVIL_NAME, "spec": spec}))
    for path, query in pages(scene, fw_id):
        text = visitor.text(path, **query)
        elements = Elements(text).found
        scripts = [attributes for tag, attributes in elements if tag == "script"]
        assert scripts == [{"src": "static/page.js", "defer": None}]
        for tag, attributes in elements:
            assert not [one for one in attributes if one.startswith("on") or one == "style"], tag
            for name in ("href", "src", "data-href"):
                # Relative, so that tunnels and proxies work; and to nowhere else.
                assert not re.match(r"/|\w+:|\.\.", attributes.get(name) or ""), (tag, attributes)
            assert tag != "img"
        told = unescape(text)
        assert (EVIL_NAME if path == "/" else EVIL) in told
    # No command makes such a campaign, and it is not opened.
    answer = visitor.get("/campaign", name=EVIL_NAME)
    assert answer.status_code == 404
    assert f"campaign '{EVIL_NAME}': what is stored of it is not valid" in unescape(answer.text)
    assert EVIL_NAME not in answer.text
    assert all(tag != "img" for tag, _ in Elements(answer.text).found)


def test_links_lead_to_pages(scene: Scene, visitor: Visitor) -> None:
    scene.three_labels()
    fw_id = fail(scene, "ValueError: too warm")
    links: dict[str, str] = {}
    for path, query in pages(scene, fw_id):
        for _, attributes in Elements(visitor.text(path, **query)).found:
            for link in (attributes.get("href"), attributes.get("data-href")):
                # One of each kind is enough.
                links[(link or "").partition("?")[0]] = link or ""
    assert {"campaign", "round", "job", ".", "static/page.css"} <= links.keys()
    for link in links.values():
        if link and not link.startswith("#"):
            with visitor.client.get(f"/{link}".replace("/.", "/")) as answer:
                assert answer.status_code == 200, link


def test_everything_has_a_name_for_those_who_do_not_see(scene: Scene, visitor: Visitor) -> None:
    scene.three_labels()
    fw_id = fail(scene, "ValueError: too warm")
    for path, query in pages(scene, fw_id):
        text = visitor.text(path, **query)
        elements = Elements(text).found
        assert text.count("<table") == text.count("<caption")
        for tag, attributes in elements:
            if tag == "svg":
                hidden = attributes.get("aria-hidden") == "true"
                assert hidden or (attributes["role"] == "img" and attributes["aria-label"])
            if tag == "section":
                assert {"aria-label", "aria-labelledby", "data-part"} & attributes.keys()
        tags = [tag for tag, _ in elements]
        assert {"main", "header", "footer", "nav", "h1"} <= set(tags) and tags.count("h1") == 1
        assert [a for _, a in elements if a.get("aria-live") == "polite"]


def test_a_label_is_on_the_page_when_it_is_written(scene: Scene, visitor: Visitor) -> None:
    first = visitor.get("/campaign", name=scene.name)
    assert "There is no hull yet" in first.text
    scene.three_labels()
    second = visitor.get("/campaign", name=scene.name)
    assert second.headers["ETag"] != first.headers["ETag"]
    assert "aaaa0000" in second.text and 'id="hull"' in second.text
    known = {"If-None-Match": second.headers["ETag"]}
    again = visitor.client.get("/campaign", query_string={"name": scene.name}, headers=known)
    assert (again.status_code, again.data) == (304, b"")
    scene.label("dddd0000new", 2, -22.1)
    later = visitor.client.get("/campaign", query_string={"name": scene.name}, headers=known)
    assert later.status_code == 200 and "dddd0000" in later.text
    news = re.findall(r"data-news>(.*?)</span>", later.text)
    assert "4 labels" in unescape(news[0])


def test_what_came_after_the_last_assessment_is_new(
    scene: Scene, visitor: Visitor, make_assessment: Callable[..., Assessment]
) -> None:
    scene.three_labels()
    scene.label("dddd0000old", 2, -22.02)
    found = make_assessment(labels=4, hull_shift=0.0123, p_below_hull=0.25)
    scene.store.rounds.record_assessment(scene.name, 0, found, [], np.zeros((1, 0)))
    assert "since round 0" not in visitor.text("/campaign", name=scene.name)
    scene.label("eeee0000new", 1, -20.98, round=1)
    text = visitor.text("/campaign", name=scene.name)
    assert "new since round 0" in text
    assert text.count('class="new"') == text.count('class="label"') == 1 + 1  # and its legend
    # 20 meV above the line between the ends, where the hull is 40 meV below it
    assert re.search(r"eeee0000</code></th><td>1/4</td>\s*<td[^>]*>60\.0</td>", text)
    assert ">12.30</td>" in text and ">25.0 %</td>" in text


def test_only_new_labels_are_read(
    scene: Scene, visitor: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    from al_charge.store.labels import Labels

    scene.three_labels()
    visitor.text("/campaign", name=scene.name)
    read, asked = Labels.read, []

    def noted(self: Labels, wanted: Any, **query: Any) -> Any:
        asked.append(sorted(query["keys"]))
        return read(self, wanted, **query)

    monkeypatch.setattr(Labels, "read", noted)
    visitor.text("/campaign", name=scene.name)
    scene.label("dddd0000new", 2, -22.1)
    assert "dddd0000" in visitor.text("/campaign", name=scene.name)
    assert asked == [["dddd0000new"]]
    scene.store.labels.unlink(scene.name, "dddd0000new")
    assert "dddd0000" not in visitor.text("/campaign", name=scene.name)


def test_many_labels_are_read_in_several_looks(
    scene: Scene, visitor: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.three_labels()
    monkeypatch.setattr(followed, "AT_ONCE", 2)
    monkeypatch.setattr(followed, "LONGEST_LOOK", 0.0)
    text = visitor.text("/campaign", name=scene.name)
    assert text.count("2 of 3 labels have been read") == 2
    assert "no label yet" not in text and ", 3 labels" in text and "<svg" not in text
    scene.label("dddd0000new", 1, -20.9)
    text = visitor.text("/campaign", name=scene.name)
    assert "labels have been read" not in text
    assert "dddd0000" in text and 'id="hull"' in text


def test_jobs_are_counted_and_those_that_failed_lead_to_their_logs(
    scene: Scene, visitor: Visitor
) -> None:
    fw_id = fail(scene, "ValueError: too warm")
    text = unescape(visitor.text("/campaign", name=scene.name))
    query = {"spec.campaign": scene.name, "state": "WAITING"}
    waiting = scene.launchpad.fireworks.count_documents(query)
    assert re.search(rf"waiting</span>\s*{waiting}\b", text)
    assert "too warm" in text and "node7" in text
    assert "Nothing more will happen" not in text  # others are ready
    ready = {"spec.campaign": scene.name, "state": "READY"}
    scene.launchpad.fireworks.update_many(ready, {"$set": {"state": "PAUSED"}})
    assert "Nothing more will happen" in visitor.text("/campaign", name=scene.name)
    job = visitor.text("/job", name=scene.name, id=fw_id)
    assert "ValueError: too warm" in unescape(job) and "node7" in job


def test_logs_are_read_in_the_folder_of_runs_and_nowhere_else(
    scene: Scene, visitor: Visitor, tmp_path: Path
) -> None:
    """The database says where logs are, and others write it."""
    firework = scene.launchpad.fireworks.find_one({"name": f"{scene.name}/0 label 0"})
    for folder, seen in ((scene.runs / "mine", True), (tmp_path / "secret", False)):
        folder.mkdir(parents=True)
        (folder / "gpaw.txt").write_text(f"the end in {folder.name}")
        key = f"{folder.name}-label"
        scene.label(key, 0, -20.0, directory=str(folder))
        scene.store.attempts.start(key, campaign=scene.name, round=0, slot=0)
        text = visitor.text("/job", name=scene.name, id=firework["fw_id"])
        assert (f"the end in {folder.name}" in text) is seen


def test_workers_and_heartbeats(scene: Scene, visitor: Visitor) -> None:
    assert "No worker is alive" in visitor.text("/campaign", name=scene.name)
    register(scene.launchpad, scene.name, ["dft"])
    text = visitor.text("/campaign", name=scene.name)
    assert "No worker is alive" not in text
    (beat,) = re.findall(r'Workers and their.*?datetime="([^"]*)"', text, re.DOTALL)
    assert abs((datetime.now(UTC) - datetime.fromisoformat(beat)).total_seconds()) < 60
    assert re.search(r'class="number">1</td>', visitor.text("/"))


def test_an_outage_is_told_and_ends(scene: Scene) -> None:
    answers = [False, True]

    def connect(*_: Any) -> Any:
        if not answers.pop(0):
            raise ServerSelectionTimeoutError("no servers")
        return scene.launchpad

    client = create_app(Source(None, scene.runs, connect), TOKEN, LOOPBACK).test_client()
    client.get("/", query_string={"token": TOKEN})
    down = client.get("/")
    assert (down.status_code, "no MongoDB answers there" in down.text) == (503, True)
    assert client.get("/").status_code == 200


def test_a_campaign_that_is_gone_is_told_and_one_that_comes_again_is_read_anew(
    scene: Scene, visitor: Visitor, make_assessment: Callable[..., Assessment]
) -> None:
    scene.three_labels()
    found = make_assessment(labels=3)
    scene.store.rounds.record_assessment(scene.name, 0, found, [], np.zeros((1, 0)))
    assert "cccc0000" in visitor.text("/campaign", name=scene.name)
    database = scene.launchpad.db
    document = database["campaigns"].find_one({"_id": scene.name})
    database["campaigns"].delete_one({"_id": scene.name})
    gone = visitor.get("/campaign", name=scene.name)
    assert (gone.status_code, "there is no such campaign" in gone.text) == (404, True)
    scene.store.labels.unlink(scene.name, "cccc0000half")
    database["rounds"].delete_many({"campaign": scene.name})
    database["campaigns"].insert_one(document | {"created": datetime.now(UTC)})
    again = visitor.text("/campaign", name=scene.name)
    assert "cccc0000" not in again and "Round 0" not in again


@pytest.mark.parametrize(
    "path",
    ["/campaign", "/round?name=x", "/round?name=x&number=-1", "/job?name=x&id=1.5",
     f"/job?name=x&id={2**64}", "/round?name=x&number=7", "/campaign?name=x", "/nowhere"],
)  # fmt: skip
def test_what_is_not_there_is_not_found(visitor: Visitor, path: str) -> None:
    assert visitor.client.get(path).status_code == 404


def test_who_may_only_read_sees_all(
    scene: Scene, mongodb_client: Any, launchpad_on: Any, private_home: Path
) -> None:
    from pymongo import MongoClient

    from al_charge.store.embedded import EmbeddedServer
    from al_charge.store.roles import Role
    from al_charge.store.users import Users, new_password

    scene.three_labels()
    fw_id = fail(scene, "ValueError: too warm")
    database, password = scene.launchpad.db, new_password()
    Users(database, database.name).add("guest", Role.READER, password)
    uri = EmbeddedServer(private_home).start().uri("admin").partition("@")[2].partition("/")[0]
    options: dict[str, Any] = {"username": "guest", "password": password, "tz_aware": True}
    with MongoClient(f"mongodb://{uri}", authSource=database.name, **options) as guest:
        source = Source(None, scene.runs, lambda *_: launchpad_on(guest[database.name]))
        visitor = Visitor(create_app(source, TOKEN, LOOPBACK).test_client())
        visitor.get("/", token=TOKEN)
        for path, query in pages(scene, fw_id):
            assert visitor.get(path, **query).status_code == 200
    database.command("dropAllUsersFromDatabase")
