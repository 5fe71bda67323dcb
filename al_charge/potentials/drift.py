"""Charge states that a potential's own moments and charges disagree with, after a relaxation.

A charge-aware potential is told the charge state of every site. Where it has heads, it also says
which moment and charge a site has; a relaxation may lead to where these are those of another
state. Such a charge order is one that the potential itself does not stand by.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from al_charge.crystal.species import element_of
from al_charge.potentials.committee import Committee
from al_charge.potentials.data.frames import TrainingFrame
from al_charge.potentials.potential import Potential
from al_charge.potentials.state import SiteMeans

Array = NDArray[np.float64]

APART = {"moments": 0.1, "charges": 0.05}
"""Bohr magnetons and e by which two states of an element must differ to be told apart."""


def site_means(frames: Sequence[TrainingFrame]) -> SiteMeans:
    """Return the mean size of the moment and the mean charge of every species in labels."""
    means: SiteMeans = {}
    for name in APART:
        found: dict[str, list[float]] = defaultdict(list)
        for frame in frames:
            values = frame.moments if name == "moments" else frame.charges
            if values is not None:
                sizes = np.abs(values) if name == "moments" else values
                for token, value in zip(frame.atoms.arrays["species"], sizes, strict=True):
                    found[str(token)].append(float(value))
        if found:
            means[name] = {token: float(np.mean(found[token])) for token in sorted(found)}
    return means


def updated(old: SiteMeans, new: SiteMeans) -> SiteMeans:
    """Return means with those of other labels taken over, where these tell of a species."""
    return {name: old.get(name, {}) | new.get(name, {}) for name in sorted(old.keys() | new.keys())}


def drifted_sites(
    predictor: Potential | Committee,
    species: Iterable[str],
    moments: Array | None,
    charges: Array | None,
) -> list[int] | None:
    """Return the atoms whose predicted moment or charge is nearer to another state's mean.

    Parameters
    ----------
    predictor
        Whose labels tell the mean moment and charge of every state.
    species
        The charge states that were assigned, shape (n_atoms,).
    moments, charges
        What it predicts, Bohr magnetons and e, shape (n_atoms,); None where it has no such head.

    Returns
    -------
    list of int, or None
        None where nothing can be compared: without heads, without labels that tell moments or
        charges, or where no element has two states that they tell apart. Moments that are an
        input of the potential are not compared with themselves.
    """
    members = predictor.members if isinstance(predictor, Committee) else [predictor]
    given = any(member.spin_aware for member in members)
    values = {"moments": None if given or moments is None else np.abs(moments), "charges": charges}
    compared, drifted = False, set()
    for name, predicted in values.items():
        if predicted is None:
            continue
        means = _mean([member.site_means.get(name, {}) for member in members])
        for atom, token in enumerate(map(str, species)):
            rivals = _rivals(token, means, APART[name])
            if rivals:
                compared = True
                off = abs(float(predicted[atom]) - means[token])
                if any(abs(float(predicted[atom]) - means[rival]) < off for rival in rivals):
                    drifted.add(atom)
    return sorted(drifted) if compared else None


def _mean(means: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the mean of every species that all members know."""
    known = set.intersection(*(set(each) for each in means))
    return {token: float(np.mean([each[token] for each in means])) for token in known}


def _rivals(token: str, means: Mapping[str, float], apart: float) -> list[str]:
    """Return the other states of an element that can be told apart from this one."""
    if token not in means:
        return []
    return [
        other
        for other, mean in means.items()
        if element_of(other) == element_of(token) and abs(mean - means[token]) > apart
    ]
