"""Small files that would fill the memory, or keep a reader busy for hours."""

from __future__ import annotations

import bz2
import gzip
import lzma
import resource
import signal
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

HOST = (Path(__file__).parents[2] / "workflows" / "hosts" / "NaFePO4.cif").read_text()
MEMORY = 10**9
"""Bytes that a refusal may take beyond what the process has."""
SECONDS = 10
"""Of the processor, after which a refusal has taken too long."""
Case = tuple[str, Callable[[], bytes | str]]

LABEL = ("label", "{file}", "--engine", "born", "--relax", "none")
CHECK = ("check", "c.yaml")
AUDIT = ("audit", "{file}")
CAMPAIGN = """\
name: odd
host: {{structure: {file}, working_ion: Na, redox: {{Fe: [2, 3]}}, fixed: {{P: 5, O: -2}}}}
labeler: {{kind: born}}
potential: {{kind: painn}}
"""
MB = 2**20


def poscar(counts: str, rows: str = "0 0 0\n" * 2, names: str = "Na O") -> str:
    """Return a POSCAR with numbers of atoms as given."""
    return f"odd\n1\n4 0 0\n0 4 0\n0 0 4\n{names}\n{counts}\nDirect\n{rows}"


def far(rows: str) -> str:
    """Return a POSCAR of one element, in a cell of 1 um^3."""
    return poscar(str(rows.count("\n")), rows, "Na").replace("\n1\n", "\n250\n", 1)


def xyz(count: str, head: str = "", rows: str = "Na 0 0 0\nCl 2 2 2\n") -> str:
    """Return a frame of extended XYZ with a number of atoms as given."""
    lattice = 'Lattice="4 0 0 0 4 0 0 0 4"'
    head = head or f'{lattice} Properties=species:S:1:pos:R:3 pbc="T T T"'
    return f"{count}\n{head}\n{rows}"


def cif(old: str, new: str) -> str:
    """Return the CIF of the host with a part replaced."""
    assert old in HOST
    return HOST.replace(old, new, 1)


def sites(number: int) -> str:
    """Return rows of a CIF, all on places of their own."""
    grid = range(round(number ** (1 / 3)) + 1)
    places = ((x, y, z) for x in grid for y in grid for z in grid)
    step = 1 / len(grid)
    return "".join(
        f"O{i} O {x * step:.5f} {y * step:.5f} {z * step:.5f} 1\n"
        for i, (x, y, z) in zip(range(number), places, strict=False)
    )


def operations(number: int) -> str:
    """Return the CIF with many operations of symmetry."""
    rows = "".join(f"'x+{i}/{number}, y, z'\n" for i in range(number))
    return cif("'x, y, z'\n", f"'x, y, z'\n{rows}") if "'x, y, z'\n" in HOST else HOST + rows


def outcar(**changes: str) -> str:
    """Return the beginning and the end of an OUTCAR."""
    ions = changes.get("ions", "2   3   1")
    body = changes.get("body", "")
    return (
        " vasp.6.4.2 18Apr23\n NIONS = "
        + changes.get("nions", "6")
        + f"\n   ions per type = {ions}\n"
        f"{body} General timing and accounting informations for this job:\n"
    )


def vasprun(body: str) -> str:
    """Return a vasprun.xml."""
    return f'<?xml version="1.0"?>\n<modeling>{body}</modeling>'


def gpaw_log(body: str) -> str:
    """Return a log of GPAW."""
    return f"\n  ___ ___ ___ _ _ _\n |   |   |_  | | | |\n |__||_|_|_____|  25.1.0\n{body}"


