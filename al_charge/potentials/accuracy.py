"""How far a potential is from labels: errors, and whether it puts configurations in their order."""

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
from al_charge.potentials.calculator import Predictor
from al_charge.potentials.data.dataset import Dataset, last_of_groups
from al_charge.potentials.data.frames import TrainingFrame

Array = NDArray[np.float64]

PER_BATCH = 32
"""Frames predicted between two calls of the progress."""


@dataclass(frozen=True)
class _Pair:
    """What a label says and what was predicted of one frame."""

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
        A potential or a committee, whose mean counts.
    data
        Labelled frames.
    progress
        Called with the frames predicted so far, and their number.

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
        - ``kendall``, in the latter: tau b of the energies per atom of the last frames of
          configurations; None for less than two.
    """
    pairs: list[_Pair] = []
    for start in range(0, len(data.frames), PER_BATCH):
        frames = data.frames[start : start + PER_BATCH]
        units = data.formula_units[start : start + PER_BATCH]
        found = predictor.predict([frame.atoms for frame in frames])
        pairs += [
            _Pair(frame, unit, p.energy, p.forces, p.stress, p.moments, p.charges)
            for frame, unit, p in zip(frames, units, found, strict=True)
        ]
        if progress is not None:
            progress(len(pairs), len(data.frames))
    by_formula: dict[str, list[_Pair]] = {}
    for pair in pairs:
        by_formula.setdefault(formula(pair.frame.atoms), []).append(pair)
    compositions = [
        {"formula": name, **_errors(members), "kendall": _order(members)}
        for name, members in sorted(by_formula.items())
    ]
    return {"all": _errors(pairs), "compositions": compositions}


def formula(atoms: Atoms) -> str:
    """Return the reduced formula of a cell, e.g. ``NaFe2(PO4)2``."""
    return str(Composition(atoms.get_chemical_formula()).reduced_formula)


def _errors(pairs: Sequence[_Pair]) -> dict[str, Any]:
    off = [pair.energy - pair.frame.energy for pair in pairs]
    known = [(e, pair.formula_units) for e, pair in zip(off, pairs, strict=True)]
    stress = [p.stress - p.frame.stress for p in pairs if p.frame.stress is not None]
    return {
        "frames": len(pairs),
        "configurations": len({pair.frame.group for pair in pairs}),
        "energy_per_atom": _figures(
            [1e3 * e / len(pair.frame.atoms) for e, pair in zip(off, pairs, strict=True)]
        ),
        "energy_per_formula": _figures([1e3 * e / units for e, units in known if units]),
        "forces": _figures([1e3 * (pair.forces - pair.frame.forces) for pair in pairs]),
        "stress": _figures([1e3 * values for values in stress]),
        "moments": _figures([_moments_off(pair) for pair in pairs]),
        "moments_of_redox_sites": _figures([_of_redox(p, _moments_off(p)) for p in pairs]),
        "charges": _figures([_charges_off(pair) for pair in pairs]),
        "charges_of_redox_sites": _figures([_of_redox(p, _charges_off(p)) for p in pairs]),
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


def _moments_off(pair: _Pair) -> Array:
    """Return by how much the sizes of moments are off, shape (n_atoms,) or empty."""
    if pair.moments is None or pair.frame.moments is None:
        return np.zeros(0)
    off: Array = pair.moments - np.abs(pair.frame.moments)
    return off


def _charges_off(pair: _Pair) -> Array:
    if pair.charges is None or pair.frame.charges is None:
        return np.zeros(0)
    return pair.charges - pair.frame.charges


def _of_redox(pair: _Pair, values: Array) -> Array:
    if not values.size:
        return values
    symbols = pair.frame.atoms.get_chemical_symbols()
    return values[np.isin(symbols, redox_elements(symbols))]


def _order(pairs: Sequence[_Pair]) -> float | None:
    """Return Kendall's tau b of predicted and true energies per atom; None where undefined."""
    last = [pairs[i] for i in last_of_groups([pair.frame for pair in pairs])]
    true = [pair.frame.energy / len(pair.frame.atoms) for pair in last]
    predicted = [pair.energy / len(pair.frame.atoms) for pair in last]
    if len(set(true)) < 2 or len(set(predicted)) < 2:
        return None
    return float(kendalltau(true, predicted).statistic)
