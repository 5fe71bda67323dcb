"""Run the stages of a label with custodian: ``python -m al_charge.labelers.vasp.run``.

It runs in the folder of the job, in a process of its own, because custodian works in the current
folder and leaves its settings in the environment.
"""

from __future__ import annotations

import gc
import os
import shlex
import signal
import sys
import time
from copy import deepcopy
from os.path import expandvars
from pathlib import Path
from typing import Any

from al_charge.errors import AlChargeError, CrashedError, UnfinishedError, one_line
from al_charge.labelers.dft.process import STOP, STOPPED, guarded
from al_charge.labelers.files import read_json, write_json
from al_charge.labelers.vasp import custodian_log, stages
from al_charge.stopping import SIGNALS

POLL_INTERVAL = 10
"""Seconds between two checks of a running VASP."""

_PATIENCE = 5.0
"""Seconds that VASP has after SIGTERM, less than the ten after which custodian kills the guard."""

LONGEST_BUFFER = 600
"""Seconds that VASP is left at the end of its time, at most."""


def main() -> None:
    """Run the job in the current folder; a failure is left in a file with its reason."""
    gc.set_threshold(10_000)  # custodian's imports make much and drop little
    stop = Path(STOP).absolute()
    for number in SIGNALS:  # a batch system sends them to VASP at the same time
        signal.signal(number, lambda *_: stop.touch())
    try:
        run_stages(Path.cwd())
    except UnfinishedError:
        sys.exit(STOPPED)
    except AlChargeError as error:
        reason: dict[str, Any] = {"what": error.what, "where": error.where, "remedy": error.remedy}
        reason["crashed"] = isinstance(error, CrashedError)
        write_json(stop.with_name(stages.FAILURE), reason)
        sys.exit(str(error))


def run_stages(directory: Path) -> None:
    """Run every stage that has not ended yet, each from what the one before has left.

    Parameters
    ----------
    directory
        Absolute path of a folder that `VaspLabeler.prepare` has filled.

    Raises
    ------
    AlChargeError
        If a stage failed.
    """
    names = list(read_json(directory / stages.REQUEST)["stages"])
    launch = read_json(directory / stages.LAUNCH)
    end = time.monotonic() + launch["timeout"]
    stages.step_back(directory, names)
    for position, name in enumerate(names):
        folder = directory / name
        if stages.is_done(folder):
            continue
        if stages.was_interrupted(folder):
            stages.resume(folder)
        elif position:
            stages.hand_over(directory / names[position - 1], folder)
        _run_stage(folder, launch, end - time.monotonic())
    if not launch["keep_wavecar"]:
        for name in names:
            (directory / name / "WAVECAR").unlink(missing_ok=True)


def _run_stage(folder: Path, launch: dict[str, Any], seconds_left: float) -> None:
    began = time.monotonic()
    back = Path.cwd()
    os.chdir(folder)
    try:
        _run_custodian(launch, seconds_left)
    except OSError as error:
        raise CrashedError(
            f"cannot run VASP: {error.strerror or error}", where=str(folder)
        ) from error
    finally:
        os.chdir(back)
    custodian_log.check_ended(folder)
    seconds = round(time.monotonic() - began, 3)
    write_json(folder / stages.DONE, {"seconds": [seconds]})


def _run_custodian(launch: dict[str, Any], seconds_left: float) -> None:
    """Run VASP in the current folder with custodian's handlers.

    Raises
    ------
    UnfinishedError
        If there is no time left for it.
    CrashedError
        If VASP was killed.
    AlChargeError
        If custodian could not correct the error.
    """
    from atomate2 import SETTINGS
    from atomate2.vasp.run import DEFAULT_HANDLERS
    from custodian.custodian import Custodian, CustodianError
    from custodian.vasp.handlers import MeshSymmetryErrorHandler, StdErrHandler, VaspErrorHandler
    from custodian.vasp.validators import VaspFilesValidator, VasprunXMLValidator

    from al_charge.labelers.vasp.ending import CommandJob, CutOffError, EndHandler
    from al_charge.labelers.vasp.stop_handler import StopHandler

    if seconds_left < 1:
        raise UnfinishedError(
            "no time was left to start this run of VASP",
            where=str(Path.cwd()),
            remedy="run it again to continue from the previous run; or allow a longer timeout",
        )
    # Left there by a batch job or the stage before: the handler's clock begins now.
    os.environ.pop("CUSTODIAN_WALLTIME_START", None)
    # A single point is stopped within its only ionic step, whose wave functions are then written.
    stop = StopHandler(
        Path.cwd().parent / STOP,
        wall_time=int(seconds_left),
        buffer_time=2 * max(1, min(LONGEST_BUFFER // 2, int(seconds_left / 20))),
        electronic_step_stop=_is_single_point(),
    )
    # Copies: a handler counts what it has met, and that of another stage is not this one's.
    handlers = deepcopy(DEFAULT_HANDLERS)
    telling = [
        one
        for one in handlers
        if isinstance(one, VaspErrorHandler | MeshSymmetryErrorHandler | StdErrHandler)
    ]
    job = CommandJob(
        _tied(launch["command"]), gamma_vasp_cmd=_tied(launch["gamma_command"]), auto_npar=False
    )
    custodian = Custodian(
        [EndHandler(job, telling), *handlers, stop],
        [job],
        validators=[VasprunXMLValidator(), VaspFilesValidator()],
        max_errors=SETTINGS.VASP_CUSTODIAN_MAX_ERRORS,
        scratch_dir=SETTINGS.CUSTODIAN_SCRATCH_DIR,
        polling_time_step=1,
        monitor_freq=POLL_INTERVAL,
    )
    try:
        custodian.run()  # type: ignore[no-untyped-call]
    except CutOffError as error:
        raise custodian_log.cut_off(Path.cwd(), error.status) from error
    except CustodianError as error:
        raise custodian_log.failure(Path.cwd(), error) from error
    except AlChargeError:
        raise
    except Exception as error:  # of a handler, from files that it did not expect
        reason = one_line(f"{type(error).__name__}: {error}")
        raise CrashedError(f"custodian failed ({reason})", where=str(Path.cwd())) from error


def _tied(command: str) -> list[str]:
    """Return a command that dies with this process: custodian gives it a session of its own."""
    return [*guarded(patience=_PATIENCE), *shlex.split(expandvars(command))]


def _is_single_point() -> bool:
    from pymatgen.io.vasp.inputs import Incar

    return int(Incar.from_file("INCAR").get("NSW", 0)) == 0


if __name__ == "__main__":
    main()
