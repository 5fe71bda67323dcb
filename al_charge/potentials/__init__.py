"""Potentials: species vocabulary, architectures, training, committees and relaxation."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from al_charge.potentials.committee import Committee
    from al_charge.potentials.potential import Potential

__all__ = ["load"]


def load(path: Path | str) -> Potential | Committee:
    """Return the potential that ``al-charge train`` wrote, or the committee.

    With ``atoms.calc = load("model.safetensors").calculator()`` it does all that ASE's calculators
    do.

    Raises
    ------
    InputError
        If the file is missing, or is no model.
    """
    from al_charge.potentials.model_file import load_model

    return load_model(path)
