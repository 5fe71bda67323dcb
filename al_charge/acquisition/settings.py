"""What a campaign file may say about choosing what to label."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from al_charge.units import Energy


class AcquisitionSettings(BaseModel):
    """How candidates are weighed; the weights are relative to each other."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    labels_per_round: int = Field(default=16, ge=1, description="labels requested in one round")
    first_round: int = Field(
        default=20, ge=2, description="labels before the first potential, spread over compositions"
    )
    improvement: float = Field(
        default=1.0, ge=0, description="weight of the expected depth below the labelled hull"
    )
    chance: float = Field(
        default=1.0, ge=0, description="weight of the chance to lie on or below the labelled hull"
    )
    spread: float = Field(default=0.2, ge=0, description="weight of the committee's spread")
    diversity: float = Field(
        default=0.3, ge=0, description="weight of the distance to what is labelled or picked"
    )
    smallest_spread: Energy = Field(
        default=0.002,
        gt=0,
        description="floor on the spread, eV per formula unit: committees agree too well",
    )
    tolerance: Energy = Field(
        default=0.001,
        ge=0,
        description="a candidate within this of the hull counts as on it, eV per formula unit",
    )
