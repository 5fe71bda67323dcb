"""`al-charge db`: start, look, stop."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from al_charge.cli.db import db
from al_charge.store.embedded import HOME_ENV


@pytest.mark.mongod
def test_the_server_is_started_shown_and_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(HOME_ENV, str(tmp_path))
    run = CliRunner().invoke
    assert run(db, ["status"]).output.startswith("not running")
    started = run(db, ["start"])
    assert started.exit_code == 0
    assert "listening on" in started.output
    status = json.loads(run(db, ["status", "--json"]).output)
    assert status["running"] is True
    assert status["folder"] == str(tmp_path / "mongodb")
    assert f"process {status['pid']}" in run(db, ["status"]).output
    assert run(db, ["stop"]).output == "stopped\n"
    assert run(db, ["stop"]).output == "it was not running\n"
    shutil.rmtree(tmp_path)
