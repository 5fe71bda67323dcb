"""The contract of potentials, for every network; in part for its blind twin."""

from __future__ import annotations

import pytest

from al_charge.potentials.chgnet import ChgnetSettings
from al_charge.potentials.mace import MaceSettings
from al_charge.potentials.painn import CpainnSettings, PainnSettings
from al_charge.potentials.settings import PotentialSettings
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


@pytest.mark.parametrize("settings", SMALL.values(), ids=SMALL)
class TestContract(PotentialContract):
    """All of it."""


@pytest.mark.parametrize(
    "settings",
    [one.model_copy(update={"charge_aware": False}) for one in SMALL.values()],
    ids=SMALL,
)
class TestBlind:
    """What a vocabulary of elements changes; layers are the same."""

    test_a_new_species = PotentialContract.test_a_new_species_changes_no_energy
    test_charge_orders = (
        PotentialContract.test_only_a_charge_aware_potential_tells_charge_orders_apart
    )
    test_forces = PotentialContract.test_forces_are_derivatives
    test_files = PotentialContract.test_saved_and_loaded_bit_for_bit
