"""Densities on a grid from VASP's files."""

from __future__ import annotations

import gzip
import io
import itertools
import warnings
import zlib
from pathlib import Path
from typing import TextIO

import numpy as np
from ase import Atoms
from ase.io.vasp import read_vasp

from al_charge.errors import AlChargeError
from al_charge.labelers.protocol import Array


def read_vasp_density(path: Path) -> tuple[Array, Atoms]:
    """Read the first (total) density of a CHGCAR or AECCAR file.

    Parameters
    ----------
    path
        The file, compressed if its name ends in ``.gz``.

    Returns
    -------
    density
        Electrons/angstrom^3, shape (n1, n2, n3).
    atoms
        The atoms of the file.

    Raises
    ------
    AlChargeError
        If the file is empty, truncated or damaged.
    """
    if path.stat().st_size == 0:
        raise AlChargeError("it has zero bytes", where=str(path), remedy="run VASP again")
    try:
        with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as file:
            atoms = _read_head(file)
            shape = tuple(int(word) for word in file.readline().split())
            values = _read_values(file, int(np.prod(shape)))
        density: Array = values.reshape(shape, order="F") / atoms.get_volume()
    except (OSError, EOFError, zlib.error, ValueError, IndexError, KeyError) as error:
        raise AlChargeError(
            f"it is damaged or truncated ({error})", where=str(path), remedy="run VASP again"
        ) from error
    return density, atoms


def _read_head(file: TextIO) -> Atoms:
    """Read the POSCAR that a density file begins with, and the empty line after it."""
    lines = list(itertools.takewhile(str.strip, itertools.islice(file, 1, 1_000_000)))
    atoms = read_vasp(io.StringIO("".join(["density\n", *lines])))
    if not isinstance(atoms, Atoms) or len(lines) != 7 + len(atoms):
        raise ValueError("its structure is incomplete")
    return atoms


def _read_values(file: TextIO, count: int) -> Array:
    """Read ``count`` numbers, as many per line as there are on the first."""
    first = file.readline()
    n_lines = -(-count // max(1, len(first.split())))
    text = "".join([first, *itertools.islice(file, n_lines - 1)])
    with warnings.catch_warnings():
        # NumPy warns, and means to raise one day, where a number cannot be read
        warnings.simplefilter("error")
        try:
            values = np.fromstring(text, sep=" ")
        except DeprecationWarning as warning:
            raise ValueError(str(warning)) from warning
    if len(values) != count or not text.endswith("\n"):
        raise ValueError(f"it has {len(values)} of {count} values")
    return values
