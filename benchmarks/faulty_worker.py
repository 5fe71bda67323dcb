"""`al-charge` with faults that cannot be caused from outside of its processes.

By environment variables: FAULT_DFT, the share of runs of the engine that end as one killed by a
signal does, and the share whose output is cut off, as ``0.2 0.1``; FAULT_LOG, a folder that gets a
file for each of them; FAULT_CLOCK, seconds by which this machine's clock is wrong; FAULT_SCHEMA,
added to the version of the schema that this program knows; FAULT_SILENT, seconds after which a
silent process is replaced, and one that hangs ends, as ``20 90``; FAULT_LAUNCHER, the words before
the stand-in for GPAW; FAULT_HOLD, a folder: tasks wait as long as a file in it has the
name of their kind. SIGUSR2 makes a process hang.
"""

from __future__ import annotations

import datetime
import os
import random
import signal
import sys
import threading
import time
import uuid
from pathlib import Path
from types import FrameType
from typing import Any

from al_charge.errors import CrashedError
from al_charge.fw.pulse import Pulse
from al_charge.labelers.born.labeler import BornLabeler
from al_charge.labelers.in_process import RESULT


def _failing_engine() -> None:
    killed, cut = map(float, os.environ.get("FAULT_DFT", "0 0").split())
    log = os.environ.get("FAULT_LOG", "")
    run = BornLabeler.run

    def faulty(labeler: BornLabeler, directory: Path) -> None:
        chance = random.random()
        if chance < killed:
            Path(log, f"Born killed-{uuid.uuid4().hex}").touch()
            raise CrashedError("the run failed (killed by SIGSEGV)", where=str(directory))
        run(labeler, directory)
        if chance < killed + cut:
            Path(log, f"Born cut off-{uuid.uuid4().hex}").touch()
            result = directory / RESULT
            result.write_bytes(result.read_bytes()[:100])

    if killed or cut:
        BornLabeler.run = faulty  # type: ignore[method-assign]


def _wrong_clock() -> None:
    wrong = datetime.timedelta(seconds=float(os.environ["FAULT_CLOCK"]))
    right = datetime.datetime

    class Wrong(right):
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> Any:
            return right.now(tz) + wrong

    class Module:
        timedelta = datetime.timedelta
        timezone = datetime.timezone
        datetime = Wrong  # the last: from here on it is the name's meaning

    from fireworks.core import firework, launchpad, rocket

    from al_charge.fw import worker_registry

    for module in (firework, launchpad, rocket):
        module.datetime = Module
    worker_registry.datetime = Wrong  # type: ignore[misc]


def _another_version() -> None:
    from al_charge.fw import worker

    worker.SCHEMA_VERSION += int(os.environ["FAULT_SCHEMA"])


def _no_gpaw() -> None:
    from al_charge.labelers.gpaw import labeler

    program = [sys.executable, str(Path(__file__).with_name("gpaw_stand_in.py"))]
    start = [*os.environ["FAULT_LAUNCHER"].split(), *program]
    labeler.command = lambda processes: start


def _held() -> None:
    from al_charge.fw import tasks

    enter, folder = tasks.enter, Path(os.environ["FAULT_HOLD"])

    def wait(campaign: Any, number: int, task: str, *arguments: Any) -> Any:
        close = enter(campaign, number, task, *arguments)
        while (folder / task.split()[0]).exists():
            time.sleep(0.1)
        return close

    tasks.enter = wait


def _impatient() -> None:
    from al_charge.fw import pool

    silent, hanging = map(float, os.environ["FAULT_SILENT"].split())
    pool.SILENT_SECONDS, pool.HANGING_SECONDS = silent, hanging
    beat = Pulse.beat
    Pulse.beat = lambda pulse: beat(pulse, 1.0, hanging)  # type: ignore[method-assign,misc,assignment]
    signal.signal(signal.SIGUSR2, _hang)


def _hang(_number: int, _frame: FrameType | None) -> None:
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()


# Also in the processes that a worker starts, which import this file.
_failing_engine()
if "FAULT_CLOCK" in os.environ:
    _wrong_clock()
if "FAULT_SCHEMA" in os.environ:
    _another_version()
if "FAULT_LAUNCHER" in os.environ:
    _no_gpaw()
if "FAULT_HOLD" in os.environ:
    _held()
if "FAULT_SILENT" in os.environ:
    _impatient()

if __name__ == "__main__":
    from al_charge.cli.main import main

    main(sys.argv[1:])
