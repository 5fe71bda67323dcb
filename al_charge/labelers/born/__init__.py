"""An analytic ionic model for demos, tests and benchmarks."""

from __future__ import annotations

from typing import Any

from typing_extensions import override

from al_charge.labelers.born.settings import BornSettings
from al_charge.labelers.plugin import LabelerPlugin
from al_charge.labelers.protocol import Labeler
from al_charge.plugins import Quantity


class BornPlugin(LabelerPlugin):
    """An analytic ionic model for demos, tests and benchmarks."""

    kind = "born"
    title = "Born (analytic ionic model)"
    summary = "an analytic ionic model, for demos, tests and benchmarks"
    settings = BornSettings
    gives = frozenset({Quantity.ENERGY, Quantity.FORCES, Quantity.STRESS})
    install = ""

    @override
    def make(self, settings: Any) -> Labeler:
        from al_charge.labelers.born.labeler import BornLabeler

        return BornLabeler(settings)
