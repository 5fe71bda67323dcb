"""The contract of potentials, for every architecture, charge-aware and blind."""

from __future__ import annotations

import pytest

from al_charge.potentials.settings import MaceSettings, PainnSettings, PotentialSettings
from al_charge.testing.potentials import PotentialContract

SMALL: dict[str, PotentialSettings] = {
    "painn": PainnSettings(cutoff="4 A", channels=8, radial=6),
    "mace": MaceSettings(cutoff="3.5 A", channels=4, max_ell=1, radial=4),
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
