"""Settings of the labelers: what a campaign file says about the engine."""

from __future__ import annotations

from typing import Annotated

from al_charge.labelers.born.settings import BornSettings
from al_charge.labelers.gpaw.settings import GpawSettings
from al_charge.labelers.plugin import LABELERS, EngineSettings
from al_charge.labelers.vasp.settings import VaspSettings
from al_charge.plugins import ChosenByKind

__all__ = ["BornSettings", "GpawSettings", "LabelerSettings", "VaspSettings"]

LabelerSettings = Annotated[EngineSettings, ChosenByKind(lambda: LABELERS)]
"""The settings of any installed labeler; ``kind`` says which."""
