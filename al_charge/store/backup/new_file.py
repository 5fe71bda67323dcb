"""A file that is there in full or not at all."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from al_charge.errors import AlChargeError, InputError

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_BUSY = {errno.EAGAIN, errno.EACCES}


@contextmanager
def new_file(path: Path) -> Iterator[BinaryIO]:
    """Write a file for its owner only; it takes its name when it is complete and on the disk.

    Until then it is beside it with ``.part`` at the end. What a killed writer has left there is
    overwritten.

    Parameters
    ----------
    path
        The file; it must not exist.

    Yields
    ------
    file
        Open for writing.

    Raises
    ------
    InputError
        If the file exists, another process writes it, or it cannot be written.
    """
    part = path.with_name(path.name + ".part")
    with _told(path):
        _refuse_existing(path)
        handle = os.open(part, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        with os.fdopen(handle, "r+b") as file:
            _lock(file, path)
            os.fchmod(file.fileno(), 0o600)
            file.truncate(0)
            try:
                yield file
                file.flush()
                os.fsync(file.fileno())
                _refuse_existing(path)
                part.rename(path)
                _sync_folder(path.parent)
            except BaseException:
                part.unlink(missing_ok=True)
                raise


def remove_stale_parts(folder: Path, pattern: str) -> None:
    """Delete what killed writers have left in a folder.

    Parameters
    ----------
    folder
        The folder.
    pattern
        Pattern of the names, without ``.part``.
    """
    for part in folder.glob(f"{pattern}.part"):
        with part.open("r+b") as file:
            try:
                _lock(file, part)
            except InputError:
                continue
            part.unlink()


def _lock(file: BinaryIO, path: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in _BUSY:
            raise
        raise InputError("another process is writing it", where=str(path)) from error


def _refuse_existing(path: Path) -> None:
    if path.exists():
        raise InputError("this file exists already", where=str(path), remedy="choose another name")


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Turn what the file system refuses into one line."""
    try:
        yield
    except AlChargeError:
        raise
    except OSError as error:
        full = error.errno in _FULL
        raise InputError(
            "the disk is full" if full else f"cannot write it: {error.strerror or error}",
            where=str(path),
            remedy="nothing was written; free some space, or inodes"
            if full
            else "name another folder",
        ) from error
