"""The contract of potentials, for every architecture, charge-aware and blind."""

from __future__ import annotations

import pytest

from al_charge.potentials.settings import (
    ChgnetSettings,
    CpainnSettings,
    MaceSettings,
    PainnSettings,
    PotentialSettings,
)
from al_charge.testing.potentials import PotentialContract

SMALL: dict[str, PotentialSettings] = {
    "painn": PainnSettings(cutoff="4 A", channels=8, radial=6),
    "painn-spin": PainnSettings(cutoff="4 A", channels=8, radial=6, spin=True),
    "cpainn": CpainnSettings(cutoff="4 A", channels=8, radial=6),
    "mace": MaceSettings(cutoff="3.5 A", channels=4, max_ell=1, radial=4),
    "mace-spin": MaceSettings(cutoff="3.5 A", channels=4, max_ell=1, radial=4, spin=True),
    "chgnet": ChgnetSettings(
        cutoff="4 A", channels=8, layers=2, radial=5, angular=5, pretrained=False
    ),
}


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param(s.model_copy(update={"charge_aware": aware}), id=f"{name}-{word}")
        for name, s in SMALL.items()
        for aware, word in ((True, "aware"), (False, "blind"))
    ],
)
class TestContract(PotentialContract):
    """All of it."""
