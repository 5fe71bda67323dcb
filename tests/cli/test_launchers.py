"""`al-charge launchers`: folders of sites that are written, and what is found wrong with them."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from al_charge.errors import AlChargeError, NotInstalledError
from al_charge.fw.queue_check import check_launchers
from al_charge.fw.queue_folder import read_adapter
from al_charge.fw.queue_probe import MARK, environment
from al_charge.fw.queue_systems import QUEUE_SYSTEMS
from al_charge.fw.tasks import CATEGORIES
from al_charge.labelers.plugin import LabelerPlugin
from al_charge.loop.resources import ResourcesSettings
from al_charge.store.settings import PASSWORD_ENV, DatabaseSettings

HOST = Path(__file__).parents[2] / "workflows" / "hosts" / "NaFePO4.cif"
CAMPAIGN = f"""
name: sulphates
host: {{structure: {HOST}, working_ion: Na, redox: {{Fe: [2, 3]}}, fixed: {{P: 5, O: -2}}}}
labeler: {{kind: born}}
potential: {{kind: painn}}
resources:
  dft: {{nodes: 2, cores: 24, processes: 2, walltime: 30 h, memory: 48 GB, queue: big, jobs: 9}}
  gpu: {{gpus: 0, account: ab-12}}
"""
ASKED = {
    "slurm": {"nodes": 2, "ntasks_per_node": 24, "walltime": "30:00:00", "mem": "48000M"},
    "pbs": {"nodes": 2, "cores": 24, "walltime": "30:00:00", "memory": ":mem=48000mb"},
    "lsf": {"ntasks": 48, "ptile": 24, "walltime": "30:00", "memory": "48000MB"},
}
PROBED = {"missing": [], "gpus": 0, "gpu_build": True, "version": "1.0", "labeler": ""}
PROGRAMS = {
    "python": f"echo '{MARK}{json.dumps(PROBED)}'",
    "al-charge": "exit 0",
    **dict.fromkeys(("sbatch", "squeue", "qsub", "qselect", "qstat", "bsub", "bjobs"), "exit 0"),
}
MUTATIONS = 250

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put programs of a login node on PATH that do nothing but answer."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, line in PROGRAMS.items():
        write_program(folder / name, line)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return folder


def write_program(path: Path, line: str) -> None:
    path.write_text(f"#!/bin/bash\n{line}\n")
    path.chmod(0o755)


@pytest.fixture
def site(run: Run, tmp_path: Path, programs: Path) -> Path:
    """Write the folder of a site with Slurm, whose jobs load nothing."""
    folder = tmp_path / "site"
    assert run("launchers", "new", "slurm", str(folder))[0] == 0
    for category in CATEGORIES:
        change(folder / f"my_qadapter_{category}.yaml", pre_rocket="true")
    return folder


def change(path: Path, **fields: Any) -> None:
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | fields))


def found(run: Run, site: Path, *arguments: str) -> tuple[int, dict[str, list[str]]]:
    """Check a site; return the exit code and the texts of findings by level."""
    code, out, _ = run("launchers", "check", str(site), *arguments, "--json")
    levels: dict[str, list[str]] = {"ok": [], "warning": [], "error": []}
    for finding in json.loads(out)["findings"]:
        assert "\n" not in finding["text"]
        levels[finding["level"]].append(f"{finding['what']}: {finding['text']}")
    assert code == (2 if levels["error"] else 0)
    return code, levels


@pytest.fixture
def errors(run: Run, site: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Check the site with a database that answers; return the errors in one text."""
    monkeypatch.setattr("al_charge.fw.queue_check._database", lambda *_, **__: iter(()))

    def look(*arguments: str) -> str:
        return "\n".join(found(run, site, *arguments)[1]["error"])

    return look


@pytest.mark.parametrize("name", ASKED)
def test_folder_is_filled_in_from_the_campaign(run: Run, tmp_path: Path, name: str) -> None:
    file = tmp_path / "campaign.yaml"
    file.write_text(CAMPAIGN)
    folder = tmp_path / "new" / "site"
    code, out, _ = run("launchers", "new", name, str(folder), "--campaign", str(file))
    assert code == 0
    assert "launchers check" in out
    dft, gpu = (read_adapter(folder, category) for category in ("dft", "gpu"))
    assert ASKED[name].items() <= dft.items()
    assert (dft["queue"], dft["_jobs"], gpu["account"]) == ("big", 9, "ab-12")
    assert "--processes 2 " in dft["rocket_launch"]
    assert not gpu.get("gres") and not gpu.get("gpus")
    assert dft["pre_rocket"].startswith("export PATH=")
    fworker = yaml.safe_load((folder / "my_fworker_dft.yaml").read_text())
    assert json.loads(fworker["query"]) == {"spec.campaign": "sulphates"}
    assert "# " in (folder / "my_qadapter_dft.yaml").read_text()


