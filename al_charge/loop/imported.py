"""Imported labels: a campaign starts, or goes on, from those of its host and settings."""

from __future__ import annotations

import logging

from al_charge.loop.campaign import Campaign

_log = logging.getLogger("al_charge.loop")


def adopt_imported(campaign: Campaign, round_number: int) -> None:
    """Let a round use every imported label that the campaign could have made itself.

    Its host and its labeler's settings must be the campaign's, and its composition one of the
    campaign's. Called again, it adopts what was imported meanwhile.

    Parameters
    ----------
    campaign
        The campaign.
    round_number
        Round that adopts them; nothing was selected in it yet.
    """
    labels, host = campaign.store.labels, campaign.host
    found = labels.imported(host.fingerprint, campaign.settings_hash, host.ion_counts)
    new = sorted(found - labels.uses(campaign.name).keys())
    for key in new:
        labels.link(campaign.name, round_number, key, adopted=True)
    if new:
        _log.info(
            "%s round %d: %d imported labels are taken over", campaign.name, round_number, len(new)
        )
