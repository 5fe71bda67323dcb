"""The potentials that come with al-charge, as plug-ins."""

from __future__ import annotations

from typing import TYPE_CHECKING

from al_charge.plugins import Quantity
from al_charge.potentials.plugin import PotentialPlugin
from al_charge.potentials.settings import (
    ChgnetSettings,
    CpainnSettings,
    MaceSettings,
    PainnSettings,
)

if TYPE_CHECKING:
    from al_charge.potentials.networks.architecture import Architecture

CORE = frozenset({Quantity.ENERGY, Quantity.FORCES, Quantity.STRESS})


class PainnPlugin(PotentialPlugin):
    """PaiNN."""

    kind = "painn"
    title = "PaiNN"
    summary = "polarisable atom interaction network, cheap on a CPU"
    settings = PainnSettings
    gives = CORE
    needs = CORE

    def architecture(self) -> type[Architecture]:
        """Return the network."""
        from al_charge.potentials.networks.painn import Painn

        return Painn


class CpainnPlugin(PotentialPlugin):
    """cPaiNN."""

    kind = "cpainn"
    title = "cPaiNN"
    summary = "PaiNN that also tells the moment and the Bader charge of every site"
    settings = CpainnSettings
    gives = frozenset({*CORE, Quantity.MOMENTS, Quantity.CHARGES})
    needs = CORE

    def architecture(self) -> type[Architecture]:
        """Return the network."""
        from al_charge.potentials.networks.painn import Cpainn

        return Cpainn


class MacePlugin(PotentialPlugin):
    """MACE."""

    kind = "mace"
    title = "MACE"
    summary = "higher-body-order equivariant message passing"
    settings = MaceSettings
    gives = CORE
    needs = CORE

    def architecture(self) -> type[Architecture]:
        """Return the network."""
        from al_charge.potentials.networks.mace import Mace

        return Mace


class ChgnetPlugin(PotentialPlugin):
    """CHGNet."""

    kind = "chgnet"
    title = "CHGNet"
    summary = "bonds and angles, trained on moments as well, from published weights"
    settings = ChgnetSettings
    gives = frozenset({*CORE, Quantity.MOMENTS})
    needs = CORE

    def architecture(self) -> type[Architecture]:
        """Return the network."""
        from al_charge.potentials.networks.chgnet import Chgnet

        return Chgnet
