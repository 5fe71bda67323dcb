"""Engines that make labels, chosen by a campaign's settings."""

from __future__ import annotations

from al_charge.labelers.plugin import LABELERS, EngineSettings
from al_charge.labelers.protocol import Labeler


def make_labeler(settings: EngineSettings) -> Labeler:
    """Return the labeler that the settings describe, importing its engine only now.

    Parameters
    ----------
    settings
        Of any installed engine.

    Returns
    -------
    Labeler
        Ready to label.
    """
    return LABELERS.of(settings).make(settings)
