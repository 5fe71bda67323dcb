"""Files that may be compressed, by gzip, bzip2 or xz, as their names' endings say."""

from __future__ import annotations

from pathlib import Path

from monty.io import zopen

from al_charge.errors import InputError

ENDINGS = ("", ".gz", ".bz2", ".xz")
"""What is added to a file's name where it is compressed; the empty one where it is not."""
LARGEST = 2**30
"""Characters of a file, decompressed; what is longer was made to fill the memory."""


def find(folder: Path, name: str) -> Path | None:
    """Return a file of a folder, compressed or not.

    Parameters
    ----------
    folder
        Where it is.
    name
        Of the file, such as ``OUTCAR``.

    Returns
    -------
    Path or None
        None if it is not there.
    """
    files = (folder / f"{name}{ending}" for ending in ENDINGS)
    return next((file for file in files if file.is_file()), None)


def bare_name(path: Path) -> str:
    """Return the name that a file has when it is not compressed.

    Parameters
    ----------
    path
        The file.

    Returns
    -------
    str
        Such as ``OUTCAR`` for ``OUTCAR.xz``.
    """
    return path.stem if path.suffix.lower() in ENDINGS[1:] else path.name


def read_text(path: Path) -> str:
    """Return the text of a file, with a mark in place of bytes that are not UTF-8.

    Parameters
    ----------
    path
        The file.

    Returns
    -------
    str
        All of it.

    Raises
    ------
    InputError
        If it has more than `LARGEST` characters.
    """
    with zopen(path, "rt", encoding="utf-8", errors="replace") as file:
        text = str(file.read(LARGEST + 1))
    if len(text) > LARGEST:
        raise InputError(f"it has more than {LARGEST} characters", where=str(path))
    return text
