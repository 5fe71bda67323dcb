"""Random configurations, and hosts with symmetry that a cell breaks or spin states."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from al_charge.crystal.host import Host
from al_charge.crystal.host_spec import HostSpec
from al_charge.search.random_occupation import random_occupation
from al_charge.surrogate.polynomial import occupations_of

CASES = Path(__file__).parents[1] / "cases" / "hosts"


@pytest.fixture(scope="session")
def randomly() -> Callable[..., NDArray[np.int8]]:
    """Draw neutral occupations of a host."""

    def draw(host: Host, number: int, n_ions: int | None = None) -> NDArray[np.int8]:
        rng = np.random.default_rng(7)
        ions = rng.choice(host.ion_counts, number) if n_ions is None else [n_ions] * number
        return occupations_of([random_occupation(host, int(n), rng) for n in ions], host)

    return draw


@pytest.fixture(scope="session")
def p2() -> Callable[..., Host]:
    """Make a cell of P2-NaxCoO2: two classes of Na sites, which exclude each other in pairs."""

    def make(supercell: object) -> Host:
        fields = {"structure": CASES / "nacoo2_p2_both_sites.cif", "supercell": supercell}
        fields |= {"working_ion": "Na", "redox": {"Co": (3, 4)}, "fixed": {"O": -2}}
        return Host.from_spec(HostSpec.model_validate(fields))

    return make


@pytest.fixture(scope="session")
def spins() -> Host:
    """LixCoO2 on a 2x2x1 supercell with Co3+ in two spin states."""
    fields = {"structure": CASES / "licoo2_primitive.cif", "supercell": (2, 2, 1)}
    fields |= {"working_ion": "Li", "redox": {"Co": (3, "3 high", 4)}, "fixed": {"O": -2}}
    return Host.from_spec(HostSpec.model_validate(fields))
