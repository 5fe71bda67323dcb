"""What workers and long commands log: lines of text or JSON on standard error."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from pymongo import MongoClient

from al_charge.cli import progress
from al_charge.cli.progress import busy, counting, counting_documents
from al_charge.cli.running import events

HOST = Path(__file__).parents[2] / "workflows" / "hosts" / "NaFePO4.cif"
SPEC: dict[str, Any] = {
    "host": {
        "structure": str(HOST),
        "working_ion": "Na",
        "redox": {"Fe": [2, 3]},
        "fixed": {"P": 5, "O": -2},
    },
    "labeler": {"kind": "born", "fmax": "0.05 eV/A"},
    "potential": {"kind": "painn", "cutoff": "4 A", "channels": 4},
    "training": {"epochs": 1},
    "relaxation": {"max_steps": 1},
    "committee": {"size": 2},
    "search": {"seeds": 2, "evaluations": 2},
    "acquisition": {"first_round": 5, "labels_per_round": 1},
    "convergence": {"max_rounds": 2, "max_labels": 6},
}
PROGRESS = " INFO al_charge.cli.progress: "
COMMON = {
    "time": str, "level": str, "logger": str, "host": str, "process": int, "message": str
}  # fmt: skip
TASK = {"event": str, "campaign": str, "round": int, "task": str}
END = {"outcome": str, "seconds": float, "reason": str}

Run = Callable[..., tuple[int, str, str]]


def al_charge(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command as a process of its own, without a terminal."""
    return subprocess.run(
        [sys.executable, "-m", "al_charge", *arguments],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def write(folder: Path, name: str, **changes: Any) -> str:
    file = folder / f"{name}.yaml"
    file.write_text(yaml.safe_dump({"name": name} | SPEC | changes), encoding="utf-8")
    return str(file)


@pytest.fixture(scope="module")
def server(mongodb_client: MongoClient[dict[str, Any]]) -> Iterator[None]:
    """The embedded server that commands find by themselves, without campaigns afterwards."""
    yield
    mongodb_client.drop_database("al_charge")


def records(err: str) -> list[dict[str, Any]]:
    """Parse lines of JSON, each with what every record has."""
    assert [line for line in err.splitlines() if not line.startswith("{")] == []
    found = [json.loads(line) for line in err.splitlines()]
    for record in found:
        assert {key: type(record[key]) for key in COMMON} == COMMON
        age = datetime.now(UTC) - datetime.fromisoformat(record["time"])
        assert 0 <= age.total_seconds() < 600
    return found


def test_worker_logs_start_and_end_of_each_task(server: None, run: Run, tmp_path: Path) -> None:
    """One training fails: no folder can be made for it."""
    changes = {"convergence": {"max_rounds": 1, "max_labels": 5}}
    assert run("campaign", "submit", write(tmp_path, "lines", **changes))[0] == 0
    runs = tmp_path / "runs"
    obstacle = runs / "lines" / "round-000" / "train-1"
    obstacle.parent.mkdir(parents=True)
    obstacle.touch()
    done = al_charge("--log-format", "json", "worker", "lines", "--runs", str(runs))
    assert (done.returncode, done.stdout) == (1, "")
    found = records(done.stderr)
    tasks = [record for record in found if record.get("event") in ("start", "end")]
    for record in tasks:
        assert {key: type(record[key]) for key in TASK} == TASK
        assert (record["campaign"], record["round"]) == ("lines", 0)
        assert record["logger"] == "al_charge.fw"
    starts = [record["task"] for record in tasks if record["event"] == "start"]
    ends = {record["task"]: record for record in tasks if record["event"] == "end"}
    proposals = [f"propose x={x}" for x in ("0", "1/4", "1/2", "3/4", "1")]
    labels = [f"label {slot}" for slot in range(5)]
    assert sorted(starts) == sorted(
        [*proposals, "select", *labels, "label metal", "train 0", "train 1"]
    )
    assert ends.keys() == set(starts)
    for record in ends.values():
        assert {key: type(record[key]) for key in END} == END
        assert 0.0 < record["seconds"] < 300.0
    failed = ends.pop("train 1")
    assert (failed["level"], failed["outcome"], failed["key"]) == ("error", "failed", None)
    assert failed["reason"].startswith("FileExistsError")
    assert failed["reason"] in failed["message"]
    assert failed["traceback"].splitlines()[-1].startswith("FileExistsError")
    assert {(end["level"], end["outcome"], end["reason"]) for end in ends.values()} == {
        ("info", "done", "")
    }
    assert ends["propose x=1/4"]["key"] == "lines/0/1"
    assert ends["train 0"]["key"] == "lines/0/0"
    assert len({ends[label]["key"] for label in labels}) == 5
    # The command's own last word is a line of JSON as well.
    assert (found[-1]["level"], found[-1]["logger"]) == ("error", "al_charge.cli")
    assert "round 0" in found[-1]["message"] or "train 1" in found[-1]["message"]


def test_campaign_without_a_terminal_logs_one_line_per_event(
    server: None, run: Run, tmp_path: Path
) -> None:
    done = al_charge("campaign", "submit", write(tmp_path, "events"), "--workers", "1")
    assert done.returncode == 0, done.stderr
    lines = done.stderr.splitlines()
    assert all(PROGRESS in line for line in lines), done.stderr
    said = [line.split(PROGRESS)[1] for line in lines]
    # Several events may fall between two looks, and no line comes twice.
    assert max(Counter(said).values()) == 1
    for number, label_tasks in ((0, 5), (1, 1)):
        assert f"round {number}: 5 of 5 proposals" in said
        assert f"round {number}: {label_tasks} of {label_tasks} label tasks" in said
        assert f"round {number}: 2 of 2 potentials" in said
        (assessed,) = [line for line in said if line.startswith(f"round {number} assessed: ")]
        assert ("hull moved" in assessed) == (number == 1)
        assert assessed.endswith(" of 4 criteria hold")
    assert said[-1].startswith("campaign 'events' is exhausted: ")
    # Those who watch it afterwards are told how it ended.
    code, out, err = run("--log-format", "json", "campaign", "watch", "events")
    assert (code, out) == (0, "")
    assert records(err)[-1]["state"] == "exhausted"


def status(number: int, **fields: Any) -> dict[str, Any]:
    """Return the parts of a status document that lines are made of."""
    rows = [
        {"round": n, "labels": None, "hull_shift": None, "criteria_met": 0, "verification": False}
        for n in range(number + 1)
    ]
    rows[number] |= fields
    return {
        "campaign": "c",
        "state": "running",
        "reason": "",
        "round": number,
        "rounds": rows,
        "criteria": [{}] * 4,
        "verification": {"outcome": "verified by relaxing 7 configurations"},
    }


def lines(*arguments: Any) -> list[str]:
    return [line for line, _ in events(*arguments)]


def test_events_between_two_looks() -> None:
    before = status(1), {0: {"propose": (9, 9)}, 1: {"propose": (2, 9), "select": (0, 1)}}
    assert lines(None, before) == ["round 1: 2 of 9 proposals"]
    assert lines(before, before) == []
    now = status(1), {0: {"propose": (9, 9)}, 1: {"propose": (5, 9), "select": (1, 1)}}
    assert list(events(before, now)) == [
        ("round 1: 5 of 9 proposals", {"round": 1, "what": "propose", "done": 5, "total": 9})
    ]
    assessed = status(1, labels=36, hull_shift=0.00321, criteria_met=2), now[1]
    assert lines(now, assessed) == [
        "round 1 assessed: 36 labels, hull moved 3.2 meV/f.u., 2 of 4 criteria hold"
    ]
    assert lines(None, assessed) == ["round 1: 5 of 9 proposals"]
    verified = status(1, labels=40, verification=True), now[1]
    verified[0].update(state="converged", reason="every criterion held")
    assert lines(now, verified) == [
        "round 1 assessed: 40 labels, hull verified by relaxing 7 configurations",
        "campaign 'c' is converged: every criterion held",
    ]


def test_bars_become_lines(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "al_charge")
    with counting("painn", "epochs") as report:
        for epoch in range(1, 101):
            report(epoch, 100, f"loss {epoch}")
    assert len(caplog.messages) == progress.LINES
    assert caplog.messages[0] == "painn: 10 of 100 epochs; loss 10"
    assert caplog.messages[-1] == "painn: 100 of 100 epochs; loss 100"
    caplog.clear()
    with counting("relaxing", "structures") as report:
        for number in (1, 2, 3):
            report(number, 3)
    assert caplog.messages == [f"relaxing: {n} of 3 structures" for n in (1, 2, 3)]
    caplog.clear()
    with counting_documents() as count:
        for name, done in (("labels", 0), ("labels", 300), ("models", 0), ("rounds", 1)):
            count(name, done, 1000)
    assert caplog.messages == ["labels: 300 documents", "rounds: 1 document"]
    caplog.clear()
    with pytest.raises(ValueError), busy("reading"):
        raise ValueError
    assert caplog.messages == []
    with busy("reading"):
        pass
    (line,) = caplog.messages
    assert line.startswith("reading: done after ")


def test_level_and_format_are_options_and_variables(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = str(tmp_path / "missing.yaml")
    code, out, err = run("check", missing)
    assert (code, out) == (2, "")
    assert err.startswith("al-charge: ") and err.count("\n") == 1
    monkeypatch.setenv("AL_CHARGE_LOG_FORMAT", "json")
    code, out, err = run("check", missing)
    assert (code, out) == (2, "")
    (record,) = records(err)
    assert (record["level"], record["logger"]) == ("error", "al_charge.cli")
    assert missing in record["message"]
    assert run("--log-format", "text", "check", missing)[2].startswith("al-charge: ")
    assert "debug" in run("--log-level", "loud", "check", missing)[2]


def test_importing_configures_nothing() -> None:
    code = (
        "import logging\n"
        "import al_charge.fw.worker, al_charge.fw.pool, al_charge.cli.main, al_charge.logs\n"
        "print([logging.getLogger('al_charge').handlers, logging.getLogger().handlers])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.strip() == "[[], []]"
