"""Engines that make labels, chosen by a campaign's settings."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from al_charge.labelers.plugin import EngineSettings
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
    from al_charge.labelers.plugin import LABELERS

    return LABELERS.of(settings).make(settings)
