"""What people are told of a campaign, and how it reaches them: each thing once, come what may."""

from __future__ import annotations

import json
import logging
import socketserver
import threading
from collections.abc import Iterator
from email import message_from_bytes, policy
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from al_charge.errors import InputError
from al_charge.report.messengers import FILE_ENV, FIRST_RETRY, LAST_WORDS, Outbox, Send, senders
from al_charge.report.notices import BETWEEN_FAILURES, GRACE, Notice, Observer, notice

SECRET = "very-secret-path"


class Clock:
    """A time that a test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def status(**fields: Any) -> dict[str, Any]:
    usual = {"campaign": "c", "state": "running", "reason": "", "labels_used": 7, "failures": []}
    return usual | {"workers": [{"silent": False}]} | fields


def failures(*labels: str) -> list[dict[str, str]]:
    return [{"label": one, "reason": f"{one} is broken"} for one in labels]


def events(observer: Observer, document: dict[str, Any], stuck: str | None = None) -> list[str]:
    return [one.event for one in observer.look(document, stuck)]


def test_the_end_is_told() -> None:
    (end,) = Observer(Clock()).look(status(state="converged", reason="all hold"), None)
    assert end.document() | {"time": ""} == {
        "event": "end", "campaign": "c", "state": "converged", "time": "",
        "text": "campaign 'c': it is converged: all hold; 7 labels",
    }  # fmt: skip


def test_failures_are_told_once_and_not_too_often() -> None:
    clock = Clock()
    observer = Observer(clock)
    assert events(observer, status(failures=failures("old"))) == []
    (first,) = observer.look(status(failures=failures("old", "new")), None)
    assert first.event == "failure" and "the last new: new is broken" in first.text
    three = status(failures=failures("old", "new", "two", "three"))
    clock.now += BETWEEN_FAILURES - 1
    assert events(observer, three) == []
    clock.now += 1
    (later,) = observer.look(three, None)
    assert "2 labels were given up" in later.text
    clock.now += 2 * BETWEEN_FAILURES
    assert events(observer, three) == []
    last = status(state="failed", failures=failures("old", "new", "two", "three", "four"))
    assert events(observer, last) == ["failure", "end"]


def test_a_standstill_is_told_once_each_time() -> None:
    observer = Observer(Clock())
    told = [events(observer, status(), stuck) for stuck in (None, "x", "x", None, "y")]
    assert told == [[], ["stuck"], [], [], ["stuck"]]


def test_workers_may_be_away_for_a_while() -> None:
    clock = Clock()
    observer = Observer(clock)
    gone, silent = status(workers=[]), status(workers=[{"silent": True}])
    assert events(observer, gone) == []
    clock.now += GRACE - 1
    assert events(observer, status()) == events(observer, silent) == []
    clock.now += GRACE - 1
    assert events(observer, gone) == []
    clock.now += 1
    assert events(observer, silent) == ["no-workers"]
    clock.now += GRACE
    assert events(observer, gone) == events(observer, status()) == events(observer, gone) == []
    clock.now += GRACE
    assert events(observer, gone) == ["no-workers"]


def test_what_cannot_be_sent_is_tried_again_and_ends_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock, sent, fail = Clock(), list[str](), [True]

    def send(one: Notice) -> None:
        if fail[0]:
            raise ConnectionRefusedError("nobody there")
        sent.append(one.text)

    outbox = Outbox({"mail": send}, clock, clock.sleep)
    first, second = notice("stuck", "c", "running", "1"), notice("end", "c", "failed", "2")
    outbox.add([first])
    assert "nobody there; tried again in 30 s" in caplog.text
    fail[0] = False
    clock.now += FIRST_RETRY - 1
    outbox.add([second])
    assert sent == []
    clock.now += 1
    outbox.add([])
    assert sent == [first.text, second.text]
    fail[0] = True
    outbox.add([first])
    assert caplog.messages[-1].endswith("tried again in 30 s")


def test_the_end_is_tried_for_some_minutes(caplog: pytest.LogCaptureFixture) -> None:
    clock, tries = Clock(), list[float]()

    def send(_: Notice) -> None:
        tries.append(clock.now - 1000)
        raise OSError("full")

    outbox = Outbox({"webhook": send}, clock, clock.sleep)
    outbox.add([notice("end", "c", "failed", "gone")])
    outbox.close()
    assert tries == [0, 30, 90, 210, 450]
    assert clock.now == 1000 + LAST_WORDS
    assert "never sent: campaign 'c': gone" in caplog.text


class Mailbox(socketserver.StreamRequestHandler):
    """A mail server of a few words (RFC 5321)."""

    def handle(self) -> None:
        self.say("220 here")
        while line := self.rfile.readline().decode().strip():
            word = line.partition(" ")[0].upper()
            if word == "DATA":
                self.say("354 go on")
                lines = iter(self.rfile.readline, b".\r\n")
                self.server.got.append(b"".join(lines))  # type: ignore[attr-defined]
            self.say("221 bye" if word == "QUIT" else "250 well")

    def say(self, text: str) -> None:
        self.wfile.write(f"{text}\r\n".encode())


class Hook(BaseHTTPRequestHandler):
    """A web address that takes JSON, or answers otherwise."""

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers["Content-Length"]))
        answers: list[int] = self.server.answers  # type: ignore[attr-defined]
        code = answers.pop(0) if answers else 204
        if code == 204:
            self.server.got.append(content)  # type: ignore[attr-defined]
        self.send_response(code)
        self.send_header("Location", "/elsewhere")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def servers() -> Iterator[tuple[socketserver.TCPServer, socketserver.TCPServer]]:
    """A mail server and a web server on this machine."""
    made = socketserver.TCPServer(("127.0.0.1", 0), Mailbox), HTTPServer(("127.0.0.1", 0), Hook)
    for server in made:
        server.got, server.answers = [], []  # type: ignore[attr-defined]
        threading.Thread(target=server.serve_forever, args=(0.01,)).start()
    yield made
    for server in made:
        server.shutdown()
        server.server_close()


@pytest.fixture
def file(
    servers: tuple[Any, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, Any]:
    """The settings for both, written by `made`."""
    monkeypatch.setenv(FILE_ENV, str(tmp_path / "notify.json"))
    mail, web = (server.server_address[1] for server in servers)
    return {
        "mail": {
            "server": "127.0.0.1", "port": mail, "security": "none",
            "from": "cluster@example.org", "to": ["me@example.org", "you@example.org"],
        },
        "webhook": {"url": f"http://127.0.0.1:{web}/{SECRET}"},
    }  # fmt: skip


def made(file: dict[str, Any], mode: int = 0o600) -> dict[str, Send]:
    import os

    path = Path(os.environ[FILE_ENV])
    path.write_text(json.dumps(file))
    path.chmod(mode)
    return senders(("mail", "webhook"))


def test_messages_arrive(servers: tuple[Any, Any], file: dict[str, Any]) -> None:
    hostile = notice("end", "c\r\nBcc: all@example.org", "failed", "<b>ü</b>\nBcc: x")
    outbox = Outbox(made(file))
    outbox.add([hostile])
    outbox.close()
    (mail,), (post,) = (server.got for server in servers)
    assert json.loads(post) == hostile.document()
    read = message_from_bytes(mail, policy=policy.default)
    assert read["To"] == "me@example.org, you@example.org" and read["Bcc"] is None
    assert read["From"] == "cluster@example.org"
    assert read["Subject"] == "al-charge: c Bcc: all@example.org: end (failed)"
    assert hostile.text in read.get_content() and "ü" in hostile.text


@pytest.mark.parametrize(("code", "told"), [(500, "answers 500"), (302, "answers 302")])
def test_refusals_of_a_web_server_are_told_without_its_address(
    servers: tuple[Any, Any],
    file: dict[str, Any],
    caplog: pytest.LogCaptureFixture,
    code: int,
    told: str,
) -> None:
    servers[1].answers.append(code)
    clock = Clock()
    outbox = Outbox({"webhook": made(file)["webhook"]}, clock, clock.sleep)
    outbox.add([notice("stuck", "c", "running", "x")])
    assert told in caplog.text and SECRET not in caplog.text
    clock.now += FIRST_RETRY
    outbox.add([])
    assert len(servers[1].got) == 1


def test_a_mail_server_that_is_not_there_is_told(
    file: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    file["mail"]["port"] = 1
    Outbox({"mail": made(file)["mail"]}).add([notice("stuck", "c", "running", "x")])
    assert "mail: " in caplog.text and "tried again" in caplog.text
    assert caplog.records[-1].levelno == logging.WARNING


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"mail": {"security": "none", "server": "smtp.example.org", "username": "u",
                   "password": "p"}}, "a password needs"),
        ({"mail": {"username": "u"}}, "belong together"),
        ({"mail": {"to": []}}, "mail.to"),
        ({"mail": {"from": "a@b\r\nBcc: c@d"}}, "mail.from"),
        ({"webhook": {"url": "http://hooks.example.org/x"}}, "https://"),
        ({"webhook": {"url": "file:///etc/passwd"}}, "https://"),
        ({"webhook": {"adress": "x"}}, "webhook"),
        ({"mail": None}, "it has no 'mail'"),
    ],
)  # fmt: skip
def test_settings_that_are_unsafe_or_wrong_are_refused(
    file: dict[str, Any], change: dict[str, Any], told: str
) -> None:
    for kind, fields in change.items():
        file[kind] = None if fields is None else file[kind] | fields
    with pytest.raises(InputError, match=told) as refused:
        made(file)
    assert SECRET not in str(refused.value)


def test_a_file_that_others_can_read_is_refused(file: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="others can read it"):
        made(file, 0o644)
