"""Retry: labels that were given up may be tried again, once their cause is mended."""

from __future__ import annotations

from al_charge.loop.campaign import Campaign, label_key
from al_charge.loop.verify import relax_in


def retry_labels(campaign: Campaign) -> list[str]:
    """Let everything be tried again that a campaign has selected and that was given up.

    By whichever campaign it was given up: labels are shared by all with the same settings.

    Returns
    -------
    list of str
        The keys of these labels.
    """
    store = campaign.store
    retried = []
    for record in store.rounds.all(campaign.name):
        relax = relax_in(campaign, record.number)
        slots = {doc_id: slot for slot, doc_id in enumerate(record.selected or [])}
        wanted = {
            label_key(campaign, candidate, relax): slots[candidate.doc_id]
            for candidate in store.candidates.stream(list(slots))
        }
        for key in sorted(store.failures.among(wanted.keys())):
            if store.failures.retry(
                key, campaign=campaign.name, round=record.number, slot=wanted[key]
            ):
                retried.append(key)
    return retried
