"""What workers enter in the ledger, and who closes what the dead have left open."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from pymongo.errors import AutoReconnect, OperationFailure

from al_charge.errors import AlChargeError, UnfinishedError
from al_charge.fw import account, pool, task_run
from al_charge.fw.account import Account, Settlement, enter
from al_charge.fw.allocation import Allocation, allocation, job_end, job_started, job_times
from al_charge.fw.doctor import look, mend
from al_charge.fw.lost_runs import release
from al_charge.fw.pool import WorkerPool
from al_charge.fw.status import status_document
from al_charge.fw.task_run import running
from al_charge.fw.tasks import SelectTask
from al_charge.fw.watch import Watch
from al_charge.fw.worker_registry import host_of, worker_name
from al_charge.store.ledger import LOST, Ledger
from al_charge.testing.workers import lives

DEAD = f"{2**22}@{host_of(worker_name())}@1.00"
ELSEWHERE = "7@elsewhere@1.00"
HOSTS = "a\na\nb\nb\n"


@pytest.mark.parametrize(
    ("environment", "given"),
    [
        ({}, ("", 1, 3)),
        ({"OMP_NUM_THREADS": "4"}, ("", 1, 12)),
        (
            {
                "SLURM_JOB_ID": "11",
                "SLURM_JOB_NUM_NODES": "3",
                "SLURM_JOB_CPUS_PER_NODE": "16(x2),4",
            },
            ("slurm 11", 3, 36),
        ),
        ({"SLURM_JOB_ID": "11"}, ("slurm 11", 1, 1)),
        ({"PBS_JOBID": "5.head", "PBS_NODEFILE": "hosts", "NCPUS": "8"}, ("pbs 5.head", 2, 16)),
        ({"PBS_JOBID": "5.head", "PBS_NODEFILE": "hosts"}, ("pbs 5.head", 2, 4)),
        ({"PBS_JOBID": "5.head", "PBS_NODEFILE": "nowhere"}, ("pbs 5.head", 1, 1)),
        ({"LSB_JOBID": "7", "LSB_HOSTS": "a a b"}, ("lsf 7", 2, 3)),
        ({"LSB_JOBID": "7", "LSB_HOSTS": "a b", "LSB_DJOB_NUMPROC": "8"}, ("lsf 7", 2, 8)),
        ({"JOB_ID": "9", "SGE_ROOT": "/", "NHOSTS": "2", "NSLOTS": "24"}, ("sge 9", 2, 24)),
        ({"JOB_ID": "9"}, ("", 1, 3)),
    ],
)
def test_a_queue_tells_what_it_has_given(
    environment: dict[str, str],
    given: tuple[str, int, int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("hosts").write_text(HOSTS, encoding="utf-8")
    assert allocation(3, environment) == Allocation(*given)


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ("RUNNING 2026-11-30T04:00:00", ""),
        ("SUSPENDED 2026-11-30T04:00:00", ""),
        ("COMPLETING 2026-11-30T01:00:00", "2026-11-30T01:00:00"),
        ("PENDING N/A", "2026-11-30T02:00:00"),
        ("PENDING 2999-01-01T00:00:00", "2026-11-30T02:00:00"),
        ("", ""),
    ],
)
def test_slurm_tells_whether_it_still_counts(
    told: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job that is put back is pending before its processes have ended."""
    squeue = tmp_path / "squeue"
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    job = {"SLURM_JOB_ID": "11"}
    signalled = datetime.fromisoformat("2026-11-30T02:00:00").astimezone(UTC)
    assert job_end(signalled, job) is None
    squeue.write_text(f'#!/bin/sh\ntest "$*" = "-h -j 11 -o %T %e" && echo {told}\n')
    squeue.chmod(0o755)
    end = datetime.fromisoformat(expected).astimezone(UTC) if expected else None
    assert job_end(signalled, job) == end
    assert job_end(signalled, {"PBS_JOBID": "11"}) is None


