"""The commands: what machines read from them, their exit codes, and how they refuse."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from jsonschema import Draft202012Validator
from pymongo import MongoClient

import al_charge
from al_charge.cli.main import COMMANDS, cli, main
from al_charge.errors import AlChargeError, InputError
from al_charge.fw import jobs

HOST = Path(__file__).parents[2] / "workflows" / "hosts" / "NaFePO4.cif"
SPEC: dict[str, Any] = {
    "name": "one-round",
    "host": {
        "structure": str(HOST),
        "working_ion": "Na",
        "redox": {"Fe": [2, 3]},
        "fixed": {"P": 5, "O": -2},
    },
    "labeler": {"kind": "born", "fmax": "0.05 eV/A"},
    "potential": {"kind": "painn", "cutoff": "4 A", "channels": 8},
    "training": {"epochs": 1},
    "committee": {"size": 2},
    "search": {"seeds": 4},
    "acquisition": {"first_round": 7},
    "convergence": {"max_rounds": 1, "max_labels": 7},
}
STATUS_KEYS = {
    "campaign", "state", "reason", "round", "tasks", "labels_made", "labels_requested_twice",
    "labels_used", "criteria", "failures", "rounds_held", "rounds_needed", "rounds",
}  # fmt: skip
ENTRY_KEYS = {"x", "energy_per_formula", "distance_to_hull", "hash", "label"}


def run(*arguments: str) -> tuple[int, str, str]:
    """Run the command line in this process; return exit code, standard output and error."""
    out, err = io.StringIO(), io.StringIO()
    with (
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        pytest.raises(SystemExit) as exit_,
    ):
        main(list(arguments))
    return int(exit_.value.code or 0), out.getvalue(), err.getvalue()


def refused(*arguments: str) -> str:
    """Return the one line with which a command refuses its input."""
    code, out, err = run(*arguments)
    assert (code, out, err.count("\n")) == (2, "", 1), err
    return err


def write(folder: Path, **changes: Any) -> str:
    file = folder / "campaign.yaml"
    file.write_text(yaml.safe_dump(SPEC | changes), encoding="utf-8")
    return str(file)


@pytest.fixture(scope="module")
def server(mongodb_client: MongoClient[dict[str, Any]]) -> Iterator[None]:
    """The embedded server that commands find by themselves, without campaigns afterwards."""
    yield
    mongodb_client.drop_database("al_charge")


@pytest.fixture(scope="module")
def finished(server: None, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The name of a campaign that a worker has run to its end."""
    from al_charge.fw.tasks import CATEGORIES
    from al_charge.fw.worker import work

    folder = tmp_path_factory.mktemp("campaign")
    code, out, _ = run("campaign", "submit", write(folder))
    assert (code, "submitted" in out) == (0, True)
    work(None, "one-round", folder / "runs", categories=CATEGORIES, until_idle=True)
    return "one-round"


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from al_charge.cli.main import main\n"
        "try:\n    main(['--help'])\n"
        "except SystemExit as end:\n    assert not end.code\n"
        "heavy = {'torch', 'pymatgen', 'fireworks', 'mace', 'pymongo', 'ase', 'numpy', 'rich'}\n"
        "print('heavy:', sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.splitlines()[-1] == "heavy: []"
    assert all(f"  {name} " in done.stdout for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_tells_its_use(name: str) -> None:
    code, out, err = run(name, "--help")
    assert (code, err) == (0, "")
    assert out.startswith(f"Usage: al-charge {name}")


def test_a_command_without_a_word_shows_its_help() -> None:
    for arguments in ([], ["campaign"]):
        code, _, err = run(*arguments)
        assert code == 2
        assert err.startswith("Usage: al-charge")
        assert "\nCommands:" in err
        assert "..." not in err.partition("\nCommands:")[2]


def test_init_writes_a_valid_campaign_file(tmp_path: Path) -> None:
    assert refused("init", "--engine", "born", "--template", "x").endswith("give one\n")
    assert run("init", str(tmp_path / "real"), "--engine", "vasp")[0] == 0
    assert "kind: vasp" in (tmp_path / "real" / "nafepo4_vasp.yaml").read_text()
    code, out, err = run("init", "--list")
    assert (code, err) == (0, "")
    assert {line.split()[0] for line in out.splitlines()} >= {"nafepo4_born", "nafepo4_born_small"}
    folder = tmp_path / "mine"
    assert run("init", str(folder), "--template", "nafepo4_born_small")[0] == 0
    code, out, _ = run("check", str(folder / "nafepo4_born_small.yaml"), "--json")
    assert code == 0
    assert sum(json.loads(out)["compositions"].values()) == 16
    assert "already exists" in refused("init", str(folder), "--template", "nafepo4_born_small")
    assert "did you mean 'nafepo4_born'?" in refused("init", "--template", "nafepo4_bron")


def test_init_leaves_nothing_where_it_cannot_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, content: bytes) -> int:
        with path.open("wb") as file:
            file.write(content[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    line = refused("init", str(tmp_path / "mine"))
    assert "mine" in line
    assert "No space left" in line
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_numbers_outside_their_range_are_refused(tmp_path: Path) -> None:
    output = str(tmp_path / "plots")
    assert "--seed" in refused("demo", "--seed", "-1", "--output", output)
    assert "--seed" in refused("demo", "--seed", str(2**31), "--output", output)
    assert "--workers" in refused("demo", "--workers", "0", "--output", output)
    assert "--processes" in refused("worker", "x", "--processes", "1000000")
    assert "--interval" in refused("campaign", "watch", "x", "--interval", "-1")
    assert not list(tmp_path.iterdir())


def test_plots_that_cannot_be_written_end_the_demo_before_it_starts(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "file" in refused("demo", "--output", str(tmp_path / "file"))


def test_a_database_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write(tmp_path)
    monkeypatch.setenv("AL_CHARGE_DATABASE", "http://here")
    assert "AL_CHARGE_DATABASE" in refused("campaign", "list")
    monkeypatch.setenv("AL_CHARGE_DATABASE", "mongodb://me:secret@localhost")
    line = refused("campaign", "submit", file)
    assert "password" in line
    assert "secret" not in line
    away = "mongodb://localhost:1/?serverSelectionTimeoutMS=100"
    monkeypatch.setenv("AL_CHARGE_DATABASE", away)
    for arguments in (
        ["campaign", "list"], ["campaign", "submit", file], ["hull", "x"], ["worker", "x"]
    ):  # fmt: skip
        assert "no MongoDB answers there" in refused(*arguments)


def test_an_unknown_campaign_is_refused_by_name(finished: str) -> None:
    for arguments in (
        ["hull"], ["labels"], ["voltage"], ["worker"],
        *(["campaign", word] for word in ("status", "pause", "resume", "watch")),
    ):  # fmt: skip
        assert "did you mean 'one-round'?" in refused(*arguments, "one-ruond")
    assert "no such file" in refused("hull", "nowhere.yaml")


def test_hull_document(finished: str, tmp_path: Path) -> None:
    code, out, err = run("hull", finished, "--json")
    assert (code, err) == (0, "")
    document = json.loads(out)
    assert {"campaign", "vertices", "entries", "units"} <= set(document)
    assert len(document["entries"]) == 7
    assert all(set(entry) >= ENTRY_KEYS for entry in document["entries"] + document["vertices"])
    assert [vertex["x"] for vertex in document["vertices"]][:: len(document["vertices"]) - 1] == [
        "0", "1"
    ]  # fmt: skip
    assert all(vertex["distance_to_hull"] == 0.0 for vertex in document["vertices"])
    vertices = {vertex["label"] for vertex in document["vertices"]}
    assert vertices <= {entry["label"] for entry in document["entries"]}
    for ending in (".png", ".html"):
        plot = tmp_path / f"hull{ending}"
        assert run("hull", finished, "--plot", str(plot))[0] == 0
        assert plot.stat().st_size > 1000


def test_voltage_document(finished: str) -> None:
    code, out, _ = run("voltage", finished, "--json")
    assert code == 0
    document = json.loads(out)
    assert document["steps"]
    assert set(document["steps"][0]) == {"x_from", "x_to", "voltage", "error_bar"}


def test_plots_of_unknown_kind_are_refused(finished: str, tmp_path: Path) -> None:
    for command in ("hull", "voltage"):
        line = refused(command, finished, "--plot", str(tmp_path / "plot.gif"))
        assert "unknown ending '.gif'" in line
        assert not list(tmp_path.iterdir())
    (tmp_path / "file").touch()
    refused("hull", finished, "--plot", str(tmp_path / "file" / "plot.png"))


def test_labels_of_a_real_campaign(finished: str, tmp_path: Path) -> None:
    from ase.io import read

    code, out, err = run("labels", finished, "--json")
    assert (code, err) == (0, "")
    document = json.loads(out)
    assert len(document["labels"]) == 7
    assert document["mixed"]["fraction"] == 1.0
    assert all(label["attempts"] and not label["refused"] for label in document["labels"])
    file = tmp_path / "labels.extxyz"
    assert run("export", finished, str(file), "--last")[0] == 0
    images = read(file, index=":")
    energies = {atoms.info["label"]: atoms.get_potential_energy() / 4 for atoms in images}
    assert energies == {
        label["label"]: pytest.approx(label["energy_per_formula"]) for label in document["labels"]
    }
    beside = json.loads((tmp_path / "labels.json").read_text())
    assert beside["settings"]["engine"] == "born"
    assert beside["metal"]["element"] == "Na"


def test_hull_as_rows_and_with_predictions(finished: str) -> None:
    code, out, err = run("hull", finished, "--csv", "--round", "0")
    assert (code, err) == (0, "")
    rows = list(csv.DictReader(io.StringIO(out)))
    document = json.loads(run("hull", finished, "--json", "--predicted")[1])
    assert document["round"] == 0
    assert [row["label"] for row in rows] == [entry["label"] for entry in document["entries"]]
    assert [float(row["formation_energy"]) for row in rows] == [
        entry["formation_energy"] for entry in document["entries"]
    ]
    assert document["predicted"] == []  # nothing is trained before the first round's candidates
    assert "has not been assessed" in refused("hull", finished, "--round", "7")
    assert "exclude each other" in refused("hull", finished, "--csv", "--json")
    steps = list(csv.DictReader(io.StringIO(run("voltage", finished, "--csv")[1])))
    assert steps[0]["x_from"] == "0" and steps[-1]["x_to"] == "1"


def test_an_electrode_in_numbers(finished: str, tmp_path: Path) -> None:
    file = tmp_path / "cell.csv"
    file.write_text("x,voltage\n0,3.1\n1,2.9\n")
    code, out, err = run("voltage", finished, "--summary", "--experiment", str(file))
    assert (code, err) == (0, "")
    assert "154.2 mAh/g" in out  # NaFePO4: 26801.5 mAh/mol over 173.81 g/mol
    for unit in ("mAh/cm3", "Wh/kg", "Wh/l", "%"):
        assert unit in out
    document = json.loads(run("voltage", finished, "--experiment", str(file), "--json")[1])
    assert document["experiment"]["mean_voltage"] == pytest.approx(3.0)
    plot = tmp_path / "voltage.html"
    assert run("voltage", finished, "--experiment", str(file), "--plot", str(plot))[0] == 0
    assert "measured (cell.csv)" in plot.read_text()


def test_one_label_in_words_and_as_a_file(finished: str, tmp_path: Path) -> None:
    document = json.loads(run("show", finished, "1/2", "--json")[1])
    key = document["label"]
    assert document["x"] == "1/2" and document["why"]["round"] == 0
    code, out, err = run("show", finished, key[:10])
    assert (code, err) == (0, "")
    words = " ".join(out.replace("│", " ").split())  # a narrow table breaks its lines
    for told in (key, document["hash"], document["settings_hash"], document["why"]["reason"]):
        assert told in words
    # Born has no moments, and nothing was read from them.
    assert "no moments: the charge states are those that were asked for" in words
    assert "every moment fits" not in out and "Bader" not in out
    assert key[:8] in run("hull", finished)[1] and key[:8] in run("labels", finished)[1]
    assert document["why"]["reason"] in run("why", finished, key)[1]
    assert json.loads(run("why", finished, key, "--json")[1])["label"] == key
    file = tmp_path / "gs.cif"
    assert run("structure", finished, "--x", "1/2", "-o", str(file))[0] == 0
    assert "Fe3+" in file.read_text()
    assert "--force" in refused("structure", finished, "--label", key[:8], "-o", str(file))
    assert "give one" in refused("structure", finished, "-o", str(tmp_path / "POSCAR"))
    assert "there is no label 'zzz'" in refused("show", finished, "zzz")


def test_jobs_logs_and_cost(finished: str) -> None:
    jobs = json.loads(run("campaign", "jobs", finished, "--json")[1])["jobs"]
    assert {job["state"] for job in jobs} == {"COMPLETED"}
    labels = [job for job in jobs if job["task"].startswith("0/label ") and job["label"]]
    listed = json.loads(run("labels", finished, "--json")[1])["labels"]
    assert {job["label"] for job in labels} == {one["label"] for one in listed}
    assert all(job["number_of_runs"] == 1 and job["seconds"] > 0 for job in labels)
    assert json.loads(run("campaign", "jobs", finished, "--failed", "--json")[1])["jobs"] == []
    assert run("campaign", "jobs", finished, "--failed")[1] == "no jobs to list\n"
    for which in (labels[2]["task"], labels[2]["label"][:10], str(labels[2]["fw_id"])):
        logs = json.loads(run("campaign", "logs", finished, which, "--json")[1])
        assert (logs["task"], logs["attempts"][0]["outcome"]) == (labels[2]["task"], "made")
        assert Path(logs["folder"]).parent.name == f"label-{int(labels[2]['task'].split()[-1]):03d}"
    assert "made" in run("campaign", "logs", finished, labels[2]["task"])[1]
    assert "no jobs are '0/lable 2'" in refused("campaign", "logs", finished, "0/lable 2")
    assert labels[0]["label"][:8] in run("campaign", "jobs", finished)[1]
    cost = json.loads(run("campaign", "cost", finished, "--json")[1])
    assert cost["labels_made"] == 7
    spent = sum(job["seconds"] for job in jobs) / 3600
    assert cost["total"]["hours"] == pytest.approx(spent, abs=len(jobs) * 0.05 / 3600)
    assert cost["total"]["runs"] == sum(job["number_of_runs"] for job in jobs)
    assert cost["forecast"]["labels_at_most"] == 0
    assert "no more labels are to come" in run("campaign", "cost", finished, "--forecast")[1]
    assert run("next", finished)[1] == "The campaign is exhausted: it will label nothing more.\n"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_is_told_how_to_complete(shell: str) -> None:
    code, out, err = run("completion", shell)
    assert (code, err) == (0, "")
    assert "_AL_CHARGE_COMPLETE" in out and "al-charge" in out


def test_commands_are_completed() -> None:
    asked = {
        "_AL_CHARGE_COMPLETE": "bash_complete",
        "COMP_WORDS": "al-charge campaign jo",
        "COMP_CWORD": "2",
    }
    done = subprocess.run(
        [sys.executable, "-m", "al_charge"],
        env=os.environ | asked,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout.split() == ["plain,jobs"]


def test_campaigns_are_completed_and_no_server_is_started_for_it(
    finished: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from al_charge.cli.results import hull

    (campaign,) = [one for one in hull.params if one.name == "targets"]

    def completed(typed: str) -> list[tuple[str, str]]:
        found = campaign.shell_complete(click.Context(hull), typed)
        return [(one.type, one.value) for one in found]

    assert completed("one-") == [("file", "one-"), ("plain", finished)]
    assert completed("two") == [("file", "two")]
    monkeypatch.setenv("AL_CHARGE_HOME", str(tmp_path))
    assert completed("one-") == [("file", "one-")]
    assert list(tmp_path.iterdir()) == []


def test_what_to_cite(finished: str) -> None:
    code, out, err = run("cite", finished)
    assert (code, err) == (0, "")
    assert out.count("@") == 4 and "PaiNN" in out and out.count("{") == out.count("}")
    listed = json.loads(run("cite", finished, "--json")[1])["references"]
    assert [one["key"] for one in listed] == ["Schutt2021", "Ong2013", "Larsen2017", "Jain2015"]


def test_a_campaign_compared_with_itself(finished: str) -> None:
    document = json.loads(run("compare", finished, finished, "--json")[1])
    assert document["same_host"] and document["same_settings"]
    assert document["settings"] == [] and document["hull_shift"] == 0.0
    assert {one["difference"] for one in document["compositions"]} == {0.0}
    assert document["mean_voltage"][0] == document["mean_voltage"][1]
    assert "largest shift of the hull: 0.0 meV" in run("compare", finished, finished)[1]


def test_status_document(finished: str) -> None:
    code, out, err = run("campaign", "status", finished, "--json")
    assert (code, err) == (0, "")
    document = json.loads(out)
    assert set(document) >= STATUS_KEYS
    assert document["state"] == "exhausted"
    assert document["round"] == 0
    assert set(document["tasks"]) == {"COMPLETED"}
    assert document["labels_made"] == document["labels_used"] == 7
    assert document["labels_requested_twice"] == 0
    assert [set(criterion) for criterion in document["criteria"]] == [{"name", "met", "value"}] * 4
    assert "exhausted" in run("campaign", "status", finished)[1]


def test_runs_are_packed_on_request(
    finished: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = json.loads(run("labels", finished, "--json")[1])["labels"]
    folder = Path(labels[0]["directory"])
    runs = ("--runs", str(folder.parents[3]))
    (folder / "OSZICAR").write_text("one\ntwo\nthree\n", encoding="utf-8")
    monkeypatch.setattr(jobs, "LONGEST_END", 8)
    logs = ("campaign", "logs", finished, labels[0]["label"], "--json")
    assert json.loads(run(*logs)[1])["logs"] == {"OSZICAR": "o\nthree"}
    files = sorted(folder.parents[3].rglob("*"))
    code, out, err = run("runs", "clean", finished, *runs, "--dry-run")
    assert (code, err) == (0, "")
    assert out.splitlines()[0].startswith("round-000/label-000: ")
    assert out.splitlines()[0].endswith(" MB: would be packed")
    *_, train, summary = out.splitlines()
    assert train.endswith(" MB: would be removed: its model is stored")
    assert re.search("would be packed, keeping densities; .* would be removed; 0 stay$", summary)
    assert sorted(folder.parents[3].rglob("*")) == files
    file = write(tmp_path, keep="everything")
    assert "keeping everything" in run("runs", "clean", file, *runs, "--dry-run")[1]
    assert "already there" in run("campaign", "submit", file)[1]  # it is the same campaign
    code, out, err = run("runs", "clean", finished, *runs, "--keep", "outputs", "--json")
    assert (code, err) == (0, "")
    packed = [one for one in json.loads(out)["folders"] if one["label"]]
    assert {one["label"] for one in packed} == {label["label"] for label in labels}
    assert all(one["packed_bytes"] and not one["stays"] for one in packed)
    assert not folder.exists()
    others = {Path(one["folder"]).name for one in json.loads(out)["folders"] if not one["label"]}
    assert others == {"metal", "train-0", "train-1"}
    assert json.loads(run(*logs)[1])["logs"] == {"OSZICAR": "o\nthree"}
    assert run("runs", "clean", finished, *runs)[1] == "nothing to pack; 0 stay\n"
    told = json.loads(run("campaign", "status", finished, *runs, "--json")[1])["files"]
    assert (told["labels_packed"], told["complete"]) == (7, True)
    assert "7 labels packed" in run("campaign", "status", finished, *runs)[1]
    assert "its files are packed; run 'tar -xzf " in refused("audit", str(folder))


IN_OTHER_TESTS = {
    "audit", "check", "converge", "curves", "db-users-list", "demo", "embedding",
    "enumerate", "evaluate", "export", "label", "labels-import", "launchers-check", "predict",
    "runs-clean", "train",
}  # fmt: skip
"""Commands that need files, engines or servers which the test below does not make."""


def with_json(command: click.Command, words: tuple[str, ...] = ()) -> Iterator[str]:
    """Yield the names of the commands that print JSON."""
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            yield from with_json(below, (*words, name))
    elif any(one.name == "as_json" for one in command.params):
        yield "-".join(words)


def test_the_schema_of_the_docs_has_every_command(json_schema: Draft202012Validator) -> None:
    told = [
        one["if"]["properties"]["schema"]["const"].split("/")[1]
        for one in json_schema.schema["allOf"]
        if "else" not in one
    ]
    assert sorted(told) == sorted(with_json(cli))
    assert all(json_schema.schema["$defs"][name] for name in told)
    for name in told:  # none is fulfilled by what all have in common
        document = {"schema": f"al-charge/{name}/1", "time": "2026-11-30T00:00:00+00:00"}
        assert not json_schema.is_valid(document), name


def test_every_document_fulfils_the_schema_of_the_docs(
    finished: str, tmp_path: Path, json_schema: Draft202012Validator
) -> None:
    named = set(with_json(cli)) - IN_OTHER_TESTS
    commands = (
        ("hull", finished), ("hull", finished, "--predicted"), ("voltage", finished),
        ("labels", finished), ("show", finished, "1/2"), ("why", finished, "1/2"),
        ("structure", finished, "--x", "1/2", "-o", str(tmp_path / "gs.cif")), ("next", finished),
        ("plot", finished, "cost"), ("plot", finished, "evolution"), ("cite", finished),
        ("compare", finished, finished), ("campaign", "list"), ("campaign", "status", finished),
        ("campaign", "jobs", finished), ("campaign", "logs", finished, "0/label 0"),
        ("campaign", "cost", finished), ("doctor", finished), ("plugins",), ("db", "status"),
    )  # fmt: skip
    for command in commands:
        code, out, err = run(*command, "--json")
        assert code == 0, err
        document = json.loads(out)
        json_schema.validate(document)
        named -= {document["schema"].split("/")[1]}
        moment = datetime.fromisoformat(document["time"])
        assert abs((datetime.now(UTC) - moment).total_seconds()) < 600
        if "campaign" in document:
            assert document["campaign"] == finished
    assert named == set()  # of each of these commands one document was looked at
    assert list(json_schema.iter_errors(document | {"x": "0.5"}))
    assert list(json_schema.iter_errors({**document, "rows": [{"label_id": "0"}]}))
    assert list(
        json_schema.iter_errors({name: document[name] for name in document if name != "time"})
    )


def test_list_document(finished: str) -> None:
    code, out, _ = run("campaign", "list", "--json")
    assert code == 0
    (listed,) = [c for c in json.loads(out)["campaigns"] if c["campaign"] == finished]
    assert listed["state"] == "exhausted"
    assert set(listed) == {"campaign", "state", "reason", "created"}


def test_a_campaign_is_the_same_wherever_its_file_lies(finished: str, tmp_path: Path) -> None:
    (tmp_path / "moved.cif").write_bytes(HOST.read_bytes())
    assert "already there" in run("campaign", "submit", write(tmp_path))[1]
    other = write(tmp_path, convergence={"max_rounds": 2, "max_labels": 7})
    assert "another campaign has this name" in refused("campaign", "submit", other)
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / HOST.name).write_bytes(HOST.read_bytes())
    host = SPEC["host"] | {"structure": f"sub/{HOST.name}"}
    assert "already there" in run("campaign", "submit", write(tmp_path, host=host))[1]


def test_a_campaign_that_has_ended_stays_so(finished: str) -> None:
    assert "is exhausted" in run("campaign", "pause", finished)[1]
    code, out, _ = run("campaign", "resume", finished)
    assert (code, "is exhausted; nothing to repair" in out) == (0, True)
    assert "al-charge worker" not in out  # which has nothing to run
    code, _, err = run("worker", finished)
    assert (code, "is exhausted" in err) == (0, True)


def test_the_engine_is_offered_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for typed, made in (("\n", "vasp"), ("gpaw\n", "gpaw"), ("x\nborn\n", "born")):
        monkeypatch.setattr("sys.stdin", io.StringIO(typed))
        monkeypatch.setattr("sys.stdin.isatty", lambda: True)
        assert run("init", str(tmp_path / made))[0] == 0
        assert (tmp_path / made / f"nafepo4_{made}.yaml").is_file()


def test_no_server_is_started_to_find_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a login node the campaign's database may stand in its file alone."""
    monkeypatch.setenv("AL_CHARGE_HOME", str(tmp_path / "home"))
    for words in (["campaign", "status"], ["campaign", "resume"], ["hull"], ["worker"], ["doctor"]):
        line = refused(*words, "olivine")
        assert "no embedded one yet; give the campaign's file" in line
    with pytest.raises(InputError, match="give the campaign's file"):
        al_charge.open("olivine")
    assert not (tmp_path / "home").exists()


def test_output_that_takes_ascii_alone(finished: str, monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii", write_through=True)
    err = io.TextIOWrapper(io.BytesIO(), encoding="ascii", write_through=True)
    for words in (["campaign", "status", finished], ["labels", finished], ["hull", "café"]):
        with (
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            pytest.raises(SystemExit) as exit_,
        ):
            main(words)
        assert exit_.value.code == (2 if words[0] == "hull" else 0) or exit_.value.code is None
    assert b"caf\\xe9" in err.buffer.getvalue()  # type: ignore[attr-defined]
    assert b"bug in al-charge" not in err.buffer.getvalue()  # type: ignore[attr-defined]


def test_pause_and_resume(server: None, tmp_path: Path) -> None:
    assert run("campaign", "submit", write(tmp_path, name="paused"))[0] == 0
    file, structure = write(tmp_path, name="paused"), tmp_path / "own.cif"
    assert "changed" not in run("campaign", "status", file)[2]
    edited = write(tmp_path, name="paused", training={"epochs": 2})
    for word in ("status", "resume"):
        assert "was changed since it was submitted" in run("campaign", word, edited)[2]
    structure.write_text(HOST.read_text().replace("10.41", "10.42"))
    moved = write(tmp_path, name="paused", host=SPEC["host"] | {"structure": str(structure)})
    assert structure.read_text() != HOST.read_text()
    assert "a structure that it names was changed" in run("campaign", "status", moved)[2]
    structure.unlink()
    code, _, err = run("campaign", "status", moved)
    assert (code, "no longer what was submitted: host.structure: no structure" in err) == (0, True)
    code, _, err = run("hull", "paused")
    assert (code, err.count("\n")) == (1, 1)
    assert "no round has been assessed yet" in err
    assert "is paused" in run("campaign", "pause", "paused")[1]
    assert "paused already" in run("campaign", "pause", "paused")[1]
    assert json.loads(run("campaign", "status", "paused", "--json")[1])["state"] == "paused"
    assert "is running" in run("campaign", "resume", "paused")[1]


def test_a_campaign_that_cannot_go_on_fails_with_its_reason(server: None, tmp_path: Path) -> None:
    """Ten evaluations relax nothing, so that there is no label to train on."""
    from al_charge.fw.tasks import CATEGORIES
    from al_charge.fw.worker import work

    labeler = {"kind": "born", "fmax": "0.0001 eV/A", "max_steps": 10}
    assert run("campaign", "submit", write(tmp_path, name="bad", labeler=labeler))[0] == 0
    work(None, "bad", tmp_path / "runs", categories=CATEGORIES, until_idle=False)
    document = json.loads(run("campaign", "status", "bad", "--json")[1])
    assert document["state"] == "failed"
    assert "no usable label" in document["reason"]
    assert len(document["failures"]) == 7
    code, _, err = run("worker", "bad")
    assert (code, err.count("\n")) == (1, 1)
    assert "no usable label" in err
    assert "is running; repaired: failed task (2)" in run("campaign", "resume", "bad")[1]


def test_labels_that_were_given_up_are_retried_once_the_cause_is_mended(
    server: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The campaign that failed for want of labels makes all of them, and comes to its end."""
    from al_charge.fw.tasks import CATEGORIES
    from al_charge.fw.worker import work
    from al_charge.labelers.born.labeler import BornLabeler

    def broken(*_: object) -> None:
        raise AlChargeError("the licence server is away", where="born")

    labeler = {"kind": "born", "relax": "none"}  # so that no other campaign has made its labels
    assert run("campaign", "submit", write(tmp_path, name="mended", labeler=labeler))[0] == 0
    with monkeypatch.context() as outage:
        outage.setattr(BornLabeler, "run", broken)
        work(None, "mended", tmp_path / "runs", categories=CATEGORIES, until_idle=False)
    document = json.loads(run("campaign", "status", "mended", "--json")[1])
    assert (document["state"], len(document["failures"])) == ("failed", 7)
    out = run("campaign", "resume", "mended", "--retry")[1]
    assert "labels that were given up and will be tried again: 7" in out
    document = json.loads(run("campaign", "status", "mended", "--json")[1])
    assert (document["state"], document["failures"]) == ("running", [])
    assert document["tasks"]["READY"] == 2  # the end members, which all others wait for
    work(None, "mended", tmp_path / "runs", categories=CATEGORIES, until_idle=False)
    document = json.loads(run("campaign", "status", "mended", "--json")[1])
    assert document["state"] in ("converged", "exhausted")
    assert document["labels_made"] == 7
    code, _, err = run("campaign", "resume", "mended", "--retry")
    assert (code, err.count("\n")) == (2, 1)
    assert "no more labels will be computed" in err
