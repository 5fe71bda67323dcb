"""The benchmark of whole campaigns: what it tells, and how it goes on after an interruption."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from al_charge.loop.campaign import Campaign, open_campaign
from al_charge.loop.energies import labelled_hull
from al_charge.store.connection import connect
from al_charge.store.embedded import HOME_ENV, EmbeddedServer
from al_charge.store.mongo import Store

ROOT = Path(__file__).parents[2]
CAMPAIGN = f"""
name: small
host:
  structure: {ROOT}/workflows/hosts/NaFePO4.cif
  working_ion: Na
  redox: {{Fe: [2, 3]}}
  fixed: {{P: 5, O: -2}}
labeler: {{kind: born, relax: cell}}
potential: {{kind: painn, cutoff: 3 A, channels: 2, layers: 1, pair_cutoff: 6 A}}
training: {{epochs: 1}}
committee: {{size: 2}}
acquisition: {{first_round: 5, labels_per_round: 2}}
convergence: {{max_labels: 16}}
"""
ENERGY = -99.0
"""Of every configuration, eV per formula unit: the truth that the test makes up."""

pytestmark = [pytest.mark.mongod, pytest.mark.slow]


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """The benchmark, of a small campaign on one cell."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import born_truth  # type: ignore[import-not-found, unused-ignore]
    import whole_campaigns  # type: ignore[import-not-found, unused-ignore]

    (tmp_path / "small.yaml").write_text(CAMPAIGN, encoding="utf-8")
    monkeypatch.setattr(whole_campaigns, "CAMPAIGN", tmp_path / "small.yaml")
    monkeypatch.setattr(whole_campaigns, "DATA", tmp_path)
    monkeypatch.setenv(HOME_ENV, str(tmp_path))
    numbers = (1, 3, 5, 3, 1)
    truth = born_truth.Truth(
        (1, 1, 1),
        {n: np.full(number, ENERGY) for n, number in enumerate(numbers)},
        {n: np.ones(number, dtype=np.int8) for n, number in enumerate(numbers)},
    )
    truth.save(tmp_path / "nafepo4_born_1x1x1.npz")
    return whole_campaigns


def run(
    module: ModuleType, monkeypatch: pytest.MonkeyPatch, folder: Path, rounds: int
) -> dict[str, Any]:
    """Return what the benchmark writes when it ends after so many rounds."""
    words = f"whole {folder} --supercell 1 1 1 --seeds 3 --max-labels 12 --rounds {rounds}"
    monkeypatch.setattr("sys.argv", words.split())
    module.main()
    document: dict[str, Any] = json.loads((folder / "seed-3.json").read_text())
    return document


def test_it_goes_on_where_it_ended_and_judges_the_hull(
    module: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    first = run(module, monkeypatch, tmp_path / "runs", 1)
    (before,) = first["rounds"]
    assert (before["labels"], before["relaxed"]) == (5, 0)
    assert before["seconds"].keys() == {*module.STEPS}
    file = tmp_path / "runs" / "seed-3.json"
    killed = {"seed": 3, "rounds": [{"seconds": before["seconds"]}]}  # before the round was told
    file.write_text(json.dumps(killed), encoding="utf-8")
    second = run(module, monkeypatch, tmp_path / "runs", 2)
    again, after = second["rounds"]
    assert again == before
    assert after["labels"] > 5 and 0 < after["relaxed"] < after["evaluations"]
    assert after["seconds"]["propose"] > 0
    assert second["state"] == "running"
    assert second["true_vertices"] == ["0", "1"]
    assert not second["exact"] and second["hull_error"] > 0.01
    assert f"{1e3 * second['hull_error']:.1f} meV" in capsys.readouterr().out

    monkeypatch.setenv(HOME_ENV, str(tmp_path / "runs" / "home"))
    store = Store(connect(None))
    try:
        _check_judgement(module, open_campaign(store, "whole-3"))
    finally:
        store.close()
        EmbeddedServer().stop()


def _check_judgement(module: ModuleType, campaign: Campaign) -> None:
    """By how much the hull is wrong, of truths that are made to differ from it."""
    hull = labelled_hull(campaign).hull
    xs = {n: campaign.host.composition(n) for n in campaign.host.ion_counts}
    flat = {n: np.array([hull.reference(x) + hull.lower(x)]) for n, x in xs.items()}

    def judged(n: int, change: float, moved: bool = False) -> dict[str, Any]:
        energies = flat | {n: np.append(flat[n], flat[n] + change)}
        outcomes = {m: np.full(len(energies[m]), module.Outcome.RELAXED) for m in xs}
        if moved:
            outcomes[n][-1] = module.Outcome.MOVED
        found: dict[str, Any] = module.judge(campaign, module.Truth((1, 1, 1), energies, outcomes))
        return found

    assert judged(2, 0.0)["exact"]
    wrong = judged(2, -2.0)
    assert not wrong["exact"] and wrong["hull_error"] == pytest.approx(2.0)
    assert judged(2, -2.0, moved=True)["exact"]
    record = campaign.store.rounds.last("whole-3", assessed=True)
    assert record is not None and record.assessment is not None
    told = {one.x: one for one in record.assessment.compositions or ()}["1/2"]
    bound = told.lowest_labelled - told.lower_by - hull.lower(0.5)
    assert wrong["below_bound"]["1/2"] == pytest.approx(bound + 2.0)
    assert "1/2" not in judged(2, min(bound - 5e-6, 0.0))["below_bound"]


def test_what_has_ended_is_not_played_again(
    module: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Results may be there without their database, as in a clone of the repository."""
    (tmp_path / "runs").mkdir()
    one = {"seconds": {"propose": 60.0}, "labels": 9, "relaxed": 4}
    ended = {"seed": 3, "rounds": [one], "state": "converged", "exact": False, "hull_error": 0.003}
    (tmp_path / "runs" / "seed-3.json").write_text(json.dumps(ended), encoding="utf-8")
    assert run(module, monkeypatch, tmp_path / "runs", 2) == ended
