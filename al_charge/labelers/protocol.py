"""What every labeler is: an engine that turns a geometry with charge states into a label.

A label is made in four steps, each of which leaves its product in the job's folder: prepare (spin
and charge order), run, read, audit. `al_charge.labelers.labelling.make_label` puts them together.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from al_charge.crystal.valence import Audit, Windows

Array = NDArray[np.float64]


class Relax(StrEnum):
    """What an engine may move before it gives its result."""

    NONE = "none"
    IONS = "ions"
    CELL = "cell"
    """Ions and cell."""


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
class BaderCharges:
    """Charges of the atoms' Bader basins.

    Attributes
    ----------
    net
        Net charge in e, cations positive, shape (n_atoms,).
    electrons
        Electrons of the neutral atom that the charge was taken from, shape (n_atoms,): those of
        the valence for an engine with frozen cores, else all of them.
    """

    net: Array
    electrons: Array


@dataclass(frozen=True)
class Attempt:
    """One start of the engine.

    Attributes
    ----------
    changed
        What was different from the start before; of the first one, how it began.
    outcome
        How it ended, e.g. ``converged``.
    """

    changed: str
    outcome: str


@dataclass(frozen=True)
class Reading:
    """What the files of one run say.

    Attributes
    ----------
    frames
        First the geometry that was asked for, or a relaxation's steered start, last the result; for
        a static run the one frame.
    moments
        Bohr magnetons, shape (n_atoms,); None for an engine without spin.
    bader
        None for an engine without a density, or where the charges were refused.
    bader_refused
        Why there are none; empty otherwise.
    converged
        Whether the engine's own criteria (SCF, forces) were met.
    unusable
        Why its energy must not be compared with the others of a hull; empty if it may be.
    engine
        Name and version of the code.
    datasets
        Identity of the pseudopotential or PAW dataset of each element.
    attempts
        Every start of the engine, in order.
    wall_time
        seconds, of all attempts.
    cores
        How many it ran on.
    details
        Anything else worth keeping.
    """

    frames: tuple[Frame, ...]
    moments: Array | None
    bader: BaderCharges | None
    converged: bool
    engine: str
    wall_time: float
    bader_refused: str = ""
    unusable: str = ""
    datasets: Mapping[str, str] = field(default_factory=dict)
    attempts: tuple[Attempt, ...] = ()
    cores: int = 1
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class LabelResult:
    """What one labelling job found.

    Attributes
    ----------
    species
        Requested species token of every atom, e.g. ``Fe3+``.
    reading
        What the engine's files say: of the try that found the requested charge order, else of the
        one that is kept.
    audit
        The charge states as the engine's own result shows them.
    attempts
        Every start of the engine in every try, in order.
    directory
        The folder of the files.
    delocalised
        Whether every try, whatever it was steered towards, ended with sites that share a charge.
    """

    species: tuple[str, ...]
    reading: Reading
    audit: Audit
    attempts: tuple[Attempt, ...]
    directory: Path
    delocalised: bool = False

    @property
    def resolved(self) -> tuple[str, ...] | None:
        """Species token of every atom as found: the label is trained on and stored under these.

        None where the label is ambiguous.
        """
        return self.audit.species


class Labeler(Protocol):
    """An engine that makes labels."""

    @property
    def relax(self) -> Relax:
        """What it moves unless a job says otherwise."""

    @property
    def gives_stress(self) -> bool:
        """Whether its frames have a stress, without which no cell can be learned."""

    @property
    def tries(self) -> int:
        """How many steerings towards a charge order it has, each stronger than the one before."""

    def settings(self) -> dict[str, Any]:
        """Return every setting that energies depend on, JSON-serialisable.

        How a minimum is found or whether one is looked for is not among them: a relaxed label and
        a static one with these settings stand on the same hull.

        Returns
        -------
        dict
            What `settings_hash` hashes, with the name of the engine as ``engine``.
        """

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
            If it lacks parameters for one of them, or a program or dataset is not installed.
        """

    def prepare(self, atoms: Atoms, directory: Path, *, relax: Relax, attempt: int) -> None:
        """Write what the engine reads, spin and charge order included.

        Parameters
        ----------
        atoms
            Atoms with a ``species`` array and initial moments. Not modified.
        directory
            Folder of this job's files; made if it is not there. Files of an earlier run of the
            same job stay, so that `run` may continue it; those of another job are removed.
        relax
            What the engine may move.
        attempt
            Which steering, from 0 to ``tries`` - 1.
        """

    def run(self, directory: Path) -> None:
        """Run the prepared job to its end; a job that has ended is not run again.

        Parameters
        ----------
        directory
            A folder that `prepare` has filled.

        Raises
        ------
        AlChargeError
            If it failed, with its reason in one line.
        UnfinishedError
            If the time was up, or the process was told to end; called again, it continues.
        """

    def progress(self, directory: Path) -> int:
        """Return how far a job has got that can be continued.

        A label that is stopped again and again, as by preemption, is not given up as long as this
        grows from start to start. An engine without this method counts as one that begins anew.

        Parameters
        ----------
        directory
            A folder that `prepare` has filled, or that is not there yet.

        Returns
        -------
        int
            In steps of any kind; 0 where every start begins anew.
        """
        return 0

    def read(self, directory: Path) -> Reading:
        """Read what a run has left.

        Parameters
        ----------
        directory
            The folder of the job.

        Returns
        -------
        Reading
            What was found.

        Raises
        ------
        AlChargeError
            If a file is missing, truncated or contradicts the request.
        """

    def audit(self, reading: Reading, species: Sequence[str], windows: Windows | None) -> Audit:
        """Determine the charge state of every atom.

        Parameters
        ----------
        reading
            What `read` returned.
        species
            Species tokens that were asked for, one for each atom.
        windows
            Calibrated on end members with the same settings; None for the labeler's own.

        Returns
        -------
        Audit
            The charge state of every atom, or that it is ambiguous.
        """

    def metal_energy(self, ion: str, directory: Path) -> float:
        """Return the energy of the working-ion metal in eV/atom, with the same settings.

        Parameters
        ----------
        ion
            Element of the working ion.
        directory
            Folder for the files of that job.

        Returns
        -------
        float
            eV/atom.

        Raises
        ------
        AlChargeError
            If the calculation failed.
        """


def settings_hash(labeler: Labeler) -> str:
    """Return the identity of a labeler's physical settings; labels of one hull share it.

    Parameters
    ----------
    labeler
        The engine.

    Returns
    -------
    str
        16 hexadecimal digits.
    """
    return hash_of_settings(labeler.settings())


def hash_of_settings(settings: Mapping[str, Any]) -> str:
    """Return the identity of physical settings; see `settings_hash`.

    Parameters
    ----------
    settings
        As `Labeler.settings` returns them.

    Returns
    -------
    str
        16 hexadecimal digits.
    """
    text = json.dumps(settings, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
