"""FireWorks makes nothing but this package's Firetasks out of what the database holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fireworks import Firework, FWorker, LaunchPad, ScriptTask, Workflow
from fireworks.core.firework import FiretaskBase
from fireworks.core.rocket_launcher import launch_rocket
from fireworks.utilities import fw_serializers

from al_charge.fw import allowed_tasks, tasks
from al_charge.fw.allowed_tasks import (
    ALLOWED_TASKS,
    ForeignTaskError,
    allow_only_our_tasks,
    refuse_other_commands,
)


@pytest.fixture
def guarded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse foreign tasks for the time of one test."""
    monkeypatch.setattr(fw_serializers, "load_object", fw_serializers.load_object)
    monkeypatch.setattr(fw_serializers, "DECODE_MONTY", fw_serializers.DECODE_MONTY)
    allow_only_our_tasks()


def test_every_task_of_the_package_is_ours_and_nothing_else() -> None:
    found = {
        one._fw_name
        for one in vars(tasks).values()
        if isinstance(one, type) and issubclass(one, FiretaskBase) and hasattr(one, "_fw_name")
    }
    assert found == ALLOWED_TASKS


def test_ours_are_made(guarded: None) -> None:
    document = tasks.TrainTask(campaign="c", round=0, member=1).to_dict()
    assert isinstance(fw_serializers.load_object(document), tasks.TrainTask)


@pytest.mark.parametrize(
    "hidden",
    [
        lambda bad: {"spec": {"_tasks": [bad]}},
        lambda bad: {"spec": {"_tasks": [], "deep": [{"er": bad}]}},
    ],
)
@pytest.mark.parametrize(
    "name", ["ScriptTask", "PyTask", "{{al_charge.fw.tasks.os.system}}", "{{os.path.join}}"]
)
def test_others_are_refused_wherever_they_stand(guarded: None, hidden: Any, name: str) -> None:
    document = hidden({"_fw_name": name, "script": "touch owned"})
    with pytest.raises(ForeignTaskError, match="is not a task of al-charge"):
        Firework.from_dict(document)


def test_classes_of_other_packages_stay_dictionaries(guarded: None) -> None:
    inner = {"@module": "pymatgen.core.lattice", "@class": "Lattice", "matrix": [[1]]}
    firework = Firework.from_dict({"spec": {"_tasks": [], "inner": inner}})
    assert firework.spec["inner"] == inner


@pytest.mark.parametrize("command", ["_launch_dir", "_files_in", "_background_tasks", "_recovery"])
def test_fireworks_is_asked_for_nothing_but_the_tasks(command: str) -> None:
    refuse_other_commands({"campaign": "c", "_tasks": [], "_category": "cpu"})
    with pytest.raises(ForeignTaskError, match=command):
        refuse_other_commands({"campaign": "c", "_tasks": [], command: "/etc"})


@pytest.mark.mongod
def test_a_worker_does_not_run_what_somebody_has_put_there(
    guarded: None, launchpad: LaunchPad, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    task = ScriptTask.from_str("touch owned")
    with monkeypatch.context() as unguarded:
        unguarded.setattr(fw_serializers, "load_object", allowed_tasks._load)
        launchpad.add_wf(Workflow([Firework([task], fw_id=-1)]))
    launch_rocket(launchpad, FWorker(), strm_lvl="CRITICAL")
    assert not (tmp_path / "owned").exists()
    (stored,) = launchpad.fireworks.find()
    assert stored["state"] == "FIZZLED"
    assert "not a task of al-charge" in stored["spec"]["_exception_details"]["_stacktrace"]
