"""What a member of a committee starts its training from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from al_charge.loop.campaign import Campaign
from al_charge.loop.committee import load_member
from al_charge.store.documents import ModelDoc

if TYPE_CHECKING:
    from al_charge.potentials.potential import Potential

FRESH = "fresh"
"""In a model's document: it started from weights as the settings say, not from another model."""


def start_of(campaign: Campaign, round_number: int, member: int) -> tuple[str, Potential | None]:
    """Return what a member of a round starts from.

    That is always the same member of the round before, however much the labels have grown or
    changed: its energy baseline is fitted again, and in as many epochs a training from scratch
    comes no further; docs/decisions/0070-warm-start.md has the figures.

    Returns
    -------
    str
        Identity of the model, or `FRESH`.
    Potential or None
        The model itself; None in the first round, and if there is none of the round before.
    """
    parent = load_member(campaign, round_number - 1, member) if round_number else None
    if parent is None:
        return FRESH, None
    return ModelDoc.id_of(campaign.name, round_number - 1, member), parent
