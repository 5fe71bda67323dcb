"""A database that is killed while FireWorks writes states: no task fails of it."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest
from fireworks import FWAction, FWorker, LaunchPad
from pymongo.errors import ConnectionFailure, CursorNotFound
from pymongo.monitoring import CommandFailedEvent, CommandListener, CommandStartedEvent
from pymongo.monitoring import CommandSucceededEvent as Succeeded

from al_charge.fw.launchpad import connect_launchpad, store_of
from al_charge.fw.lost_runs import release_runs_of
from al_charge.fw.status import blocking_failure
from al_charge.fw.task_run import transient_failure
from al_charge.fw.tasks import ensure_round
from al_charge.fw.workflow_states import inconsistent_workflows, refresh_states
from al_charge.loop.campaign import open_campaign
from al_charge.loop.spec import load_spec
from al_charge.loop.submit import submit
from al_charge.stopping import EXIT_CODE
from al_charge.store.addresses import limits
from al_charge.store.embedded import EmbeddedServer

pytestmark = pytest.mark.mongod
SPEC = Path(__file__).parents[2] / "workflows" / "nafepo4_born_small.yaml"
WORKER = f"{2**22}@somewhere@1.00"


SENT = Event()
"""Set when a command has a connection to the server, and is sent."""


class _Listener(CommandListener):
    def started(self, event: CommandStartedEvent) -> None:
        SENT.set()

    def succeeded(self, event: Succeeded) -> None: ...

    def failed(self, event: CommandFailedEvent) -> None: ...


@pytest.fixture
def launchpad(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LaunchPad]:
    """A LaunchPad on an embedded server of its own, with one campaign's first round."""
    monkeypatch.setenv("AL_CHARGE_HOME", str(tmp_path / "home"))
    listeners = {"event_listeners": [_Listener()]}
    monkeypatch.setattr("al_charge.fw.launchpad.limits", lambda *told: limits(*told) | listeners)
    launchpad = connect_launchpad(None, patience=60.0)
    store = store_of(launchpad)
    store.ensure_schema()
    spec = load_spec(SPEC)
    submit(store, spec)
    ensure_round(launchpad, open_campaign(store, spec.name), 0)
    yield launchpad
    launchpad.connection.close()
    EmbeddedServer().stop()


def replace_server() -> None:
    """Kill the server while it has the next command; another one is there on its data after that.

    It answers nothing before, so that the client cannot notice between two operations.
    """
    server = EmbeddedServer()
    pid = server.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    SENT.clear()

    def replace() -> None:
        SENT.wait(30.0)
        os.kill(pid, signal.SIGKILL)
        server.start()

    Thread(target=replace).start()


def interrupt(launchpad: LaunchPad, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the server die once, when the states of a workflow are about to be written."""
    write = launchpad._update_wf
    dying = iter([replace_server])

    def interrupted(*arguments: Any) -> None:
        next(dying, lambda: None)()
        write(*arguments)

    monkeypatch.setattr(launchpad, "_update_wf", interrupted)


def test_a_round_that_is_cut_off_leaves_nothing_to_take(
    launchpad: LaunchPad, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever took a Firework without a workflow would fail."""
    campaign = open_campaign(store_of(launchpad), load_spec(SPEC).name)
    there = launchpad.fireworks.distinct("fw_id")
    write = launchpad._upsert_fws

    def cut_off(*arguments: Any) -> Any:
        new_ids = write(*arguments)
        replace_server()
        return new_ids

    with monkeypatch.context() as patched, pytest.raises(ConnectionFailure):
        patched.setattr(launchpad, "_upsert_fws", cut_off)
        ensure_round(launchpad, campaign, 1)
    left = {"fw_id": {"$nin": there}}
    assert launchpad.fireworks.distinct("state", left) == ["WAITING"]
    left["fw_id"]["$nin"] = launchpad.fireworks.distinct("fw_id")
    assert ensure_round(launchpad, campaign, 1)
    assert set(launchpad.fireworks.distinct("state", left)) == {"READY", "WAITING"}
    assert list(inconsistent_workflows(launchpad, None)) == []


def test_a_cursor_that_the_server_does_not_know_is_an_outage(launchpad: LaunchPad) -> None:
    fireworks = launchpad.fireworks
    cursor = fireworks.find(batch_size=2)
    next(cursor)
    fireworks.database.command("killCursors", fireworks.name, cursors=[cursor.cursor_id])
    with pytest.raises(CursorNotFound) as raised:
        list(cursor)
    assert transient_failure(raised.value, Path()) == "the database does not answer"


def states(launchpad: LaunchPad) -> set[str]:
    return set(launchpad.fireworks.distinct("state"))


def test_a_refresh_that_is_cut_off_fails_no_firework(
    launchpad: LaunchPad, monkeypatch: pytest.MonkeyPatch
) -> None:
    firework, launch = launchpad.checkout_fw(FWorker(name=WORKER), "/nowhere")
    launchpad.launches.update_one(
        {"launch_id": launch}, {"$set": {"state": "COMPLETED", "action": FWAction().to_dict()}}
    )
    interrupt(launchpad, monkeypatch)
    with pytest.raises(ConnectionFailure):
        launchpad._refresh_wf(firework.fw_id)
    assert "FIZZLED" not in states(launchpad)
    workflow = launchpad.workflows.find_one({"nodes": firework.fw_id})
    assert "locked" not in workflow
    refresh_states(launchpad, [firework.fw_id])
    assert states(launchpad) == {"COMPLETED", "READY", "WAITING"}
    assert list(inconsistent_workflows(launchpad, None)) == []


def test_a_run_that_cannot_tell_its_end_ends_its_process(
    launchpad: LaunchPad, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("os._exit", sys.exit)
    firework, launch = launchpad.checkout_fw(FWorker(name=WORKER), "/nowhere")
    interrupt(launchpad, monkeypatch)
    with pytest.raises(SystemExit) as left:
        launchpad.complete_launch(launch, FWAction(), "COMPLETED")
    assert left.value.code == EXIT_CODE
    assert "worker stopped: the database does not answer" in caplog.text
    release_runs_of(launchpad, [WORKER], "its worker had to end", crashed=False)
    assert launchpad.fireworks.find_one({"fw_id": firework.fw_id})["state"] == "COMPLETED"
    assert blocking_failure(launchpad, load_spec(SPEC).name) is None


def test_what_fails_by_itself_still_fails(
    launchpad: LaunchPad, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As FireWorks has it: a workflow that cannot be refreshed is FIZZLED."""

    def broken(*_: Any) -> None:
        raise ValueError("no such state")

    firework, _ = launchpad.checkout_fw(FWorker(name=WORKER), "/nowhere")
    monkeypatch.setattr(launchpad, "_update_wf", broken)
    with pytest.raises(RuntimeError, match="no such state"):
        launchpad._refresh_wf(firework.fw_id)
    assert launchpad.fireworks.find_one({"fw_id": firework.fw_id})["state"] == "FIZZLED"