def bomb(pack: Callable[[bytes], bytes], start: str, filler: bytes) -> bytes:
    """Return a compressed file of 1.5 GB, made of members that each decompress to a part."""
    part = pack(filler * (MB // len(filler)))
    return pack(start.encode()) + part * 1536


STRUCTURES: dict[str, list[Case]] = {
    "POSCAR": [
        ("2e9 atoms", lambda: poscar("1000000000 1000000000")),
        ("9e18 atoms", lambda: poscar("9000000000000000000 1")),
        ("a number of 5000 digits", lambda: poscar("9" * 5000 + " 1")),
        ("2000 kinds of a million", lambda: poscar("1000000 " * 2000, names="Na " * 2000)),
        ("a million kinds", lambda: poscar("1 " * 10**6, names="Na " * 10**6)),
        ("a negative number", lambda: poscar("3 -1")),
        ("no names, 2e9 atoms", lambda: poscar("2000000000", names="").replace("\n\n", "\n")),
        ("a long first line", lambda: "x" * 4 * MB + poscar("1 1")),
        ("a long line of numbers", lambda: poscar("1 1", "0 " * 10 * MB)),
        ("a long number", lambda: poscar("1 1", "0." + "0" * 20 * MB + " 0 0\n0 0 0\n")),
        ("cut off", lambda: poscar("1 2000", "0 0 0\n" * 1000)),
        ("20,000 atoms in one place", lambda: far("0 0 0\n" * 20_000)),
        ("a list of a thousand selections", lambda: poscar("500 500", "0 0 0 T T\n" * 999)),
    ],
    "POSCAR.gz": [("a bomb of zeros", lambda: bomb(gzip.compress, poscar("1 1"), b"0 0 0\n"))],
    "s.xyz": [
        ("14 GB of atoms", lambda: xyz("999999999")),
        ("a billion columns", lambda: xyz("2", "Properties=species:S:1:pos:R:999999999")),
        (
            "a billion columns more",
            lambda: xyz("2", "Properties=species:S:1:pos:R:3:x:R:999999999"),
        ),
        ("strings of any length", lambda: xyz("2", "Properties=species:S:1:pos:R:3:t:S:99999999")),
        ("a lattice of a million", lambda: xyz("2", f'Lattice="{"4 " * 10**6}" pbc="T T T"')),
        ("a long comment", lambda: xyz("2", "x" * 4 * MB)),
        ("a million keys", lambda: xyz("2", " ".join(f"k{i}={i}" for i in range(10**6)))),
        ("nested JSON", lambda: xyz("2", 'a="_JSON ' + "[" * 10**6 + '"')),
        ("nested brackets", lambda: xyz("2", "a=" + "[" * 10**6)),
        ("nested braces", lambda: xyz("2", "a={" * 10**5)),
        ("a million empty frames", lambda: "0\n\n" * 10**6),
        ("a million frames of one atom", lambda: xyz("1", "x", "Na 0 0 0\n") * 10**5 + "2\n"),
        ("a long row", lambda: xyz("2", "", "Na 0 0 0\nCl 2 2 2" + " 1" * 10**7 + "\n")),
    ],
    "s.xyz.xz": [("a bomb", lambda: bomb(lzma.compress, xyz("2"), b"Na 0 0 0\n"))],
    "s.xyz.bz2": [("a bomb of frames", lambda: bomb(bz2.compress, xyz("2"), xyz("2").encode()))],
    "s.cif": [
        ("60,000 sites", lambda: HOST + sites(60_000)),
        ("10,000 sites", lambda: HOST + sites(10_000)),
        ("60,000 times one site", lambda: HOST + "O1 O 0.1 0.2 0.3 1\n" * 60_000),
        ("100,000 operations", lambda: operations(100_000)),
        ("an operation that is a power", lambda: cif("'-x, -y, -z'", "'9**9**9**9*x, y, z'")),
        ("a long operation", lambda: cif("'-x, -y, -z'", "'" + "x+" * 10**6 + "x, y, z'")),
        ("a long name", lambda: HOST + "O" * 4 * MB + " O 0 0 0 1\n"),
        ("a million structures", lambda: HOST + "\ndata_x\n" * 10**6),
        ("a number of a million digits", lambda: HOST + "O9 O 0." + "3" * 10**6 + " 0 0 1\n"),
        ("a million quotes", lambda: HOST + "'" * 10**6),
        (
            "nested brackets",
            lambda: cif("'-x, -y, -z'", "'" + "(" * 10**5 + "x" + ")" * 10**5 + ", y, z'"),
        ),
        ("a cell of 1e300 A", lambda: cif("_cell_length_a", "_cell_length_a 1e300\n_other")),
        (
            "a formula of 1e9 atoms",
            lambda: cif("_cell_length_a", "_chemical_formula_sum 'O999999999'\n_cell_length_a"),
        ),
    ],
    "s.cif.gz": [("a bomb", lambda: bomb(gzip.compress, HOST, b"O1 O 0.1 0.2 0.3 1\n"))],
    "s.cube": [
        (
            "a grid of 1e27",
            lambda: "a\nb\n 2 0 0 0\n" + "999999999 1 0 0\n" * 3 + "1 1 0 0 0\n" * 2,
        ),
        ("2e9 atoms", lambda: "a\nb\n 2000000000 0 0 0\n" + "1 1 0 0\n" * 3 + "1 1 0 0 0\n"),
    ],
    "s.xsf": [
        (
            "2e9 atoms",
            lambda: "CRYSTAL\nPRIMVEC\n4 0 0\n0 4 0\n0 0 4\nPRIMCOORD\n2000000000 1\n11 0 0 0\n",
        ),
        (
            "2e9 steps",
            lambda: (
                "ANIMSTEPS 2000000000\nCRYSTAL\nPRIMVEC\n4 0 0\n0 4 0\n0 0 4\n"
                "PRIMCOORD\n1 1\n11 0 0 0\n"
            ),
        ),
    ],
    "s.gen": [("2e9 atoms", lambda: "2000000000 S\nNa\n1 1 0 0 0\n")],
    "s.traj": [
        (
            "arrays of 1e18",
            lambda: (
                b"- of UlmASE-Trajectory"
                + bytes(2)
                + struct.pack("<4q", 3, 1, 48, 56)
                + struct.pack("<q", 40)
                + b'{"a":{"ndarray":[[999999999,999999999],"float64",0]}}'
            ),
        ),
        (
            "2e9 frames",
            lambda: b"- of UlmASE-Trajectory" + bytes(2) + struct.pack("<3q", 3, 2 * 10**9, 48),
        ),
    ],
    "CHGCAR": [("a grid of 1e15", lambda: poscar("1 1") + "\n 99999 99999 99999\n 1 1 1\n")],
    "OUTCAR_structure": [
        ("2e9 ions", lambda: outcar(nions="2000000000", ions="1000000000 1000000000"))
    ],
}
OUTPUTS: dict[str, list[Case]] = {
    "OUTCAR": [
        ("2e9 ions", lambda: outcar(nions="2000000000", ions="1000000000 1000000000")),
        ("a long line", lambda: outcar(body="x" * 4 * MB)),
        ("a million steps", lambda: outcar(body=" POSITION   TOTAL-FORCE (eV/Angst)\n" * 10**6)),
        ("a million tables", lambda: outcar(body=" magnetization (x)\n" * 10**6)),
        ("digits for U", lambda: outcar(body="for each species LDAUU = " + "1 " * 10**7 + "x\n")),
    ],
    "OUTCAR.gz": [("a bomb", lambda: bomb(gzip.compress, outcar(), b" POSITION \n"))],
    "vasprun.xml": [
        ("nested elements", lambda: vasprun("<a>" * 10**6)),
        ("nested elements, closed", lambda: vasprun("<a>" * 10**6 + "</a>" * 10**6)),
        ("two million elements", lambda: vasprun("<a/>" * 2 * 10**6)),
        ("2e9 atoms", lambda: vasprun("<atominfo><atoms>2000000000</atoms></atominfo>")),
        ("a long attribute", lambda: vasprun(f'<a b="{"x" * 4 * MB}"/>')),
        ("entities", lambda: '<!DOCTYPE a [<!ENTITY b "xxxxxxxx">]>' + vasprun("&b;" * 10**6)),
    ],
    "vasprun.xml.xz": [("a bomb", lambda: bomb(lzma.compress, vasprun("")[:-11], b"<a/>"))],
    "gpaw.txt": [
        ("a long line", lambda: gpaw_log("x" * 4 * MB)),
        (
            "a million atoms",
            lambda: gpaw_log("\nAtoms  # {\n" + "| 0 | Na | 0.0 | 0.0 | 0.0 |\n" * 10**6),
        ),
    ],
    "s.gpw": [
        (
            "arrays of 1e18",
            lambda: (
                b"- of Ulmgpaw"
                + bytes(12)
                + struct.pack("<4q", 3, 1, 48, 56)
                + struct.pack("<q", 40)
                + b'{"a":{"ndarray":[[999999999,999999999],"float64",0]}}'
            ),
        ),
    ],
}
YAML: list[Case] = [
    ("nested lists", lambda: "a: " + "[" * 900_000),
    ("nested mappings", lambda: "".join(" " * i + "a:\n" for i in range(1200))),
    (
        "aliases",
        lambda: (
            "a: &a [1,1,1,1,1,1,1,1,1,1]\n"
            + "".join(
                f"{c}: &{c} [{f'*{p},' * 10}]\n"
                for p, c in zip("abcdefgh", "bcdefghi", strict=True)
            )
        ),
    ),
    ("a long line", lambda: "name: " + "x" * 4 * MB),
    ("a number of many digits", lambda: "seed: " + "9" * 900_000),
    ("60,000 fields", lambda: "".join(f"f{i}: 1\n" for i in range(60_000))),
    ("200,000 documents", lambda: "---\n" * 200_000),
    ("sixty-base numbers", lambda: "seed: " + "1:" * 4 * 10**5 + "1"),
    ("open quotes", lambda: "name: '" + "\n" * 900_000),
    (
        "a repeat of 1e18 cells",
        lambda: CAMPAIGN.format(file="host.cif").replace(
            "O: -2}", "O: -2}, supercell: [1000000, 1000000, 1000000]"
        ),
    ),
]


class _TooLongError(BaseException):
    """A refusal has taken more than `SECONDS`; no Exception, which a parser may catch."""


@contextmanager
def frugal() -> Iterator[None]:
    """Run with `MEMORY` bytes beyond what the process has, and for `SECONDS`."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    most = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (most, before[1]))
    handler = signal.signal(signal.SIGVTALRM, _stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, handler)
        resource.setrlimit(resource.RLIMIT_AS, before)


def _stop(*_: object) -> None:
    raise _TooLongError


def refuse_all(
    sweep: Any, cases: list[Case], file: str, argv: tuple[str, ...], *names: str
) -> None:
    """Refuse each content of a file by a line that names it, within the limits."""
    faults = []
    words = [word.format(file=file) for word in argv]
    for what, make in cases:
        content = make()
        (sweep.folder / file).write_bytes(content.encode() if isinstance(content, str) else content)
        del content
        with frugal():
            problem = sweep.refuse(*words, names=names)
        if problem:
            faults.append(f"{what}: {problem}")
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize("file", STRUCTURES)
def test_structures(file: str, sweep: Any) -> None:
    refuse_all(sweep, STRUCTURES[file], file, LABEL, file)


@pytest.mark.parametrize("file", [name for name in STRUCTURES if "POSCAR" in name or "cif" in name])
def test_hosts(file: str, sweep: Any) -> None:
    (sweep.folder / "c.yaml").write_text(CAMPAIGN.format(file=file))
    refuse_all(sweep, STRUCTURES[file], file, CHECK, "host.")


@pytest.mark.parametrize("file", OUTPUTS)
def test_outputs(file: str, sweep: Any) -> None:
    refuse_all(sweep, OUTPUTS[file], file, AUDIT, file)


def test_campaign_files(sweep: Any) -> None:
    (sweep.folder / "host.cif").write_text(HOST)
    refuse_all(sweep, YAML, "c.yaml", CHECK, "c.yaml", "host.supercell")
