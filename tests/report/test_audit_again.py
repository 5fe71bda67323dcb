"""Labels of an export are audited again with the windows that they were audited with."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from al_charge.crystal.host import Host
from al_charge.crystal.host_spec import HostSpec
from al_charge.crystal.valence import Audit
from al_charge.report.audit_again import Auditor

STRUCTURE = Path(__file__).parents[1] / "cases" / "hosts" / "licoo2.cif"
ENGINE = {"Co3+": [3.0, 3.3], "Co3+,spin=0": [0.0, 0.3]}


def audited(
    asked: list[str],
    moments: list[float],
    *,
    ambiguous: bool = False,
    sites: dict[str, Any] | None = None,
    **windows: Any,
) -> Audit | str:
    document = {
        "engine_windows": {"ranges": windows.get("engine", ENGINE), "given": False, "users": {}},
        "moment_windows": windows.get("newest", {}),
    }
    host = {"structure": STRUCTURE, "working_ion": "Li", "redox": {"Co": [3, 4]}}
    spec = HostSpec.model_validate(host | {"fixed": {"O": -2}, "sites": sites or {}})
    auditor = Auditor(document, built := Host.from_spec(spec))
    atoms = Atoms("".join(token[:2].rstrip("2") for token in asked), cell=[5] * 3, pbc=True)
    atoms.info["ambiguous"] = ambiguous
    symbols = atoms.get_chemical_symbols()
    of_element = {
        el: itertools.cycle(np.flatnonzero(np.array(built.elements) == el)) for el in symbols
    }
    atoms.set_array("host_site", np.array([next(of_element[el]) for el in symbols]))
    atoms.calc = SinglePointCalculator(atoms, magmoms=np.array(moments))
    told = [None if ambiguous and token.startswith("Co") else token for token in asked]
    return auditor.audit(
        built, atoms, asked, told, auditor.windows({"windows": windows.get("own", {})})
    )


@pytest.mark.parametrize("engine", [{}, ENGINE])
def test_an_end_member_that_calibrated_itself(engine: dict[str, list[float]]) -> None:
    asked = ["Co4+,spin=1", "O2-", "O2-"]
    found = audited(asked, [1.0, 0.1, 0.1], engine=engine)
    assert isinstance(found, Audit)
    assert found.species == tuple(asked)


def test_states_that_no_end_member_shows_have_the_windows_of_the_engine() -> None:
    asked = ["Co3+,spin=0", "Co4+,spin=1", "Li+", "O2-", "O2-", "O2-", "O2-"]
    found = audited(asked, [0.1, 1.0, 0, 0, 0, 0, 0], own={"Co4+,spin=1": [0.9, 1.1]})
    assert isinstance(found, Audit)
    assert found.sites[:2] == tuple(asked[:2])


def test_a_spin_state_that_the_host_has_not_stays_uncertain() -> None:
    asked = ["Co3+,spin=0", "Li+", "O2-", "O2-"]
    own = {"Co3+,spin=0": [0.0, 0.1], "Co4+,spin=1": [0.9, 1.1]}
    found = audited(asked, [3.1, 0.0, 0.0, 0.0], own=own, ambiguous=True)
    assert isinstance(found, Audit)
    assert found.ambiguous == (0,)


def test_a_state_that_its_site_has_not_stays_uncertain() -> None:
    """The first cobalt stays Co3+; its moment, read alone, says Co4+ with every charge certain."""
    asked = ["Co3+,spin=0", "Co4+,spin=1", "Li+", "O2-", "O2-", "O2-", "O2-"]
    own = {"Co3+,spin=0": [0.0, 0.1], "Co4+,spin=1": [0.9, 1.1]}
    exchanged = [1.0, 0.05, 0.0, 0.0, 0.0, 0.0, 0.0]
    assert isinstance(audited(asked, exchanged, own=own, ambiguous=True), str)
    found = audited(asked, exchanged, own=own, ambiguous=True, sites={"Co1": 3})
    assert isinstance(found, Audit) and found.species is None
    assert found.ambiguous == (0,)
