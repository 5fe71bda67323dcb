"""What other programs call the results of a labelled structure: what is read, and what is not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from ase import Atoms
from ase.stress import voigt_6_to_full_3x3_stress
from numpy.typing import NDArray

from al_charge.errors import InputError

Array = NDArray[np.float64]

_VIRIALS = ("virial", "virials")
"""Entries of a frame's info that hold the virial, -stress times volume, in eV."""
_AGREEMENT = 0.01
"""Part of the largest stress by which virial and stress of one frame may differ."""
_SMALL = 1e-4
"""eV/angstrom^3 by which they may differ besides, as they are written with a few digits."""
_LOOKS = {"energy": "energy", "forces": "force", "stress": "stress", "magmoms": "magmom"}
"""What the names of other keys of a quantity contain."""


def stress_of(image: Atoms, where: str) -> tuple[Array | None, bool]:
    """Return the stress of a frame, from its stress or else its virial.

    Parameters
    ----------
    image
        As ASE read it.
    where
        File and frame, for errors.

    Returns
    -------
    stress : ndarray or None
        eV/angstrom^3, shape (3, 3), ASE's sign: -virial / volume. None if the frame has neither.
    from_virial : bool
        Whether it was computed from the virial.

    Raises
    ------
    InputError
        If the virial is not six or nine numbers, or disagrees with the stress.
    """
    results: dict[str, Any] = image.calc.results if image.calc is not None else {}
    stress = _full(results["stress"], "stress", where) if "stress" in results else None
    name = next((name for name in _VIRIALS if name in image.info), None)
    if name is None:
        return stress, False
    from_virial = -_full(image.info[name], name, where) / image.get_volume()
    if stress is None:
        return from_virial, True
    allowed = _AGREEMENT * float(np.abs(stress).max()) + _SMALL
    if np.abs(stress - from_virial).max() > allowed:
        raise InputError(
            f"its stress is not -{name} / volume",
            where=where,
            remedy="remove that which has another sign or unit: stress is in eV/A^3 and negative "
            f"under pressure, {name} in eV",
        )
    return stress, False


def _full(values: Any, name: str, where: str) -> Array:
    """Return a symmetric matrix from nine numbers, or from six in Voigt's order."""
    array = np.asarray(values)
    if array.dtype.kind not in "fiu" or array.size not in (6, 9):
        raise InputError(f"its {name} is not six or nine numbers", where=where)
    array = array.astype(float)
    full: Array = (
        voigt_6_to_full_3x3_stress(array.ravel()) if array.size == 6 else array.reshape(3, 3)
    )
    return (full + full.T) / 2


def missing(image: Atoms, quantity: str, where: str) -> InputError:
    """Return the error about a frame that lacks a result, with the keys that may hold it.

    Parameters
    ----------
    image
        As ASE read it.
    quantity
        ``energy`` or ``forces``.
    where
        File and frame.

    Returns
    -------
    InputError
        To be raised.
    """
    others = unread(image).get(quantity, [])
    if not others:
        remedy = f"give every frame energy and {quantity}"
        return InputError(f"it has no {quantity}", where=where, remedy=remedy)
    return InputError(
        f"it has no {quantity}, but {', '.join(others)}",
        where=where,
        remedy=f"rename {others[0]} to {quantity} in every frame",
    )


def unread(image: Atoms) -> dict[str, list[str]]:
    """Return keys of a frame that look like results and are not read.

    Parameters
    ----------
    image
        As ASE read it.

    Returns
    -------
    dict
        Names such as ``REF_energy`` by quantity; quantities without such a key are left out.
    """
    results: dict[str, Any] = image.calc.results if image.calc is not None else {}
    numbers = [key for key, value in image.info.items() if np.asarray(value).dtype.kind in "fiu"]
    places = {"energy": numbers, "stress": numbers, "forces": image.arrays, "magmoms": image.arrays}
    found = {
        quantity: [
            key
            for key in keys
            if not key.startswith("initial_")
            and (_LOOKS[quantity] in key.lower() or (quantity == "stress" and _is_virial(key)))
        ]
        for quantity, keys in places.items()
    }
    if "free_energy" in results and "energy" not in results:
        found["energy"].append("free_energy")
    return {quantity: keys for quantity, keys in found.items() if keys}


def _is_virial(key: str) -> bool:
    return "virial" in key.lower() and key not in _VIRIALS


def remarks(images: Sequence[Atoms], from_virial: int) -> list[str]:
    """Return what a reader of the file should know, in lines.

    Parameters
    ----------
    images
        The frames that were taken.
    from_virial
        How many had a virial and no stress.

    Returns
    -------
    list of str
        Empty if nothing was converted or left unread.
    """
    lines = [f"stress of {from_virial} frames is -virial / volume"] if from_virial else []
    other: Counter[tuple[str, str]] = Counter()
    for image in images:
        other.update((key, quantity) for quantity, keys in unread(image).items() for key in keys)
    return lines + [
        f"{key} of {number} frames is not read; name it {quantity} if it is what to learn from"
        for (key, quantity), number in other.items()
    ]
