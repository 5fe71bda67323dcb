"""Files that may be compressed, by gzip, bzip2 or xz, as their names' endings say."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from monty.io import zopen

from al_charge.errors import InputError

ENDINGS = ("", ".gz", ".bz2", ".xz")
"""What is added to a file's name where it is compressed; the empty one where it is not."""
LARGEST = 2**30
"""Characters of a file, decompressed; what is longer was made to fill the memory."""
HARMLESS = 2**26
"""Characters that any compressed file may decompress to."""
LARGEST_RATIO = 100
"""How many times its size a larger one may: outputs shrink to a tenth, or a twentieth by xz."""
LONGEST_LINE = 2**20
"""Characters of a line of a structure file."""


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
    return path.stem if is_compressed(path) else path.name


def is_compressed(path: Path) -> bool:
    """Return whether a file is compressed, by its name.

    Parameters
    ----------
    path
        The file.

    Returns
    -------
    bool
        Whether its name ends as in `ENDINGS`.
    """
    return path.suffix.lower() in ENDINGS[1:]


def read_text(path: Path, most: int | None = None) -> str:
    """Return the text of a file, with a mark in place of bytes that are not UTF-8.

    Parameters
    ----------
    path
        The file.
    most
        How many characters it may have; None for `LARGEST`.

    Returns
    -------
    str
        All of it.

    Raises
    ------
    InputError
        If it has more characters, or a compressed one far more than its size.
    """
    left = min(LARGEST if most is None else most, _most(path))
    parts: list[str] = []
    with zopen(path, "rt", encoding="utf-8", errors="replace") as file:
        while left >= 0 and (part := str(file.read(2**22))):
            parts.append(part)
            left -= len(part)
    if left < 0:
        raise _too_long(path)
    return "".join(parts)


def lines(path: Path) -> Iterator[str]:
    """Yield the lines of a text file, none of them very long.

    Parameters
    ----------
    path
        The file.

    Yields
    ------
    str
        Each line with its end.

    Raises
    ------
    InputError
        If a line is longer than `LONGEST_LINE`, or a compressed file far longer than its size.
    """
    for number, line in enumerate(_split(path), start=1):
        if len(line) > LONGEST_LINE:
            raise InputError(
                f"it has more than {LONGEST_LINE} characters", where=f"{path}, line {number}"
            )
        yield line


def _split(path: Path) -> Iterator[str]:
    """Yield lines, the last of which is the first of those that are too long, cut off.

    Reading line by line takes three times as long.
    """
    left, rest = _most(path), ""
    with zopen(path, mode="rt", encoding="utf-8", errors="replace") as file:
        while len(rest) <= LONGEST_LINE and (part := str(file.read(2**16))):
            left -= len(part)
            if left < 0:
                raise _too_long(path)
            *whole, rest = (rest + part).split("\n")
            yield from (f"{line}\n" for line in whole)
    if rest:
        yield rest


def _most(path: Path) -> int:
    """Return how many characters a file may have by its size; a plain one may grow meanwhile."""
    if not is_compressed(path):
        return sys.maxsize
    return max(HARMLESS, LARGEST_RATIO * path.stat().st_size)


def _too_long(path: Path) -> InputError:
    return InputError(
        "it decompresses to far more than its size" if is_compressed(path) else "it is too long",
        where=str(path),
    )
