"""Brackets inside each other, which PyYAML reads in a time that grows with their square."""

from __future__ import annotations

from pathlib import Path

import pytest

from al_charge.errors import InputError
from al_charge.loop.strict_yaml import DEEPEST, read_mapping


def test_brackets_inside_each_other_are_counted(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("a: " + "[" * DEEPEST + "]" * DEEPEST)
    inside, depth = read_mapping(file)["a"], 0
    while inside:
        (inside,) = inside
        depth += 1
    assert depth == DEEPEST - 1
    file.write_text("a: 1\nb: " + "[{" * 20000)
    with pytest.raises(InputError, match=r"more than 50 brackets are nested") as caught:
        read_mapping(file)
    assert caught.value.where == f"{file}, line 2"


def test_brackets_beside_each_other_are_not(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("a: [" + "[[]], {x: [1]}, " * 200 + "]")
    assert len(read_mapping(file)["a"]) == 400
