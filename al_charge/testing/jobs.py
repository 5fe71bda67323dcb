"""Steps and checks of single labelling jobs, for the contract of labelers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms

from al_charge.errors import AlChargeError
from al_charge.labelers.dft.job_folder import LOCK
from al_charge.labelers.protocol import Array, Labeler, Reading, Relax


def tokens(atoms: Atoms) -> list[str]:
    """Return the species token of every atom.

    Parameters
    ----------
    atoms
        A structure with an array ``species``.

    Returns
    -------
    list of str
        Tokens such as ``Fe3+``, in the order of the atoms.
    """
    return [str(token) for token in atoms.arrays["species"]]


def finish(labeler: Labeler, atoms: Atoms, folder: Path, relax: Relax = Relax.NONE) -> Reading:
    """Prepare, run and read a job as its first attempt.

    Parameters
    ----------
    labeler
        The labeler under test.
    atoms
        A structure with an array ``species``.
    folder
        Folder of the job.
    relax
        What to relax.

    Returns
    -------
    Reading
        What the labeler read from the job's files.
    """
    labeler.prepare(atoms, folder, relax=relax, attempt=0)
    labeler.run(folder)
    return labeler.read(folder)


def prepared(labeler: Labeler, atoms: Atoms, folder: Path) -> dict[str, bytes]:
    """Prepare a static job and return its files.

    Parameters
    ----------
    labeler
        The labeler under test.
    atoms
        A structure with an array ``species``.
    folder
        Folder of the job.

    Returns
    -------
    dict
        Content of every file, by its path relative to the folder; the lock that keeps two engines
        from one folder is left out.
    """
    labeler.prepare(atoms, folder, relax=Relax.NONE, attempt=0)
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != LOCK)
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def stamps(folder: Path, names: Sequence[str]) -> list[int]:
    """Return when files of a job were written.

    Parameters
    ----------
    folder
        Folder of the job.
    names
        Paths relative to the folder.

    Returns
    -------
    list of int
        Times of modification, nanoseconds.
    """
    return [(folder / name).stat().st_mtime_ns for name in names]


def random_direction(slope: Array) -> Array:
    """Return a random direction along which a slope does not vanish.

    Parameters
    ----------
    slope
        Gradient of the energy, such as forces; any shape.

    Returns
    -------
    ndarray
        A unit vector of the slope's shape, half along the slope and half random.
    """
    noise: Array = np.random.default_rng(5).normal(size=slope.shape)
    direction: Array = slope / np.linalg.norm(slope) + noise / np.linalg.norm(noise)
    return direction / np.linalg.norm(direction)


def refuses(act: Callable[[], object]) -> None:
    """Check that a call fails with an error of one line, made for users.

    Parameters
    ----------
    act
        The call.
    """
    with pytest.raises(AlChargeError) as caught:
        act()
    assert 0 < len(str(caught.value)) < 500
    assert "\n" not in str(caught.value) and "Traceback" not in str(caught.value)


def exchanged(atoms: Atoms) -> list[str]:
    """Exchange the charge states of two atoms of one element.

    Parameters
    ----------
    atoms
        A structure with an array ``species``, in which some element has two charge states.

    Returns
    -------
    list of str
        The species tokens after the exchange; the structure is left as it is.
    """
    species = tokens(atoms)
    for i, j in np.ndindex(len(atoms), len(atoms)):
        if atoms.numbers[i] == atoms.numbers[j] and species[i] != species[j]:
            species[i], species[j] = species[j], species[i]
            break
    return species


def check_numbers(labeler: Labeler, reading: Reading, n_atoms: int) -> None:
    """Check the shapes and types of all arrays of a reading, and that all numbers are finite.

    Parameters
    ----------
    labeler
        The labeler that made the reading; it says whether there is a stress.
    reading
        What was read from a job.
    n_atoms
        Number of atoms of the job.
    """
    for frame in reading.frames:
        arrays: list[tuple[Array, tuple[int, int]]] = [
            (frame.positions, (n_atoms, 3)),
            (frame.cell, (3, 3)),
            (frame.forces, (n_atoms, 3)),
        ]
        assert (frame.stress is not None) == labeler.gives_stress
        if frame.stress is not None:
            arrays.append((frame.stress, (3, 3)))
            np.testing.assert_allclose(frame.stress, frame.stress.T, atol=1e-10)
        for array, shape in arrays:
            assert array.shape == shape
            assert array.dtype == np.float64
            assert np.isfinite(array).all()
        assert isinstance(frame.energy, float) and np.isfinite(frame.energy)
    if reading.moments is not None:
        assert reading.moments.shape == (n_atoms,)
        assert np.isfinite(reading.moments).all()
    if reading.bader is not None:
        assert reading.bader.net.shape == reading.bader.electrons.shape == (n_atoms,)
        assert abs(reading.bader.net.sum()) <= 0.01 * n_atoms
