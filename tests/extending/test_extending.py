"""The package of docs/extending.md: built, installed apart, tested, and run through a campaign."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

import al_charge
from al_charge.store.embedded import EmbeddedServer

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "extending.md"
HOST = ROOT / "workflows" / "hosts" / "NaFePO4.cif"
BLOCK = re.compile(r"```\w+\n# (\S+)\n(.*?)```", re.DOTALL)


def run(*command: str | Path, home: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(word) for word in command],
        cwd=folder,
        env=os.environ | {"AL_CHARGE_HOME": str(home), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=500,
    )


COMMANDS = """
import contextlib, io, json, sys
from al_charge.cli.main import main

ended = []
for command in json.loads(sys.argv[1]):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main(command)
        except SystemExit as exit_:
            ended.append([exit_.code or 0, out.getvalue(), err.getvalue()])
print(json.dumps(ended))
"""


def run_all(
    python: str | Path, *commands: Sequence[str | Path], home: Path, folder: Path
) -> list[tuple[int, str, str]]:
    """Run commands of al-charge in one process; return exit code, output and errors of each.

    A process for each would spend most of its time on imports.
    """
    words = json.dumps([[str(word) for word in command] for command in commands])
    done = run(python, "-c", COMMANDS, words, home=home, folder=folder)
    assert done.returncode == 0, done.stderr[-2000:]
    ended = json.loads(done.stdout.splitlines()[-1])  # workers write before
    assert len(ended) == len(commands)
    return [(int(code), out, err) for code, out, err in ended]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of the page."""
    folder = tmp_path_factory.mktemp("toy")
    for name, text in BLOCK.findall(PAGE.read_text()):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    shutil.copy(HOST, folder)
    return folder


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A database of its own."""
    folder = tmp_path_factory.mktemp("home")
    yield folder
    EmbeddedServer(folder).stop()


@pytest.fixture(scope="module")
def python(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment that has the package, and sees what this one has."""
    folder = tmp_path_factory.mktemp("environment")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    alone = ["--no-index", "--no-deps"]
    build = [*pip, "wheel", *alone, "--no-build-isolation", "-w", folder, source]
    environment = folder / "env"
    made = environment / "bin" / "python"
    subprocess.run(build, check=True, capture_output=True, timeout=200)
    (wheel,) = folder.glob("toy_charge-1.0-*.whl")
    create = [sys.executable, "-m", "venv", "--without-pip", environment]
    subprocess.run(create, check=True, timeout=200)
    where = [made, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    packages = subprocess.run(where, check=True, capture_output=True, text=True).stdout.strip()
    ours = sysconfig.get_path("purelib")
    Path(packages, "ours.pth").write_text(f"import site; site.addsitedir({ours!r})\n")
    subprocess.run(
        [*pip, "--python", made, "install", *alone, wheel],
        check=True, capture_output=True, timeout=200,
    )  # fmt: skip
    return made


@pytest.mark.slow
def test_the_package_passes_the_contract_tests(python: Path, source: Path, home: Path) -> None:
    pytest_quietly = ("-m", "pytest", "-q", "-p", "no:cacheprovider")
    done = run(python, *pytest_quietly, "test_toy_charge.py", home=home, folder=source)
    assert done.returncode == 0, done.stdout[-3000:]
    assert int(re.findall(r"(\d+) passed", done.stdout)[-1]) > 50


@pytest.mark.slow
def test_a_campaign_runs_with_all_four(python: Path, source: Path, home: Path) -> None:
    plugins, check, submit, hulls, state = run_all(
        python,
        ("plugins", "--json"),
        ("check", "campaign.yaml"),
        ("campaign", "submit", "campaign.yaml", "--workers", "1"),
        ("hull", "toy", "--json"),
        ("campaign", "status", "toy", "--json"),
        home=home,
        folder=source,
    )
    ours = {
        one["kind"]: one
        for one in json.loads(plugins[1])["plugins"]
        if one["package"] == "toy-charge 1.0"
    }
    assert set(ours) == {"soft-spheres", "embedded", "lowest", "random"}
    assert not any(one["unusable"] for one in ours.values())
    assert check[0] == 0 and "labelled by soft-spheres, 2 embedded" in check[1]
    assert submit[0] == 0, submit[2][-2000:]
    found = json.loads(hulls[1])
    assert found["labeler"] == "soft spheres (an example)"
    assert [entry["x"] for entry in (found["vertices"][0], found["vertices"][-1])] == ["0", "1"]
    assert len(found["entries"]) >= 7
    assert json.loads(state[1])["state"] in ("exhausted", "converged")


@pytest.mark.slow
def test_a_machine_without_the_package_says_so(python: Path, source: Path, home: Path) -> None:
    """A worker there takes no task, so that others can."""
    command = (sys.executable, "-m", "al_charge")
    elsewhere = home  # where the package's own files are not importable
    checked = run(*command, "check", source / "campaign.yaml", home=home, folder=elsewhere)
    assert checked.returncode == 2
    assert "labeler: unknown kind 'soft-spheres'" in checked.stderr
    text = (source / "campaign.yaml").read_text().replace("name: toy", "name: toy-2")
    (source / "second.yaml").write_text(text)
    submitted = run(python, "-m", "al_charge", "campaign", "submit", "second.yaml",
                    home=home, folder=source)  # fmt: skip
    assert submitted.returncode == 0, submitted.stderr
    worker = run(*command, "worker", "toy-2", home=home, folder=elsewhere)
    assert worker.returncode != 0
    lines = [line for line in worker.stderr.splitlines() if "soft-spheres" in line]
    assert lines and "it needs the labeler 'soft-spheres', which is not installed" in lines[-1]
    assert "Traceback" not in worker.stderr
    status = run(python, "-m", "al_charge", "campaign", "status", "toy-2", "--json",
                 home=home, folder=source)  # fmt: skip
    tasks = json.loads(status.stdout)["tasks"]
    assert set(tasks) == {"READY", "WAITING"}


def test_the_page_shows_every_file_of_the_package(source: Path) -> None:
    assert {path.relative_to(source).as_posix() for path in source.rglob("*.*")} >= {
        "pyproject.toml", "toy_charge/__init__.py", "toy_charge/labeler.py",
        "toy_charge/potential.py", "toy_charge/network.py", "toy_charge/rule.py",
        "toy_charge/search.py", "test_toy_charge.py", "campaign.yaml",
    }  # fmt: skip
    version = al_charge.__version__.rsplit(".", 1)[0]
    assert f"al-charge>={version}" in (source / "pyproject.toml").read_text()
