"""Densities on a grid from VASP's files."""

from __future__ import annotations

import io
import itertools
import re
import warnings
import zlib
from lzma import LZMAError
from pathlib import Path
from typing import IO

import numpy as np
from ase import Atoms
from ase.io.vasp import read_vasp
from monty.io import zopen

from al_charge.errors import CrashedError
from al_charge.labelers.protocol import Array

_DAMAGED: tuple[type[Exception], ...] = (
    OSError,
    EOFError,
    LZMAError,
    zlib.error,
    ValueError,
    IndexError,
    KeyError,
)
_LONG_EXPONENT = re.compile(r"(\.\d+)([-+]\d{3})\b")
"""Fortran leaves out the E before an exponent of three digits: 0.91424592000-103."""


def read_vasp_density(path: Path) -> tuple[Array, Atoms]:
    """Read the first (total) density of a CHGCAR or AECCAR file.

    Parameters
    ----------
    path
        The file, compressed as its name says.

    Returns
    -------
    density
        Electrons/angstrom^3, shape (n1, n2, n3).
    atoms
        The atoms of the file.

    Raises
    ------
    CrashedError
        If the file is empty, truncated or damaged.
    """
    if path.stat().st_size == 0:
        raise CrashedError("it has zero bytes", where=str(path), remedy="run VASP again")
    try:
        with zopen(path, "rt", encoding="utf-8") as file:
            atoms = _read_head(file)
            shape = tuple(int(word) for word in file.readline().split())
            values = _read_values(file, int(np.prod(shape)))
        density: Array = values.reshape(shape, order="F") / atoms.get_volume()
    except _DAMAGED as error:
        raise CrashedError(
            f"it is damaged or truncated ({error})", where=str(path), remedy="run VASP again"
        ) from error
    return density, atoms


def _read_head(file: IO[str]) -> Atoms:
    """Read the POSCAR that a density file begins with, and the empty line after it."""
    lines = list(itertools.takewhile(str.strip, itertools.islice(file, 1, 1_000_000)))
    if sum(map(int, lines[5].split())) != len(lines) - 7:  # ASE would make room for all it declares
        raise ValueError("its structure is incomplete")
    atoms = read_vasp(io.StringIO("".join(["density\n", *lines])))
    if not isinstance(atoms, Atoms):
        raise ValueError("it holds several structures")
    return atoms


def _read_values(file: IO[str], count: int) -> Array:
    """Read ``count`` numbers, as many per line as there are on the first."""
    first = file.readline()
    n_lines = -(-count // max(1, len(first.split())))
    text = "".join([first, *itertools.islice(file, n_lines - 1)])
    with warnings.catch_warnings():
        # NumPy warns, and means to raise one day, where a number cannot be read
        warnings.simplefilter("error")
        try:
            values = np.fromstring(text, sep=" ")
        except (DeprecationWarning, ValueError):
            try:
                values = np.fromstring(_LONG_EXPONENT.sub(r"\1E\2", text), sep=" ")
            except DeprecationWarning as warning:
                raise ValueError(str(warning)) from warning
    if len(values) != count or not text.endswith("\n"):
        raise ValueError(f"it has {len(values)} of {count} values")
    return values
