"""What a new campaign stores, and what is refused before anything is stored."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from al_charge.errors import InputError
from al_charge.loop.campaign import STATIC_REACH, Campaign, new_document
from al_charge.loop.spec import CampaignSpec, parse_spec

HOSTS = Path(__file__).parents[2] / "workflows" / "hosts"


def specification(folder: Path = HOSTS, **sections: Any) -> CampaignSpec:
    document: dict[str, Any] = {
        "name": "new",
        "host": {
            "structure": "NaFePO4.cif",
            "working_ion": "Na",
            "redox": {"Fe": [2, 3]},
            "fixed": {"P": 5, "O": -2},
        },
        "labeler": {"kind": "born", "relax": "none"},
        "potential": {"kind": "painn"},
    }
    for section, fields in sections.items():
        document[section] = document.get(section, {}) | fields
    return parse_spec(document, source=folder / "campaign.yaml")


def campaign(**sections: Any) -> Campaign:
    from pymatgen.core.structure import Structure

    spec = specification(**sections)
    document = new_document(spec)
    empty = document.spec.get("empty_structure")
    return Campaign(
        spec=spec,
        structure=Structure.from_dict(document.spec["structure"]),
        store=None,  # type: ignore[arg-type]
        empty=Structure.from_dict(empty) if empty else None,
    )


def test_the_empty_structure_is_stored_and_not_its_path(tmp_path: Path) -> None:
    for name in ("NaFePO4.cif", "FePO4.cif"):
        shutil.copy(HOSTS / name, tmp_path)
    here, there = (
        new_document(specification(folder, host={"empty_structure": "FePO4.cif"}))
        for folder in (HOSTS, tmp_path)
    )
    assert here.spec == there.spec
    assert here.spec["campaign"]["host"]["empty_structure"] == "FePO4.cif"
    assert len(here.spec["empty_structure"]["sites"]) == 24


def test_the_empty_structure_does_not_change_who_the_host_is() -> None:
    without = campaign()
    with_it = campaign(host={"empty_structure": "FePO4.cif"})
    assert with_it.host.fingerprint == without.host.fingerprint
    assert without.start_host(0) is without.host
    volumes = [with_it.start_host(n).structure.volume for n in with_it.host.ion_counts]
    assert volumes == sorted(volumes)
    assert volumes[0] == pytest.approx(9.7599 * 5.7519 * 4.7560)
    assert volumes[-1] == pytest.approx(with_it.host.structure.volume)


def test_another_crystal_as_empty_structure_is_refused() -> None:
    with pytest.raises(InputError, match=r"host\.empty_structure: it contains Na"):
        new_document(specification(host={"empty_structure": "NaFePO4.cif"}))
    with pytest.raises(InputError, match=r"host\.empty_structure: no structure file"):
        new_document(specification(host={"empty_structure": "LiFePO4.cif"}))


def test_no_cell_is_relaxed_without_stress() -> None:
    lcao = {"kind": "gpaw", "mode": "lcao", "relax": "none"}
    with pytest.raises(InputError, match=r"relaxation\.cell: .*gives no stress"):
        new_document(specification(labeler=lcao, relaxation={"cell": True}))


@pytest.mark.parametrize(
    ("labeler", "relaxation", "cells", "reach"),
    [
        ({"kind": "born", "relax": "none"}, {}, True, STATIC_REACH),
        ({"kind": "born", "relax": "cell"}, {}, True, float("inf")),
        ({"kind": "born", "relax": "none"}, {"cell": False, "reach": "0.1 A"}, False, 0.1),
    ],
)
def test_how_far_committees_relax(
    labeler: dict[str, Any], relaxation: dict[str, Any], cells: bool, reach: float
) -> None:
    found = campaign(labeler=labeler, relaxation=relaxation)
    assert found.relaxes_cells is cells
    assert found.relaxation_reach == reach
