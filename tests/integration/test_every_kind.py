"""The demo's campaign file with another kind of potential: one word is changed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from al_charge.fw.tasks import CATEGORIES
from al_charge.fw.worker import work
from al_charge.loop.spec import CampaignSpec, load_spec
from al_charge.potentials.chgnet import ChgnetSettings
from al_charge.store.embedded import HOME_ENV

Run = Callable[..., tuple[int, str, str]]
WORKFLOWS = Path(__file__).parents[2] / "workflows"
KINDS = ("cpainn", "mace", "chgnet")
TINY: dict[str, dict[str, Any]] = {
    "training": {"epochs": 1},
    "committee": {"size": 2},
    "relaxation": {"max_steps": 3},
    "search": {"evaluations": 2, "seeds": 2},
    "acquisition": {"first_round": 5, "labels_per_round": 2},
    "convergence": {"max_labels": 8, "max_rounds": 2},
}


def one_word_changed(template: str, kind: str, folder: Path) -> Path:
    """Copy a shipped campaign file, its potential alone of another kind."""
    shutil.copytree(WORKFLOWS / "hosts", folder / "hosts", dirs_exist_ok=True)
    text = (WORKFLOWS / f"{template}.yaml").read_text(encoding="utf-8")
    assert text.count("painn") == 1
    file = folder / f"{template}.yaml"
    file.write_text(text.replace("painn", kind), encoding="utf-8")
    return file


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("template", ["nafepo4_born", "nafepo4_born_small"])
def test_one_word_is_enough_for_another_kind(template: str, kind: str, tmp_path: Path) -> None:
    spec = load_spec(one_word_changed(template, kind, tmp_path))
    shipped = load_spec(WORKFLOWS / f"{template}.yaml")
    assert spec.potential.kind == kind
    assert (spec.potential.cutoff, spec.potential.channels) == (4.0, 16)
    unchanged = set(CampaignSpec.model_fields) - {"potential", "host"}
    assert spec.model_dump(include=unchanged) == shipped.model_dump(include=unchanged)
    if isinstance(spec.potential, ChgnetSettings):
        assert not spec.potential.pretrained


@pytest.mark.slow
@pytest.mark.mongod
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_checked_and_goes_through_a_round(
    kind: str, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Labels, a committee, candidates relaxed by it, labels of those, and a committee again."""
    file = one_word_changed("nafepo4_born_small", kind, tmp_path)
    document = yaml.safe_load(file.read_text(encoding="utf-8"))
    file.write_text(yaml.safe_dump(document | TINY), encoding="utf-8")
    monkeypatch.setenv(HOME_ENV, str(tmp_path / "home"))
    assert f"2 {kind} potentials" in run("check", str(file))[1]
    try:
        assert run("campaign", "submit", str(file))[0] == 0
        work(None, document["name"], tmp_path / "runs", categories=CATEGORIES, until_idle=True)
        hull = json.loads(run("hull", document["name"], "--json")[1])
    finally:
        assert run("db", "stop")[0] == 0
    assert len(hull["entries"]) == 7
    assert {"0", "1"} <= {vertex["x"] for vertex in hull["vertices"]}
