"""Charge states that disagree with a potential's own moments and charges, after a relaxation.

The charge state of every site is an input of a charge-aware potential. Where it also predicts the
moment or the charge of a site, a relaxation may lead to where these are those of another state. The
potential then contradicts the charge order that it was given.
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

LEAST_DIFFERENCE = {"moments": 0.1, "charges": 0.05}
"""Bohr magnetons and e by which two states of an element must differ to be distinguished."""


def site_means(frames: Sequence[TrainingFrame]) -> SiteMeans:
    """Return the mean moment and charge of every species in labels.

    Parameters
    ----------
    frames
        Labelled geometries.

    Returns
    -------
    dict
        Mean size of the ``moments`` (Bohr magnetons) and mean ``charges`` (e) by species token.
    """
    means: SiteMeans = {}
    for name in LEAST_DIFFERENCE:
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
    """Return means of which some are replaced by those of other labels.

    Parameters
    ----------
    old
        Means so far.
    new
        Means of other labels, which count where they have a species.

    Returns
    -------
    dict
        Of all species in either.
    """
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
        Its training labels give the mean moment and charge of every state.
    species
        The charge states that were assigned, shape (n_atoms,).
    moments
        Predicted moments, Bohr magnetons, shape (n_atoms,); None where it does not predict them.
    charges
        Predicted charges, e, shape (n_atoms,); None where it does not predict them.

    Returns
    -------
    list of int, or None
        None where nothing can be compared: without predicted moments and charges, without labels
        that have any, or where no element has two states that they tell apart. Moments that are an
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
            others = _other_states(token, means, LEAST_DIFFERENCE[name])
            if others:
                compared = True
                off = abs(float(predicted[atom]) - means[token])
                if any(abs(float(predicted[atom]) - means[other]) < off for other in others):
                    drifted.add(atom)
    return sorted(drifted) if compared else None


def _mean(means: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the mean of every species that all members know."""
    known = set.intersection(*(set(each) for each in means))
    return {token: float(np.mean([each[token] for each in means])) for token in known}


def _other_states(token: str, means: Mapping[str, float], least: float) -> list[str]:
    """Return the other states of an element that can be distinguished from this one."""
    if token not in means:
        return []
    return [
        other
        for other, mean in means.items()
        if element_of(other) == element_of(token) and abs(mean - means[token]) > least
    ]
