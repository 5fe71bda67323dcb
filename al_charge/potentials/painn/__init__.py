"""PaiNN, and cPaiNN, which also predicts moments and Bader charges."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field
from typing_extensions import override

from al_charge.plugins import Quantity
from al_charge.potentials.plugin import NetworkSettings, PotentialPlugin

if TYPE_CHECKING:
    from al_charge.potentials.networks.architecture import Architecture

ENERGIES = frozenset({Quantity.ENERGY, Quantity.FORCES, Quantity.STRESS})


class PainnSettings(NetworkSettings):
    """Polarisable atom interaction network: scalar and vector features, cheap on a CPU."""

    kind: Literal["painn"] = "painn"
    channels: int = Field(default=32, ge=1, le=1024, description="features of one atom")
    layers: int = Field(default=2, ge=1, le=12, description="interaction layers")
    radial: int = Field(default=12, ge=1, le=128, description="radial basis functions")
    spin: bool = Field(
        default=False, description="whether site moments are an input, beside the charge states"
    )


class CpainnSettings(PainnSettings):
    """PaiNN that also predicts the moment and the Bader charge of every site."""

    kind: Literal["cpainn"] = "cpainn"  # type: ignore[assignment]


class PainnPlugin(PotentialPlugin):
    """PaiNN."""

    kind = "painn"
    title = "PaiNN"
    summary = "polarisable atom interaction network, cheap on a CPU"
    settings = PainnSettings
    gives = ENERGIES
    needs = ENERGIES

    @override
    def architecture(self) -> type[Architecture]:
        from al_charge.potentials.painn.network import Painn

        return Painn

    @override
    def reads_moments(self, settings: Any) -> bool:
        return bool(settings.spin)


class CpainnPlugin(PainnPlugin):
    """PaiNN with heads for moments and Bader charges."""

    kind = "cpainn"
    title = "cPaiNN"
    summary = "PaiNN that also predicts the moment and the Bader charge of every site"
    settings = CpainnSettings
    gives = frozenset(Quantity)

    @override
    def architecture(self) -> type[Architecture]:
        from al_charge.potentials.painn.network import Cpainn

        return Cpainn
