"""Settings of the labelers: what a campaign file says about the engine."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from al_charge.labelers.born.settings import BornSettings
from al_charge.labelers.gpaw.settings import GpawSettings
from al_charge.labelers.vasp.settings import VaspSettings

__all__ = ["BornSettings", "GpawSettings", "LabelerSettings", "VaspSettings"]

LabelerSettings = Annotated[BornSettings | GpawSettings | VaspSettings, Field(discriminator="kind")]
"""The settings of any labeler; ``kind`` says which."""
