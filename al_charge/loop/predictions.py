"""What each member of a round's committee says of the labels, worked out where it was trained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from al_charge.loop.campaign import Campaign, atoms_of
from al_charge.store.labels import LAST_GEOMETRY, SUMMARY

if TYPE_CHECKING:
    from al_charge.potentials.committee import Committee
    from al_charge.potentials.potential import Potential


def predictions_for(
    campaign: Campaign, round_number: int, potential: Potential
) -> dict[str, float]:
    """Return a potential's energies of the usable labels up to a round, eV per cell by key."""
    labels = campaign.store.labels.read(
        SUMMARY, campaign=campaign.name, up_to=round_number, refused=False
    )
    return _predict(campaign, potential, [label.key for label in labels])


def member_energies(
    campaign: Campaign, round_number: int, committee: Committee, keys: Sequence[str]
) -> NDArray[np.float64]:
    """Return every member's energies of labels, eV/f.u., shape (n_members, n_labels).

    What a member has not said yet it is asked now: those of earlier versions said nothing.
    """
    rows = []
    models = campaign.store.models.all(campaign.name, round_number)
    for model, potential in zip(models, committee.members, strict=True):
        said = campaign.store.models.predictions(model)
        said |= _predict(campaign, potential, [key for key in keys if key not in said])
        rows.append([said[key] for key in keys])
    return np.array(rows) / campaign.host.formula_units


def _predict(campaign: Campaign, potential: Potential, keys: Sequence[str]) -> dict[str, float]:
    """Return a potential's energies of labels whose keys are sorted."""
    results = campaign.store.labels.read(LAST_GEOMETRY, keys=keys)
    found = potential.predict_each(atoms_of(geometry) for _, geometry in results)
    return {key: one.energy for key, one in zip(keys, found, strict=True)}
