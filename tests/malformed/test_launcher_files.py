"""Files of a site that are damaged: those of jobs, workers and FireWorks itself."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from al_charge.cli.main import main

from .test_odd_files import frugal

Cases = Iterator[tuple[str, bytes | str]]

JUNK = (
    "[1, 2]", "{a: b}", "true", ".nan", "-", "&a [*a]", "'", "!!python/object/apply:os.getcwd []",
    "2026-01-01", "*a", "{{x}}: 1", "\x07", "[" * 3000, "|\n  two\n  $$lines", "9" * 400,
)  # fmt: skip
PROBED = {"missing": [], "gpus": 0, "gpu_build": True, "version": "1.0"}


def damaged(text: str, needed: tuple[str, ...], dice: random.Random) -> Cases:
    """Yield files that are no YAML, or in which a needed field is lost or filled with junk."""
    lines = text.splitlines(True)
    for number, line in enumerate(lines):
        key, _, value = line.partition(":")
        before, after = "".join(lines[:number]), "".join(lines[number + 1 :])
        if line.startswith(("#", " ")) or not value.strip():
            continue
        yield f"{key} twice", before + line + line + after
        yield f"{key} misspelt", before + f"{key}{key[-1]}:{value}" + after
        yield f"{key} with a tab", before + "\t" + line + after
        yield f"{key} is cut", before + key[:-1] + "\n" + after
        if key in needed:
            yield f"without {key}", before + after
            for junk in JUNK:
                yield f"{key} is {junk:.30}", before + f"{key}: {junk}\n" + after
    for place in sorted(dice.sample(range(len(text)), 25)):
        for what in (b"\x00", b"\xff", b"\x1b"):
            yield f"{what!r} at {place}", text[:place].encode() + what + text[place:].encode()
    for encoding in ("utf-16", "utf-32"):
        yield encoding, text.encode(encoding)
    for other in ("", "null", "5", "[]", "text", "- a", "{}", "<xml/>", "a: b: c", "---\n---\n"):
        yield repr(other), other
    for size in (1, 100, 5000):
        yield f"{size} random bytes", dice.randbytes(size)
        yield f"{size} zeros", bytes(size)


@pytest.fixture
def site(request: Any, sweep: Any, monkeypatch: Any) -> Path:
    """A folder that al-charge wrote; the database is one that nobody may ask for."""
    with pytest.raises(SystemExit) as end:
        main(["launchers", "new", request.param, "site"])
    assert not end.value.code
    programs = sweep.folder / "bin"
    programs.mkdir()
    answers = {
        "python": f"echo 'al-charge-probe:{json.dumps(PROBED)}'",
        "al-charge": 'echo \'{"missing": ""}\'',
    }
    for name, line in answers.items():
        (programs / name).write_text(f"#!/bin/bash\n{line}\n")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    sweep.capture.readouterr()
    folder: Path = sweep.folder / "site"
    return folder


@pytest.mark.parametrize(
    ("site", "step"), [("slurm", 1), ("pbs", 4), ("lsf", 4), ("sge", 4)], indirect=["site"]
)
def test_jobs(site: Path, step: int, sweep: Any, dice: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("AL_CHARGE_DATABASE", "mongodb://localhost:1")
    file = "site/my_qadapter_gpu.yaml"
    text = (site / "my_qadapter_gpu.yaml").read_text()
    needed = ("_fw_q_type", "rocket_launch", "job_name", "walltime", "_jobs")
    cases = list(damaged(text, needed, dice))[::step]
    argv = ("launch", "wrong", "--site", "site", "--category", "gpu", "--once")
    assert sweep.each(cases, file, *argv) >= 200 // step


@pytest.mark.parametrize("site", ["workstation"], indirect=True)
@pytest.mark.parametrize(
    ("file", "needed"),
    [
        ("my_fworker_dft.yaml", ("category", "query")),
        ("FW_config.yaml", ("PING_TIME_SECS", "RUN_EXPIRATION_SECS", "WFLOCK_EXPIRATION_SECS")),
        ("my_launchpad.yaml", ("host", "name")),
    ],
)
def test_other_files_of_a_site(file: str, needed: Any, site: Path, sweep: Any, dice: Any) -> None:
    """A check tells everything that it finds: here one error, in one line, of this file."""
    argv = ["launchers", "check", "site", "--json"]
    assert errors(sweep, argv)[1] == [], "a new folder is right"
    path = site / file
    cases = list(damaged(path.read_text(), needed, dice))
    faults = []
    for what, content in cases:
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        code, found, err = errors(sweep, argv)
        about_file = len(found) == 1 and file in found[0] and found[0].isprintable()
        if (code, about_file, err) != (2, True, ""):
            faults.append(f"{what}: {code} {found} {err[:200]}")
    assert not faults, f"{len(faults)} of {file}\n" + "\n".join(faults[:20])
    assert len(cases) >= 60


@pytest.mark.parametrize("site", ["workstation"], indirect=True)
def test_a_large_file_beside_those_of_a_site(site: Path, sweep: Any) -> None:
    """It is looked at for passwords, as far as it would be one of a site."""
    for name in ("core", "extra.sh"):
        (site / name).write_text("#!/bin/bash\n")
        os.truncate(site / name, 2**40)
        (site / name).chmod(0o755)
    with frugal():
        assert errors(sweep, ["launchers", "check", "site", "--json"])[2] == ""


def errors(sweep: Any, argv: list[str]) -> tuple[object, list[str], str]:
    """Return the exit code of a check, the lines of what is wrong, and its standard error."""
    with pytest.raises(SystemExit) as end:
        main(argv)
    out, err = sweep.capture.readouterr()
    findings = json.loads(out)["findings"] if out else []
    lines = [f"{each['what']}: {each['text']}" for each in findings if each["level"] == "error"]
    return end.value.code, lines, err
