"""What every labeler is: an engine that turns a geometry with charge states into a label."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Frame:
    """One geometry with what the engine computed there.

    Attributes
    ----------
    positions, cell
        angstrom; shapes (n_atoms, 3) and (3, 3).
    energy
        eV for the whole cell.
    forces
        eV/angstrom, shape (n_atoms, 3).
    stress
        eV/angstrom^3, symmetric, shape (3, 3), ASE's sign; None where the engine gives none.
    """

    positions: Array
    cell: Array
    energy: float
    forces: Array
    stress: Array | None


@dataclass(frozen=True)
class LabelResult:
    """What one labelling job found.

    Attributes
    ----------
    species
        Requested species token of every atom, e.g. ``Fe3+``.
    resolved
        Species token of every atom as the engine's own result shows it; the label is trained on
        and stored under these. None where moments fit no state: the label is ambiguous.
    frames
        First the geometry that was asked for, last the result; for a static job the one frame.
    moments
        Bohr magnetons, shape (n_atoms,); None for an engine without spin.
    converged
        Whether the engine's own criteria (SCF, forces) were met.
    engine
        Name and version of the code.
    wall_time
        seconds.
    details
        Anything else worth keeping: attempts, steps, the folder of the files.
    """

    species: tuple[str, ...]
    resolved: tuple[str, ...] | None
    frames: tuple[Frame, ...]
    moments: Array | None
    converged: bool
    engine: str
    wall_time: float
    details: dict[str, Any] = field(default_factory=dict)


class Labeler(Protocol):
    """An engine that makes labels."""

    def settings(self) -> dict[str, Any]:
        """Return every physical setting, JSON-serialisable: what makes energies comparable."""

    def check(self, species: Sequence[str], ion: str) -> None:
        """Refuse what it could not label, before anything is computed.

        Parameters
        ----------
        species
            Every species token that a geometry may contain.
        ion
            Element of the working ion.

        Raises
        ------
        InputError
            If it lacks parameters for one of them.
        """

    def label(self, atoms: Atoms, directory: Path) -> LabelResult:
        """Label one geometry.

        Parameters
        ----------
        atoms
            Atoms with a ``species`` array and initial moments. Not modified.
        directory
            An existing empty folder for the engine's files.

        Raises
        ------
        AlChargeError
            If the job failed, with its reason in one line.
        """

    def metal_energy(self, ion: str) -> float:
        """Return the energy of the working-ion metal in eV/atom, on this labeler's scale."""


def settings_hash(labeler: Labeler) -> str:
    """Return the identity of a labeler's physical settings; labels of one hull share it."""
    text = json.dumps(labeler.settings(), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
