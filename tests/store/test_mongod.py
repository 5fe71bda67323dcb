"""Why a server cannot be started: one line each, and nothing left behind."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from al_charge.errors import AlChargeError, InputError
from al_charge.store import embedded, mongod
from al_charge.store.embedded import EmbeddedServer
from al_charge.store.private_files import private_folder, read_json, write_private


def fake_mongod(folder: Path, script: str) -> Path:
    """Write a program named mongod."""
    folder.mkdir(exist_ok=True)
    program = folder / "mongod"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return program


def test_a_mongod_on_path_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = fake_mongod(tmp_path, "exit 1")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert mongod.find_mongod() == program


def test_no_mongod_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(mongod, "WHEEL", "no-such-distribution")
    with pytest.raises(InputError, match=r"no mongod was found.*al-charge\[embedded\]"):
        EmbeddedServer(tmp_path).start()


@pytest.mark.parametrize(
    ("script", "kind", "message"),
    [
        ("echo 'mongod: error while loading shared libraries: libx.so' >&2; exit 127",
         InputError, r"libx\.so; install that library"),
        ("echo strange; exit 3", AlChargeError, r"exit code 3\): strange; its log is"),
        ("echo strange; exit 100", AlChargeError, r"exit code 100\): strange; its log is"),
        ("echo the clock is off; exit 3", AlChargeError, r"exit code 3\): the clock is off;"),
        ("echo '{\"s\":\"F\",\"msg\":\"WT\",\"attr\":{\"error\":\"No space left on device\"}}'"
         " >> \"$HOME/log\"; exit 14", InputError, "the disk is full"),
    ],
)  # fmt: skip
def test_a_program_that_fails_is_explained(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    script: str,
    kind: type[AlChargeError],
    message: str,
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(kind, match=message) as caught:
        mongod.launch(
            fake_mongod(tmp_path / "bin", script),
            data=tmp_path,
            address=tmp_path / "s.sock",
            log=tmp_path / "log",
            pid_file=tmp_path / "pid",
        )
    assert type(caught.value) is kind
    assert "\n" not in str(caught.value)


def test_a_full_disk_is_refused_before_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = SimpleNamespace(free=3 * 1024**2)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    server = EmbeddedServer(tmp_path)
    with pytest.raises(InputError, match="the disk is full: 3 MB free"):
        server.start()
    assert list(server.data.iterdir()) == []


def test_a_home_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot write there.*AL_CHARGE_HOME"):
        EmbeddedServer(tmp_path / "file").start()


def test_a_link_is_no_private_folder(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(InputError, match="folder is not yours"):
        private_folder(tmp_path / "link")


def test_another_users_folder_is_not_private(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 12345)
    with pytest.raises(InputError, match="folder is not yours"):
        private_folder(tmp_path)


def test_an_open_folder_is_closed(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    private_folder(tmp_path)
    assert tmp_path.stat().st_mode & 0o777 == 0o700


def test_private_json_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    write_private(path, {"x": 1})
    path.with_name(f".{path.name}.new").write_text("left by a crash")
    write_private(path, {"x": 2})
    assert read_json(path) == {"x": 2}
    assert path.stat().st_mode & 0o777 == 0o600
    assert [p.name for p in tmp_path.iterdir()] == ["state.json"]
    path.write_text('{"x":')
    assert read_json(path) == {}


def test_no_socket_folder_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mongod, "fits_socket", lambda _: False)
    with pytest.raises(InputError, match="no folder takes a unix socket"):
        EmbeddedServer(tmp_path).start()


def test_sockets_fit_short_paths_only(tmp_path: Path) -> None:
    assert mongod.fits_socket(tmp_path / "a.sock") is True
    assert mongod.fits_socket(tmp_path / ("a" * 90 + ".sock")) is False
    assert mongod.fits_socket(tmp_path / "missing" / "a.sock") is False
    assert list(tmp_path.iterdir()) == []


def test_the_cause_of_a_failure_is_read_from_the_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert mongod.last_error(log) == ""
    entries = [
        {"s": "E", "msg": "older", "attr": {"error": "old"}},
        {"s": "I", "id": 20698, "msg": "***** SERVER RESTARTED *****"},
        {"s": "E", "msg": "WT", "attr": {"message": {"error_str": "No space left\n on device"}}},
        {"s": "F", "msg": "consequence", "attr": {"error": -31804}},
    ]
    log.write_bytes(b"no json \xff\n" + "\n".join(map(json.dumps, entries)).encode())
    assert mongod.last_error(log) == "WT: No space left on device"
    log.write_text(json.dumps(entries[0]) + "\n" + json.dumps(entries[1]))
    assert mongod.last_error(log) == ""


def test_a_long_log_is_put_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mongod, "LARGEST_LOG", 10)
    log = tmp_path / "mongod.log"
    log.write_text("x" * 11)
    with pytest.raises(AlChargeError, match="exit code 1"):
        mongod.launch(
            fake_mongod(tmp_path / "bin", "exit 1"),
            data=tmp_path,
            address=tmp_path / "s.sock",
            log=log,
            pid_file=tmp_path / "pid",
        )
    assert not log.exists()
    assert (tmp_path / "mongod.old.log").read_text() == "x" * 11


def test_the_home_is_named_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AL_CHARGE_HOME", "/somewhere")
    assert embedded.default_home() == Path("/somewhere")
    monkeypatch.delenv("AL_CHARGE_HOME")
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    assert embedded.default_home() == Path("/data/al-charge")
    monkeypatch.delenv("XDG_DATA_HOME")
    monkeypatch.setenv("HOME", "/home/ada")
    assert embedded.default_home() == Path("/home/ada/.local/share/al-charge")
