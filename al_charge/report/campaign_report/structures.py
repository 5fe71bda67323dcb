"""What is drawn of a structure: atoms by charge state, polyhedra around cations, the cell."""

from __future__ import annotations

from collections.abc import Collection
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pymatgen.core.lattice import Lattice
from scipy.spatial import ConvexHull, QhullError

from al_charge.crystal.species import charge_of, element_of, in_words
from al_charge.store.documents import LabelDoc

Array = NDArray[np.float64]

REACH = 1.3
"""Anions this many times farther from a cation than the nearest one belong to its polyhedron."""
DIGITS = 3
"""Decimals of angstrom in a drawing."""


def state_name(token: str) -> str:
    """Return the state of a site for people.

    Parameters
    ----------
    token
        Species token, or ``Fe?`` for an uncertain state.

    Returns
    -------
    str
        Such as ``Fe2+``, ``Fe, uncertain``, or ``Co3+ low`` where the token tells its spin.
    """
    if token.endswith("?"):
        return f"{token[:-1]}, uncertain"
    return in_words(token) if "," in token else token


def drawing(label: LabelDoc, redox: Collection[str], ion: str) -> dict[str, Any]:
    """Return what is drawn of a label's last geometry.

    Parameters
    ----------
    label
        With its last frame.
    redox
        Elements that change their charge.
    ion
        The working ion.

    Returns
    -------
    dict
        ``atoms``, each with ``kind`` (the state of a redox site, ``ion``, ``cation`` or ``anion``),
        ``name`` and ``at``; ``faces``, triangles of the polyhedra around cations other than the
        working ion, each with the ``kind`` of its cation and its corners ``at``; ``cell``, the
        three vectors. Angstrom, from the middle of the cell.
    """
    last = label.frames[-1]
    cell, places = np.array(last.cell, dtype=float), np.array(last.positions, dtype=float)
    middle = cell.sum(axis=0) / 2
    asked, found = label.requested, label.states_found
    kinds = [_kind(asked[i], found[i], redox, ion) for i in range(len(asked))]
    anions = places[[kind == "anion" for kind in kinds]]
    reduced: Array = Lattice(cell).get_lll_reduced_lattice().matrix
    images = _with_images(reduced, anions)
    faces = [
        {"kind": kind, "at": _rounded(corners - middle)}
        for kind, place in zip(kinds, places, strict=True)
        if kind not in ("anion", "ion")
        for corners in _polyhedron(place, reduced, images)
    ]
    atoms = [
        {"kind": kind, "name": state_name(token), "at": _rounded(place - middle)}
        for kind, token, place in zip(kinds, found, places, strict=True)
    ]
    return {"atoms": atoms, "faces": faces, "cell": _rounded(cell)}


def _kind(asked: str, found: str, redox: Collection[str], ion: str) -> str:
    element = element_of(asked)
    if element in redox:
        return state_name(found)
    if element == ion:
        return "ion"
    return "anion" if charge_of(asked) < 0 else "cation"


def _with_images(reduced: Array, places: Array) -> Array:
    """Return sites in a reduced cell, with their images in the cells around it."""
    wrapped = (places @ np.linalg.inv(reduced)) % 1.0
    images = np.array(list(product((-2, -1, 0, 1, 2), repeat=3)))
    found: Array = (wrapped[:, None, :] + images).reshape(-1, 3) @ reduced
    return found


def _polyhedron(centre: Array, reduced: Array, anions: Array) -> list[Array]:
    """Return the faces, triangles, of the polyhedron of the nearest anions; none if flat."""
    if not len(anions):
        return []
    home: Array = np.floor(centre @ np.linalg.inv(reduced)) @ reduced
    apart = np.linalg.norm(anions + home - centre, axis=1)
    corners = anions[apart <= REACH * apart.min()] + home
    if len(corners) < 4:
        return []
    try:
        return [corners[face] for face in ConvexHull(corners).simplices]
    except QhullError:
        return []


def _rounded(values: Array) -> list[Any]:
    found: list[Any] = np.round(values, DIGITS).tolist()
    return found
