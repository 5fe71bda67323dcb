"""The runs of VASP that make one label, and the files that pass from one to the next."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from al_charge.errors import AlChargeError
from al_charge.labelers.dft import process

REQUEST = "request.json"
"""What the job is: its stages, the order of its atoms, its datasets."""

LAUNCH = "launch.json"
"""How it is started this time: commands and time."""

FAILURE = "failure.json"
"""Why the last start failed."""

DONE = "done.json"
"""In the folder of a stage: it has ended, with the seconds that each start took."""

START, RELAXATION, SINGLE_POINT = "start", "relax", "static"
"""Names of the stages and of their folders, in the order in which they are run."""

_OUTPUTS = ("OUTCAR", "OSZICAR", "vasprun.xml", "custodian.json", "vasp.out", "std_err.txt")


def clear(directory: Path) -> None:
    """Make a job's folder, and remove what another job has left in it.

    Parameters
    ----------
    directory
        The folder of the job.
    """
    directory.mkdir(parents=True, exist_ok=True)
    for name in (REQUEST, LAUNCH, FAILURE, process.LOG):
        (directory / name).unlink(missing_ok=True)
    for name in (START, RELAXATION, SINGLE_POINT):
        if (directory / name).is_dir():
            shutil.rmtree(directory / name)


def is_done(folder: Path) -> bool:
    """Tell whether a stage has ended.

    Parameters
    ----------
    folder
        Of the stage.

    Returns
    -------
    bool
        False also while it runs.
    """
    return (folder / DONE).is_file()


def was_interrupted(folder: Path) -> bool:
    """Tell whether a stage was begun and has not ended.

    Parameters
    ----------
    folder
        Of the stage.

    Returns
    -------
    bool
        Whether it can be resumed.
    """
    return not is_done(folder) and (folder / "vasp.out").exists()


def hand_over(previous: Path, folder: Path) -> None:
    """Pass the results of one stage on to the next.

    These are the wave functions, the density and, after a relaxation, the geometry. The large files
    are moved: the stage before has ended and needs them no more.

    Parameters
    ----------
    previous
        Folder of the stage that has ended.
    folder
        Folder of the next one.

    Raises
    ------
    AlChargeError
        If one of them is missing or empty.
    """
    for name in ("WAVECAR", "CHGCAR"):
        if (previous / name).exists() or not (folder / name).exists():
            _require(previous / name)
            (previous / name).replace(folder / name)
    if previous.name == RELAXATION:
        _require(previous / "CONTCAR")
        shutil.copyfile(previous / "CONTCAR", folder / "POSCAR")


def resume(folder: Path) -> None:
    """Prepare an interrupted stage to continue, and keep its outputs aside.

    Parameters
    ----------
    folder
        Of the stage.
    """
    from pymatgen.io.vasp.inputs import Incar

    aside = folder / f"interrupted-{len(list(folder.glob('interrupted-*'))) + 1}"
    aside.mkdir()
    for name in _OUTPUTS:
        if (folder / name).exists():
            (folder / name).replace(aside / name)
    (folder / "STOPCAR").unlink(missing_ok=True)
    incar = Incar.from_file(str(folder / "INCAR"))
    # From the wave functions alone: a density may have been cut off while it was written. Where
    # there are none, VASP begins anew by itself.
    incar["ISTART"] = 1
    incar.pop("ICHARG", None)
    incar.write_file(str(folder / "INCAR"))
    if incar.get("NSW", 0) > 0 and _is_filled(folder / "CONTCAR"):
        shutil.copyfile(folder / "CONTCAR", folder / "POSCAR")


def seconds(folder: Path) -> float:
    """Return how long the starts of a stage took together.

    Parameters
    ----------
    folder
        Of the stage.

    Returns
    -------
    float
        seconds; 0 where nothing was noted.
    """
    try:
        noted = json.loads((folder / DONE).read_text(encoding="utf-8"))["seconds"]
    except (OSError, ValueError, KeyError):
        return 0.0
    return float(sum(noted))


def _is_filled(file: Path) -> bool:
    return file.is_file() and file.stat().st_size > 0


def _require(file: Path) -> None:
    if not file.is_file():
        raise AlChargeError(
            "VASP did not write this file, from which the next run starts", where=str(file)
        )
    if file.stat().st_size == 0:
        raise AlChargeError(
            "the file is empty, so the next run cannot start from it",
            where=str(file),
            remedy="this happens when a disk or quota is full; free some space and run again",
        )
