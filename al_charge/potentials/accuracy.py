"""Accuracy of a potential on labels: errors, and how well it ranks configurations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray
from pymatgen.core.composition import Composition
from scipy.stats import kendalltau

from al_charge.crystal.charges import redox_elements
from al_charge.potentials.data.dataset import Dataset, last_of_groups
from al_charge.potentials.data.frames import TrainingFrame
from al_charge.potentials.prediction import Predictor

Array = NDArray[np.float64]

PER_BATCH = 32
"""Frames predicted between two calls of ``progress``."""


@dataclass(frozen=True)
class _Compared:
    """A labelled frame and the prediction for it."""

    frame: TrainingFrame
    formula_units: int | None
    energy: float
    forces: Array
    stress: Array
    moments: Array | None
    charges: Array | None


def accuracy(
    predictor: Predictor,
    data: Dataset,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Return the errors of a potential on labelled frames, over all and for every composition.

    Parameters
    ----------
    predictor
        A potential, or a committee, of which the mean is compared.
    data
        Labelled frames.
    progress
        Called with the number of frames predicted so far, and that of all.

    Returns
    -------
    dict
        JSON-serialisable; ``all`` and one entry of ``compositions`` for each hold

        - ``frames`` and ``configurations``, how many;
        - ``energy_per_atom`` and ``energy_per_formula`` in meV, ``forces`` in meV/angstrom per
          component, ``stress`` in meV/angstrom^3 per component, ``moments`` in Bohr magnetons,
          ``charges`` in e, and both ``..._of_redox_sites`` alone: each with ``rmse``, ``mae``,
          ``mean`` (predicted minus true) and ``values`` (how many), or None where there is nothing
          to compare;
        - ``kendall``, of compositions only: Kendall's tau b of the energies per atom of the last
          frames of configurations; None for fewer than two.
    """
    compared: list[_Compared] = []
    for start in range(0, len(data.frames), PER_BATCH):
        frames = data.frames[start : start + PER_BATCH]
        units = data.formula_units[start : start + PER_BATCH]
        found = predictor.predict([frame.atoms for frame in frames])
        compared += [
            _Compared(frame, unit, p.energy, p.forces, p.stress, p.moments, p.charges)
            for frame, unit, p in zip(frames, units, found, strict=True)
        ]
        if progress is not None:
            progress(len(compared), len(data.frames))
    by_formula: dict[str, list[_Compared]] = {}
    for one in compared:
        by_formula.setdefault(formula(one.frame.atoms), []).append(one)
    compositions = [
        {"formula": name, **_errors(members), "kendall": _order(members)}
        for name, members in sorted(by_formula.items())
    ]
    return {"all": _errors(compared), "compositions": compositions}


def formula(atoms: Atoms) -> str:
    """Return the reduced formula of a cell.

    Parameters
    ----------
    atoms
        The structure.

    Returns
    -------
    str
        Such as ``NaFe2(PO4)2``.
    """
    return str(Composition(atoms.get_chemical_formula()).reduced_formula)


def _errors(compared: Sequence[_Compared]) -> dict[str, Any]:
    off = [one.energy - one.frame.energy for one in compared]
    known = [(e, one.formula_units) for e, one in zip(off, compared, strict=True)]
    stress = [p.stress - p.frame.stress for p in compared if p.frame.stress is not None]
    return {
        "frames": len(compared),
        "configurations": len({one.frame.group for one in compared}),
        "energy_per_atom": _figures(
            [1e3 * e / len(one.frame.atoms) for e, one in zip(off, compared, strict=True)]
        ),
        "energy_per_formula": _figures([1e3 * e / units for e, units in known if units]),
        "forces": _figures([1e3 * (one.forces - one.frame.forces) for one in compared]),
        "stress": _figures([1e3 * values for values in stress]),
        "moments": _figures([_moment_errors(one) for one in compared]),
        "moments_of_redox_sites": _figures([_of_redox(p, _moment_errors(p)) for p in compared]),
        "charges": _figures([_charge_errors(one) for one in compared]),
        "charges_of_redox_sites": _figures([_of_redox(p, _charge_errors(p)) for p in compared]),
    }


def _figures(errors: Sequence[Array | float]) -> dict[str, float] | None:
    """Return root mean square, mean absolute value and mean of all numbers together."""
    flat = np.concatenate([np.ravel(values) for values in errors]) if errors else np.zeros(0)
    if not flat.size:
        return None
    return {
        "rmse": float(np.sqrt(np.mean(flat**2))),
        "mae": float(np.mean(np.abs(flat))),
        "mean": float(np.mean(flat)),
        "values": int(flat.size),
    }


def _moment_errors(one: _Compared) -> Array:
    """Return the errors of the sizes of moments, shape (n_atoms,); empty where unknown."""
    if one.moments is None or one.frame.moments is None:
        return np.zeros(0)
    off: Array = one.moments - np.abs(one.frame.moments)
    return off


def _charge_errors(one: _Compared) -> Array:
    if one.charges is None or one.frame.charges is None:
        return np.zeros(0)
    return one.charges - one.frame.charges


def _of_redox(one: _Compared, values: Array) -> Array:
    if not values.size:
        return values
    symbols = one.frame.atoms.get_chemical_symbols()
    return values[np.isin(symbols, redox_elements(symbols))]


def _order(compared: Sequence[_Compared]) -> float | None:
    """Return Kendall's tau b of predicted and true energies per atom; None where undefined."""
    last = [compared[i] for i in last_of_groups([one.frame for one in compared])]
    true = [one.frame.energy / len(one.frame.atoms) for one in last]
    predicted = [one.energy / len(one.frame.atoms) for one in last]
    if len(set(true)) < 2 or len(set(predicted)) < 2:
        return None
    return float(kendalltau(true, predicted).statistic)
