"""Repair: mend what keeps a campaign from continuing, add its next round, retry labels."""

from __future__ import annotations

from collections import Counter
from contextlib import nullcontext

from fireworks import LaunchPad

from al_charge.errors import InputError
from al_charge.fw.doctor import REPAIRS, Waiting, labels, mend
from al_charge.fw.doctor.finding import RESUMABLE, Scene
from al_charge.fw.tasks import ensure_round
from al_charge.loop.campaign import Campaign
from al_charge.loop.explore import explored_keys
from al_charge.loop.ground_state import lower_spin_states
from al_charge.loop.label import retry_labels
from al_charge.loop.rounds import current_round
from al_charge.store.documents import CampaignState


def repair(
    launchpad: LaunchPad,
    campaign: Campaign,
    *,
    wait: bool = True,
    waiting: Waiting = lambda _: nullcontext(),
) -> Counter[str]:
    """Repair a campaign's workflows after any interruption, and continue it.

    Runs whose worker is alive are left alone, so it is safe while others work.

    Parameters
    ----------
    launchpad
        LaunchPad of the campaign's database.
    campaign
        The campaign.
    wait
        Whether to watch silent runs on other machines for a heartbeat; otherwise they are left
        alone.
    waiting
        Called with the length of each pause, s; the context manager that it returns is entered for
        the pause.

    Returns
    -------
    Counter
        How many findings of each kind were mended.

    Raises
    ------
    InputError
        If an end member is lower in other spin states than the campaign asks for.
    """
    if campaign.store.campaigns.get(campaign.name).state not in RESUMABLE:
        return Counter()
    if reason := lower_spin_states(campaign):
        campaign.store.campaigns.set_state(campaign.name, CampaignState.FAILED, reason)
        raise InputError(
            f"its charge states are not the ground state: {reason}",
            where=f"campaign '{campaign.name}'",
            remedy="submit it under another name",
        )
    campaign.store.campaigns.set_state(campaign.name, CampaignState.RUNNING)
    scene = Scene(launchpad, campaign.store, campaign.name, wait=wait)
    mended, _ = mend(scene, REPAIRS, waiting)
    done = Counter(finding.kind for finding in mended)
    if ensure_round(launchpad, campaign, current_round(campaign)):
        done["missing round"] += 1
    return done


def retry(launchpad: LaunchPad, campaign: Campaign) -> list[str]:
    """Hand back the tasks of labels that were given up, so that they are tried again.

    Parameters
    ----------
    launchpad
        LaunchPad of the campaign's database.
    campaign
        The campaign.

    Returns
    -------
    list of str
        Keys of these labels.

    Raises
    ------
    InputError
        If the campaign has ended.
    """
    state = campaign.store.campaigns.get(campaign.name).state
    if state not in RESUMABLE:
        raise InputError(
            f"the campaign is {state.value}: no more labels will be computed",
            where=campaign.name,
            remedy="leave out --retry",
        )
    keys = retry_labels(campaign)
    failures = campaign.store.failures
    for key, (number, slot) in explored_keys(campaign).items():
        if failures.retry(key, campaign=campaign.name, round=number, slot=slot):
            keys.append(key)
    mend(Scene(launchpad, campaign.store, campaign.name, wait=False), (labels.without_labels,))
    return keys
