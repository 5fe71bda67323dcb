"""The kinds of faults that `faults.py` injects into a running campaign."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import psutil
from bson.objectid import ObjectId
from engine_faults import OF_ENGINES
from fireworks import LaunchPad
from pymongo import MongoClient

from al_charge.fw.tasks import round_workflow
from al_charge.loop.campaign import open_campaign
from al_charge.store.embedded import EmbeddedServer
from al_charge.store.mongo import Store
from al_charge.testing.site import NAME, Site

BALLAST = "ballast"
SILENT_SECONDS = 60.0
BETWEEN = "nothing"
FILES_OF_MODELS = ("weights_file", "predictions_file")
TWICE = """
import sys
from al_charge.fw.launchpad import connect_launchpad
from al_charge.fw.tasks import AssessTask
task = AssessTask(campaign=sys.argv[1], round=int(sys.argv[2]))
task.launchpad = connect_launchpad(None)
print("ready", flush=True)
sys.stdin.readline()
task.run_task({"_fw_env": {"runs": sys.argv[3]}})
"""


def look(site: Site) -> MongoClient[dict[str, Any]]:
    """Connect to a site's server, which is started if it does not run."""
    return MongoClient(EmbeddedServer(site.home).start().uri("admin"), tz_aware=True)


def stage(site: Site) -> str:
    """Return what the campaign is doing, by the tasks that run."""
    with look(site) as client:
        running = client["al_charge"]["fireworks"].distinct("name", {"state": "RUNNING"})
    return ", ".join(sorted({name.split()[1] for name in running})) or BETWEEN


def state(site: Site) -> str:
    """Return the campaign's state; commands would take seconds to say."""
    with look(site) as client:
        found = client["al_charge"]["campaigns"].find_one({"_id": NAME}, {"state": 1})
    return str(found and found["state"])


def hit(site: Site, victim: str, number: signal.Signals, rng: random.Random) -> bool:
    """Send a signal to a process of a kind; return whether there was one."""
    pids = site.victims()[victim]
    if not pids:
        return False
    with suppress(psutil.NoSuchProcess):
        psutil.Process(rng.choice(pids)).send_signal(number)
    return True


def group(site: Site, *signals: signal.Signals, pause: float = 0.0) -> bool:
    """Send signals to a worker with all its processes, and wait for its end."""
    if site.worker is None or site.worker.poll() is not None:
        return False
    for number in signals:
        with suppress(ProcessLookupError):
            os.killpg(site.worker.pid, number)
        time.sleep(pause)
    site.worker.wait(timeout=200)
    return True


def kill_process(site: Site, rng: random.Random) -> bool:
    """Kill one worker process with -9, as for lack of memory."""
    return hit(site, "child", signal.SIGKILL, rng)


def end_process(site: Site, rng: random.Random) -> bool:
    """Send SIGTERM to one worker process."""
    return hit(site, "child", signal.SIGTERM, rng)


def freeze_process(site: Site, rng: random.Random) -> bool:
    """Stop one worker process; nobody lets it go on."""
    return hit(site, "child", signal.SIGSTOP, rng)


def deadlock_process(site: Site, rng: random.Random) -> bool:
    """Make one worker process wait for ever; see `faulty_worker.py`."""
    return hit(site, "child", signal.SIGUSR2, rng)


def freeze_group(site: Site, rng: random.Random) -> bool:
    """Stop a worker with all its processes, as by Ctrl-Z, and let it go on after some seconds."""
    if site.worker is None or site.worker.poll() is not None:
        return False
    os.killpg(site.worker.pid, signal.SIGSTOP)
    time.sleep(rng.uniform(5.0, 30.0))
    os.killpg(site.worker.pid, signal.SIGCONT)
    return True


def kill_parent(site: Site, rng: random.Random) -> bool:
    """Kill the parent of the worker processes with -9."""
    done = hit(site, "worker", signal.SIGKILL, rng)
    if done and site.worker is not None:
        site.worker.wait(timeout=200)
    return done


def warn(site: Site, rng: random.Random) -> bool:
    """Send SIGUSR1, the warning that the walltime is near; the worker ends by itself."""
    done = hit(site, "worker", signal.SIGUSR1, rng)
    if done and site.worker is not None:
        site.worker.wait(timeout=200)
    return done


