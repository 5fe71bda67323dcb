"""What is frozen is found, killed and replaced; what waits or computes is left alone."""

from __future__ import annotations

import multiprocessing
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from multiprocessing.context import SpawnProcess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from fireworks.fw_config import RUN_EXPIRATION_SECS

from al_charge.fw import pool, pulse
from al_charge.fw.account import Account
from al_charge.fw.database_locks import _Holder
from al_charge.fw.doctor import look, mend
from al_charge.fw.pool import WorkerPool
from al_charge.fw.pulse import HANGS, Pulse
from al_charge.fw.vitals import duration, end_worker, state_of, vitals
from al_charge.fw.watch import Watch
from al_charge.fw.worker_registry import is_alive, worker_name
from al_charge.testing.workers import (
    EVERY,
    HANGING,
    hangs,
    lives,
    polls,
    waits_for_a_process,
    waits_for_a_thread,
)

LONG_AGO = RUN_EXPIRATION_SECS + 180.0


def until(true: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60.0
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@contextmanager
def started(target: Callable[[Pulse], None]) -> Iterator[tuple[SpawnProcess, Pulse]]:
    """A process with a pulse, once it beats."""
    heart = Pulse()
    process = multiprocessing.get_context("spawn").Process(target=target, args=(heart,))
    process.start()
    try:
        until(lambda: heart._beats.value or not process.is_alive())
        yield process, heart
    finally:
        process.kill()
        process.join()


def test_a_process_that_gets_nowhere_ends_by_itself() -> None:
    with started(hangs) as (process, _):
        process.join(60.0)
        assert process.exitcode == HANGS


@pytest.mark.parametrize("target", [polls, waits_for_a_process, waits_for_a_thread])
def test_a_process_that_polls_or_waits_for_what_computes_goes_on(
    target: Callable[[Pulse], None],
) -> None:
    with started(target) as (process, heart):
        until(lambda: heart._beats.value * EVERY > 3 * HANGING or not process.is_alive())
        assert process.is_alive()
        for child in psutil.Process(process.pid).children():
            child.kill()


def test_it_says_where_it_hangs(caplog: pytest.LogCaptureFixture) -> None:
    codes: list[int] = []
    heart = Pulse()
    reads = iter([True])

    class Still:
        def goes_on(self) -> bool:
            return next(reads, False)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(pulse, "_Activity", Still)
        heart._run(0.001, 0.0025, codes.append)
    assert codes == [HANGS]
    assert heart._beats.value == 4  # one that goes on, and three in which nothing does
    assert "worker process hangs: nothing was computed for 0 s, in" in caplog.text


def test_silence_counts_while_somebody_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    """A parent that was suspended with its whole job has not listened."""
    now = [100.0]
    monkeypatch.setattr(pulse, "time", SimpleNamespace(monotonic=lambda: now[0]))
    heart = Pulse()
    for passed, silent in ((2.0, 2.0), (3.0, 5.0), (3600.0, 5.0 + pulse.BEAT)):
        now[0] += passed
        assert heart.silent() == silent
    assert not heart.begun
    heart._beats.value += 1
    now[0] += 1.0
    assert heart.silent() == 0.0
    assert heart.begun
    now[0] += 1.0
    assert heart.silent() == 1.0
    heart.forgive()
    assert heart.silent() == 0.0


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(["sleep", "1000"])
    yield process
    process.kill()
    process.wait()


def registered(patient: Any, pid: int, seconds_ago: float) -> str:
    """Register a process as a worker that was last seen some time ago."""
    name = worker_name(pid)
    seen = datetime.now(UTC) - timedelta(seconds=seconds_ago)
    known = {"_id": name, "seen": seen, "campaign": patient.campaign.name, "categories": ["cpu"]}
    ours = patient.launchpad.db["workers"].find_one({}, {"version": 1, "schema": 1, "_id": 0})
    patient.launchpad.db["workers"].insert_one(ours | known)
    return name


@pytest.mark.mongod
class TestWithDatabase:
    """Parents, the doctor and locks."""

    @pytest.fixture
    def family(self, patient: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[WorkerPool]:
        """A parent with one process that stands in for a worker."""
        monkeypatch.setattr(pool, "worker", SimpleNamespace(main=lives))
        monkeypatch.setattr(pool, "SILENT_SECONDS", 0.3)
        monkeypatch.setattr(pool, "SAVE_SECONDS", 1.0)  # in which frozen ones do not end
        parent = WorkerPool(
            None, patient.campaign.name, Path("runs"), processes=1, categories=["cpu"]
        )
        parent._watch = Watch(patient.launchpad, patient.campaign.name)
        parent._account = Account(patient.scene.store.ledger, patient.campaign.name, 1)
        monkeypatch.setattr(parent, "_connected", lambda: patient.launchpad)
        with parent:
            yield parent

    def test_a_parent_replaces_a_stopped_process(self, patient: Any, family: WorkerPool) -> None:
        (slot,) = family._slots
        until(lambda: slot.pulse._beats.value)
        frozen = slot.name
        fw_id, launch = patient.run(frozen)
        assert slot.process is not None
        assert slot.process.pid is not None
        psutil.Process(slot.process.pid).suspend()

        def replaced() -> bool:
            family.tend()
            return slot.name != frozen

        until(replaced)
        assert is_alive(frozen) is False
        firework = patient.launchpad.fireworks.find_one({"fw_id": fw_id})
        assert (firework["state"], firework["archived_launches"]) == ("READY", [launch])
        stored = patient.launchpad.launches.find_one({"launch_id": launch})["action"]["stored_data"]
        assert stored["_message"].endswith(" s, state T (stopped)")
        assert stored["crashed"]
        until(lambda: slot.pulse._beats.value)
        before = slot.name
        for _ in range(30):
            family.tend()
            time.sleep(0.02)
        assert slot.name == before  # it beats, and stays

    def test_a_process_may_take_long_to_begin(
        self, family: WorkerPool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (slot,) = family._slots
        until(lambda: slot.pulse._beats.value)
        slot.pulse = Pulse()
        for limit, killed in ((1.0, False), (0.1, True)):
            monkeypatch.setattr(pool, "HANGING_SECONDS", limit)
            slot.pulse._silent, slot.pulse._looked = 0.5, time.monotonic()
            family._listen(slot)
            assert bool(slot.silence) == killed

    def test_what_cannot_be_killed_is_replaced_all_the_same(
        self, patient: Any, family: WorkerPool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As one that sleeps in the kernel."""
        (slot,) = family._slots
        until(lambda: slot.pulse._beats.value)
        frozen, process = slot.name, slot.process
        assert process is not None
        assert process.pid is not None
        patient.run(frozen)
        psutil.Process(process.pid).suspend()
        monkeypatch.setattr(process, "kill", lambda: None)
        monkeypatch.setattr(pool, "KILL_SECONDS", 0.1)

        def replaced() -> bool:
            family.tend()
            return slot.name != frozen

        until(replaced)
        assert is_alive(frozen)
        assert patient.launchpad.fireworks.count_documents({"state": "RUNNING"}) == 0
        assert process not in multiprocessing.active_children()
        psutil.Process(process.pid).kill()

    def test_an_outage_is_no_silence(
        self, family: WorkerPool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (slot,) = family._slots
        until(lambda: slot.pulse._beats.value)
        assert slot.process is not None
        psutil.Process(slot.process.pid).suspend()
        monkeypatch.setattr(family, "_hand_back", lambda: False)
        monkeypatch.setattr(pulse, "BEAT", 0.2)
        for _ in range(20):
            slot.pulse._looked -= 0.2
            family.tend()
        assert slot.process.is_alive()
        assert not slot.silence

    @pytest.mark.parametrize("everybody", ["parents", "doctor"])
    def test_a_silent_process_of_this_machine_is_ended(
        self, patient: Any, sleeper: subprocess.Popen[bytes], everybody: str
    ) -> None:
        sleeper.send_signal(signal.SIGSTOP)
        name = registered(patient, sleeper.pid, LONG_AGO)
        until(lambda: state_of(name) == "T (stopped)")
        fw_id, _ = patient.run(name)
        found = [one for one in look(patient.scene) if not one.note]
        assert [one.kind for one in found] == ["silent worker"]
        assert found[0].what == "alive, silent for 7 min, state T (stopped)"
        assert is_alive(name)
        if everybody == "parents":
            watch = Watch(patient.launchpad, patient.campaign.name, interval=0.0)
            watch.look()
            assert is_alive(name)  # the first look is not conclusive
            watch.look()
            sleeper.wait(timeout=60)
            watch.look()
        else:
            mended, left = mend(patient.scene)
            assert left == []
            assert {one.kind for one in mended} == {"silent worker", "lost run"}
        assert sleeper.wait(timeout=60) == -signal.SIGKILL
        assert patient.launchpad.fireworks.find_one({"fw_id": fw_id})["state"] == "READY"

    def test_a_process_that_was_seen_lately_is_left_alone(
        self, patient: Any, sleeper: subprocess.Popen[bytes]
    ) -> None:
        name = registered(patient, sleeper.pid, RUN_EXPIRATION_SECS - 60.0)
        patient.run(name)
        watch = Watch(patient.launchpad, patient.campaign.name, interval=0.0)
        for _ in range(3):
            watch.look()
        assert patient.kinds() == {}
        assert is_alive(name)

    def test_one_that_runs_and_was_seen_between_two_looks_is_left_alone(
        self, patient: Any, sleeper: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """After an outage all have been silent."""
        name = registered(patient, sleeper.pid, LONG_AGO)
        where = {"_id": name}
        watch = Watch(patient.launchpad, patient.campaign.name, interval=0.0)
        watch.look()
        assert patient.kinds() == {"silent worker": 1}

        def revive(_: float) -> None:
            seen = datetime.now(UTC) - timedelta(seconds=LONG_AGO - 60.0)
            patient.launchpad.db["workers"].update_one(where, {"$set": {"seen": seen}})

        monkeypatch.setattr("al_charge.fw.doctor.sleep", revive)
        assert patient.kinds() == {}
        watch.look()
        assert is_alive(name)

    def test_vitals_tell_host_and_last_heartbeat(
        self, patient: Any, sleeper: subprocess.Popen[bytes]
    ) -> None:
        name = registered(patient, sleeper.pid, 30.0)
        elsewhere = "7@elsewhere@1.00"
        patient.launchpad.db["workers"].insert_one(
            {"_id": elsewhere, "seen": datetime.now(UTC), "campaign": patient.campaign.name}
        )
        found = {one.worker: one for one in vitals(patient.launchpad.db, patient.campaign.name)}
        assert set(found) == {name, elsewhere, worker_name()}
        assert found[name].silent == pytest.approx(30.0, abs=20.0)
        assert found[name].state == "S (sleeping)"
        assert (found[elsewhere].host, found[elsewhere].state) == ("elsewhere", "")
        assert not any(one.is_silent for one in found.values())
        assert vitals(patient.launchpad.db, "another") == []

    def test_a_stopped_holder_of_a_lock_is_gone_when_it_stays_silent(
        self, patient: Any, sleeper: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        now = [0.0]
        monkeypatch.setattr(
            "al_charge.fw.database_locks.time", SimpleNamespace(monotonic=lambda: now[0])
        )
        name = worker_name(sleeper.pid)
        holder = _Holder(patient.launchpad, name)
        now[0] = 3600.0
        assert not holder.is_gone()
        sleeper.send_signal(signal.SIGSTOP)
        until(lambda: state_of(name) == "T (stopped)")
        assert holder.is_gone()
        holder = _Holder(patient.launchpad, name)
        assert not holder.is_gone()


def test_the_dead_have_no_state_and_are_ended_already() -> None:
    process = subprocess.Popen(["true"])
    name = worker_name(process.pid)
    process.wait()
    assert state_of(name) == ""
    end_worker(name)


def test_times_are_told_in_a_unit_that_suits_them() -> None:
    assert [duration(one) for one in (89.0, 90.0, 420.0, 5400.0)] == [
        "89 s",
        "2 min",
        "7 min",
        "1.5 h",
    ]
