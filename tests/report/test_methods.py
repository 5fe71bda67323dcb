"""The methods paragraph tells what was used, and nothing that was not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from al_charge.crystal.prepare import parent_structure
from al_charge.loop.campaign import Campaign
from al_charge.loop.select import TEST
from al_charge.loop.spec import load_spec
from al_charge.report.campaign_report.methods import methods_paragraph
from al_charge.report.references import LABELERS
from al_charge.store.documents import Assessment

WORKFLOWS = Path(__file__).parents[2] / "workflows"
GPAW = {"xc": "PBE", "hubbard_u": {"Fe": 5.3, "Mn": 3.9}, "cutoff": 450.0}
VASP = {"incar": {"GGA": "PE", "ENCUT": 520.0, "METAGGA": None}, "hubbard_u": {"Fe": 5.3}}
ROW = {"relax": "cell", "imported": None, "refused": "", "delocalised": False}


def told(
    kind: str,
    settings: dict[str, Any],
    rows: list[Any],
    last: Assessment | None,
    reasons: tuple[str, ...] = (),
) -> str:
    spec = load_spec(WORKFLOWS / f"nafepo4_{kind}.yaml")
    rounds = [SimpleNamespace(reasons=["diverse"]), SimpleNamespace(reasons=list(reasons))]
    store: Any = SimpleNamespace(rounds=SimpleNamespace(all=lambda name: rounds))
    campaign = Campaign(spec, parent_structure(spec.host), store)
    return methods_paragraph(
        campaign,
        version="0.2.0",
        formula="NaxFePO4",
        space="x = 0 to 1",
        distinct=874,
        labels={"labels": rows, "engines": [f"{kind} 1"]},
        settings=settings,
        last=last,
        references=list(LABELERS.get(kind, ())),
    )


def test_density_functional_theory_is_told_as_it_was_set(
    make_assessment: Callable[..., Assessment],
) -> None:
    rows = [ROW, ROW | {"relax": "none", "imported": {}}, ROW | {"delocalised": True}]
    text = told("gpaw", GPAW, rows, make_assessment(exhaustive=False))
    assert "3 labels were made by GPAW, engine gpaw 1, 1 as single points and 2 with" in text
    assert "PBE with U - J = 5.3 eV on Fe, plane waves up to 450 eV" in text
    assert "Mn" not in text, "which the host does not have"
    assert "Imported: 1 of them" in text and "In 1 of them sites share a charge" in text
    assert "ranked a sample of the configurations" in text
    assert "[Mortensen2024]" in text
    vasp = told("vasp", VASP, [ROW], make_assessment(exhaustive=True))
    assert "PBE with U - J = 5.3 eV on Fe, plane waves up to 520 eV" in vasp
    assert "1 label was made" in vasp and "ranked every configuration" in vasp


def test_a_label_that_tested_predictions_is_told_where_there_was_one(
    make_assessment: Callable[..., Assessment],
) -> None:
    last, sentence = make_assessment(exhaustive=True), "one predicted ground state was labelled"
    assert sentence not in told("gpaw", GPAW, [ROW], last, ("takes 3 of 9 meV/f.u. off",))
    assert sentence in told("gpaw", GPAW, [ROW], last, (TEST + "1/4, 0 % chance below hull",))


@pytest.mark.parametrize("rows", [[], [ROW]])
def test_nothing_is_told_that_has_not_happened(rows: list[Any]) -> None:
    text = told("gpaw", GPAW, rows, None)
    assert ("PBE" in text) == bool(rows)
    for word in ("committee", "voltages", "Gaussian process"):
        assert word not in text
    assert "874 symmetry-distinct" in text
