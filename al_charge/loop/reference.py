"""The working-ion metal, once and for all campaigns with the same settings."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from al_charge.errors import AlChargeError
from al_charge.labelers.labelling import steps_done
from al_charge.loop.attempt import Job
from al_charge.loop.campaign import Campaign
from al_charge.loop.packed_folder import unpack
from al_charge.store.attempts import METAL, RETRIED
from al_charge.store.documents import ReferenceDoc


def label_metal(
    campaign: Campaign,
    directory: Path,
    *,
    round_number: int = 0,
    lock: Callable[[str], AbstractContextManager[None]] = lambda _: nullcontext(),
) -> None:
    """Store the energy of the working-ion metal, unless it is known with these settings.

    An engine that was stopped or killed costs the campaign nothing, as with labels.

    Parameters
    ----------
    campaign
        The campaign, whose labeler is used.
    directory
        Folder for the engine's files. An interrupted run is continued from there. After a failure
        it is tried again in a subfolder, when the campaign is resumed.
    round_number
        Round that asks for it.
    lock
        Reserves a name for one process; campaigns may want the same metal at once.

    Raises
    ------
    AlChargeError
        If the engine has failed, or has crashed too often.
    UnfinishedError
        If the engine was stopped early or crashed; called again, it continues.
    """
    ion = campaign.spec.host.working_ion
    key = METAL + ReferenceDoc.id_of(campaign.settings_hash, ion)
    if _known(campaign):
        return
    with lock(key):
        if _known(campaign):
            return
        failures = campaign.store.failures.retries(key)
        folder = directory / f"again-{failures}" if failures else directory
        unpack(directory)
        folder.mkdir(parents=True, exist_ok=True)
        job = Job(campaign, round_number, 0, key)
        reason = job.attempt(
            folder,
            lambda: campaign.store.references.put(_computed(campaign, ion, folder)),
            lambda: steps_done(campaign.labeler, folder),
        )
        if reason is not None:
            attempts = campaign.store.attempts
            again = attempts.start(key, campaign=campaign.name, round=round_number, slot=0)
            attempts.finish(again, RETRIED, reason)
            raise AlChargeError(
                f"the energy of {ion} metal cannot be computed: {reason}",
                where=campaign.name,
                remedy=f"remove the cause, then 'al-charge campaign resume {campaign.name}'",
            )


def _known(campaign: Campaign) -> bool:
    ion = campaign.spec.host.working_ion
    return campaign.store.references.get(campaign.name, campaign.settings_hash, ion) is not None


def _computed(campaign: Campaign, ion: str, folder: Path) -> ReferenceDoc:
    settings = campaign.physical_settings
    started = time.monotonic()
    energy = campaign.labeler.metal_energy(ion, folder)
    return ReferenceDoc(
        settings_hash=campaign.settings_hash,
        ion=ion,
        energy=energy,
        settings=settings,
        engine=f"{settings.get('engine', '')} {settings.get('version', '')}".strip(),
        wall_time=time.monotonic() - started,
        directory=str(folder),
    )
