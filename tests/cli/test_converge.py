"""`al-charge converge`: what it refuses, before anything is computed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BORN = str(ROOT / "workflows" / "nafepo4_born.yaml")
Run = Callable[..., tuple[int, str, str]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((BORN,), "the labeler 'born' has no settings to converge"),
        ((BORN, "--tolerance", "2"), "--tolerance: '2' is not a valid energy"),
        ((BORN, "--tolerance", "-1 meV"), "--tolerance: '-1 meV' is not positive"),
        ((BORN, "--voltage-tolerance", "5 meV"), "'meV' is not a unit of voltage"),
        (("there_is_none.yaml",), "there_is_none.yaml"),
    ],
)
def test_what_is_refused_in_one_line(
    arguments: tuple[str, ...],
    message: str,
    run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = run("converge", *arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert message in err
    assert not list(tmp_path.iterdir())


def test_ctrl_c_says_how_to_go_on(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("al_charge.api.convergence.converge", stopped)
    code, out, err = run("converge", BORN)
    assert (code, out) == (1, "")
    assert "stopped; the same command continues from here" in err
