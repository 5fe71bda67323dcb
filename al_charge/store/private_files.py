"""Files and folders that only their owner may read."""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from al_charge.errors import InputError


def private_folder(folder: Path) -> None:
    """Create a folder for its owner only, or make an existing one so.

    Parameters
    ----------
    folder
        The folder; those above it are created too.

    Raises
    ------
    InputError
        If it belongs to another user, or is a link.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise InputError("this folder is not yours", where=str(folder), remedy="move it away")
    if stat.S_IMODE(found.st_mode) != 0o700:
        folder.chmod(0o700)


def write_private(path: Path, document: Mapping[str, Any]) -> None:
    """Write JSON for its owner only; after a crash the file is the old one or the new one.

    Parameters
    ----------
    path
        The file.
    document
        Its content, as plain data.
    """
    draft = path.with_name(f".{path.name}.new")
    draft.unlink(missing_ok=True)
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        json.dump(document, file)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    handle = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def read_json(path: Path) -> dict[str, Any] | None:
    """Return the JSON object in a file.

    Parameters
    ----------
    path
        The file.

    Returns
    -------
    dict or None
        None where there is no file; empty where it holds something else.

    Raises
    ------
    InputError
        If it is there and cannot be read.
    """
    with reading(path):
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (ValueError, RecursionError):
            return {}
    return document if isinstance(document, dict) else {}


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn an error of the file system into one line about a file.

    What cannot be read now is not taken for absent: whoever did would write another in its place.

    Parameters
    ----------
    path
        File that is read.

    Yields
    ------
    None
        Once.

    Raises
    ------
    InputError
        If the body raises an OSError.
    """
    try:
        yield
    except OSError as error:
        raise InputError(
            f"cannot read it: {error.strerror or error}",
            where=str(path),
            remedy="nothing was changed; repair the file or its disk, and try again",
        ) from error


@contextmanager
def writing_to(folder: Path) -> Iterator[None]:
    """Turn an error of the file system into one line about a folder, or the file in it.

    Parameters
    ----------
    folder
        Folder that is written to.

    Yields
    ------
    None
        Once.

    Raises
    ------
    InputError
        If the body raises an OSError.
    """
    try:
        yield
    except OSError as error:
        full = error.errno in {errno.ENOSPC, errno.EDQUOT}
        ours = error.errno in {errno.EIO, errno.ESTALE}
        raise InputError(
            "the disk is full" if full else f"cannot write there: {error.strerror}",
            where=str(error.filename or folder),
            remedy="free some space, or inodes"
            if full
            else "repair that disk, and try again"
            if ours
            else "set AL_CHARGE_HOME to a folder of yours",
        ) from error
