"""Charge states for exported labels in which they are uncertain, for potentials told the moments.

Such a potential reads the site's moment beside its charge state, so that an uncertain site may
be learned from under the state that it is nearest to. Nobody else should use these states.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from al_charge.crystal.species import element_of

UNCERTAIN = "?"
"""How the token of a site ends in an exported file if its charge state is uncertain."""


def nearest_states(images: Sequence[Atoms]) -> dict[int, list[str]]:
    """Return species tokens for all frames of ambiguous labels, by their place in the file.

    An uncertain site has the state of its element whose mean moment, over the certain sites of
    the file, is nearest to its own; without any, the state that was asked for. Frames of labels
    without moments are left out.
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
        place: [
            _nearest(str(found), str(asked), float(moment), means)
            for found, asked, moment in zip(
                image.arrays["resolved_species"],
                image.arrays["requested_species"],
                moments[image.info["label"]],
                strict=True,
            )
        ]
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
    return {token: float(np.concatenate(found).mean()) for token, found in values.items()}


def _nearest(found: str, asked: str, moment: float, means: dict[str, float]) -> str:
    if not found.endswith(UNCERTAIN):
        return found
    certain = {t: mean for t, mean in means.items() if not t.endswith(UNCERTAIN)}
    return nearest_state(asked, moment, certain)


def nearest_state(asked: str, moment: float, centres: Mapping[str, float]) -> str:
    """Return the state of an element whose moment is nearest, or the one asked for without any.

    Parameters
    ----------
    asked
        Species token; only its element counts.
    moment
        Size of the site's moment in Bohr magnetons.
    centres
        Moment of every state, of any element.
    """
    kin = [token for token in centres if element_of(token) == element_of(asked)]
    return min(kin, key=lambda token: abs(centres[token] - moment), default=asked)
