"""Rounds: which one is under way, and how many tasks one has."""

from __future__ import annotations

from al_charge.loop.campaign import Campaign
from al_charge.loop.verify import is_verification, open_verification
from al_charge.store.documents import CampaignState, RoundDoc


def open_round(campaign: Campaign, number: int) -> None:
    """Create the document of a round, unless it exists.

    A verification gets with it what it relaxes.

    Parameters
    ----------
    campaign
        The campaign.
    number
        Number of the round.
    """
    campaign.store.rounds.add(RoundDoc(campaign=campaign.name, number=number))
    if is_verification(campaign, number):
        open_verification(campaign, number)


def current_round(campaign: Campaign) -> int:
    """Return the number of the round that is under way or due.

    A round whose assessment ends the campaign is under way until the campaign's state says so.

    Parameters
    ----------
    campaign
        The campaign.

    Returns
    -------
    int
        0 for a new campaign.
    """
    from al_charge.loop.assess import next_state

    last = campaign.store.rounds.last(campaign.name)
    if last is None:
        return 0
    state = campaign.store.campaigns.state(campaign.name)
    if last.assessment is not None and state is CampaignState.RUNNING:
        state, _ = next_state(campaign, last.number)
        return last.number + (state is CampaignState.RUNNING)
    return last.number


def label_slots(campaign: Campaign, number: int) -> int:
    """Return how many label tasks a round has.

    Parameters
    ----------
    campaign
        The campaign.
    number
        Number of the round; if it is a verification, it must be open.

    Returns
    -------
    int
        Tasks, of which those beyond the selection have nothing to do.
    """
    if is_verification(campaign, number):
        record = campaign.store.rounds.get(campaign.name, number)
        return len((record.selected if record is not None else None) or [])
    acquisition = campaign.spec.acquisition
    return acquisition.first_round if number == 0 else acquisition.labels_per_round
