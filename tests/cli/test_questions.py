"""What is asked of a campaign that runs, of jobs that failed, and of two campaigns at once."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from pymongo import MongoClient
from rich.console import Console

from al_charge.crystal.configuration import to_atoms
from al_charge.crystal.enumeration import enumerate_distinct
from al_charge.fw.launchpad import connect_launchpad
from al_charge.fw.tasks import ensure_round
from al_charge.loop.campaign import Campaign, geometry_of, label_key, open_campaign
from al_charge.loop.spec import parse_spec
from al_charge.loop.submit import new_document
from al_charge.report.compared import comparison, comparison_table
from al_charge.store.documents import Assessment, CandidateDoc
from al_charge.store.labels import ALL_FRAMES

pytestmark = pytest.mark.mongod
Run = Callable[..., tuple[int, str, str]]
HOST = Path(__file__).parents[2] / "workflows" / "hosts" / "NaFePO4.cif"


@pytest.fixture
def running(labelled: Campaign) -> Campaign:
    """The campaign ``labelled`` in its first round, which has selected two configurations."""
    launchpad = connect_launchpad(None)
    with launchpad.connection:
        ensure_round(launchpad, labelled, 0)
    return labelled


def assess(campaign: Campaign, make: Callable[..., Assessment], keys: list[str]) -> None:
    rounds = campaign.store.rounds
    rounds.record_assessment(campaign.name, 0, make(), keys, np.zeros((2, len(keys))))


def test_jobs_that_failed_and_no_others(
    run: Run, running: Campaign, mongodb_client: MongoClient[Any]
) -> None:
    jobs = json.loads(run("campaign", "jobs", "labelled", "--json")[1])["jobs"]
    failed = jobs[2]
    database = mongodb_client["al_charge"]
    action = {"stored_data": {"_exception": {"_stacktrace": "Traceback\nValueError: no disk"}}}
    database["launches"].insert_one({"launch_id": 1, "fw_id": failed["fw_id"], "action": action})
    database["fireworks"].update_one(
        {"fw_id": failed["fw_id"]}, {"$set": {"state": "FIZZLED", "launches": [1]}}
    )
    code, out, err = run("campaign", "jobs", "labelled", "--failed", "--json")
    assert (code, err) == (0, "")
    (told,) = json.loads(out)["jobs"]
    assert (told["task"], told["state"]) == (failed["task"], "FIZZLED")
    assert "no disk" in told["reason"]
    table = run("campaign", "jobs", "labelled", "--failed")[1]
    assert "no disk" in table and failed["task"] in table and jobs[0]["task"] not in table


def test_next_of_a_campaign_that_runs(run: Run, running: Campaign) -> None:
    document = json.loads(run("next", "labelled", "--json")[1])
    assert (document["round"], document["labels"]) == (0, [])
    assert document["what"] == "round 0 has not selected its labels yet"
    store = running.store
    labels = {one.key: one for one in store.labels.read(ALL_FRAMES, campaign="labelled")}
    candidates = []
    for name, energy in (("exact", -192.0), ("whole", None)):
        label = labels[name]
        atoms = to_atoms(running.host, enumerate_distinct(running.host, label.n_ions)[0])
        candidates.append(
            CandidateDoc(
                campaign="labelled",
                round=0,
                n_ions=label.n_ions,
                composition=label.composition,
                config_hash=label.config_hash,
                colours=label.colours,
                geometry=geometry_of(atoms),
                energy=energy,
                spread=None if energy is None else 0.04,
                origin="enumerated",
            )
        )
        store.proposals.put("labelled", 0, label.n_ions, candidates[-1:])
    store.rounds.record_selection(
        "labelled", 0, {candidates[1].doc_id: "end member", candidates[0].doc_id: "uncertain"}
    )
    keys = [label_key(running, one) for one in candidates]
    store.labels.put(labels["whole"].model_copy(update={"key": keys[1]}))
    code, out, err = run("next", "labelled", "--json")
    assert (code, err) == (0, "")
    document = json.loads(out)
    assert (document["state"], document["round"]) == ("running", 0)
    assert document["what"] == "round 0 has 1 of 2 labels to make"
    told = [(one["x"], one["label"], one["state"], one["reason"]) for one in document["labels"]]
    assert told == [
        ("1", keys[1], "made", "end member"),
        ("1/2", keys[0], "waiting", "uncertain"),
    ]
    # Four formula units are in the cell.
    assert document["labels"][0]["predicted"] is None
    assert document["labels"][1]["predicted"] == pytest.approx(-48.0)
    store.attempts.start(keys[0], campaign="labelled", round=0, slot=0)
    (_, second) = json.loads(run("next", "labelled", "--json")[1])["labels"]
    assert second["state"] == "running"
    table = run("next", "labelled")[1]
    assert "uncertain" in table and "running" in table and "-48.0000" in table


def test_two_campaigns_that_differ(
    run: Run, running: Campaign, make_assessment: Callable[..., Assessment]
) -> None:
    """In the other x = 1/2 is 330 meV per formula unit lower: 80 below the end members."""
    store = running.store
    own = list(store.labels.read(ALL_FRAMES, campaign="labelled"))
    assess(running, make_assessment, [one.key for one in own])
    content = store.campaigns.get("labelled").spec["campaign"]
    content["host"]["structure"] = str(HOST)
    content |= {"name": "other", "labeler": {"kind": "born", "fmax": "0.01 eV/A"}, "seed": 2}
    store.campaigns.add(new_document(parse_spec(content, source=HOST)))
    other = open_campaign(store, "other")
    launchpad = connect_launchpad(None)
    with launchpad.connection:
        ensure_round(launchpad, other, 0)
    ends = {"123456789012345678901234": "empty", "exact": "half", "whole": "full"}
    for label in own:
        if label.key not in ends:
            continue
        shift = -1.32 if label.key == "exact" else 0.0
        new = {"key": ends[label.key], "campaign": "other"}
        store.labels.put(label.model_copy(update={**new, "energy": label.energy + shift}))
        store.labels.link("other", 0, ends[label.key])
    assess(other, make_assessment, list(ends.values()))
    code, out, err = run("compare", "labelled", "other", "--json")
    assert (code, err) == (0, "")
    document = json.loads(out)
    assert document["campaigns"] == ["labelled", "other"]
    assert document["same_host"] and document["same_settings"]
    assert document["hull_shift"] == pytest.approx(0.08)
    assert document["vertices"] == [["0", "1"], ["0", "1/2", "1"]]
    settings = {one["name"]: (one["first"], one["second"]) for one in document["settings"]}
    assert settings["seed"] == (1, 2)
    differences = {one["x"]: one["difference"] for one in document["compositions"]}
    assert differences == pytest.approx({"0": 0.0, "1/2": -0.33, "1": 0.0})
    back = json.loads(run("compare", "other", "labelled", "--json")[1])
    assert {one["x"]: one["difference"] for one in back["compositions"]} == pytest.approx(
        {x: -value for x, value in differences.items()}
    )
    table = run("compare", "labelled", "other")[1]
    assert "-330.0" in table and "seed" in table and "largest shift of the hull: 80.0 meV" in table

    changed = replace(other)
    told = {"engine": "born", "parameters": "changed"}
    vars(changed).update(
        settings_hash="another", _hashed_labeler=SimpleNamespace(settings=lambda: told)
    )
    document = comparison(running, changed)
    assert not document["same_settings"] and document["hull_shift"] is None
    (one,) = [one for one in document["settings"] if one["name"] == "labeler.parameters"]
    assert (one["first"], one["second"]) == (running.physical_settings["parameters"], "changed")
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(comparison_table(document))
    text = console.export_text()
    assert "settings that energies depend on: different" in text and "largest shift" not in text


def test_a_stored_campaign_that_is_not_valid_is_refused_in_one_line(
    run: Run, labelled: Campaign
) -> None:
    name = "<b>no file</b>"
    stored = labelled.store.campaigns.get("labelled")
    spec = stored.spec | {"campaign": stored.spec["campaign"] | {"name": name}}
    labelled.store.campaigns.add(stored.model_copy(update={"name": name, "spec": spec}))
    for command in (("campaign", "status", name), ("hull", name), ("compare", name, "labelled")):
        code, out, err = run(*command)
        assert (code, out, err.count("\n")) == (2, "", 1), err
        assert f"campaign '{name}': what is stored of it is not valid: name: " in err
        assert "under another name" in err
    assert run("campaign", "status", "labelled")[0] == 0
