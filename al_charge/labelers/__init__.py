"""Engines that make labels, chosen by a campaign's settings."""

from __future__ import annotations

from al_charge.labelers.protocol import Labeler
from al_charge.labelers.settings import BornSettings, LabelerSettings, VaspSettings


def make_labeler(settings: LabelerSettings) -> Labeler:
    """Return the labeler that the settings describe, importing its engine only now."""
    if isinstance(settings, BornSettings):
        from al_charge.labelers.born.labeler import BornLabeler

        return BornLabeler(settings)
    if isinstance(settings, VaspSettings):
        from al_charge.labelers.vasp.labeler import VaspLabeler

        return VaspLabeler(settings)
    from al_charge.labelers.gpaw.labeler import GpawLabeler

    return GpawLabeler(settings)
