"""What a machine must leave a MongoDB server: space, inodes, open files and long files."""

from __future__ import annotations

import os
import resource
import shutil
from pathlib import Path

from al_charge.errors import InputError

SMALLEST_FREE_SPACE = 256 * 1024**2
"""Bytes; mongod stops at once when its journal cannot grow."""
FEWEST_INODES = 200
"""Two for each collection and each index, and some for the journal."""
FEWEST_FILES = 512
"""Files that it opens at once."""
SMALLEST_FILE = 2**30
"""Bytes that one of its files must be allowed to have."""


def check_room(data: Path) -> None:
    """Refuse to start a server that would die of lack of something.

    Parameters
    ----------
    data
        Folder of its data.

    Raises
    ------
    InputError
        With what is missing.
    """
    free = shutil.disk_usage(data).free
    if free < SMALLEST_FREE_SPACE:
        raise InputError(
            f"the disk is full: {free // 1024**2} MB free, "
            f"{SMALLEST_FREE_SPACE // 1024**2} MB needed",
            where=str(data),
            remedy="free some space, or set AL_CHARGE_HOME to a folder on another disk",
        )
    about = os.statvfs(data)
    if about.f_files and about.f_favail < FEWEST_INODES:  # some file systems do not count them
        raise InputError(
            f"the disk is full: it takes {about.f_favail} more files (inodes), "
            f"{FEWEST_INODES} are needed",
            where=str(data),
            remedy="remove files, or set AL_CHARGE_HOME to a folder on another disk",
        )
    _check_limit(
        resource.RLIMIT_NOFILE,
        FEWEST_FILES,
        "ulimit -n",
        str(FEWEST_FILES),
        "files may be open at once",
    )
    _check_limit(
        resource.RLIMIT_FSIZE, SMALLEST_FILE, "ulimit -f", "unlimited", "bytes may be in a file"
    )


def _check_limit(kind: int, least: int, command: str, enough: str, what: str) -> None:
    most, _ = resource.getrlimit(kind)
    if most != resource.RLIM_INFINITY and most < least:
        raise InputError(
            f"only {most} {what} ({command}), {least} are needed",
            where="embedded database",
            remedy=f"raise that limit where you start it, as by '{command} {enough}'",
        )
