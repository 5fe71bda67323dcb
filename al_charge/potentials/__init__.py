"""Potentials: species vocabulary, architectures, training, committees and relaxation."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from al_charge.potentials.committee import Committee
    from al_charge.potentials.potential import Potential

__all__ = ["load"]


def load(path: Path | str, device: str | None = None) -> Potential | Committee:
    """Return the potential that ``al-charge train`` wrote, or the committee.

    With ``atoms.calc = load("model.safetensors").calculator()`` it does all that ASE's calculators
    do.

    Parameters
    ----------
    path
        Model file.
    device
        ``cpu``, ``cuda``, or one GPU such as ``cuda:1``; a GPU if there is one, when left out.

    Raises
    ------
    InputError
        If the file is missing or is no model, or there is no such device.
    """
    from al_charge.potentials.model_file import load_model

    return load_model(path, device)
