"""Training frames: labelled geometries, grouped by configuration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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
        eV/angstrom^3, shape (3, 3), ASE's sign; None where there is none.
    group
        Canonical hash of the configuration. Splits never divide a group.
    """

    atoms: Atoms
    energy: float
    forces: Array
    stress: Array | None
    group: str

    def __post_init__(self) -> None:
        if "species" not in self.atoms.arrays:
            raise AlChargeError("a training frame has no species array", where=self.group)
        if np.shape(self.forces) != (len(self.atoms), 3):
            raise AlChargeError("forces do not fit the atoms", where=self.group)


def split_groups(
    groups: Sequence[str], *, seed: int, fold: int, n_folds: int
) -> tuple[list[str], list[str]]:
    """Divide distinct groups into those to train on and those held out.

    Parameters
    ----------
    groups
        Group of every frame; their order does not matter.
    seed
        Of the shuffle; the same for all folds of one partition.
    fold, n_folds
        Which of the parts is held out. With one fold, or fewer groups than two, none is.

    Returns
    -------
    trained, held_out
        Distinct groups, sorted.
    """
    distinct = sorted(set(groups))
    if not 0 <= fold < n_folds:
        raise AlChargeError(f"fold {fold} of {n_folds} does not exist", where="fold")
    if n_folds == 1 or len(distinct) < 2:
        return distinct, []
    order = np.random.default_rng(seed).permutation(len(distinct))
    held = {distinct[i] for i in order[fold % min(n_folds, len(distinct)) :: n_folds]}
    return [g for g in distinct if g not in held], sorted(held)
