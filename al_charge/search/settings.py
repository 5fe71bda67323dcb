"""What a campaign file may say about the search."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class OperatorWeights(BaseModel):
    """How often each operator makes a child, relative to the others; 0 turns one off."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    ion_swap: float = Field(default=1.0, ge=0, description="an ion and a vacancy change places")
    charge_swap: float = Field(
        default=1.0, ge=0, description="two charge states of one element change places"
    )
    coupled_swap: float = Field(
        default=2.0, ge=0, description="an ion hops to a vacancy and its electron follows"
    )
    electron_transfer: float = Field(
        default=0.5,
        ge=0,
        description="electrons move so that the numbers of the states change, as in "
        "disproportionation or transfer between two elements",
    )
    exchange_sublattices: float = Field(
        default=1.0, ge=0, description="ions of one parent, charge states of the other"
    )
    splice: float = Field(
        default=1.0, ge=0, description="half of the cell from one parent, half from the other"
    )


class SearchSettings(BaseModel):
    """The genetic search at one composition."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    evaluations: int = Field(
        default=36, ge=1, description="relaxations by the committee per composition and round"
    )
    seeds: int = Field(
        default=12, ge=1, description="how many of them start the search, half ranked by Ewald sums"
    )
    population: int = Field(default=10, ge=2, description="configurations that may become parents")
    children: int = Field(default=6, ge=1, description="new configurations per generation")
    screening: int = Field(
        default=6,
        ge=1,
        description="children bred for each one evaluated; a fit to pair correlations picks them",
    )
    tournament: int = Field(
        default=2, ge=1, description="a parent is the best of so many drawn at random"
    )
    patience: int = Field(
        default=3, ge=1, description="generations without a lower energy before the search stops"
    )
    operators: OperatorWeights = Field(
        default=OperatorWeights(), description="relative weights of the operators"
    )
