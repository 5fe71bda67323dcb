"""MACE, also with site moments as an input, long-range electrostatics and foundation models."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field
from typing_extensions import override

from al_charge.crystal.host import Host
from al_charge.errors import InputError
from al_charge.plugins import Quantity
from al_charge.potentials.plugin import NetworkSettings, PotentialPlugin

if TYPE_CHECKING:
    from collections.abc import Iterable

    from al_charge.potentials.networks.architecture import Architecture
    from al_charge.potentials.potential import Potential


class MaceSettings(NetworkSettings):
    """Higher-body-order equivariant message passing."""

    kind: Literal["mace"] = "mace"
    channels: int = Field(default=16, ge=1, le=1024, description="features of one atom")
    layers: int = Field(default=2, ge=1, le=12, description="interaction layers")
    max_ell: int = Field(default=2, ge=1, le=4, description="degree of the spherical harmonics")
    max_l: int = Field(default=1, ge=0, le=3, description="degree of the messages")
    correlation: int = Field(default=2, ge=1, le=4, description="body order of a message, less one")
    radial: int = Field(default=8, ge=1, le=64, description="radial basis functions")
    interaction: Literal["residual", "density"] = Field(
        default="residual", description="how messages are normalised: by a constant, or by density"
    )
    distance_transform: Literal["none", "agnesi"] = Field(
        default="none", description="whether distances are scaled by atomic radii"
    )
    spin: bool = Field(
        default=False, description="whether site moments are an input, beside the charge states"
    )
    pair_repulsion: bool = Field(
        default=False, description="whether nuclei repel each other at short range (ZBL)"
    )
    long_range: Literal["none", "les"] = Field(
        default="none",
        description="electrostatics beyond the cutoff: none, or latent Ewald summation, which "
        "needs the package les",
    )
    foundation: Path | None = Field(
        default=None,
        description="file of a converted foundation model to start from; see docs/decisions",
    )


class MacePlugin(PotentialPlugin):
    """MACE."""

    kind = "mace"
    title = "MACE"
    summary = "higher-body-order equivariant message passing"
    settings = MaceSettings
    gives = frozenset({Quantity.ENERGY, Quantity.FORCES, Quantity.STRESS})
    needs = gives

    @override
    def architecture(self) -> type[Architecture]:
        from al_charge.potentials.mace.network import Mace, import_mace

        import_mace()
        return Mace

    @override
    def reads_moments(self, settings: Any) -> bool:
        return bool(settings.spin)

    @override
    def reads_positions(self, settings: Any) -> bool:
        return bool(settings.long_range != "none")

    @override
    def check(self, host: Host, settings: Any) -> None:
        """Refuse a foundation model that is not there, and `les` where it is not installed."""
        from al_charge.potentials.mace.long_range import require_les

        foundation = settings.foundation
        if foundation is not None and not foundation.is_file():
            raise InputError(f"no file {foundation}", where="potential.foundation")
        if settings.long_range == "les":
            require_les()

    @override
    def start(self, settings: Any, species: Iterable[str]) -> Potential | None:
        """Return the foundation model that the settings name; None where they name none."""
        if settings.foundation is None:
            return None
        from al_charge.potentials.mace.foundation import read_foundation

        return read_foundation(settings.foundation, settings, species)
