"""The version, the changelog and the citation agree."""

from __future__ import annotations

import datetime
import re
import tomllib
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CITATION: dict[str, Any] = yaml.safe_load((ROOT / "CITATION.cff").read_text())
RELEASES = re.findall(
    r"^## \[(\d+\.\d+\.\d+)\] - (\d{4}-\d{2}-\d{2})$",
    (ROOT / "CHANGELOG.md").read_text(),
    re.MULTILINE,
)


def test_the_citation_has_what_its_format_requires() -> None:
    assert CITATION["cff-version"] == "1.2.0"
    assert CITATION["type"] == "software"
    assert CITATION["message"] and CITATION["title"] == PROJECT["name"]
    assert CITATION["license"] == PROJECT["license"]
    (entity,) = CITATION["authors"]
    assert entity == {"name": "The al-charge authors"}
    assert datetime.date.fromisoformat(CITATION["date-released"])


def test_the_changelog_begins_with_this_release() -> None:
    assert RELEASES[0] == (PROJECT["version"], CITATION["date-released"])
    assert CITATION["version"] == PROJECT["version"]


def test_releases_descend() -> None:
    numbers = [tuple(map(int, version.split("."))) for version, _ in RELEASES]
    dates = [datetime.date.fromisoformat(date) for _, date in RELEASES]
    assert len(numbers) > 1
    assert numbers == sorted(set(numbers), reverse=True)
    assert dates == sorted(dates, reverse=True)


def test_a_release_has_the_sections_of_keep_a_changelog() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    kinds = ["Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"]
    for release in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        found = re.findall(r"^### (.*)$", release, re.MULTILINE)
        assert found == [kind for kind in kinds if kind in found] and found