def test_slurm_tells_when_a_job_began(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Old ones are asked."""
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    time = datetime.fromisoformat("2026-11-30T01:00:00").astimezone(UTC)
    told = {"SLURM_JOB_ID": "11", "SLURM_JOB_START_TIME": f"{time.timestamp():.0f}"}
    assert job_started(told) == time
    assert job_started({"SLURM_JOB_ID": "11"}) is None
    squeue = tmp_path / "squeue"
    squeue.write_text('#!/bin/sh\ntest "$*" = "-h -j 11 -o %S" && echo 2026-11-30T01:00:00\n')
    squeue.chmod(0o755)
    assert job_started({"SLURM_JOB_ID": "11"}) == time
    assert job_started({"SLURM_JOB_ID": "12"}) is None
    assert job_started({"PBS_JOBID": "11"}) is None


@pytest.mark.parametrize(
    ("told", "ended"),
    [
        ("JobState=COMPLETED StartTime=2026-11-30T01:00:00 EndTime=2026-11-30T01:02:00", True),
        ("JobState=NODE_FAIL StartTime=2026-11-30T01:00:00 EndTime=2026-11-30T01:02:00", True),
        ("JobState=RUNNING StartTime=2026-11-30T01:00:00 EndTime=2026-11-30T01:02:00", False),
        ("JobState=PENDING StartTime=2999-01-01T00:00:00 EndTime=2999-01-01T00:10:00", False),
        ("JobState=PENDING StartTime=Unknown EndTime=Unknown", False),
        ("JobState=COMPLETED", False),
        ("", False),
    ],
)
def test_slurm_tells_how_long_a_job_was(
    told: str, ended: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scontrol = tmp_path / "scontrol"
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert job_times("slurm 11") is None
    told = f"JobId=11 JobName=a Reason=None {told} TimeLimit=00:10:00"
    scontrol.write_text(f'#!/bin/sh\ntest "$*" = "show job -o 11" && echo {told}\n')
    scontrol.chmod(0o755)
    times = [f"2026-11-30T01:0{minute}:00" for minute in (0, 2)]
    span = tuple(datetime.fromisoformat(one).astimezone(UTC) for one in times)
    assert job_times("slurm 11") == (span if ended else None)
    assert job_times("slurm 12") is None
    assert job_times("pbs 11") is None


def entries(patient: Any) -> list[tuple[str, str | None, str]]:
    found = patient.scene.store.ledger.all(patient.campaign.name)
    return [(one.task, one.outcome, one.reason) for one in found]


def unfinished() -> None:
    raise UnfinishedError("the time limit of 3 s", where="here")


def failed() -> None:
    raise AlChargeError("no such thing", where="here")


def broken() -> None:
    raise ValueError("odd")


def full() -> None:
    raise OperationFailure("no space", code=14031)


def cut_off() -> None:
    raise AutoReconnect("away")


class _EndedError(Exception):
    """In place of the end of a process."""


@pytest.mark.mongod
class TestWithDatabase:
    """Entries in a database."""

    @pytest.mark.parametrize(
        ("step", "outcome", "reason"),
        [
            (lambda: None, "done", ""),
            (unfinished, "interrupted", "here: the time limit of 3 s"),
            (failed, "failed", "here: no such thing"),
            (broken, "failed", "ValueError: odd"),
            (full, "interrupted", "the database's disk is full"),
            (cut_off, None, ""),  # by its parent, when the database is back
        ],
    )
    def test_a_run_is_closed_with_its_end(
        self, patient: Any, monkeypatch: pytest.MonkeyPatch, step: Any, outcome: Any, reason: str
    ) -> None:
        def stop(code: int) -> None:
            raise _EndedError(code)

        monkeypatch.setattr(task_run.os, "_exit", stop)
        task = SelectTask(campaign=patient.campaign.name, round=0)
        task.launchpad = patient.launchpad
        monkeypatch.setattr(SelectTask, "step", lambda *_: step())
        with pytest.MonkeyPatch.context() as queue:
            queue.setenv("SLURM_JOB_ID", "11")
            queue.setenv("SLURM_JOB_NUM_NODES", "1")
            queue.setenv("SLURM_JOB_CPUS_PER_NODE", "8")
            env = {"runs": str(patient.scene.runs), "processes": 2}
            with suppress(_EndedError, AlChargeError, ValueError):
                task.run_task({"_fw_env": env, "_category": "cpu"})
        assert entries(patient) == [("select", outcome, reason)]
        (entry,) = patient.scene.store.ledger.all(patient.campaign.name)
        assert (entry.round, entry.worker, entry.job) == (0, worker_name(), "slurm 11")
        assert (entry.nodes, entry.cores) == (1, 4)

    def test_a_database_that_fails_leaves_the_end_to_the_parent(self, patient: Any) -> None:
        campaign = patient.campaign
        close = enter(campaign, 0, "select", "cpu", 1)
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(Ledger, "close", lambda *_, **__: full())
            close("done", "")
        assert entries(patient) == [("select", None, "")]
        enter(campaign, 0, "train 0", "gpu", 1)
        assert entries(patient) == [("select", LOST, ""), ("train 0", None, "")]

    def test_a_signal_writes_nothing(self, patient: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        """It may come in the middle of a write, whose locks it would wait for."""

        def stop(code: int) -> None:
            raise _EndedError(code)

        monkeypatch.setattr(task_run.os, "_exit", stop)
        with pytest.raises(_EndedError), running("c", 0, "select", patient.scene.runs) as run:
            run.close = lambda outcome, _: pytest.fail(outcome)
            try:
                task_run.stop_worker("stopped by SIGTERM")
            except _EndedError:
                run.close = lambda *_: None
                raise

    def test_without_a_queue_the_campaign_file_says_what_an_engine_runs_on(
        self, patient: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        spec = patient.campaign.spec
        dft = spec.resources.dft.model_copy(update={"cores": 16})
        resources = spec.resources.model_copy(update={"dft": dft})
        campaign = SimpleNamespace(
            name=patient.campaign.name,
            store=patient.scene.store,
            spec=SimpleNamespace(resources=resources),
        )
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
        for category, cores in (("dft", 16), ("cpu", 1)):
            enter(campaign, 0, "one", category, 2)("done", "")  # type: ignore[arg-type]
            assert patient.scene.store.ledger.all(patient.campaign.name)[-1].cores == cores

    def test_a_parent_enters_itself_from_its_start_to_its_end(
        self, patient: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ledger = patient.scene.store.ledger
        books = Account(ledger, patient.campaign.name, 2)
        books.beat([])
        (entry,) = ledger.all(patient.campaign.name)
        started = datetime.fromtimestamp(psutil.Process().create_time(), UTC)
        assert abs(entry.started - started) < timedelta(milliseconds=2)
        assert (entry.task, entry.round, entry.cores) == ("", None, 2)
        ledger.open(patient.campaign.name, "label 0", round=0, worker=DEAD)
        before = [one.seen for one in ledger.all(patient.campaign.name)]
        monkeypatch.setattr(account, "BEAT", -1.0)
        books.beat([DEAD])
        books.beat([DEAD])
        after = ledger.all(patient.campaign.name)
        assert all(one.seen > seen for one, seen in zip(after, before, strict=True))
        books.end()
        assert entries(patient) == [("", "done", ""), ("label 0", None, "")]

    def test_ends_of_jobs_are_their_queue_s(
        self, patient: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ledger, name = patient.scene.store.ledger, patient.campaign.name
        start = datetime.now(UTC).replace(microsecond=0) - timedelta(seconds=300)

        def after(seconds: float) -> datetime:
            return start + timedelta(seconds=seconds)

        times = {
            "slurm 1": (start, after(103.0)),
            "slurm 2": (start, after(200.0)),
            "slurm 3": (start, after(103.0)),
            "slurm 4": (start, after(90.0)),
            "slurm 5": (after(150.0), after(200.0)),
        }
        asked: list[str] = []

        def told(job: str) -> tuple[datetime, datetime] | None:
            asked.append(job)
            return times.get(job)

        monkeypatch.setattr(account, "job_times", told)
        workers = [
            # job, start, end, outcome, and the end by the queue
            ("slurm 1", 0.0, 100.0, "done", 103.0),
            ("slurm 2", 0.0, 100.0, "done", 100.0),  # what else ran in that job is none of ours
            ("slurm 3", 0.0, 50.0, "done", 50.0),  # the first of two
            ("slurm 3", 52.0, 100.0, "done", 103.0),
            ("slurm 4", -1.0, 100.0, "done", 90.0),  # by the kernel it was a little earlier
            ("slurm 5", 0.0, 100.0, "interrupted", 100.0),  # a run that was put back
            ("slurm 5", 150.0, 160.0, LOST, 200.0),
            ("slurm 6", 0.0, 100.0, "done", 100.0),  # it runs still
            ("", 0.0, 100.0, "done", 100.0),
        ]
        for number, (job, begun, ended, outcome, _) in enumerate(workers):
            worker = f"{number}@elsewhere@1.00"
            ledger.open(name, worker=worker, job=job, started=after(begun))
            ledger.close(worker, outcome, ended=after(ended))
        ledger.open(name, "label 0", worker=DEAD, job="slurm 1", started=start)
        ledger.close(DEAD, "done", ended=after(10.0))
        ledger.open(name, worker=DEAD, job="slurm 7", started=after(-3600.0))
        ledger.close(DEAD, "done", ended=after(-3000.0))
        settlement = Settlement(ledger, name)
        settlement.look()
        found = {one.worker: one.ended for one in ledger.all(name) if not one.task}
        expected = {f"{n}@elsewhere@1.00": after(one[4]) for n, one in enumerate(workers)}
        assert found == expected | {DEAD: after(-3000.0)}
        (task,) = [one for one in ledger.all(name) if one.task]
        assert task.ended == after(10.0)
        assert sorted(asked) == [f"slurm {number}" for number in range(1, 7)]
        asked.clear()
        settlement.look()
        assert asked == ["slurm 6"]
        assert "damaged ledger" not in patient.kinds()

    @pytest.mark.parametrize("seconds", [-5, 30, 3600])
    def test_a_worker_that_a_job_was_started_for_counts_from_the_job_s_start(
        self, patient: Any, monkeypatch: pytest.MonkeyPatch, seconds: int
    ) -> None:
        started = psutil.Process().create_time()
        monkeypatch.setenv("SLURM_JOB_START_TIME", str(int(started) - seconds))
        Account(patient.scene.store.ledger, patient.campaign.name, 1).beat([])
        (entry,) = patient.scene.store.ledger.all(patient.campaign.name)
        expected = int(started) - 30 if seconds == 30 else started
        assert entry.started.timestamp() == pytest.approx(expected, abs=0.002)

    @pytest.fixture
    def family(self, patient: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[WorkerPool]:
        monkeypatch.setattr(pool, "worker", SimpleNamespace(main=lives))
        monkeypatch.setattr(pool, "connect_launchpad", lambda _: patient.launchpad)
        monkeypatch.setattr(
            "al_charge.store.embedded.EmbeddedServer", lambda: SimpleNamespace(start=lambda: None)
        )
        # The connection is the fixture's to close.
        monkeypatch.setattr(type(patient.launchpad.connection), "close", lambda _: None)
        yield WorkerPool(None, patient.campaign.name, Path("runs"), processes=1, categories=["cpu"])

    def test_a_parent_closes_what_its_process_ran_with_the_time_of_its_end(
        self, patient: Any, family: WorkerPool
    ) -> None:
        ledger, name = patient.scene.store.ledger, patient.campaign.name
        with family:
            (slot,) = family._slots
            process, worker = slot.process, slot.name
            assert process is not None
            patient.run(worker)
            ledger.open(name, "label 0", round=0, worker=worker)
            before = ledger.all(name)[0].seen
            process.kill()
            process.join()
            family.tend()
            (entry,) = [one for one in ledger.all(name) if one.task]
            assert (entry.outcome, entry.reason) == ("crashed", "its process was killed by SIGKILL")
            assert entry.ended is not None
            assert entry.ended > before
        (whole,) = [one for one in ledger.all(name) if not one.task]
        assert (whole.worker, whole.outcome) == (worker_name(), "done")
        assert ledger.unclosed(name) == []

    @pytest.mark.parametrize(
        "ended",
        [(False, False), (True, False), (False, True)],
        ids=["after a warning", "at once", "while work was saved"],
    )
    def test_a_worker_s_time_ends_when_slurm_stops_to_count(
        self,
        patient: Any,
        family: WorkerPool,
        monkeypatch: pytest.MonkeyPatch,
        ended: tuple[bool, bool],
    ) -> None:
        answers = iter(ended)

        def asked(signalled: datetime) -> datetime | None:
            time.sleep(0.01)
            return signalled if next(answers) else None

        monkeypatch.setattr(pool, "job_end", asked)
        with suppress(SystemExit), family:
            family.tend()
            os.kill(os.getpid(), signal.SIGTERM)
        (entry,) = patient.scene.store.ledger.all(patient.campaign.name)
        assert entry.ended is not None and family._signalled is not None
        assert (entry.ended == family._signalled) == any(ended)
        assert entry.ended >= family._signalled

    def test_a_parent_that_waits_for_work_to_be_saved_still_shows_signs_of_life(
        self, patient: Any, family: WorkerPool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Else what a queue kills meanwhile would end in the ledger when it was told to end."""
        monkeypatch.setattr(account, "BEAT", 0.0)
        monkeypatch.setattr(pool, "SAVE_SECONDS", 1.0)
        ledger, name = patient.scene.store.ledger, patient.campaign.name
        seen = []
        beat = Ledger.beat

        def recorded(one: Ledger, workers: Any) -> None:
            beat(one, workers)
            seen.extend(ledger.all(name))

        with family:
            (slot,) = family._slots
            assert slot.process is not None
            family.tend()
            psutil.Process(slot.process.pid).suspend()
            monkeypatch.setattr(Ledger, "beat", recorded)
        assert len(seen) >= 2
        assert seen[0].ended is None
        assert seen[-1].seen > seen[0].seen

    def test_whoever_hands_a_task_back_closes_its_entry(self, patient: Any) -> None:
        ledger = patient.scene.store.ledger
        _, launch = patient.run(ELSEWHERE)
        ledger.open(patient.campaign.name, "propose x=0", round=0, worker=ELSEWHERE)
        (entry,) = ledger.all(patient.campaign.name)
        journal, key = patient.scene.store.attempts, {"campaign": patient.campaign.name, "round": 0}
        for host, pid in (("elsewhere", 7), ("elsewhere", 8), ("other", 7)):
            journal.start("k", **key, slot=0, hostname=host, pid=pid)
        release(patient.launchpad, [launch], "its worker has fallen silent")
        ended, *others = journal.all(patient.campaign.name)
        assert (ended.outcome, ended.reason) == ("interrupted", "its worker has fallen silent")
        assert [one.outcome for one in others] == [None, None]
        assert "damaged attempt" not in [one.kind for one in look(patient.scene)]
        assert entries(patient) == [("propose x=0", LOST, "its worker has fallen silent")]
        assert ledger.all(patient.campaign.name)[0].ended == entry.seen

    @pytest.mark.parametrize(
        "worker", [DEAD, ELSEWHERE, worker_name()], ids=["dead", "elsewhere", "alive"]
    )
    def test_entries_of_the_gone_are_closed_by_others(self, patient: Any, worker: str) -> None:
        ledger = patient.scene.store.ledger
        ledger.open(patient.campaign.name, worker=worker)
        found = look(patient.scene)
        assert [one.kind for one in found] == ["open entry"] * (worker != worker_name())
        assert all(one.note for one in found)
        watch = Watch(patient.launchpad, patient.campaign.name, interval=0.0)
        watch.look()
        assert bool(ledger.unclosed(patient.campaign.name)) == (worker != DEAD)
        ledger.beat([worker])
        watch.look()
        assert bool(ledger.unclosed(patient.campaign.name)) == (worker != DEAD)
        watch.look()
        assert bool(ledger.unclosed(patient.campaign.name)) == (worker == worker_name())

    @pytest.mark.parametrize("change", [{"job": "pbs 1"}, {"cores": "many"}, {"checksums": 3}])
    def test_nothing_waits_for_damaged_entries(self, patient: Any, change: Any) -> None:
        store, name = patient.scene.store, patient.campaign.name
        pid, host = DEAD.split("@")[:2]
        fw_id, _ = patient.run(DEAD)
        store.ledger.open(name, "propose x=0", round=0, worker=DEAD)
        store.attempts.start("k", campaign=name, round=0, slot=0, hostname=host, pid=int(pid))
        for collection in ("ledger", "attempts"):
            damage = {"filter": {}, "update": {"$set": change}}
            store.database[collection].update_many(**damage, bypass_document_validation=True)
        Account(store.ledger, name, 1).close(DEAD, True, "killed", datetime.now(UTC))
        assert Watch(patient.launchpad, name).look() == 1
        assert patient.launchpad.fireworks.find_one({"fw_id": fw_id})["state"] == "READY"
        assert store.database["ledger"].find_one()["ended"] is None
        damages = {one.kind for one in look(patient.scene) if one.kind.startswith("damaged")}
        assert damages == {"damaged attempt", "damaged ledger"}

    def test_the_doctor_closes_entries(self, patient: Any) -> None:
        patient.scene.store.ledger.open(patient.campaign.name, worker=DEAD)
        mended, left = mend(patient.scene)
        assert ([one.kind for one in mended], left) == (["open entry"], [])
        assert entries(patient) == [("", LOST, "its worker is gone")]

    def test_status_counts_runs_that_were_cut_off(self, patient: Any) -> None:
        """The rounds know only of those that came to their end."""
        ledger, name = patient.scene.store.ledger, patient.campaign.name
        patient.scene.store.rounds.add_seconds(name, 0, "label", 23.0)
        start = datetime(2026, 11, 29, tzinfo=UTC)
        for number, seconds in enumerate((600.0, 567.0, 23.0)):
            worker = f"{number}@node7@1.00"
            ledger.open(name, "label 0", round=0, worker=worker, cores=4, started=start)
            ledger.close(worker, "interrupted", ended=start + timedelta(seconds=seconds))
        document = status_document(patient.launchpad, patient.campaign)
        used = {"runs": 3, "seconds": 1190.0, "core_seconds": 4760.0}
        assert document["used"] == {"label": used}
        assert document["rounds"][0]["stage_seconds"]["label"] == 1190.0
