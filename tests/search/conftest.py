"""A host with spin states."""

from __future__ import annotations

from pathlib import Path

import pytest

from al_charge.crystal.host import Host
from al_charge.crystal.host_spec import HostSpec


@pytest.fixture(scope="session")
def spins() -> Host:
    """Layered LixCoO2, 3 Li sites and 3 Co, with Co3+ of high spin (3) and of low spin (35)."""
    spec = HostSpec(
        structure=Path(__file__).parents[1] / "cases" / "hosts" / "licoo2.cif",
        working_ion="Li",
        redox={"Co": ("3 low", "3 high", 4)},
        fixed={"O": -2},
    )
    return Host.from_spec(spec)
