"""The working-ion metal: labelled once for each labeler's settings, shared by all campaigns."""

from __future__ import annotations

import time
from pathlib import Path

from al_charge.loop.campaign import Campaign
from al_charge.store.documents import ReferenceDoc


def label_metal(campaign: Campaign, directory: Path) -> None:
    """Store the energy of the working-ion metal, unless it is known with these settings.

    Where two tasks compute it at once, each in its own folder, the first result is kept.

    Parameters
    ----------
    directory
        Folder for the engine's files.
    """
    store, ion = campaign.store, campaign.spec.host.working_ion
    if store.references.get(campaign.name, campaign.settings_hash, ion) is not None:
        return
    settings = campaign.labeler.settings()
    started = time.monotonic()
    directory.mkdir(parents=True, exist_ok=True)
    store.references.put(
        ReferenceDoc(
            settings_hash=campaign.settings_hash,
            ion=ion,
            energy=campaign.labeler.metal_energy(ion, directory),
            settings=settings,
            engine=f"{settings.get('engine', '')} {settings.get('version', '')}".strip(),
            wall_time=time.monotonic() - started,
            directory=str(directory),
        )
    )