def test_what_the_campaign_asks_for_is_checked(
    errors: Callable[..., str], run: Run, site: Path, tmp_path: Path
) -> None:
    """Jobs are submitted with it, whatever the folder says."""
    file = tmp_path / "campaign.yaml"
    file.write_text(CAMPAIGN.replace("30 h", "2 min"))
    assert "jobs dft" not in errors()
    assert "jobs dft: its walltime, 00:02:00, has to be longer" in errors("--campaign", str(file))
    file.write_text(CAMPAIGN)
    good = found(run, site, "--campaign", str(file))[1]["ok"]
    assert "jobs dft: walltime 30:00:00, 9 kept in the queue" in good


def test_grid_engine_counts_slots(run: Run, tmp_path: Path) -> None:
    file, folder = tmp_path / "campaign.yaml", tmp_path / "site"
    file.write_text(CAMPAIGN)
    code, _, err = run("launchers", "new", "sge", str(folder), "--campaign", str(file))
    assert code == 2
    assert "parallel environment" in err
    assert list(tmp_path.iterdir()) == [file]
    file.write_text(CAMPAIGN.replace("nodes: 2, ", ""))
    assert run("launchers", "new", "sge", str(folder), "--campaign", str(file))[0] == 0
    assert read_adapter(folder, "dft")["memory"] == "mem_free=2000M"


def test_folder_that_is_used_is_refused(run: Run, site: Path) -> None:
    before = sorted(site.iterdir())
    code, _, err = run("launchers", "new", "pbs", str(site))
    assert code == 2
    assert "the folder is not empty" in err
    assert sorted(site.iterdir()) == before


def test_unknown_site_is_refused(run: Run, tmp_path: Path) -> None:
    code, _, err = run("launchers", "new", "slrum", str(tmp_path / "site"))
    assert code == 2
    assert "did you mean 'slurm'?" in err
    assert not list(tmp_path.iterdir())


def test_folder_as_it_is_written_is_right(errors: Callable[..., str]) -> None:
    assert errors() == ""


def test_cluster_needs_a_database_that_nodes_reach(run: Run, site: Path) -> None:
    code, levels = found(run, site)
    assert code == 2
    (error,) = levels["error"]
    assert "embedded" in error


def test_database_that_does_not_answer_is_told(site: Path) -> None:
    settings = DatabaseSettings(uri="mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=100")
    texts = [finding.text for finding in check_launchers(site, None, settings, ResourcesSettings())]
    assert any("no MongoDB answers" in text for text in texts)


def test_labeler_is_looked_for_where_jobs_run(
    errors: Callable[..., str], programs: Path, tmp_path: Path
) -> None:
    file = tmp_path / "campaign.yaml"
    file.write_text(CAMPAIGN)
    assert errors("--campaign", str(file)) == ""
    lacking = PROBED | {"labeler": "there is no vasp_std"}
    write_program(programs / "python", f"echo '{MARK}{json.dumps(lacking)}'")
    assert errors("--campaign", str(file)) == "labeler: there is no vasp_std"


def test_environment_of_this_python(tmp_path: Path) -> None:
    found = environment(None)
    assert (found["missing"], found["labeler"]) == ([], None)
    file = tmp_path / "campaign.yaml"
    file.write_text(CAMPAIGN)
    assert environment(file)["labeler"] == ""
    file.write_text(CAMPAIGN.replace("kind: born", "kind: bron"))
    assert "did you mean 'born'?" in environment(file)["labeler"]


def test_program_of_the_labeler_is_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without_program(plugin: LabelerPlugin, settings: Any) -> None:
        raise NotInstalledError("there is no vasp_std on PATH")

    monkeypatch.setattr(LabelerPlugin, "check_machine", without_program)
    file = tmp_path / "campaign.yaml"
    file.write_text(CAMPAIGN)
    assert environment(file)["labeler"] == "there is no vasp_std on PATH"


@pytest.mark.parametrize(
    ("program", "line", "text"),
    [
        ("python", "exit 1", "its Python cannot run al-charge"),
        (
            "python",
            f"echo '{MARK}{json.dumps(PROBED | {'missing': ['ase: no']})}'",
            "ase",
        ),
    ],
)
def test_packages_that_do_not_import_are_told(
    errors: Callable[..., str], programs: Path, program: str, line: str, text: str
) -> None:
    write_program(programs / program, line)
    assert text in errors()


def test_job_that_does_not_find_al_charge_is_told(
    errors: Callable[..., str], programs: Path
) -> None:
    (programs / "al-charge").unlink()
    assert "al-charge is not found" in errors()


