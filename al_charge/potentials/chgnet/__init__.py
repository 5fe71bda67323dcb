"""CHGNet, from its published weights or from scratch."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

from ase.data import atomic_numbers
from pydantic import Field, ValidationInfo, field_validator
from typing_extensions import override

from al_charge.crystal.host import Host
from al_charge.errors import InputError
from al_charge.plugins import Quantity
from al_charge.potentials.plugin import NetworkSettings, PotentialPlugin
from al_charge.units import Length

if TYPE_CHECKING:
    from collections.abc import Iterable

    from al_charge.potentials.networks.architecture import Architecture
    from al_charge.potentials.potential import Potential

PUBLISHED_CHGNET: dict[str, float] = {
    "cutoff": 6.0,
    "angle_cutoff": 3.0,
    "channels": 64,
    "layers": 4,
    "radial": 31,
    "angular": 31,
}
"""The shape of CHGNet 0.3.0, whose weights are in its package; lengths in angstrom."""

PUBLISHED_ELEMENTS = 94
"""The published weights know the elements up to this atomic number."""


class ChgnetSettings(NetworkSettings):
    """CHGNet: bonds and angles, trained on moments as well, from its published weights."""

    kind: Literal["chgnet"] = "chgnet"
    cutoff: Length = Field(
        default=6.0,
        gt=1.0,
        le=12.0,
        description="cutoff radius of one interaction layer, e.g. '6 A'",
    )
    angle_cutoff: Length = Field(
        default=3.0, gt=1.0, le=6.0, description="length up to which bonds make angles"
    )
    channels: int = Field(default=64, ge=1, le=1024, description="features of one atom")
    layers: int = Field(default=4, ge=2, le=12, description="interaction layers")
    radial: int = Field(default=31, ge=1, le=128, description="radial basis functions")
    angular: int = Field(default=31, ge=3, le=127, description="angular basis functions, odd")
    pretrained: bool | None = Field(
        default=None,
        validate_default=True,
        description="whether training starts from the weights in CHGNet's package; by default, "
        "if all sizes are theirs",
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
            name, given = other[0], info.data[other[0]]
            raise ValueError(
                f"CHGNet's published weights have {name} {PUBLISHED_CHGNET[name]:g}, not "
                f"{given:g}: leave {name} out, or set pretrained: false"
            )
        return not other if pretrained is None else pretrained


class ChgnetPlugin(PotentialPlugin):
    """CHGNet."""

    kind = "chgnet"
    title = "CHGNet"
    summary = "bonds and angles, trained on moments as well, from published weights"
    settings = ChgnetSettings
    gives = frozenset({Quantity.ENERGY, Quantity.FORCES, Quantity.STRESS, Quantity.MOMENTS})
    needs = frozenset({Quantity.ENERGY, Quantity.FORCES, Quantity.STRESS})

    @override
    def architecture(self) -> type[Architecture]:
        from al_charge.potentials.chgnet.network import Chgnet

        import_module("chgnet.model.model")
        return Chgnet

    @override
    def check(self, host: Host, settings: Any) -> None:
        """Refuse elements that the published weights do not know."""
        unknown = [el for el in host.elements if atomic_numbers[el] > PUBLISHED_ELEMENTS]
        if settings.pretrained and unknown:
            raise InputError(
                f"CHGNet's published weights do not know {unknown[0]}",
                where="potential.pretrained",
                remedy="set pretrained: false",
            )

    @override
    def start(self, settings: Any, species: Iterable[str]) -> Potential | None:
        """Return CHGNet as it is published, if training is to start from it; else None."""
        if not settings.pretrained:
            return None
        from al_charge.potentials.chgnet.pretrained import pretrained
        from al_charge.potentials.vocabulary import Vocabulary

        return pretrained(settings, Vocabulary.of(species, charge_aware=settings.charge_aware))
