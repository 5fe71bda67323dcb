"""Which PAW datasets GPAW finds, without importing it."""

from __future__ import annotations

import hashlib
import os
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from al_charge.errors import InputError


def datasets_identity() -> str:
    """Return a name for the PAW datasets in use: equal names mean equal datasets.

    The version of the package ``gpaw-data``, and before it, where ``GPAW_SETUP_PATH`` puts other
    folders first, a hash of the names and sizes of the files in those.

    Raises
    ------
    InputError
        If there are no datasets.
    """
    parts = []
    if folders := os.environ.get("GPAW_SETUP_PATH", ""):
        parts.append(_listing_hash([Path(folder) for folder in folders.split(os.pathsep)]))
    try:
        parts.append(f"gpaw-data {version('gpaw-data')}")
    except PackageNotFoundError:
        if not parts:
            raise InputError(
                "GPAW has no PAW datasets",
                where="labeler",
                remedy="install the package gpaw-data or set GPAW_SETUP_PATH",
            ) from None
    return ", ".join(parts)


def _listing_hash(folders: list[Path]) -> str:
    digest = hashlib.sha256()
    for folder in folders:
        files = sorted(folder.iterdir()) if folder.is_dir() else []
        digest.update(repr([(file.name, file.stat().st_size) for file in files]).encode())
    return digest.hexdigest()[:16]
