"""Potentials of a round, brought back from the store."""

from __future__ import annotations

from typing import TYPE_CHECKING

from al_charge.errors import AlChargeError
from al_charge.loop.campaign import Campaign

if TYPE_CHECKING:
    from al_charge.potentials.committee import Committee
    from al_charge.potentials.potential import Potential


def load_committee(campaign: Campaign, round_number: int) -> Committee:
    """Return the committee that a round trained, its spread scaled by that round's calibration.

    Raises
    ------
    AlChargeError
        If a member was not trained, which the order of tasks rules out.
    """
    from al_charge.potentials.committee import Committee

    members = []
    for member in range(campaign.spec.committee.size):
        potential = load_member(campaign, round_number, member)
        if potential is None:
            raise AlChargeError(
                f"round {round_number} has no potential {member}",
                where=campaign.name,
                remedy="run 'al-charge campaign resume'",
            )
        members.append(potential)
    record = campaign.store.rounds.get(campaign.name, round_number)
    assessment = record.assessment if record is not None else None
    scale = assessment.spread_scale if assessment is not None else 1.0
    return Committee(members, spread_scale=scale)


def load_member(campaign: Campaign, round_number: int, member: int) -> Potential | None:
    """Return one potential of a round, or None if it was not trained."""
    from safetensors.torch import load

    from al_charge.potentials.potential import Potential

    stored = campaign.store.models.get(campaign.name, round_number, member)
    if stored is None:
        return None
    document, weights = stored
    return Potential.from_state(document.config, load(weights))
