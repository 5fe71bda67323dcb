"""Settings of potentials, of their training and of relaxations."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from al_charge.plugins import ChosenByKind
from al_charge.potentials.plugin import POTENTIALS, NetworkSettings
from al_charge.units import Force, Length

PotentialSettings = Annotated[NetworkSettings, ChosenByKind(lambda: POTENTIALS)]
"""Settings of any installed potential, distinguished by ``kind``."""


class TrainingSettings(BaseModel):
    """How one member of a committee is trained."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    epochs: int = Field(default=60, ge=1, description="passes over the frames at most")
    batch_size: int = Field(default=4, ge=1, description="frames in one step")
    learning_rate: float = Field(default=5e-3, gt=0.0, description="largest step of the optimiser")
    schedule: Literal["cosine", "plateau", "constant"] = Field(
        default="cosine",
        description="how the learning rate falls: along a cosine, by half whenever validation "
        "does not improve, or not at all",
    )
    precision: Literal["float32", "float64"] = Field(
        default="float32", description="floating-point precision of the network"
    )
    loss: Literal["squared", "huber"] = Field(
        default="squared",
        description="how errors count; with 'huber' those beyond huber_delta only linearly",
    )
    huber_delta: float = Field(
        default=3.0,
        gt=0.0,
        description="error beyond which 'huber' counts linearly, in units of the potential's scale "
        "(root mean square of the forces after the baseline)",
    )
    energy_weight: float = Field(
        default=10.0, ge=0.0, description="weight of (eV/atom)^2 in the loss"
    )
    force_weight: float = Field(default=1.0, ge=0.0, description="weight of (eV/A)^2 in the loss")
    stress_weight: float = Field(
        default=100.0, ge=0.0, description="weight of (eV/A^3)^2 in the loss"
    )
    moment_weight: float = Field(
        default=0.1,
        ge=0.0,
        description="weight of (Bohr magneton)^2 in the loss, for potentials that predict moments",
    )
    charge_weight: float = Field(
        default=0.1,
        ge=0.0,
        description="weight of e^2 in the loss, for potentials that predict charges",
    )
    weight_decay: float = Field(
        default=0.0, ge=0.0, description="weight decay of the optimiser, AdamW"
    )
    gradient_clip: float = Field(default=10.0, gt=0.0, description="largest norm of a gradient")
    averaging: float = Field(
        default=0.99, ge=0.0, lt=1.0, description="decay of the running mean of the weights"
    )
    patience: int = Field(
        default=20,
        ge=1,
        description="epochs without a better validation loss before training stops",
    )
    checkpoint_every: int = Field(default=5, ge=1, description="epochs between checkpoints")


class RelaxationSettings(BaseModel):
    """How far candidates are relaxed by the committee."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    fmax: Force = Field(
        default=0.03,
        gt=0.0,
        description="largest force at which a relaxation ends, e.g. '0.03 eV/A'",
    )
    max_steps: int = Field(default=100, ge=1, description="steps after which it ends in any case")
    cell: bool | None = Field(
        default=None,
        description="whether the cell is relaxed with the ions; by default, if labels have a "
        "stress",
    )
    reach: Length | None = Field(
        default=None,
        gt=0.0,
        le=2.0,
        description="largest displacement of an ion in one relaxation; by default 0.2 A for "
        "static labels and no limit for relaxed ones",
    )
