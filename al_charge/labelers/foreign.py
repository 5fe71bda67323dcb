"""Runs that al-charge has not made, read so that they may become labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from ase import Atoms
from ase.geometry import find_mic

from al_charge.labelers.method import Method
from al_charge.labelers.protocol import Array, BaderCharges, Frame

_LARGEST_SUM = 0.05
"""eV/angstrom per atom to which forces may sum: those of a grid, not of a whole structure, do."""
_LARGEST_FORCE = 100.0
"""eV/angstrom; more than any atom feels that a run of DFT converges for."""
_LARGEST_STRESS = 0.5
"""eV/angstrom^3, 80 GPa: more than a cell near its minimum has, less than 5 kbar in kbar."""
_ENERGIES = (-20.0, -1.5)
"""eV per atom that cohesive energies of compounds lie between, as plane-wave codes give them."""

_STRAIN, _NO_STRAIN = 0.012, 1e-6
"""Strains up to which the mean stress gives the work, and below which there is none."""
_STEP = 0.06
"""angstrom that an atom may move for the mean force to give the work."""
_LEAST_WORK = 8e-4
"""eV per atom that are too little to tell: GPAW's labels of one order in cells of various size,
each with its own plane waves, are off by up to 25 meV in 28 atoms."""
_SHARE = 0.3
"""By which part of the work the energy may differ besides."""


@dataclass(frozen=True)
class ForeignRun:
    """One geometry that another program computed, with what is known of how.

    Attributes
    ----------
    source
        File, folder or entry that it was read from.
    symbols
        Element of every atom.
    frame
        Geometry, energy, forces and stress.
    moments
        Bohr magnetons, shape (n_atoms,); None where there are none.
    converged
        Whether the electrons were.
    engine
        Name and version of the code; empty if it is not known.
    unusable
        Why it can be no label, whatever its settings; empty otherwise.
    bader, bader_refused
        As in `al_charge.labelers.protocol.Reading`.
    datasets
        Title of the dataset of each element.
    kind
        Name of the labeler whose plug-in compares its settings; empty if nothing is known of them.
    settings
        What that plug-in compares.
    settings_hash
        Of al-charge's own labels, the hash of their settings; else empty.
    method
        Functional and U, where these alone are told.
    details
        Anything else worth keeping.
    wall_time, cores
        s, and on how many; None where it is not known.
    """

    source: str
    symbols: tuple[str, ...]
    frame: Frame
    moments: Array | None
    converged: bool = True
    engine: str = ""
    unusable: str = ""
    bader: BaderCharges | None = None
    bader_refused: str = ""
    datasets: Mapping[str, str] = field(default_factory=dict)
    kind: str = ""
    settings: Any = None
    settings_hash: str = ""
    method: Method | None = None
    details: Mapping[str, Any] = field(default_factory=dict)
    wall_time: float | None = None
    cores: int | None = None

    @property
    def atoms(self) -> Atoms:
        """The geometry, in angstrom."""
        frame = self.frame
        return Atoms(list(self.symbols), positions=frame.positions, cell=frame.cell, pbc=True)


@dataclass(frozen=True)
class Comparison:
    """How the settings of a run compare with those of a labeler.

    Attributes
    ----------
    differ
        Which differ, in one line; empty if none is known to.
    untold
        Which the run does not tell, in a few words; empty if it tells all that count.
    """

    differ: str = ""
    untold: str = ""


ALL_UNTOLD = "functional, U, cutoff, k-points and datasets"
"""What a file of structures and energies does not tell."""


def implausible(run: ForeignRun) -> str:
    """Say why the numbers of a run cannot be what they are taken for.

    Parameters
    ----------
    run
        The run, in eV and angstrom.

    Returns
    -------
    str
        One line; empty if nothing is wrong.
    """
    frame, n_atoms = run.frame, len(run.symbols)
    arrays = [frame.positions, frame.cell, frame.forces, np.array([frame.energy])]
    arrays += [values for values in (frame.stress, run.moments) if values is not None]
    if not all(np.isfinite(values).all() for values in arrays):
        return "it has NaN or infinite values"
    if frame.forces.shape != (n_atoms, 3):
        return f"its forces have the shape {frame.forces.shape} for {n_atoms} atoms"
    if run.moments is not None and run.moments.shape != (n_atoms,):
        return f"its moments have the shape {run.moments.shape} for {n_atoms} atoms"
    per_atom = frame.energy / n_atoms
    if not _ENERGIES[0] < per_atom < _ENERGIES[1]:
        return (
            f"its energy of {per_atom:.3f} eV per atom is no cohesive energy: is it in eV, and for "
            "the whole cell?"
        )
    if (total := float(np.linalg.norm(frame.forces.sum(axis=0)))) > _LARGEST_SUM * n_atoms:
        return f"its forces sum to {total:.2f} eV/A instead of zero"
    if (largest := float(np.abs(frame.forces).max())) > _LARGEST_FORCE:
        return f"a force of {largest:.0f} eV/A: is it in another unit?"
    if frame.stress is not None and (most := float(np.abs(frame.stress).max())) > _LARGEST_STRESS:
        return f"a stress of {most:.2f} eV/A^3 ({most * 160.2:.0f} GPa): is it in GPa or kbar?"
    return ""


def contradicts(first: Frame, second: Frame) -> str:
    """Say how energies of two near geometries of one state contradict their forces and stress.

    Over a small step the energy changes by the work of the mean force and the mean stress. Wrong
    signs and units show, wherever the work is large enough to tell.

    Parameters
    ----------
    first
        A geometry.
    second
        Another of the same atoms in the same order and charge states.

    Returns
    -------
    str
        One line; empty if they agree, or are too far apart or too near to tell.
    """
    strain = np.linalg.solve(first.cell, second.cell) - np.eye(3)
    step, _ = find_mic(second.positions - first.positions @ (np.eye(3) + strain), second.cell)
    if np.abs(strain).max() > _STRAIN or np.abs(step).max() > _STEP:
        return ""
    works = {"forces": float(-((first.forces + second.forces) / 2 * step).sum())}
    if first.stress is not None and second.stress is not None:
        volume = (abs(np.linalg.det(first.cell)) + abs(np.linalg.det(second.cell))) / 2
        mean, symmetric = (first.stress + second.stress) / 2, (strain + strain.T) / 2
        works["stress"] = float(volume * (mean * symmetric).sum())
    elif np.abs(strain).max() > _NO_STRAIN:
        return ""
    change, total = second.energy - first.energy, sum(works.values())
    size = max(abs(change), *map(abs, works.values()))
    least = _LEAST_WORK * len(first.positions)
    if abs(change - total) <= least + _SHARE * size:
        return ""
    names = " and ".join(name for name, work in works.items() if abs(work) > least)
    return (
        f"over a small step its energy changes by {change:+.3f} eV, by its {names or 'forces'} it "
        f"would by {total:+.3f}: a sign or a unit is wrong"
    )
