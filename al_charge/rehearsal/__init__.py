"""The rehearsal labeler: a stored potential labels as if it were density-functional theory.

It needs both labelers and potentials, which do not know each other, so it has a room above them.
"""

from __future__ import annotations

from typing import Any

from typing_extensions import override

from al_charge.labelers.plugin import LabelerPlugin
from al_charge.labelers.protocol import Labeler
from al_charge.plugins import Quantity
from al_charge.rehearsal.settings import ModelSettings


class ModelPlugin(LabelerPlugin):
    """A stored potential that labels in place of density-functional theory."""

    kind = "model"
    title = "rehearsal (a stored potential, not DFT)"
    summary = "a rehearsal: a stored potential labels in place of DFT"
    settings = ModelSettings
    gives = frozenset({Quantity.ENERGY, Quantity.FORCES, Quantity.STRESS})

    @override
    def make(self, settings: Any) -> Labeler:
        from al_charge.rehearsal.labeler import ModelLabeler

        return ModelLabeler(settings)

    @override
    def remark(self, settings: Any) -> str:
        source = f"{settings.model.name} ({settings.digest[:12]})"
        metal = (
            ""
            if settings.metal_energy is not None
            else ("; without metal_energy, voltages mean something only by their differences")
        )
        return f"rehearsal: energies are those of the potential {source}, not of DFT{metal}"
