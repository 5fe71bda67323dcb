"""What lies at a path: runs of engines, files of frames, documents of tasks."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from al_charge.crystal import compressed
from al_charge.crystal.bounded import limited
from al_charge.errors import AlChargeError, InputError, one_line
from al_charge.labelers.foreign import ForeignRun
from al_charge.labelers.plugin import LABELERS
from al_charge.labelers.vasp.foreign import read_task
from al_charge.report.foreign.frames import of_chgnet, of_matpes, read_database, read_frames

_ASIDE = ("interrupted-", ".")
"""How folders begin that hold no run of their own."""

_MARKS = ({"calcs_reversed"}, {"structure", "forces"}, {"structure", "force"})
"""Keys of documents that can be read: tasks of atomate2, entries of MatPES, frames of MPtrj."""


@dataclass(frozen=True)
class Found:
    """Something at a path that may become a label.

    Attributes
    ----------
    source
        Where it was read.
    run
        What it is; None if it cannot be read.
    reason
        Why it cannot; empty otherwise.
    file
        Path of the file that identifies it, or the address of a document that is in no file.
    digest
        SHA-256 of such a document, hexadecimal; empty of a file.
    """

    source: str
    run: ForeignRun | None
    reason: str
    file: str
    digest: str = ""

    @property
    def name(self) -> str:
        """Name of the file or document, without what leads there: that tells who owns it."""
        return self.file.rpartition("/")[2]

    @property
    def sha256(self) -> str:
        """Of the content of the file or document, hexadecimal."""
        return self.digest or _sha256(self.file)


@cache
def _sha256(file: str) -> str:
    with Path(file).open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def find_runs(path: Path) -> list[Found]:
    """Read everything at a path that may become a label.

    Parameters
    ----------
    path
        A folder, with all folders in it; a .gpw file, OUTCAR or vasprun.xml; extended XYZ or
        another file of frames that ASE reads; a database of ASE; or JSON: tasks of atomate2,
        outputs of jobflow, entries of MatPES or MPtrj, one or a list of them.

    Returns
    -------
    list of Found
        In the order of the paths.

    Raises
    ------
    InputError
        If there is no such path, or nothing in it.
    """
    if path.is_dir():
        found = list(_in_folder(path))
    elif not path.is_file():
        raise InputError("no such file or folder", where=str(path))
    elif path.name.startswith(("OUTCAR", "vasprun")):
        found = list(_runs_of(path.parent, "vasp"))
    elif path.suffix == ".gpw":
        found = [_read("gpaw", path)]
    else:
        with limited(path):
            found = list(_in_file(path))
    if not found:
        raise InputError(
            "there is no run of VASP or GPAW in it",
            where=str(path),
            remedy="give a folder with vasprun.xml, OUTCAR or .gpw files, or a file of frames",
        )
    return found


def _in_folder(folder: Path) -> Iterator[Found]:
    """Yield the runs in a folder and in those in it."""
    for plugin in LABELERS:
        yield from _runs_of(folder, plugin.kind)
    for child in sorted(folder.iterdir()):
        if child.is_dir() and not child.is_symlink() and not child.name.startswith(_ASIDE):
            yield from _in_folder(child)


def _runs_of(folder: Path, kind: str) -> Iterator[Found]:
    for path in LABELERS.get(kind).find_foreign(folder):
        yield _read(kind, path)


def _read(kind: str, path: Path) -> Found:
    file = path if path.is_file() else _main_file(path)
    try:
        with limited(file):
            return Found(str(path), LABELERS.get(kind).read_foreign(path), "", str(file))
    except AlChargeError as error:
        return Found(str(path), None, reason_of_refusal(error), str(file))
    except Exception as error:  # parsers raise whatever their format breaks
        reason = one_line(f"it is truncated or damaged ({type(error).__name__}: {error})")[:160]
        return Found(str(path), None, reason, str(file))


def _main_file(folder: Path) -> Path:
    """Return the file of a run that its energy is in."""
    for name in ("vasprun.xml", "OUTCAR", "result.json"):
        if (file := compressed.find(folder, name)) is not None:
            return file
    return next(path for path in sorted(folder.iterdir()) if path.is_file())


def reason_of_refusal(error: AlChargeError) -> str:
    """Return why something cannot be read.

    Parameters
    ----------
    error
        The error that refuses it.

    Returns
    -------
    str
        One line, without the place, which is told beside it.
    """
    return "; ".join(part for part in (error.what, error.remedy) if part)


def _of(one: ForeignRun | InputError, path: Path) -> Found:
    if isinstance(one, ForeignRun):
        return Found(one.source, one, "", str(path))
    return Found(one.where or str(path), None, reason_of_refusal(one), str(path))


def _in_file(path: Path) -> Iterator[Found]:
    """Yield what a file holds that is no output of one run."""
    if path.suffix == ".db":
        yield from (_of(one, path) for one in read_database(path))
    elif compressed.bare_name(path).endswith(".json"):
        yield from _in_json(path)
    else:
        yield from (_of(one, path) for one in read_frames(path))


def _in_json(path: Path) -> Iterator[Found]:
    """Yield the documents of a file, whatever it lists them in."""
    try:
        listed = list(_documents(json.loads(compressed.read_text(path)), ""))
    except (ValueError, RecursionError) as error:
        raise InputError(f"it is not a JSON file: {error}", where=str(path)) from error
    if not listed:
        raise InputError(
            "it holds no task of atomate2, and no entry of MatPES or MPtrj",
            where=str(path),
            remedy="give the .extxyz file of an export of al-charge, or documents with forces",
        )
    for name, document in listed:
        where = f"{path}, {name}" if name else str(path)
        try:
            yield Found(where, _document(document, where), "", str(path))
        except InputError as error:
            yield Found(where, None, reason_of_refusal(error), str(path))
        except (AttributeError, LookupError, TypeError, ValueError, OverflowError) as error:
            yield Found(where, None, one_line(f"{type(error).__name__}: {error}")[:160], str(path))


def _documents(content: Any, name: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield what can be read, with its name: the keys or numbers that lead to it."""
    if isinstance(content, list):
        for number, one in enumerate(content):
            yield from _documents(one, f"{name}/{number}" if name else f"entry {number}")
    elif isinstance(content, dict):
        if any(marks <= content.keys() for marks in _MARKS):
            yield name, content
        else:
            for key, one in content.items():
                if isinstance(one, dict | list):
                    yield from _documents(one, f"{name}/{key}" if name else str(key))


def _document(document: Mapping[str, Any], where: str) -> ForeignRun:
    if "calcs_reversed" in document:
        return read_task(document, where)
    if "force" in document:
        if "uncorrected_total_energy" not in document:
            raise InputError(
                "its energy is per atom, and may hold corrections",
                where=where,
                remedy="give uncorrected_total_energy, in eV for the cell",
            )
        return of_chgnet(document, where)
    return of_matpes(document, where)