def test_queue_that_is_not_there_is_told(errors: Callable[..., str], programs: Path) -> None:
    (programs / "sbatch").unlink()
    assert "there is no sbatch here" in errors()


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"waltime": "24:00:00"}, "did you mean 'walltime'?"),
        ({"_fw_q_type": "SLRUM"}, "did you mean 'SLURM'?"),
        ({"walltime": "00:05:00"}, "has to be longer than the warning"),
        ({"walltime": "a day"}, "is not a time such as"),
        ({"walltime": 86400}, "write it in quotes"),
        ({"signal": "B:TERM@60"}, "may need 180 s to save"),
        ({"signal": None}, "may need 180 s to save"),
        ({"rocket_launch": "rlaunch singleshot"}, "rocket_launch lacks 'job.sh'"),
        ({"pre_rocket": "module load 'gpaw"}, "bash: "),
        ({"pre_rocket": "no-such-command"}, "pre_rocket: its last command fails"),
        ({"_jobs": 0}, "write a whole number"),
        ({"nodes": [1]}, "its value is neither text nor number"),
        ({"pre_rocket": "echo $$"}, "no job script can hold this text"),
    ],
)
def test_what_is_wrong_with_jobs_is_told(
    errors: Callable[..., str], site: Path, fields: dict[str, Any], text: str
) -> None:
    change(site / "my_qadapter_dft.yaml", **fields)
    assert text in errors()


@pytest.mark.parametrize(
    ("file", "fields", "text"),
    [
        ("FW_config.yaml", {"PING_TIME_SECS": 3600}, "PING_TIME_SECS is 3600, not 60"),
        ("FW_config.yaml", {"PING_TIME_SEC": 60}, "did you mean 'PING_TIME_SECS'?"),
        ("my_launchpad.yaml", {"host": "mongodb://db.example.org"}, "filled in by fireworks.sh"),
        ("my_launchpad.yaml", {"password": "canary"}, "it holds a password"),
        ("my_launchpad.yaml", {"name": "mongodb://me:canary@db.example.org"}, "holds a password"),
        ("my_qadapter_dft.yaml", {"pre_rocket": "export MY_PASSWORD=canary"}, "holds a password"),
        ("my_fworker_gpu.yaml", {"category": "cpu"}, "write 'gpu'"),
        ("my_fworker_gpu.yaml", {"query": "{"}, "it is not a query in JSON"),
        ("my_fworker_gpu.yaml", {"quer": "{}"}, "did you mean 'query'?"),
    ],
)
def test_what_is_wrong_with_other_files_is_told(
    errors: Callable[..., str], site: Path, file: str, fields: dict[str, Any], text: str
) -> None:
    change(site / file, **fields)
    assert text in errors()


def test_password_of_the_environment_is_looked_for(
    errors: Callable[..., str], site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PASSWORD_ENV, "canary-123")
    change(site / "my_qadapter_cpu.yaml", pre_rocket="export LOGIN=canary-123")
    assert "my_qadapter_cpu.yaml: it holds a password" in errors()


def test_password_that_is_read_from_elsewhere_is_none(
    errors: Callable[..., str], site: Path
) -> None:
    change(site / "my_qadapter_cpu.yaml", pre_rocket='export MY_PASSWORD="$(cat ~/.login)"')
    assert "password" not in errors()


def test_scripts_are_looked_at(errors: Callable[..., str], site: Path) -> None:
    (site / "job.sh").write_text("if\n")
    (site / "fireworks.sh").chmod(0o644)
    told = errors()
    assert "job.sh: bash: " in told
    assert "fireworks.sh: it cannot be run" in told
    (site / "job.sh").unlink()
    assert "job.sh: it is missing" in errors()


def test_folder_of_something_else_is_refused(run: Run, tmp_path: Path) -> None:
    code, out, err = run("launchers", "check", str(tmp_path))
    assert (code, out) == (2, "")
    assert "al-charge launchers new" in err


@pytest.mark.parametrize("name", QUEUE_SYSTEMS)
def test_damaged_files_are_refused_in_one_line(run: Run, tmp_path: Path, name: str) -> None:
    """Each file that is read is refused for a reason, or rendered."""
    folder = tmp_path / "site"
    assert run("launchers", "new", name, str(folder))[0] == 0
    path = folder / "my_qadapter_gpu.yaml"
    rng, whole = random.Random(3), path.read_bytes()
    refused = 0
    for _ in range(MUTATIONS):
        path.write_bytes(damaged(rng, whole))
        try:
            read_adapter(folder, "gpu")
        except AlChargeError as error:
            assert error.exit_code == 2
            assert "\n" not in str(error)
            refused += 1
    assert refused > MUTATIONS // 4


def damaged(rng: random.Random, content: bytes) -> bytes:
    """Return a file with a line lost, doubled, cut off, exchanged or filled with something else."""
    lines = content.splitlines(keepends=True)
    i = rng.randrange(len(lines))
    key = lines[i].partition(b":")[0]
    junk = rng.choice([b"[1, 2]", b"{a: b}", b"true", b"1e999", b"&a [*a]", b"\xff\xfe", b"'", b""])
    lines[i : i + 1] = rng.choice(
        [
            [],
            [lines[i], lines[i]],
            [lines[i][: len(lines[i]) // 2], b"\n"],
            [key[:-1] + key[-1:] * 2, b": 1\n"],
            [key + b": " + junk + b"\n"],
            [bytes(rng.randrange(256) for _ in range(12)), b"\n"],
        ]
    )
    return b"".join(lines)
