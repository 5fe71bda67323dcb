"""Potentials: species vocabulary, architectures, training, committees and relaxation."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from al_charge.potentials.committee import Committee
    from al_charge.potentials.potential import Potential

__all__ = ["load"]


def load(path: Path | str, device: str | None = None) -> Potential | Committee:
    """Return the potential or the committee in a model file.

    Parameters
    ----------
    path
        Model file, as ``al-charge train`` or `al_charge.train` writes it.
    device
        ``cpu``, ``cuda``, or one GPU such as ``cuda:1``; when None, a GPU if there is one.

    Returns
    -------
    Potential or Committee
        A committee if the file has several potentials.

    Raises
    ------
    InputError
        If the file is missing or is not a model, or there is no such device.

    Examples
    --------
    >>> import al_charge as ac
    >>> model = ac.load("model.safetensors")
    >>> model.vocabulary.tokens
    ('Fe2+', 'Fe3+', 'Na+', 'O2-', 'P5+')

    It predicts structures that have an array ``species`` of such tokens, by itself or as a
    calculator of ASE:

    >>> import numpy as np
    >>> from ase.io import read
    >>> atoms = read("workflows/hosts/NaFePO4.cif")
    >>> tokens = {"Na": "Na+", "Fe": "Fe2+", "P": "P5+", "O": "O2-"}
    >>> atoms.set_array("species", np.array([tokens[symbol] for symbol in atoms.symbols]))
    >>> atoms.calc = model.calculator()
    >>> bool(np.isclose(atoms.get_potential_energy(), model.predict([atoms])[0].energy))
    True
    """
    from al_charge.potentials.model_file import load_model

    return load_model(path, device)
