"""Repair: what keeps a campaign from going on is mended, its next round added, labels retried."""

from __future__ import annotations

from collections import Counter
from contextlib import nullcontext

from fireworks import LaunchPad

from al_charge.errors import InputError
from al_charge.fw.doctor import REPAIRS, Waiting, labels, mend
from al_charge.fw.doctor.finding import RESUMABLE, Scene
from al_charge.fw.tasks import ensure_round
from al_charge.loop.campaign import Campaign
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
    """Mend a campaign's workflows after any interruption, and continue it.

    Runs whose worker is alive are left alone, so it does no harm while others work.

    Parameters
    ----------
    wait
        Whether there is time to watch silent runs on other machines for a heartbeat; without it
        they are left alone.
    waiting
        Tells the user that there is a pause of so many seconds, while it lasts.

    Returns
    -------
    Counter
        How many of each kind of finding were mended.
    """
    if campaign.store.campaigns.get(campaign.name).state not in RESUMABLE:
        return Counter()
    campaign.store.campaigns.set_state(campaign.name, CampaignState.RUNNING)
    scene = Scene(launchpad, campaign.store, campaign.name, wait=wait)
    mended, _ = mend(scene, REPAIRS, waiting)
    done = Counter(finding.kind for finding in mended)
    if ensure_round(launchpad, campaign, current_round(campaign)):
        done["missing round"] += 1
    return done


def retry(launchpad: LaunchPad, campaign: Campaign) -> list[str]:
    """Hand the tasks of labels that were given up back, so that they are made once more.

    Returns
    -------
    list of str
        The keys of these labels.

    Raises
    ------
    InputError
        If the campaign has ended.
    """
    state = campaign.store.campaigns.get(campaign.name).state
    if state not in RESUMABLE:
        raise InputError(
            f"the campaign is {state.value}: it makes no more labels",
            where=campaign.name,
            remedy="leave --retry out",
        )
    keys = retry_labels(campaign)
    mend(Scene(launchpad, campaign.store, campaign.name, wait=False), (labels.without_labels,))
    return keys
