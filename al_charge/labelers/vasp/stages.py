"""The runs of VASP that make one label, and the files that pass from one to the next."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Sequence
from pathlib import Path

from monty.io import zopen

from al_charge.errors import CrashedError
from al_charge.labelers.dft import process
from al_charge.labelers.files import BADER

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

_HANDED = ("WAVECAR", "CHGCAR")
"""Files that a stage leaves to the next one."""

_OUTPUTS = ("OUTCAR", "OSZICAR", "vasprun.xml", "custodian.json", "vasp.out", "std_err.txt")


def clear(directory: Path) -> None:
    """Make a job's folder, and remove what another job has left in it.

    Parameters
    ----------
    directory
        The folder of the job.
    """
    directory.mkdir(parents=True, exist_ok=True)
    for name in (REQUEST, LAUNCH, FAILURE, BADER, process.LOG):
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


def step_back(directory: Path, names: Sequence[str]) -> None:
    """Have earlier stages run again where the files are damaged that the next one begins from.

    A stage that was killed while it wrote its wave functions has lost those that it began from, and
    with them the charge order that the stage before was there for.

    Parameters
    ----------
    directory
        The folder of the job.
    names
        Its stages, in the order in which they are run.
    """
    position = next((i for i, name in enumerate(names) if not is_done(directory / name)), 0)
    for number in range(position, 0, -1):
        folder, previous = directory / names[number], directory / names[number - 1]
        begun = was_interrupted(folder)
        given = folder if begun or not (previous / "WAVECAR").exists() else previous
        if has_waves(given) and (begun or _is_filled(given / "CHGCAR")):
            return
        if begun:
            _put_aside(folder)
        for name in _HANDED:
            (folder / name).unlink(missing_ok=True)
        (previous / DONE).unlink(missing_ok=True)


def has_waves(folder: Path) -> bool:
    """Tell whether the wave functions in a folder are there and complete.

    Parameters
    ----------
    folder
        Of a stage.

    Returns
    -------
    bool
        False also for a file that VASP has begun to write.
    """
    try:
        with (folder / "WAVECAR").open("rb") as file:
            length, spins, _ = struct.unpack("=3d", file.read(24))
            file.seek(int(length))
            kpoints, bands = struct.unpack("=2d", file.read(16))
        # Records of one length: two of the head; for each spin and k-point one, and one per band.
        records = 2 + int(spins) * int(kpoints) * (1 + int(bands))
        size = (folder / "WAVECAR").stat().st_size
    except (OSError, struct.error, ValueError, OverflowError):
        return False
    # A compiler may not fill the last record up.
    return records > 2 and size > (records - 1) * int(length)


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
    CrashedError
        If one of them is missing or empty; `step_back` mends that.
    """
    for name in _HANDED:
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

    _put_aside(folder)
    incar = Incar.from_file(str(folder / "INCAR"))
    # From the wave functions alone: a density may have been cut off while it was written.
    incar.pop("ICHARG", None)
    if has_waves(folder):
        incar["ISTART"] = 1
    else:  # as at first
        incar.pop("ISTART", None)
        (folder / "WAVECAR").unlink(missing_ok=True)
    incar.write_file(str(folder / "INCAR"))


def _put_aside(folder: Path) -> None:
    """Keep what an interrupted start has written, and its last geometry for the next one."""
    from pymatgen.io.vasp.inputs import Incar

    aside = folder / f"interrupted-{len(list(folder.glob('interrupted-*'))) + 1}"
    aside.mkdir()
    for name in _OUTPUTS:
        if (folder / name).exists():
            (folder / name).replace(aside / name)
    (folder / "STOPCAR").unlink(missing_ok=True)
    moves = Incar.from_file(str(folder / "INCAR")).get("NSW", 0) > 0
    if moves and _is_filled(folder / "CONTCAR"):
        shutil.copyfile(folder / "CONTCAR", folder / "POSCAR")


def progress(directory: Path) -> int:
    """Return how far a job has got.

    Parameters
    ----------
    directory
        The folder of the job.

    Returns
    -------
    int
        Steps after which VASP has written what another start continues from, corrections of
        custodian, and stages that have ended.
    """
    done = 0
    for name in (START, RELAXATION, SINGLE_POINT):
        folder = directory / name
        done += is_done(folder) + len(list(folder.glob("error.*.tar.gz")))
        for file in (*folder.glob("OSZICAR*"), *folder.glob("interrupted-*/OSZICAR*")):
            done += sum(" F= " in line for line in _lines(file))
    return done


def _lines(file: Path) -> list[str]:
    try:
        with zopen(str(file), "rt", encoding="utf-8", errors="replace") as text:
            return list(text)
    except (OSError, EOFError):
        return []


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
        raise CrashedError(
            "VASP did not write this file, from which the next run starts", where=str(file)
        )
    if file.stat().st_size == 0:
        raise CrashedError(
            "the file is empty, so the next run cannot start from it",
            where=str(file),
            remedy="often because a disk or quota is full; free some space and run again",
        )
