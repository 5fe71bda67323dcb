"""Telling a full disk from a failure of what was written to it."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

SMALLEST_FREE_SPACE = 1024**2
"""Bytes; with less a disk counts as full."""


def is_full(folder: Path, error: BaseException | None = None) -> bool:
    """Tell whether the disk of a folder, which need not be there yet, is full.

    Parameters
    ----------
    error
        What has just happened there, if it may tell by itself.
    """
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free < SMALLEST_FREE_SPACE
