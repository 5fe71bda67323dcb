"""The house itself: what is declared, pinned and installed."""

from __future__ import annotations

import importlib.metadata
import os
import re
import runpy
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PINS = {
    canonicalize_name(name): version
    for name, version in re.findall(
        r"^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE
    )
}


def declared(*extras: str) -> list[Requirement]:
    listed = list(PROJECT["dependencies"])
    for extra in extras:
        listed += PROJECT["optional-dependencies"][extra]
    return [Requirement(text) for text in listed]


def test_every_dependency_is_bounded_on_both_sides() -> None:
    for requirement in declared(*PROJECT["optional-dependencies"]):
        operators = {specifier.operator for specifier in requirement.specifier}
        assert operators in ({">=", "<"}, {"=="}), str(requirement)


def test_pins_lie_within_the_bounds() -> None:
    for requirement in declared("embedded", "gpaw", "gpu", "dev"):
        if requirement.marker and not requirement.marker.evaluate({"python_version": "3.11"}):
            continue  # the constraints are those of Python 3.11
        assert PINS[canonicalize_name(requirement.name)] in requirement.specifier


def test_constraints_hold_pins_only() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    assert all(re.fullmatch(r"#.*|[\w.-]+==[\w.]+", line) for line in lines)


def test_what_is_imported_is_declared() -> None:
    # Contract tests are for those who have the test tools.
    wanted = [*declared("gpaw"), *declared("gpu"), *declared("dev")]
    names = {canonicalize_name(requirement.name) for requirement in wanted}
    owners = importlib.metadata.packages_distributions()
    imported = set()
    for path in (ROOT / "al_charge").rglob("*.py"):
        imported |= set(re.findall(r"^\s*(?:from|import) (\w+)", path.read_text(), re.MULTILINE))
    # e3nn comes with mace-torch, which fixes its version.
    modules = imported - set(sys.stdlib_module_names) - {"al_charge", "e3nn"}
    for module in modules & set(owners):
        assert names & {canonicalize_name(owner) for owner in owners[module]}, module


def test_no_fault_of_users_ends_in_a_traceback(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "bootstrap.py", "tset"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "bootstrap.py test" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_installing_leaves_standard_output_to_the_demo(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """`bootstrap.py demo --json` prints JSON alone."""
    bootstrap = runpy.run_path(str(ROOT / "bootstrap.py"))

    def install(*extras: str) -> None:
        assert extras == ("embedded",)
        subprocess.run([sys.executable, "-c", "print('Collecting')"], check=True)

    def execv(program: Path, words: list[str]) -> None:
        assert words == ["al-charge", "demo", "--json"]
        os.write(1, b"{}")
        raise SystemExit

    monkeypatch.setitem(bootstrap["main"].__globals__, "install", install)
    monkeypatch.setattr(os, "execv", execv)
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "")
    with pytest.raises(SystemExit):
        bootstrap["main"]("demo", "--json")
    assert capfd.readouterr() == ("{}", "Collecting\n")


def test_bootstrap_says_what_gpaw_lacks(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bootstrap = runpy.run_path(str(ROOT / "bootstrap.py"))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert bootstrap["main"]("gpaw") == 1
    assert "no g++" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["test", "check", "docs"])
def test_pip_compiles_all_only_where_nothing_else_may(
    command: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """GPAW is built once, and what comes with it is installed in the end."""
    bootstrap = runpy.run_path(str(ROOT / "bootstrap.py"))
    called: list[str] = []

    def run(*words: str | Path, **_: object) -> int:
        called.append(" ".join(map(str, words)))
        return 0

    ours = {"VENV": tmp_path, "PYTHON": tmp_path / "python", "run": run, "can_build": lambda: True}
    ours["build_gpaw"] = lambda: called.append("gpaw")
    ours["create_environment"] = ours["unpack_slurm"] = lambda: None
    for name, value in ours.items():
        monkeypatch.setitem(bootstrap["main"].__globals__, name, value)
    for variable in ("PYTHONDONTWRITEBYTECODE", "OMP_NUM_THREADS"):
        monkeypatch.setenv(variable, "1")
    assert bootstrap["main"](command) == 0
    installs = [line for line in called if " install " in line]
    assert called.count("gpaw") == (command == "test")
    assert ["gpaw" in line for line in installs] == (
        [False, True] if command == "test" else [False]
    )
    kept = "PYTHONDONTWRITEBYTECODE" not in os.environ
    assert kept == (command == "test")
    assert all(("--no-compile" in line) == kept for line in installs)
    assert (tmp_path / "installed.txt").exists()


def test_bootstrap_is_small_and_of_the_standard_library() -> None:
    text = (ROOT / "bootstrap.py").read_text()
    assert len(text.splitlines()) < 260
    modules = set(re.findall(r"^(?:from|import) (\w+)", text, re.MULTILINE))
    assert modules <= set(sys.stdlib_module_names)


def test_automatic_check_runs_the_test_command() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert script.read_text().splitlines()[-1] == "python3 bootstrap.py test"


def test_workers_of_the_benchmarks_start_with_their_faults(tmp_path: Path) -> None:
    """A worker that ends at once would be another fault than the one that is counted."""
    faults = {"FAULT_CLOCK": "7200", "FAULT_SCHEMA": "1", "FAULT_SILENT": "60 600"}
    faults |= {"FAULT_LAUNCHER": "env", "FAULT_HOLD": str(tmp_path)}
    program = [sys.executable, str(ROOT / "benchmarks" / "faulty_worker.py"), "--version"]
    done = subprocess.run(program, env=os.environ | faults, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