def walltime(site: Site, rng: random.Random) -> bool:
    """Send SIGTERM to the whole job, and SIGKILL soon after, whatever it is doing."""
    return group(site, signal.SIGTERM, signal.SIGKILL, pause=rng.uniform(0.0, 3.0))


def cancel(site: Site, rng: random.Random) -> bool:
    """Send SIGKILL to the whole job, as when a node is lost."""
    return group(site, signal.SIGKILL)


def kill_server(site: Site, rng: random.Random) -> bool:
    """Kill mongod with -9."""
    return hit(site, "mongod", signal.SIGKILL, rng)


def restart_server(site: Site, rng: random.Random) -> bool:
    """Shut mongod down in order; it is started again some seconds later."""
    hit(site, "mongod", signal.SIGTERM, rng)
    time.sleep(rng.uniform(0.0, 5.0))
    return True


def cut_off(site: Site, rng: random.Random) -> bool:
    """Silence the server for a minute, while its connections stay open."""
    pids = site.victims()["mongod"]
    if not pids:
        return False
    server = psutil.Process(pids[0])
    server.suspend()
    time.sleep(SILENT_SECONDS)
    server.resume()
    return True


def fill_disk(site: Site, rng: random.Random) -> bool:
    """Leave no space for the files of jobs for some seconds."""
    runs = site.home / "runs"
    if not os.path.ismount(runs):
        return False
    try:
        with suppress(OSError), (runs / BALLAST).open("wb", buffering=0) as file:
            while True:
                file.write(bytes(65536))
        time.sleep(rng.uniform(3.0, 10.0))
    finally:
        (runs / BALLAST).unlink(missing_ok=True)
    return True


