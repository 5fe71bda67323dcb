"""Training frames: labelled geometries, grouped by configuration."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import overload

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from al_charge.errors import AlChargeError

Array = NDArray[np.float64]


@dataclass(frozen=True)
class TrainingFrame:
    """One labelled geometry.

    Attributes
    ----------
    atoms
        Structure with a ``species`` array.
    energy
        eV for the cell.
    forces
        eV/angstrom, shape (n_atoms, 3).
    stress
        eV/angstrom^3, shape (3, 3), ASE's sign; None if unknown.
    moments
        Site moments in Bohr magnetons, shape (n_atoms,); None if unknown.
    charges
        Net Bader charges in e, cations positive, shape (n_atoms,); None if unknown.
    group
        Canonical hash of the configuration. Splits never divide a group.
    """

    atoms: Atoms
    energy: float
    forces: Array
    stress: Array | None
    group: str
    moments: Array | None = None
    charges: Array | None = None

    def __post_init__(self) -> None:
        """Refuse atoms without species, and arrays of another number of atoms."""
        if "species" not in self.atoms.arrays:
            raise AlChargeError("a training frame has no species array", where=self.group)
        if np.shape(self.forces) != (len(self.atoms), 3):
            raise AlChargeError("forces and atoms differ in number", where=self.group)
        for name, values in (("moments", self.moments), ("charges", self.charges)):
            if values is not None and np.shape(values) != (len(self.atoms),):
                raise AlChargeError(f"{name} and atoms differ in number", where=self.group)


def fold_of(group: str, n_folds: int) -> int:
    """Return the fold that a group belongs to, whatever other groups there are.

    A group never changes its fold, so what a potential holds out in one round was held out in all
    rounds before, and a warm start has not been trained on it.

    Parameters
    ----------
    group
        Its name.
    n_folds
        Number of folds.

    Returns
    -------
    int
        From zero.
    """
    return int(hashlib.sha256(group.encode()).hexdigest(), 16) % n_folds


class Subset(Sequence[TrainingFrame]):
    """Some of a sequence of frames, in an order of their own, read when they are needed.

    Parameters
    ----------
    frames
        A list, or frames that are read from a file each time.
    indices
        Which of them, from zero.
    """

    def __init__(self, frames: Sequence[TrainingFrame], indices: Sequence[int]) -> None:
        self._frames = frames
        self._indices = indices

    @property
    def groups(self) -> list[str]:
        """Group of every frame."""
        groups = groups_of(self._frames)
        return [groups[index] for index in self._indices]

    def __len__(self) -> int:
        """Return how many were chosen."""
        return len(self._indices)

    @overload
    def __getitem__(self, index: int) -> TrainingFrame: ...

    @overload
    def __getitem__(self, index: slice) -> Subset: ...

    def __getitem__(self, index: int | slice) -> TrainingFrame | Subset:
        """Return one frame, or some of them."""
        if isinstance(index, slice):
            return Subset(self._frames, self._indices[index])
        return self._frames[self._indices[index]]


class Regrouped(Sequence[TrainingFrame]):
    """Frames under other groups.

    Parameters
    ----------
    frames
        A list, or frames that are read from a file each time.
    names
        New group of every old one.
    """

    def __init__(self, frames: Sequence[TrainingFrame], names: Mapping[str, str]) -> None:
        self._frames = frames
        self._names = names
        self.groups = [names[group] for group in groups_of(frames)]

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self._frames)

    @overload
    def __getitem__(self, index: int) -> TrainingFrame: ...

    @overload
    def __getitem__(self, index: slice) -> Subset: ...

    def __getitem__(self, index: int | slice) -> TrainingFrame | Subset:
        """Return one frame, or some of them."""
        if isinstance(index, slice):
            return Subset(self, range(len(self))[index])
        frame = self._frames[index]
        return replace(frame, group=self._names[frame.group])


def groups_of(frames: Sequence[TrainingFrame]) -> Sequence[str]:
    """Return the group of every frame, without reading frames from a file that knows their groups.

    Parameters
    ----------
    frames
        Labelled geometries.

    Returns
    -------
    sequence of str
        Names, shape (n_frames,).
    """
    known: Sequence[str] | None = getattr(frames, "groups", None)
    return [frame.group for frame in frames] if known is None else known


def last_indices(frames: Sequence[TrainingFrame]) -> list[int]:
    """Return the index of the last frame of every group.

    Parameters
    ----------
    frames
        Labelled geometries.

    Returns
    -------
    list of int
        Groups in the order in which they first appear.
    """
    return list({group: index for index, group in enumerate(groups_of(frames))}.values())


def species_of(frames: Sequence[TrainingFrame]) -> set[str]:
    """Return the species tokens of all frames.

    Parameters
    ----------
    frames
        Labelled geometries.

    Returns
    -------
    set of str
        Such as ``Fe3+``.
    """
    return {str(token) for frame in frames for token in frame.atoms.arrays["species"]}


def split_frames(
    frames: Sequence[TrainingFrame], *, fold: int, n_folds: int
) -> tuple[Sequence[TrainingFrame], Sequence[TrainingFrame]]:
    """Divide frames by group into those to train on and those held out.

    With one fold nothing is held out; nor is it if nothing else were left to train on.

    Parameters
    ----------
    frames
        Labelled geometries.
    fold
        Which fold is held out, from zero.
    n_folds
        Number of folds.

    Returns
    -------
    used : sequence of TrainingFrame
        Frames to train on, in their order.
    held_out : sequence of TrainingFrame
        The others, in their order.

    Raises
    ------
    AlChargeError
        If there is no such fold.
    """
    if not 0 <= fold < n_folds:
        raise AlChargeError(f"fold {fold} of {n_folds} does not exist", where="fold")
    if n_folds == 1:
        return frames, []
    groups = groups_of(frames)
    folds = {group: fold_of(group, n_folds) for group in set(groups)}
    used = Subset(frames, [i for i, group in enumerate(groups) if folds[group] != fold])
    held = Subset(frames, [i for i, group in enumerate(groups) if folds[group] == fold])
    return (used, held) if used else (held, [])
