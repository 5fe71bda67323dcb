"""A sample of malformed input, of each kind one through a real process, as a shell runs it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

BOMB = "l0: &a0 [lol]\n" + "".join(
    f"l{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12)
)
FILES = {
    "tag.yaml": "name: !!python/object/apply:os.mkdir [pwned]\n",
    "bomb.yaml": BOMB + "name: *a11\n",
    "deep.yaml": "name: " + "[" * 40000,
    "twice.yaml": "name: a\nname: b\n",
    "empty.yaml": "",
    "zeros.yaml": "\0" * 300,
    "huge.yaml": "seed: " + "9" * 400,
    "escape.yaml": '"\\e[31mname": 1\n',
    "flat.xyz": '1\nLattice="1 0 0 2 0 0 3 0 0" Properties=species:S:1:pos:R:3\nFe 0 0 0\n',
    "short.xyz": "99999999999\n\nFe 0 0 0\n",
    "nan.cif": "data_a\n_cell_length_a nan\n_atom_site_fract_x 0\n",
    "OUTCAR": " vasp.6.9.9\n",
    "vasprun.xml": '<!DOCTYPE m [<!ENTITY x SYSTEM "file:///etc/passwd">]><m>&x;</m>',
    "gpaw.txt": " |__||  | ||/\\| - 26.7.0\n",
}
COMMANDS = [
    *(("check", file) for file in FILES if file.endswith("yaml")),
    *(("campaign", "submit", file) for file in ("tag.yaml", "bomb.yaml")),
    *(("enumerate", file) for file in ("deep.yaml", "twice.yaml")),
    *(("label", file, "--engine", "born") for file in ("flat.xyz", "short.xyz", "nan.cif")),
    *(("audit", file) for file in ("OUTCAR", "vasprun.xml", "gpaw.txt", "none.gpw")),
    ("check", b"\xff\xfe.yaml"),
    ("check", "two\nlines.yaml"),
    ("chekc", "tag.yaml"),
    ("check", "--unknown"),
    ("label", "flat.xyz", "--engine", "none"),
]


PROCESSES = [
    ("check", "tag.yaml"),
    ("campaign", "submit", "bomb.yaml"),
    ("enumerate", "deep.yaml"),
    ("label", "nan.cif", "--engine", "born"),
    ("audit", "OUTCAR"),
    ("check", b"\xff\xfe.yaml"),
    ("chekc", "tag.yaml"),
]
"""One for each command, and for a name that is no text."""


@pytest.fixture
def folder(sweep: Any) -> Path:
    """The folder with all files."""
    for name, content in FILES.items():
        (sweep.folder / name).write_text(content)
    path: Path = sweep.folder
    return path


@pytest.mark.parametrize("command", COMMANDS, ids=lambda words: " ".join(map(repr, words)))
@pytest.mark.usefixtures("folder")
def test_a_command(command: tuple[Any, ...], sweep: Any) -> None:
    assert sweep.refuse(*map(os.fsdecode, command)) == ""


@pytest.mark.slow
@pytest.mark.parametrize("command", PROCESSES, ids=lambda words: " ".join(map(repr, words)))
def test_a_process(command: tuple[Any, ...], folder: Path) -> None:
    before = sorted(path.name for path in folder.rglob("*"))
    done = subprocess.run(
        [sys.executable, "-m", "al_charge", *command],
        env=os.environ | {"TMPDIR": str(folder / "tmp"), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        timeout=120,
        check=False,
    )
    line = done.stderr.decode()
    assert (done.returncode, done.stdout, line.count("\n")) == (2, b"", 1), line
    assert line.startswith("al-charge: ")
    assert line.rstrip("\n").isprintable()
    assert "fault of al-charge" not in line
    assert sorted(path.name for path in folder.rglob("*")) == before
