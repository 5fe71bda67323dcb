"""Moment windows of a campaign, calibrated on its own end members."""

from __future__ import annotations

from collections import defaultdict

from al_charge.crystal.species import element_of, token
from al_charge.crystal.valence import Windows, calibrate
from al_charge.errors import InputError
from al_charge.loop.campaign import Campaign
from al_charge.loop.energies import usable


def windows_for(campaign: Campaign, round_number: int, n_ions: int) -> Windows | None:
    """Return the windows that a label of a round is audited with; None for the labeler's own.

    They come from the end members that were labelled in the rounds before, in the first round
    from those that it labels first. End members themselves, what there is to calibrate on, are
    audited with the labeler's own; and so is everything where end members do not show every state
    of the redox elements, or not apart from each other.
    """
    ends = (campaign.host.ion_counts[0], campaign.host.ion_counts[-1])
    if n_ions in ends:
        return None
    moments: dict[str, list[float]] = defaultdict(list)
    charges: dict[str, list[float]] = defaultdict(list)
    for label in campaign.store.labels.at(campaign.name, ends, max(0, round_number - 1)):
        if not usable(label) or label.moments is None:
            continue
        for site, species in enumerate(label.resolved or ()):
            if element_of(species) in campaign.host.redox:
                moments[species].append(label.moments[site])
                if label.bader is not None:
                    charges[species].append(label.bader[site])
    states = {token(el, charge) for el, found in campaign.host.redox.items() for charge in found}
    if set(moments) != states:
        return None
    try:
        return calibrate(moments, charges=charges)
    except InputError:
        return None
