"""Rounds: how a campaign starts, and which tasks one round consists of."""

from __future__ import annotations

from al_charge.errors import InputError
from al_charge.loop.campaign import Campaign, is_same, new_document
from al_charge.loop.spec import CampaignSpec
from al_charge.loop.verify import is_verification, open_verification
from al_charge.potentials.networks.long_range import require_les
from al_charge.store.documents import CampaignState, RoundDoc
from al_charge.store.mongo import Store


def submit(store: Store, spec: CampaignSpec) -> bool:
    """Store a new campaign.

    Returns
    -------
    bool
        False if the same campaign is already there.

    Raises
    ------
    InputError
        If the name belongs to another campaign, or the specification cannot work.
    """
    document = new_document(spec)
    if store.campaigns.add(document):
        return True
    if not is_same(store.campaigns.get(spec.name), document):
        raise InputError(
            "the name is taken by a campaign with other contents",
            where=f"campaign '{spec.name}'",
            remedy="choose another name, or restore the campaign file",
        )
    return False


def check_spec(spec: CampaignSpec) -> None:
    """Check what the fields alone do not tell; nothing is written.

    Raises
    ------
    InputError
        If the host has no compositions to compare, the labeler lacks parameters for a species, or
        the label budget cannot hold a first round; or something is not installed.
    """
    foundation = getattr(spec.potential, "foundation", None)
    if foundation is not None and not foundation.is_file():
        raise InputError(f"no file {foundation}", where="potential.foundation")
    if getattr(spec.potential, "long_range", "none") == "les":
        require_les()
    campaign = spec.convergence
    if spec.acquisition.first_round > campaign.max_labels:
        raise InputError(
            f"{spec.acquisition.first_round} first labels are more than max_labels",
            where="acquisition.first_round",
            remedy=f"give at most {campaign.max_labels}",
        )
    new_document(spec)


def open_round(campaign: Campaign, number: int) -> None:
    """Create a round's document, unless it exists, with what it relaxes if it is a verification."""
    campaign.store.rounds.add(RoundDoc(campaign=campaign.name, number=number))
    if is_verification(campaign, number):
        open_verification(campaign, number)


def current_round(campaign: Campaign) -> int:
    """Return the number of the round that is under way or due, 0 for a new campaign.

    A round whose assessment ends the campaign is under way until the campaign has been told.
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
    """Return how many label tasks a round has; one that is open, if it is a verification."""
    if is_verification(campaign, number):
        record = campaign.store.rounds.get(campaign.name, number)
        return len((record.selected if record is not None else None) or [])
    acquisition = campaign.spec.acquisition
    return acquisition.first_round if number == 0 else acquisition.labels_per_round
