"""The output of one run, whatever code it came from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ase import Atoms

from al_charge.crystal.valence import Audit, Windows
from al_charge.labelers.method import Method
from al_charge.labelers.protocol import Array, BaderCharges


@dataclass(frozen=True)
class Output:
    """The last geometry of a run, with what was found there.

    Attributes
    ----------
    source
        The file that was read.
    engine
        Name and version of the code.
    atoms
        The last geometry.
    windows
        Moments of the charge states that this engine is known to give.
    energy
        eV for the cell, extrapolated to zero smearing; None where the output has none.
    moments
        Bohr magnetons, shape (n_atoms,); None where the output has none.
    no_moments
        Why there are none, and what to do about it.
    converged
        Whether the electrons of the last geometry met the run's criteria.
    bader
        None where there is no density, or where the charges were refused.
    bader_refused
        Why they were; empty otherwise.
    species
        Species that were asked for, where they are known.
    method
        Functional and U; None where the output does not tell, or the engine has none.
    told
        What a stored label says of its charge states, where it does not have the windows that they
        were found by: those of its engine, or an engine without moments.
    doubt
        Why it says that they are uncertain; empty otherwise.
    """

    source: Path | str
    engine: str
    atoms: Atoms
    windows: Windows
    energy: float | None
    moments: Array | None
    no_moments: str = ""
    converged: bool = True
    bader: BaderCharges | None = None
    bader_refused: str = ""
    species: tuple[str, ...] | None = None
    method: Method | None = None
    told: Audit | None = None
    doubt: str = ""
