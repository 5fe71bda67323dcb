"""The shape of a round: end members first, the metal beside them, a verification without search."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from fireworks import LaunchPad, Workflow

from al_charge.crystal.enumeration import count_distinct
from al_charge.crystal.host_spec import SupercellsSpec
from al_charge.fw import tasks
from al_charge.fw.launchpad import store_of
from al_charge.fw.repair import repair
from al_charge.fw.tasks import AssessTask, ensure_round, round_workflow
from al_charge.loop import assess
from al_charge.loop.campaign import Campaign, geometry_of, open_campaign
from al_charge.loop.spec import load_spec
from al_charge.loop.submit import submit
from al_charge.store.documents import Assessment, CandidateDoc

pytestmark = pytest.mark.mongod
SPEC = Path(__file__).parents[2] / "workflows" / "nafepo4_born_small.yaml"


@pytest.fixture
def campaign(launchpad: LaunchPad) -> Campaign:
    """A submitted campaign without any round."""
    store = store_of(launchpad)
    store.ensure_schema()
    spec = load_spec(SPEC)
    submit(store, spec)
    return open_campaign(store, spec.name)


def parents_of(workflow: Workflow) -> dict[str, set[str]]:
    """Return the names of each Firework's parents, without the campaign's."""
    names = {fw.fw_id: fw.name.split(" ", 1)[1] for fw in workflow.fws}
    found: dict[str, set[str]] = {name: set() for name in names.values()}
    for parent, children in workflow.links.items():
        for child in children:
            found[names[child]].add(names[parent])
    return found


def test_end_members_and_the_metal_are_labelled_first(campaign: Campaign) -> None:
    parents = parents_of(round_workflow(campaign, 0))
    assert parents["label 0"] == parents["label 1"] == parents["label metal"] == {"select"}
    others = [name for name in parents if name.startswith("label ") and name[-1] in "234567"]
    assert len(others) == 6
    assert all(parents[name] == {"label 0", "label 1"} for name in others)
    assert parents["train 0"] == {f"label {slot}" for slot in range(8)}
    assert parents["assess"] == {"train 0", "train 1", "train 2", "label metal"}


def test_one_task_proposes_each_composition_in_all_supercells(launchpad: LaunchPad) -> None:
    store, spec = store_of(launchpad), load_spec(SPEC)
    store.ensure_schema()
    several = {"supercell": (1, 1, 1), "supercells": SupercellsSpec(up_to=2)}
    spec = spec.model_copy(update={"host": spec.host.model_copy(update=several)})
    submit(store, spec)
    campaign = open_campaign(store, spec.name)
    made = [fw for fw in round_workflow(campaign, 1).fws if " propose " in fw.name]
    asked = {fw.name.rpartition("=")[2]: fw.tasks[0] for fw in made}
    assert asked.keys() == {"0", "1/8", "1/4", "3/8", "1/2", "5/8", "3/4", "7/8", "1"}
    assert len(made) == len(asked)
    for x, task in asked.items():
        assert campaign.cells.compositions[Fraction(x)] == (task["cell"], task["n_ions"])
        assert task.what(campaign) == f"propose x={x}"


def test_compositions_of_most_configurations_come_first(
    launchpad: LaunchPad, campaign: Campaign
) -> None:
    """So that no worker is left alone with a large one."""
    ensure_round(launchpad, campaign, 0)
    taken = [launchpad._get_a_fw_to_run() for _ in campaign.host.ion_counts]
    numbers = count_distinct(campaign.host)
    sizes = [numbers[Fraction(fw.name.rpartition("=")[2])] for fw in taken]
    assert sizes == sorted(numbers.values(), reverse=True)


def test_later_rounds_wait_for_their_selection_alone(campaign: Campaign) -> None:
    parents = parents_of(round_workflow(campaign, 1))
    labels = [name for name in parents if name.startswith("label ")]
    assert sorted(labels) == [f"label {slot}" for slot in range(4)]
    assert all(parents[name] == {"select"} for name in labels)
    assert parents["assess"] == {"train 0", "train 1", "train 2"}


def opened(campaign: Campaign, number: int, count: int) -> None:
    """Open a verification as `open_verification` leaves it, with the first candidates it finds."""
    from al_charge.crystal.configuration import to_atoms
    from al_charge.crystal.enumeration import enumerate_distinct
    from al_charge.crystal.symmetry import canonical_hash
    from al_charge.store.documents import RoundDoc

    store, host = campaign.store, campaign.host
    candidates = [
        CandidateDoc(
            campaign=campaign.name,
            round=number,
            n_ions=2,
            composition="1/2",
            config_hash=canonical_hash(host, config),
            colours=list(config.occupation),
            geometry=geometry_of(to_atoms(host, config)),
            energy=-1.0,
            spread=0.0,
            origin="label",
        )
        for config in enumerate_distinct(host, 2)[:count]
    ]
    store.rounds.add(RoundDoc(campaign=campaign.name, number=number))
    store.proposals.put(campaign.name, number, 2, candidates)
    store.rounds.record_selection(campaign.name, number, {c.doc_id: "vertex" for c in candidates})


def closed(campaign: Campaign, number: int, assessment: Assessment) -> None:
    """Close a round with an assessment."""
    from al_charge.store.documents import RoundDoc

    campaign.store.rounds.add(RoundDoc(campaign=campaign.name, number=number))
    campaign.store.rounds.record_assessment(
        campaign.name, number, assessment, ["k"], np.zeros((2, 1))
    )


def test_a_verification_only_labels_trains_and_assesses(
    launchpad: LaunchPad, campaign: Campaign, make_assessment: Callable[..., Assessment]
) -> None:
    closed(campaign, 0, make_assessment(verify_next=True))
    opened(campaign, 1, 3)
    parents = parents_of(round_workflow(campaign, 1))
    labels = {f"label {slot}" for slot in range(3)}
    trainers = {f"train {member}" for member in range(3)}
    assert set(parents) == labels | trainers | {"assess"}
    assert all(parents[name] == set() for name in labels)
    assert all(parents[name] == labels for name in trainers)
    assert parents["assess"] == trainers


def test_resume_adds_a_verification_that_was_not_added(
    launchpad: LaunchPad, campaign: Campaign, make_assessment: Callable[..., Assessment]
) -> None:
    ensure_round(launchpad, campaign, 0)
    closed(campaign, 0, make_assessment(verify_next=True))
    opened(campaign, 1, 3)
    assert repair(launchpad, campaign) == {"missing round": 1}
    assert repair(launchpad, campaign) == {}
    names = launchpad.workflows.distinct("name")
    assert sorted(names) == [f"{campaign.name} round 0", f"{campaign.name} round 1"]


def test_an_assessment_that_lacks_the_metal_reserves_and_journals_it(
    campaign: Campaign, launchpad: LaunchPad, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one that was lost with its server, while another campaign computes the same."""
    held: list[str] = []
    monkeypatch.setattr(tasks, "hold_lock", lambda _, name: held.append(name) or nullcontext())
    monkeypatch.setattr(assess, "_assessment", lambda *_: None)
    task = AssessTask(campaign=campaign.name, round=3)
    task.launchpad = launchpad
    with pytest.raises(TypeError):  # there is nothing to assess
        task.step(campaign, tmp_path)
    (attempt,) = campaign.store.attempts.all(campaign.name)
    assert (attempt.round, attempt.outcome) == (3, "made")
    assert held == [attempt.key]
