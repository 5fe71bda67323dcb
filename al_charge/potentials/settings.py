"""What a user may choose about potentials and their training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from al_charge.plugins import ChosenByKind
from al_charge.potentials.plugin import POTENTIALS, NetworkSettings
from al_charge.units import Force, Length


class SizedSettings(NetworkSettings):
    """What al-charge's own potentials have in common."""

    channels: int = Field(default=32, ge=1, le=1024, description="features of one atom")
    layers: int = Field(default=2, ge=1, le=12, description="interaction layers")


class PainnSettings(SizedSettings):
    """Polarisable atom interaction network: scalar and vector features, cheap on a CPU."""

    kind: Literal["painn"] = "painn"
    radial: int = Field(default=12, ge=1, le=128, description="radial basis functions")
    spin: bool = Field(
        default=False, description="whether site moments are an input, beside the charge states"
    )


class CpainnSettings(PainnSettings):
    """PaiNN that also tells the moment and the Bader charge of every site."""

    kind: Literal["cpainn"] = "cpainn"  # type: ignore[assignment]


PUBLISHED_CHGNET: dict[str, float] = {
    "cutoff": 6.0,
    "angle_cutoff": 3.0,
    "channels": 64,
    "layers": 4,
    "radial": 31,
    "angular": 31,
}
"""The shape of CHGNet 0.3.0, whose weights are in its package; lengths in angstrom."""


class ChgnetSettings(SizedSettings):
    """CHGNet: bonds and angles, trained on moments as well, from its published weights."""

    kind: Literal["chgnet"] = "chgnet"
    cutoff: Length = Field(
        default=6.0, gt=1.0, le=12.0, description="reach of one interaction layer, e.g. '6 A'"
    )
    angle_cutoff: Length = Field(
        default=3.0, gt=1.0, le=6.0, description="reach of bonds that make angles"
    )
    channels: int = Field(default=64, ge=1, le=1024, description="features of one atom")
    layers: int = Field(default=4, ge=2, le=12, description="interaction layers")
    radial: int = Field(default=31, ge=1, le=128, description="radial basis functions")
    angular: int = Field(default=31, ge=3, le=127, description="angular basis functions, odd")
    pretrained: bool | None = Field(
        default=None,
        validate_default=True,
        description="whether training starts from the weights in CHGNet's package, which have one "
        "shape; when left out, if no size is set that is not theirs",
    )

    @field_validator("angular")
    @classmethod
    def _is_odd(cls, angular: int) -> int:
        if angular % 2 == 0:
            raise ValueError("an odd number of angular functions is needed")
        return angular

    @field_validator("pretrained")
    @classmethod
    def _has_their_shape(cls, pretrained: bool | None, info: ValidationInfo) -> bool:
        other = [k for k, size in PUBLISHED_CHGNET.items() if info.data.get(k, size) != size]
        if pretrained and other:
            name, told = other[0], info.data[other[0]]
            raise ValueError(
                f"CHGNet's published weights have {name} {PUBLISHED_CHGNET[name]:g}, not "
                f"{told:g}: leave {name} out, or set pretrained: false"
            )
        return not other if pretrained is None else pretrained


class MaceSettings(SizedSettings):
    """Higher-body-order equivariant message passing."""

    kind: Literal["mace"] = "mace"
    channels: int = Field(default=16, ge=1, le=1024, description="features of one atom")
    max_ell: int = Field(default=2, ge=1, le=4, description="degree of the spherical harmonics")
    max_l: int = Field(default=1, ge=0, le=3, description="degree of the messages")
    correlation: int = Field(default=2, ge=1, le=4, description="body order of a message, less one")
    radial: int = Field(default=8, ge=1, le=64, description="radial basis functions")
    interaction: Literal["residual", "density"] = Field(
        default="residual", description="how messages are normalised: by a constant, or by density"
    )
    distance_transform: Literal["none", "agnesi"] = Field(
        default="none", description="whether distances are stretched by atomic radii"
    )
    spin: bool = Field(
        default=False, description="whether site moments are an input, beside the charge states"
    )
    pair_repulsion: bool = Field(
        default=False, description="whether nuclei repel each other at short range (ZBL)"
    )
    long_range: Literal["none", "les"] = Field(
        default="none",
        description="electrostatics beyond the cutoff: none, or latent Ewald summation, for which "
        "the package les is installed",
    )
    foundation: Path | None = Field(
        default=None,
        description="file of a converted foundation model to start from; see docs/decisions",
    )


PotentialSettings = Annotated[NetworkSettings, ChosenByKind(lambda: POTENTIALS)]
"""Settings of any installed potential, told apart by ``kind``."""


class TrainingSettings(BaseModel):
    """How one member of a committee is trained."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    epochs: int = Field(default=60, ge=1, description="passes over the frames at most")
    batch_size: int = Field(default=4, ge=1, description="frames in one step")
    learning_rate: float = Field(default=5e-3, gt=0.0, description="largest step of the optimiser")
    schedule: Literal["cosine", "plateau", "constant"] = Field(
        default="cosine",
        description="how the learning rate falls: along a cosine, by half whenever validation "
        "stands still, or not at all",
    )
    precision: Literal["float32", "float64"] = Field(
        default="float32", description="of the network's numbers"
    )
    loss: Literal["squared", "huber"] = Field(
        default="squared",
        description="how errors count; with 'huber' those beyond huber_delta only linearly",
    )
    huber_delta: float = Field(
        default=3.0,
        gt=0.0,
        description="error beyond which 'huber' counts linearly, in units of the potential's scale "
        "(the forces that are left to the network)",
    )
    energy_weight: float = Field(default=10.0, ge=0.0, description="of (eV/atom)^2 in the loss")
    force_weight: float = Field(default=1.0, ge=0.0, description="of (eV/A)^2 in the loss")
    stress_weight: float = Field(default=100.0, ge=0.0, description="of (eV/A^3)^2 in the loss")
    moment_weight: float = Field(
        default=0.1,
        ge=0.0,
        description="of (Bohr magneton)^2 in the loss, of potentials that predict moments",
    )
    charge_weight: float = Field(
        default=0.1, ge=0.0, description="of e^2 in the loss, of potentials that predict charges"
    )
    weight_decay: float = Field(default=0.0, ge=0.0, description="of the optimiser AdamW")
    gradient_clip: float = Field(default=10.0, gt=0.0, description="largest norm of a gradient")
    averaging: float = Field(
        default=0.99, ge=0.0, lt=1.0, description="decay of the running mean of the weights"
    )
    patience: int = Field(
        default=20, ge=1, description="epochs without a better validation before it stops"
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
        description="whether the cell is relaxed with the ions; when left out, if labels have a "
        "stress to learn it from",
    )
    reach: Length | None = Field(
        default=None,
        gt=0.0,
        le=2.0,
        description="how far ions move from where a relaxation starts; when left out, 0.2 A for "
        "static labels, which then follow, and as far as it takes for relaxed ones",
    )
