"""A campaign rehearsed from its file to its hull, which is the one that the same potential has."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from pymongo.database import Database

from al_charge.crystal.configuration import from_atoms, to_atoms
from al_charge.crystal.enumeration import enumerate_distinct
from al_charge.crystal.host import Host
from al_charge.crystal.symmetry import canonical_hash
from al_charge.errors import InputError
from al_charge.labelers.labelling import make_label
from al_charge.loop.campaign import open_campaign
from al_charge.loop.spec import load_spec
from al_charge.loop.submit import submit
from al_charge.rehearsal.labeler import ModelLabeler
from al_charge.rehearsal.settings import ModelSettings
from al_charge.store.embedded import HOME_ENV
from al_charge.store.mongo import Store

OLIVINE = Path(__file__).parents[2] / "workflows" / "hosts" / "NaFePO4.cif"
Run = Callable[..., tuple[int, str, str]]


def campaign_file(folder: Path, model: Path, **labeler: object) -> Path:
    """Write a campaign file, with the potential beside it under a name of its own."""
    folder.mkdir(exist_ok=True)
    (folder / "truth.model").write_bytes(model.read_bytes())
    document = {
        "name": "rehearsed",
        "host": {
            "structure": str(OLIVINE),
            "working_ion": "Na",
            "redox": {"Fe": [2, 3]},
            "fixed": {"P": 5, "O": -2},
        },
        "labeler": {"kind": "model", "model": "truth.model", **labeler},
        "potential": {
            "kind": "painn",
            "cutoff": "4 A",
            "channels": 8,
            "layers": 1,
            "pair_cutoff": "6 A",
        },
        "training": {"epochs": 2},
        "committee": {"size": 2},
        "relaxation": {"max_steps": 20},
        "search": {"evaluations": 6, "seeds": 4},
        "acquisition": {"first_round": 6, "labels_per_round": 3},
        "convergence": {"max_labels": 16},
    }
    path = folder / "rehearsed.yaml"
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    return path


def exhaustive(host: Host, model: Path, folder: Path) -> dict[str, float]:
    """Return the lowest energy of each composition, eV/f.u., by relaxing every configuration."""
    labeler = ModelLabeler(ModelSettings(model=model))
    lowest: dict[str, float] = {}
    for n_ions in host.ion_counts:
        energies = []
        for i, one in enumerate(enumerate_distinct(host, n_ions)):
            atoms = to_atoms(host, one)
            last = make_label(labeler, atoms, folder / f"{n_ions}-{i}").reading.frames[-1]
            del atoms.arrays["host_site"]
            atoms.set_cell(last.cell)
            atoms.set_positions(last.positions)
            with contextlib.suppress(InputError):  # which is no configuration any more
                if canonical_hash(host, from_atoms(host, atoms)) == canonical_hash(host, one):
                    energies.append(last.energy)
        lowest[str(host.composition(n_ions))] = min(energies) / host.formula_units
    return lowest


@pytest.mark.slow
@pytest.mark.mongod
def test_a_rehearsed_campaign_ends_at_the_hull_of_its_potential(
    olivine: Host,
    model: Path,
    tmp_path: Path,
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file = campaign_file(tmp_path / "files", model)
    monkeypatch.setenv(HOME_ENV, str(tmp_path / "home"))
    shown: dict[str, str] = {"check": run("check", str(file))[1]}
    try:
        assert run("campaign", "submit", str(file))[0] == 0
        (file.parent / "truth.model").unlink()  # workers have it from the database
        assert run("worker", "rehearsed", "--processes", "1")[0] == 0
        for command in ("hull", "voltage", "labels"):
            shown[command] = run(command, "rehearsed")[1]
        shown["status"] = run("campaign", "status", "rehearsed")[1]
        status = json.loads(run("campaign", "status", "rehearsed", "--json")[1])
        hull = json.loads(run("hull", "rehearsed", "--json")[1])
        labels = json.loads(run("labels", "rehearsed", "--json")[1])
        plot, data = tmp_path / "hull.html", tmp_path / "labels.extxyz"
        assert run("hull", "rehearsed", "--plot", str(plot))[0] == 0
        assert run("export", "rehearsed", str(data))[0] == 0
    finally:
        assert run("db", "stop")[0] == 0
    assert status["state"] == "converged"
    truth = exhaustive(olivine, model, tmp_path / "truth")
    for vertex in hull["vertices"]:
        assert vertex["energy_per_formula"] == pytest.approx(truth[vertex["x"]], abs=1e-3)
    ends = truth["0"], truth["1"]
    for x, energy in truth.items():  # and no composition that is no vertex lies below
        part = float(Fraction(x))
        formation = energy - (1 - part) * ends[0] - part * ends[1]
        assert formation >= hull_at(hull, part) - 1e-3, x
    for command, text in shown.items():
        assert "rehearsal" in text.lower(), command
    assert all(label["engine"].startswith("rehearsal ") for label in labels["labels"])
    for written in (plot, data, data.with_suffix(".json")):
        assert "rehearsal" in written.read_text(encoding="utf-8"), written


def hull_at(hull: dict[str, Any], x: float) -> float:
    """Return the formation energy of the printed hull at a composition."""
    points = [(float(Fraction(v["x"])), v["formation_energy"]) for v in hull["vertices"]]
    return float(np.interp(x, *zip(*points, strict=True)))


def test_the_potential_is_kept_in_the_database_by_its_content(
    database: Database[dict[str, Any]], model: Path, single: Path, tmp_path: Path
) -> None:
    store = Store(database)
    store.ensure_schema()
    file = campaign_file(tmp_path, model)
    assert submit(store, load_spec(file))
    assert not submit(store, load_spec(file))
    assert store.files.unused() == [] and list(store.files.damaged()) == []
    campaign = open_campaign(store, "rehearsed")
    assert str(campaign.spec.labeler.model) == "truth.model"  # type: ignore[attr-defined]
    (tmp_path / "truth.model").unlink()
    campaign.bring_file()
    campaign.labeler.check(campaign.host.species, "Na")
    assert campaign.settings_hash == store.campaigns.get("rehearsed").settings_hash
    other = campaign_file(tmp_path, single)  # the same file of a campaign with another potential
    with pytest.raises(InputError, match="another campaign has this name"):
        submit(store, load_spec(other))
    database["weights.chunks"].delete_many({})
    (damaged,) = store.files.damaged("rehearsed")
    assert (damaged.kind, damaged.content) == ("campaign", "labeler")
