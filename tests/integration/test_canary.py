"""A campaign run by a worker and read by a reader; their passwords are found nowhere afterwards."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import os
import subprocess
import sys
import threading
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument
from pymongo import MongoClient

from al_charge.cli.main import cli, main
from al_charge.store.addresses import socket_uri_parts
from al_charge.store.embedded import HOME_ENV, EmbeddedServer
from al_charge.store.settings import PASSWORD_ENV, URI_ENV, USERNAME_ENV

pytestmark = [pytest.mark.slow, pytest.mark.mongod, pytest.mark.timeout(900)]

CANARIES = {
    "worker": "canary7Qx9v/@:%+w",
    "reader": "canary3Kz5h/@:%+r",
    "nobody": "canary8Jb2t/@:%+n",
}
CAMPAIGN = """
name: canary
host:
  structure: {structure}
  working_ion: Na
  redox: {{Fe: [2, 3]}}
  fixed: {{P: 5, O: -2}}
labeler: {{kind: born, relax: none}}
potential: {{kind: painn, cutoff: 4 A, channels: 4, layers: 1}}
training: {{epochs: 2}}
committee: {{size: 2}}
search: {{evaluations: 4, seeds: 2}}
acquisition: {{first_round: 5, labels_per_round: 1}}
convergence: {{rounds: 1, max_labels: 6, max_rounds: 2}}
database:
  uri: {uri}
"""


@dataclass
class Site:
    """A home, a server in it, and a campaign in a database with users.

    Attributes
    ----------
    said
        What every command printed.
    """

    home: Path
    file: Path
    uri: str
    said: dict[str, str] = field(default_factory=dict)

    def here(self, who: str, *arguments: str) -> tuple[int, str]:
        """Run a command in this process as a user; return exit code and output."""
        with _login(self.uri, who, CANARIES[who]):
            return self.said_by(f"{who}: {' '.join(arguments)}", *arguments)

    def said_by(self, name: str, *arguments: str) -> tuple[int, str]:
        """Run a command in this process, and keep what it says, tracebacks included."""
        out, code = io.StringIO(), 0
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
            try:
                main(list(arguments))
            except SystemExit as exit_:
                code = int(exit_.code or 0)
            except Exception:
                code = -1
                traceback.print_exc(file=out)
        self._keep(name, out.getvalue())
        return code, out.getvalue()

    def apart(self, who: str, *arguments: str) -> int:
        """Run a command as a process of its own; return its exit code."""
        with _login(self.uri, who, CANARIES[who]):
            done = subprocess.run(
                [sys.executable, "-m", "al_charge", *arguments],
                env=os.environ | {"OMP_NUM_THREADS": "1"},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=300,
                check=False,
            )
        self._keep(f"{who}: {' '.join(arguments)} (apart)", done.stdout)
        return done.returncode

    def _keep(self, name: str, said: str) -> None:
        self.said[name] = said
        print(f"{name}\n{said[-6000:]}")  # shown where a test fails


@contextlib.contextmanager
def _login(uri: str, who: str, password: str) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(URI_ENV, uri)
        patch.setenv(USERNAME_ENV, who)
        patch.setenv(PASSWORD_ENV, password)
        yield


class ProcessWatcher(threading.Thread):
    """Reads the command line of every process, again and again."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.seen: set[bytes] = set()
        self.over = threading.Event()

    def run(self) -> None:
        while not self.over.wait(0.1):
            for file in Path("/proc").glob("[0-9]*/cmdline"):
                with contextlib.suppress(OSError):
                    self.seen.add(file.read_bytes())


