"""The demo's campaign file with another kind of potential: one word is changed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from al_charge.loop.spec import CampaignSpec, load_spec
from al_charge.potentials.settings import ChgnetSettings

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


def al_charge(*arguments: str, home: Path) -> str:
    environment = os.environ | {"AL_CHARGE_HOME": str(home), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "al_charge", *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


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
def test_every_kind_is_checked_and_goes_through_a_round(kind: str, tmp_path: Path) -> None:
    """Labels, a committee, candidates relaxed by it, labels of those, and a committee again."""
    file = one_word_changed("nafepo4_born_small", kind, tmp_path)
    document = yaml.safe_load(file.read_text(encoding="utf-8"))
    file.write_text(yaml.safe_dump(document | TINY), encoding="utf-8")
    home = tmp_path / "home"
    home.mkdir()
    assert f"2 {kind} potentials" in al_charge("check", str(file), home=home)
    try:
        al_charge("campaign", "submit", str(file), "--workers", "1", home=home)
        hull = json.loads(al_charge("hull", document["name"], "--json", home=home))
    finally:
        al_charge("db", "stop", home=home)
    assert len(hull["entries"]) == 7
    assert {"0", "1"} <= {vertex["x"] for vertex in hull["vertices"]}
