"""Settings of the Born labeler."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from al_charge.labelers.plugin import EngineSettings
from al_charge.labelers.protocol import Relax
from al_charge.units import Force


class BornSettings(EngineSettings):
    """An analytic ionic model for demos, tests and benchmarks; it is not a material's energy."""

    kind: Literal["born"] = "born"
    relax: Relax = Field(
        default=Relax.CELL,
        description="what is relaxed: 'none' for single points, 'ions', or 'cell' for ions and "
        "cell",
    )
    fmax: Force = Field(
        default=0.005,
        ge=1e-4,
        le=0.1,
        description="largest force component after a relaxation, e.g. '0.005 eV/A'",
    )
    max_steps: int = Field(
        default=500,
        ge=10,
        le=10000,
        description="evaluations after which a relaxation counts as failed",
    )