def forms(secret: str) -> set[bytes]:
    """Return a secret as it may be written: plain, quoted, escaped, in base64 at any offset."""
    plain = {secret, quote(secret), quote(secret, safe=""), quote_plus(secret)}
    plain |= {json.dumps(secret)[1:-1], repr(secret)[1:-1], secret[:11]}
    found = {text.encode() for text in plain}
    for offset in range(3):
        padded = base64.b64encode(b"\0" * offset + secret[:11].encode())
        found.add(padded[4 if offset else 0 : -4])
        found.add(base64.urlsafe_b64encode(b"\0" * offset + secret[:11].encode())[4:-4])
    return found


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The campaign after its end."""
    folder = tmp_path_factory.mktemp("canary")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(HOME_ENV, str(folder / "home"))
        patch.chdir(folder)
        server = EmbeddedServer()
        parts = socket_uri_parts(str(server.start().address))
        uri = f"{parts.scheme}{parts.hosts}/al_charge?authSource=admin"
        structure = Path(__file__).parents[2] / "workflows" / "hosts" / "NaFePO4.cif"
        file = folder / "canary.yaml"
        file.write_text(CAMPAIGN.format(structure=structure, uri=uri))
        made = Site(folder, file, uri)
        for who in ("worker", "reader"):
            patch.setenv("AL_CHARGE_NEW_PASSWORD", CANARIES[who])
            assert made.said_by(f"add {who}", "db", "users", "add", who, "--role", who)[0] == 0
        patch.delenv("AL_CHARGE_NEW_PASSWORD")
        try:
            yield made
        finally:
            server.stop()


@pytest.fixture(scope="module")
def processes(site: Site) -> set[bytes]:
    """Run everything; return the command lines that were seen."""
    watcher = ProcessWatcher()
    watcher.start()
    work(site)
    read(site)
    refuse(site)
    watcher.over.set()
    watcher.join()
    return watcher.seen


def work(site: Site) -> None:
    """Run the campaign as its worker, with a task that fails on the way."""
    runs, file = str(site.home / "runs"), str(site.file)
    assert site.here("worker", "check", file)[0] == 0
    assert site.apart("worker", "--debug", "campaign", "submit", file) == 0
    obstacle = site.home / "runs" / "canary" / "round-000" / "train-1"
    obstacle.parent.mkdir(parents=True)
    obstacle.write_text("no folder can be made here")
    worker = ("worker", file, "--runs", runs, "--until-idle")
    lines = ("--debug", "--log-level", "debug", "--log-format", "json")
    assert site.apart("worker", *lines, *worker) != 0
    code, document = site.here("worker", "campaign", "status", file, "--json")
    assert code == 0 and json.loads(document)["tasks"].get("FIZZLED") == 1
    for command in (("doctor", "canary"), ("doctor", "canary", "--json"), ("doctor", "--fix")):
        assert site.here("worker", *command)[0] in (0, 1)
    for command in (("campaign", "resume", "canary"), ("worker", "canary", "--until-idle")):
        code, said = site.here("reader", *command)
        assert code == 2 and "your user may not do this" in said
    obstacle.unlink()
    for _ in range(5):
        assert site.here("worker", "campaign", "resume", file)[0] == 0
        assert site.apart("worker", "--log-level", "debug", *worker) == 0
        document = site.here("worker", "campaign", "status", file, "--json")[1]
        if json.loads(document)["state"] in ("converged", "exhausted"):
            break
    else:
        raise AssertionError("the campaign did not end")
    assert site.here("worker", "launchers", "new", "slurm", "site")[0] == 0
    said = site.here("worker", "launchers", "check", "site")[1]
    assert "no file holds a password" in said  # whatever else is missing here


def read(site: Site) -> None:
    """Read everything as the reader, who writes nothing."""
    before = _documents(site)
    for command in (
        ("campaign", "list"),
        ("campaign", "status", "canary"),
        ("campaign", "status", "canary", "--json"),
        ("hull", "canary", "--plot", "hull.png"),
        ("hull", "canary", "--json", "--plot", "hull.html"),
        ("voltage", "canary", "--plot", "voltage.html"),
        ("labels", "canary", "--json"),
        ("curves", "canary", "--plot", "curves.html"),
        ("export", "canary", "labels.extxyz"),
        ("doctor", "canary"),
        ("db", "backup", "backup.zip"),
    ):
        code, said = site.here("reader", *command)
        assert code == 0, (command, said)
    assert _documents(site) == before


def refuse(site: Site) -> None:
    """Do as each user what it may not, with tracebacks."""
    for who, *arguments in (
        ("reader", "campaign", "submit", str(site.file)),
        ("reader", "db", "users", "list"),
        ("worker", "db", "users", "list"),
        ("worker", "db", "users", "add", "eve", "--role", "admin", "--credentials", "eve.json"),
        ("nobody", "hull", "canary"),
        ("nobody", "worker", "canary"),
    ):
        code, said = site.here(who, *arguments)
        assert code == 2 and said.count("\n") == 1, (arguments, said)
        assert site.here(who, "--debug", *arguments)[0] == -1
    secret = CANARIES["nobody"]
    wrong = site.uri.replace("mongodb://", f"mongodb://eve:{quote_plus(secret)}@")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(URI_ENV, wrong)
        for debug in ((), ("--debug",)):
            assert (
                site.said_by(f"a URI with a password {debug}", *debug, "campaign", "list")[0] != 0
            )
    other = site.home / "wrong.txt"
    other.write_text(site.file.read_text().replace(site.uri, wrong))
    other.rename(site.home / "wrong.yaml")
    try:
        for debug in ((), ("--debug",)):
            assert site.said_by(f"a file with one {debug}", *debug, "check", "wrong.yaml")[0] != 0
    finally:
        (site.home / "wrong.yaml").unlink()


def _documents(site: Site) -> dict[str, list[bytes]]:
    """Return every document of the server, by collection."""
    uri = EmbeddedServer().start().uri("admin")
    options: CodecOptions[RawBSONDocument] = CodecOptions(document_class=RawBSONDocument)
    found = {}
    with MongoClient[dict[str, Any]](uri) as client:
        for name in client.list_database_names():
            if name in ("config", "local"):
                continue  # the server's own sessions
            for collection in client[name].list_collection_names():
                documents = client[name].get_collection(collection, codec_options=options).find()
                found[f"{name}.{collection}"] = [document.raw for document in documents]
    return found


def _secrets() -> dict[str, set[bytes]]:
    root = json.loads((EmbeddedServer().folder / "credentials.json").read_text())["password"]
    return {who: forms(secret) for who, secret in (CANARIES | {"root": root}).items()}


def found_in(content: bytes) -> list[str]:
    """Return whose passwords are in some bytes."""
    return [who for who, written in _secrets().items() if any(form in content for form in written)]


def test_the_search_finds_what_it_should() -> None:
    secret = CANARIES["worker"]
    for content in (
        f"mongodb://worker:{quote_plus(secret)}@h",
        base64.b64encode(f"mongodb://worker:{secret}@h".encode()).decode(),
        base64.b64encode(f"mongodb://worker1:{secret}@h".encode()).decode(),
        base64.b64encode(f"mongodb://worker12:{secret}@h".encode()).decode(),
        json.dumps({"password": secret}),
    ):
        assert any(form in content.encode() for form in forms(secret)), content


def test_no_password_is_in_what_commands_say(site: Site, processes: set[bytes]) -> None:
    assert len(site.said) > 30
    assert any("Traceback" in said for said in site.said.values())
    # Logs were searched, lines of JSON and of text, with a task that failed among them.
    logs = "\n".join(site.said.values())
    assert '"outcome": "failed"' in logs and '"outcome": "done"' in logs
    assert "canary round 1, assess: done after " in logs
    assert {name: who for name, said in site.said.items() if (who := found_in(said.encode()))} == {}


def test_no_password_is_on_a_command_line(processes: set[bytes]) -> None:
    assert any(b"worker" in line for line in processes)
    assert [line for line in processes if found_in(line)] == []


def test_no_password_is_in_a_file(site: Site, processes: set[bytes]) -> None:
    own = EmbeddedServer().folder / "credentials.json"
    files = [path for path in site.home.rglob("*") if path.is_file() and path != own]
    assert len(files) > 20
    assert {str(path): who for path in files if (who := found_in(path.read_bytes()))} == {}
    assert found_in(own.read_bytes()) == ["root"]
    private = [own, *own.parent.glob("*.json")]
    assert {path.stat().st_mode & 0o077 for path in private} == {0}


def test_no_password_is_in_the_database(site: Site, processes: set[bytes]) -> None:
    documents = _documents(site)
    assert {"al_charge.fireworks", "al_charge.launches", "al_charge.frames.chunks"} <= set(
        documents
    )
    bad = {name: who for name, raw in documents.items() if (who := found_in(b"".join(raw)))}
    assert bad == {}
    # The failing task has left its traceback there, and it was searched.
    assert b"FileExistsError" in b"".join(documents["al_charge.launches"])


def test_help_asks_for_no_password_on_the_command_line() -> None:
    for name in cli.list_commands(None):  # type: ignore[arg-type]
        command = cli.get_command(None, name)  # type: ignore[arg-type]
        options = [option for one in command.params for option in one.opts] if command else []
        assert not any("password" in option for option in options), name
