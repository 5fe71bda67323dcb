"""The list of pinned packages is whole: exact versions, within bounds, and what is installed."""

from __future__ import annotations

import importlib.metadata
import json
import re
import runpy
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
LINES = [
    line
    for line in (ROOT / "constraints.txt").read_text().splitlines()
    if line and not line.startswith("#")
]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
UNPINNED = {"pip", "al-charge"}


def pins() -> dict[str, str]:
    """Return the pinned version of every package, by its canonical name."""
    return {canonicalize_name(line.split("==")[0]): line.split("==")[1] for line in LINES}


def requirements() -> list[Requirement]:
    """Return everything that the project asks for, where it applies here."""
    extras = PROJECT["optional-dependencies"].values()
    every = [*PROJECT["dependencies"], *(one for extra in extras for one in extra)]
    parsed = [Requirement(line) for line in every]
    return [one for one in parsed if one.marker is None or one.marker.evaluate()]


def test_every_line_is_one_exact_version() -> None:
    for line in LINES:
        assert re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][0-9A-Za-z.]*", line), line
    names = Counter(canonicalize_name(line.split("==")[0]) for line in LINES)
    assert [name for name, count in names.items() if count > 1] == []


@pytest.mark.parametrize("wanted", requirements(), ids=str)
def test_every_dependency_is_pinned_within_its_bounds(wanted: Requirement) -> None:
    name = canonicalize_name(wanted.name)
    if name == "torch-sim-atomistic" and name in pins() and pins()[name] not in wanted.specifier:
        pytest.skip("pinned for another Python")
    assert pins()[name] in wanted.specifier


def test_dependencies_have_an_upper_bound() -> None:
    for wanted in requirements():
        operators = {one.operator for one in wanted.specifier}
        assert operators & {"<", "=="}, str(wanted)
        assert wanted.url is None


@pytest.mark.parametrize("name", ["mace-torch", "chgnet", "fireworks"])
def test_packages_whose_insides_are_replaced_are_bounded_to_one_release(name: str) -> None:
    (wanted,) = (one for one in requirements() if canonicalize_name(one.name) == name)
    *series, last = pins()[name].split(".")
    assert pins()[name] in wanted.specifier
    assert ".".join([*series, str(int(last) + 1)]) not in wanted.specifier


def test_what_the_project_imports_is_what_is_pinned() -> None:
    """Also of packages that ours depend on, wherever they are installed."""
    seen, todo = set(), [canonicalize_name(one.name) for one in requirements()]
    while todo:
        name = todo.pop()
        try:
            found = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # an extra that is not installed here
        if name in seen or name in UNPINNED:
            continue
        seen.add(name)
        assert name in pins(), f"{name} is not in constraints.txt"
        for line in found.requires or ():
            wanted = Requirement(line)
            if wanted.marker is None or wanted.marker.evaluate({"extra": ""}):
                todo.append(canonicalize_name(wanted.name))
    assert len(seen) > 50


@pytest.mark.parametrize("vulnerable", [True, False])
def test_audit_tells_what_was_found(
    vulnerable: bool, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    bad = {"id": "PYSEC-1"}
    unknown = {"name": "b", "skip_reason": "not found"}
    found = {"name": "a", "version": "1", "vulns": [bad] * vulnerable}
    answer = {"dependencies": [found, unknown]}

    def run(*command: Any, **_: Any) -> int:
        if "-o" in command:
            Path(command[-1]).write_text(json.dumps(answer))
        return int(vulnerable) if "-o" in command else 0

    bootstrap = runpy.run_path(str(ROOT / "bootstrap.py"))
    monkeypatch.setitem(bootstrap["audit"].__globals__, "run", run)
    assert bootstrap["audit"]() == int(vulnerable)
    out, err = capfd.readouterr()
    assert ("a 1: PYSEC-1" in out) == vulnerable
    assert f"vulnerabilities: {int(vulnerable)}; asked for 1 packages" in err


def test_audit_says_when_nobody_answers(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    bootstrap = runpy.run_path(str(ROOT / "bootstrap.py"))
    monkeypatch.setitem(bootstrap["audit"].__globals__, "run", lambda *_, **__: 1)
    assert bootstrap["audit"]() == 0
    assert "asked for 0 packages" in capfd.readouterr().err
