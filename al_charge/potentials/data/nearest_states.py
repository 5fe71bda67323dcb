"""Charge states for ambiguous labels, for potentials that have moments as an input.

Such a potential reads the site's moment beside its charge state, so that it may learn from an
uncertain site under a state that fits. Nothing else should use these states.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
from ase import Atoms
from numpy.typing import ArrayLike, NDArray

from al_charge.crystal.species import charge_of, element_of

UNCERTAIN = "?"
"""How the token of a site ends in an exported file if its charge state is uncertain."""


def nearest_states(images: Sequence[Atoms]) -> dict[int, list[str]]:
    """Return species tokens for all frames of ambiguous labels.

    They are those of `fitting_states`, with the mean moment of every state over the certain sites
    of the file. Frames of labels without moments are left out.

    Parameters
    ----------
    images
        All frames of a file that ``al-charge export`` wrote.

    Returns
    -------
    dict
        Tokens, shape (n_atoms,), by the index of the frame in the file.
    """
    moments = {
        image.info.get("label"): np.abs(image.calc.results["magmoms"])
        for image in images
        if image.calc is not None and "magmoms" in image.calc.results
    }
    uncertain = {
        place: image
        for place, image in enumerate(images)
        if image.info.get("ambiguous") is True and image.info.get("label") in moments
    }
    means = _means([image for i, image in enumerate(images) if i not in uncertain])
    return {
        place: fitting_states(
            [None if token.endswith(UNCERTAIN) else token for token in _tokens(image, "resolved")],
            _tokens(image, "requested"),
            moments[image.info["label"]],
            means,
        )
        for place, image in uncertain.items()
        if {"resolved_species", "requested_species"} <= set(image.arrays)
    }


def _means(images: Sequence[Atoms]) -> dict[str, float]:
    """Return the mean size of the moment of every state."""
    values: dict[str, list[NDArray[np.float64]]] = defaultdict(list)
    for image in images:
        if image.calc is None or "magmoms" not in image.calc.results:
            continue
        tokens = image.arrays.get("resolved_species", np.array([]))
        for token in sorted(set(tokens.tolist())):
            values[token].append(np.abs(image.calc.results["magmoms"][tokens == token]))
    return {
        token: float(np.concatenate(found).mean())
        for token, found in values.items()
        if not token.endswith(UNCERTAIN)
    }


def _tokens(image: Atoms, which: str) -> list[str]:
    return [str(token) for token in image.arrays[f"{which}_species"]]


def fitting_states(
    found: Sequence[str | None],
    asked: Sequence[str],
    moments: ArrayLike,
    centres: Mapping[str, float],
) -> list[str]:
    """Return a charge state for every atom, of which some are uncertain.

    Of all choices that leave the cell neutral it is the one whose moments are nearest to those of
    its states: a site in another spin state has the moment of another charge state, and the other
    sites determine its charge. If none is neutral, every uncertain site has the nearest.

    Parameters
    ----------
    found
        Species token of every atom, None where it is uncertain.
    asked
        Species tokens that were asked for: those of an element of which no state has a moment.
    moments
        Bohr magnetons, shape (n_atoms,); their sign does not count.
    centres
        Moment of every state, of any element, in Bohr magnetons.

    Returns
    -------
    list of str
        Species tokens, shape (n_atoms,).
    """
    choices = [
        [token] if token else _candidates(other, centres)
        for token, other in zip(found, asked, strict=True)
    ]
    # The best choice so far for every charge of the atoms so far.
    best: dict[int, tuple[float, list[str]]] = {0: (0.0, [])}
    for tokens, moment in zip(choices, np.abs(np.asarray(moments, dtype=float)), strict=True):
        extended: dict[int, tuple[float, list[str]]] = {}
        for charge, (off, chosen) in best.items():
            for token in tokens:
                further = off + (abs(centres[token] - moment) if len(tokens) > 1 else 0.0)
                total = charge + charge_of(token)
                if total not in extended or further < extended[total][0]:
                    extended[total] = (further, [*chosen, token])
        best = extended
    return best.get(0, min(best.values()))[1]


def _candidates(asked: str, centres: Mapping[str, float]) -> list[str]:
    """Return the states of the same element that have a moment, or the one asked for."""
    same = [token for token in centres if element_of(token) == element_of(asked)]
    return same or [asked]