def assess_twice(site: Site, rng: random.Random) -> bool:
    """Run two tasks that assess the same round at the same moment, beside the workers."""
    with look(site) as client:
        store = Store(client["al_charge"])
        campaign = open_campaign(store, NAME)
        members = range(campaign.spec.committee.size)
        rounds = [
            record.number
            for record in store.rounds.all(NAME)
            if all(store.models.has(NAME, record.number, member) for member in members)
        ]
    if not rounds:
        return False
    command = [sys.executable, "-c", TWICE, NAME, str(rounds[-1]), str(site.home / "runs")]
    twins = [
        subprocess.Popen(
            command, env=site.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        for _ in range(2)
    ]
    for twin in twins:
        assert twin.stdout is not None
        twin.stdout.readline()
    for twin in twins:
        twin.communicate(b"\n", timeout=200)
    return True


def _launchpad(client: MongoClient[dict[str, Any]]) -> LaunchPad:
    """Return a LaunchPad on a client's database, for what no command does."""
    launchpad = LaunchPad(
        host="mongodb://localhost:1/",
        name="al_charge",
        uri_mode=True,
        strm_lvl="CRITICAL",
        mongoclient_kwargs={"connect": False},
    )
    for name in ("fireworks", "launches", "workflows", "fw_id_assigner"):
        setattr(launchpad, name, client["al_charge"][name])
    launchpad.db = client["al_charge"]
    return launchpad


def half_a_workflow(site: Site, rng: random.Random) -> bool:
    """Leave what a kill between the inserts of `add_wf` leaves: Fireworks in no workflow."""
    if not group(site, signal.SIGKILL):
        return False
    with look(site) as client:
        store = Store(client["al_charge"])
        number = store.rounds.all(NAME)[-1].number + 1
        workflow = round_workflow(open_campaign(store, NAME), number)
        _launchpad(client)._upsert_fws(list(workflow.id_fw.values()), reassign_all=True)
    return True


def locked_workflow(site: Site, rng: random.Random) -> bool:
    """Kill whoever holds the lock of a workflow."""
    if not group(site, signal.SIGKILL):
        return False
    with look(site) as client:
        workflows = client["al_charge"]["workflows"]
        workflows.update_many({"state": {"$ne": "COMPLETED"}}, {"$set": {"locked": True}})
    return True


def damaged_weights(site: Site, rng: random.Random) -> bool:
    """Flip a bit of a model's weights or predictions; the doctor has the model trained again."""
    if not group(site, signal.SIGKILL):
        return False
    with look(site) as client:
        database = client["al_charge"]
        named = [one[field] for one in database["models"].find() for field in FILES_OF_MODELS]
        chunk = named and database["weights.chunks"].find_one(
            {"files_id": ObjectId(rng.choice(named))}
        )
        if not chunk:
            return False
        data = bytearray(chunk["data"])
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        changed = {"$set": {"data": bytes(data)}}
        database["weights.chunks"].update_one({"_id": chunk["_id"]}, changed)
    command = [*site.program, "doctor", NAME, "--deep", "--fix", "--no-wait"]
    done = subprocess.run(command, env=site.environment, capture_output=True, text=True)
    return "repaired: damaged model:" in done.stdout


def edited_round(site: Site, rng: random.Random) -> bool:
    """Edit a round behind al-charge's back: the doctor has to name it. The edit is taken back."""
    with look(site) as client:
        rounds = client["al_charge"]["rounds"]
        before = rounds.find_one({"assessment": {"$ne": None}})
        if before is None:
            return False
        rounds.update_one({"_id": before["_id"]}, {"$set": {"selected": []}})
        command = [*site.program, "doctor", NAME, "--deep", "--no-wait"]
        done = subprocess.run(command, env=site.environment, capture_output=True, text=True)
        rounds.update_one({"_id": before["_id"]}, {"$set": {"selected": before["selected"]}})
    return f"damaged round: round {before['_id']}:" in done.stdout


def wrong_clock(site: Site, rng: random.Random) -> bool:
    """Replace the worker by one whose clock is two hours wrong."""
    if not group(site, signal.SIGKILL):
        return False
    site.run("campaign", "resume", NAME)
    site.start_worker(FAULT_CLOCK=str(rng.choice((-7200, 7200))))
    time.sleep(rng.uniform(8.0, 15.0))
    # It has to work; that the campaign has ended meanwhile is well.
    return site.worker is not None and site.worker.poll() in (None, 0)


def another_version(site: Site, rng: random.Random) -> bool:
    """Let a worker of an older or newer al-charge join, which has to leave at once."""
    command = [*site.program, "worker", NAME]
    wrong = site.environment | {"FAULT_SCHEMA": str(rng.choice((-1, 1)))}
    done = subprocess.run(command, env=wrong, capture_output=True, text=True, timeout=200)
    return done.returncode == 1 and "schema version" in done.stderr


def unreadable_login(site: Site, rng: random.Random) -> bool:
    """Kill mongod while its login cannot be read for some seconds, as with EIO or ESTALE."""
    login = site.home / "mongodb" / "credentials.json"
    before = login.read_bytes()
    aside = login.rename(login.with_name("aside"))
    login.mkdir()
    try:
        hit(site, "mongod", signal.SIGKILL, rng)
        time.sleep(rng.uniform(5.0, 15.0))
    finally:
        login.rmdir()
        aside.rename(login)
    return login.read_bytes() == before


def replaced_database(site: Site, rng: random.Random) -> bool:
    """Lose the data with a node, and restore the backup of a moment before."""
    if not group(site, signal.SIGKILL):
        return False
    archive = site.home.parent / f"backup-{time.time_ns()}.zip"
    site.run("db", "backup", str(archive))
    site.run("db", "stop")
    shutil.rmtree(site.home / "mongodb" / "data")
    site.run("db", "restore", str(archive), "--yes")
    return True


KINDS: dict[str, Callable[[Site, random.Random], bool]] = {
    "worker process killed": kill_process,
    "worker process told to end": end_process,
    "worker process frozen": freeze_process,
    "worker process deadlocked": deadlock_process,
    "job suspended": freeze_group,
    "worker killed": kill_parent,
    "walltime warning": warn,
    "walltime": walltime,
    "job cancelled, node lost": cancel,
    "mongod killed": kill_server,
    "mongod restarted": restart_server,
    "database cut off for a minute": cut_off,
    "disk full": fill_disk,
    "two assess tasks at once": assess_twice,
    "half-written workflow": half_a_workflow,
    "workflow locked by the dead": locked_workflow,
    "bit flip in a model's files": damaged_weights,
    "round edited by something else": edited_round,
    "clock wrong by two hours": wrong_clock,
    "worker of another version": another_version,
    "login of the database unreadable": unreadable_login,
    "database replaced by its backup": replaced_database,
    **OF_ENGINES,
}
