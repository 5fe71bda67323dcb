"""Structures that no crystal can have, or that no reader can read, through every command."""

from __future__ import annotations

import gzip
import random
import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from al_charge.cli.main import main
from al_charge.potentials import model_file
from al_charge.potentials.painn import PainnSettings
from al_charge.testing.potentials import small_salt, untrained

CIF = (Path(__file__).parents[2] / "workflows" / "hosts" / "NaFePO4.cif").read_text()
CIF = CIF[CIF.index("data_") :]
SPECIES = (
    "Na+",
    "O2-",
    "Fe2+",
    "O2-",
    "P5+",
    "O2-",
    "Na+",
    "O2-",
    "Fe2+",
    "O2-",
    "P5+",
    *["O2-"] * 3,
)
SITES = [(2.2 * (i % 2), 2.2 * (i // 2 % 2), 2.2 * (i // 4)) for i in range(len(SPECIES))]
Cases = Iterator[tuple[str, bytes | str]]

NO_NUMBERS = ("nan", "inf", "-inf", "*****", "", "1e400", "abc", "0x1p3", "1,5", "1..2", "--1")
CAMPAIGN = """\
name: wrong
host:
  structure: {file}
  working_ion: Na
  redox: {{Fe: [2, 3]}}
  fixed: {{P: 5, O: -2}}
labeler: {{kind: born}}
potential: {{kind: painn}}
"""


def poscar() -> str:
    """Return a cell of Na2Fe2P2O8 in VASP's format."""
    order = sorted(range(len(SPECIES)), key=lambda i: element(SPECIES[i]))
    symbols = [element(SPECIES[i]) for i in order]
    names = sorted(set(symbols))
    counts = " ".join(str(symbols.count(name)) for name in names)
    rows = "\n".join(" ".join(f"{x:.6f}" for x in SITES[i]) for i in order)
    cell = "4.4 0.0 0.0\n0.0 4.4 0.0\n0.0 0.0 8.8"
    return f"salt\n1.0\n{cell}\n{' '.join(names)}\n{counts}\nCartesian\n{rows}\n"


def extxyz() -> str:
    """Return the same cell with charge states, as extended XYZ."""
    rows = "\n".join(
        f"{element(token)} {' '.join(f'{x:.6f}' for x in site)} {token}"
        for token, site in zip(SPECIES, SITES, strict=True)
    )
    lattice = 'Lattice="4.4 0.0 0.0 0.0 4.4 0.0 0.0 0.0 8.8"'
    head = f'{lattice} Properties=species:S:1:pos:R:3:resolved_species:S:1 pbc="T T T"'
    return f"{len(SPECIES)}\n{head.replace('resolved_', 'requested_')}\n{rows}\n"


def element(token: str) -> str:
    return re.sub(r"[\d+-]", "", token)


def foreign(dice: random.Random, *own: str) -> Cases:
    """Yield what is another format, or none."""
    texts = {"cif": CIF, "poscar": poscar(), "xyz": extxyz()}
    yield from ((f"a {kind}", text) for kind, text in texts.items() if kind not in own)
    yield "nothing", ""
    yield "a YAML", CAMPAIGN
    yield "a JSON", '{"lattice": [1, 2, 3]}'
    yield "an XML", "<modeling><structure/></modeling>"
    yield "HTML", "<!DOCTYPE html><html><body>404</body></html>"
    yield "a pickle", b"\x80\x04\x95\x1d\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94\x8c\x06system"
    yield "a PNG", b"\x89PNG\r\n\x1a\n" + dice.randbytes(400)
    yield "gzip", gzip.compress(texts[own[0]].encode())
    for encoding in ("utf-16", "utf-32"):
        yield encoding, texts[own[0]].encode(encoding)
    for size in (1, 10, 100, 1000, 10000):
        yield f"{size} bytes", dice.randbytes(size)
        yield f"{size} zeros", bytes(size)
        yield f"{size} lines", "\n" * size


def cifs(dice: random.Random) -> Cases:
    yield from foreign(dice, "cif")
    # A CIF without its last value lacks a site; the lines before may be left out of any CIF.
    for end in range(CIF.index("_cell_length_a"), len(CIF) - 2, 7):
        yield f"ends at {end}", CIF[:end]
    for found in re.finditer(r"(?<=\s)-?\d+(\.\d+)?(?=\s)", CIF):
        if "_number" in CIF[: found.start()].splitlines()[-1] or "_Z " in CIF[: found.start()][-9:]:
            continue
        occupancy = found.end() > CIF.index("Na1 Na") and CIF[found.end()] == "\n"
        for value in (*NO_NUMBERS, "?", *(() if occupancy else (".",))):  # an occupancy of . is 1
            yield f"{value} at {found.start()}", CIF[: found.start()] + value + CIF[found.end() :]
    for name in ("a", "b", "c"):
        for value in ("0", "0.001", "-10.41", "1e9", "1e-300"):
            yield f"{name} = {value}", re.sub(rf"(_length_{name} +)\S+", rf"\g<1>{value}", CIF)
    for name in ("alpha", "beta", "gamma"):
        for value in ("0", "180", "-90", "360", "200", "1e9", "0.001"):
            yield f"{name} = {value}", re.sub(rf"(_angle_{name} +)\S+", rf"\g<1>{value}", CIF)
    for line in [line for line in CIF.splitlines(True) if "_cell_l" in line or "_cell_a" in line]:
        yield f"without {line}", CIF.replace(line, "")
    for line in [line for line in CIF.splitlines(True) if line.startswith("_atom_site")]:
        yield f"without {line}", CIF.replace(line, "")
        yield f"twice {line}", CIF.replace(line, line * 2)
    rows = [line for line in CIF.splitlines(True) if line[0] in "NFPO"]
    for row in rows:
        yield f"without {row}", CIF.replace(row, "")
        yield f"twice {row}", CIF.replace(row, row + row)
        yield f"half {row}", CIF.replace(row, row[:-2] + "0.5\n")
        yield f"mixed {row}", CIF.replace(row, row[:-2] + "0.5\nMn9 Mn" + row[6:-2] + "0.5\n")
        for occupancy in ("0", "0.7", "0.999", "-1", "2", "1e5"):
            if occupancy != "0.999" or row[:2] != "Na":  # hosts fill sites of the working ion
                yield f"occupied {occupancy} {row}", CIF.replace(row, row[:-2] + f"{occupancy}\n")
        for symbol in ("Xx", "Q", "7", "-", "D", "Zz9+", "", "'", "Vac", "\x00", "é"):
            yield f"{symbol} in {row}", CIF.replace(row, f"{symbol}1 {symbol} " + row[6:])
    for one, other in ((0, 1), (1, 2), (3, 4), (2, 3)):
        moved = rows[one][:7] + rows[other][7:]
        yield f"{one} on {other}", CIF.replace(rows[one], moved)
        near = moved.replace(" 0.25000", " 0.25100").replace(" 0.00000", " 0.00200")
        yield f"{one} beside {other}", CIF.replace(rows[one], near)
    for wrong in (
        "'x, y'",
        "'x, y, w'",
        "'x, y, 1/0'",
        "'__import__(\"os\")'",
        "'x, x, x'",
        "'', '', ''",
    ):
        yield f"operation {wrong}", CIF.replace("'-x, -y, -z'", wrong)
    for number in ("0", "231", "-1"):
        yield (
            f"group {number}",
            re.sub(r"'.*'\n", "", CIF.replace(" 62", f" {number}")).replace(
                "loop_\n_symmetry_equiv_pos_as_xyz\n", ""
            ),
        )
    yield "two loops in one", CIF.replace("loop_\n_atom", "_atom")
    yield "an open text", CIF.replace("'P n m a'", "\n;P n m a\n")
    yield "two structures", CIF + CIF.replace("data_NaFePO4", "data_other").replace(" Fe ", " Mn ")
    yield (
        "far too many sites",
        CIF + "".join(f"O{i} O 0.1{i} 0.2{i} 0.3{i} 1\n" for i in range(900)),
    )


def poscars(dice: random.Random) -> Cases:
    text = poscar()
    lines = text.splitlines(True)
    yield from foreign(dice, "poscar")
    for end in range(0, len(text) - 9, 5):  # without its last number
        yield f"ends at {end}", text[:end]
    for number in (1, *range(2, 5), 6, *range(8, len(lines), 3)):
        for value in (*NO_NUMBERS, "- 1", "\x00"):
            changed = [*lines]
            changed[number] = re.sub(r"^\S+", value, lines[number])
            yield f"{value} in line {number}", "".join(changed)
    for scale in ("0", "0.01", "1e-30", "1e9", "T", "1 1 -1", "1 1"):
        yield f"scale {scale}", text.replace("\n1.0\n", f"\n{scale}\n", 1)
    for what, cell in {
        "zero": "0 0 0\n0 0 0\n0 0 0", "flat": "4.4 0 0\n0 4.4 0\n4.4 4.4 0",
        "line": "1 0 0\n2 0 0\n3 0 0",
        "left-handed": "4.4 0 0\n0 4.4 0\n0 0 -8.8", "swapped": "0 4.4 0\n4.4 0 0\n0 0 8.8",
        "nearly flat": "4.4 0 0\n0 4.4 0\n0 0 1e-9", "short": "4.4 0\n0 4.4\n0 8.8",
        "huge": "1e9 0 0\n0 1e9 0\n0 0 1e9",
        "two rows": "4.4 0 0\n0 4.4 0", "four rows": "4.4 0 0\n0 4.4 0\n0 0 8.8\n1 1 1",
    }.items():  # fmt: skip
        yield what, re.sub(r"4\.4 0\.0 0\.0\n.*\n.*8\.8", cell, text)
    counts = lines[6].split()
    for place in range(len(counts)):
        for value in ("0", "-1", "1.5", "9", "99999999", "x", "1e400"):
            changed = [*counts]
            changed[place] = value
            yield f"{value} atoms of kind {place}", text.replace(lines[6], " ".join(changed) + "\n")
    for names in (
        "",
        "Fe Na O",
        "Fe Na O P S",
        "Fe Na O Xx",
        "1 2 3 4",
        "Fe Fe Fe Fe",
        "fe na o p",
        "Fe,Na,O,P",
    ):
        yield f"names {names}", text.replace(lines[5], f"{names}\n")
    yield "no names", text.replace(lines[5], "")
    for mode in ("", "Cartesian\nCartesian", "Selective dynamics"):
        yield f"mode {mode}", text.replace("Cartesian\n", f"{mode}\n" if mode else "")
    for row in range(9, len(lines), 2):
        yield f"{row} on another", text.replace(lines[row], lines[row - 1])
        yield (
            f"{row} beside another",
            text.replace(lines[row], lines[row - 1].replace("0\n", "9\n")),
        )


def extended_xyz(dice: random.Random) -> Cases:
    text = extxyz()
    head, rows = text.splitlines(True)[1], text.splitlines(True)[2:]
    yield from foreign(dice, "xyz")
    for end in range(0, len(text) - 3, 9):  # without a part of its last charge state
        yield f"ends at {end}", text[:end]
    for count in ("", "-1", "0", "1", "13", "15", "1e1", "14.5", "x", "99999999999", "14 14"):
        yield f"{count} atoms", text.replace("14\n", f"{count}\n", 1)
    for place in range(9):
        for value in (*NO_NUMBERS, "'"):
            numbers = ["4.4", "0.0", "0.0", "0.0", "4.4", "0.0", "0.0", "0.0", "8.8"]
            numbers[place] = value
            yield (
                f"{value} at {place} of the cell",
                re.sub('e="[^"]*"', f'e="{" ".join(numbers)}"', text),
            )
    for cell in ("", "4.4", "4.4 4.4 8.8", "1 2 3 4 5 6 7 8", "0 0 0 0 0 0 0 0 0",
        "1 0 0 2 0 0 3 0 0",
                 "4.4 0 0 0 4.4 0 4.4 4.4 0", "4.4 0 0 0 4.4 0 0 0 1e-9", "1e9 0 0 0 1e9 0 0 0 1e9",
                 "1e-5 0 0 0 1e-5 0 0 0 1e-5"):  # fmt: skip
        yield f"cell {cell}", re.sub('e="[^"]*"', f'e="{cell}"', text)
    yield "no cell", text.replace("Lattice", "Gitter")
    for properties in ("", "species", "species:S:1", "pos:R:3", "species:S:1:pos:R:2",
                       "species:S:1:pos:R:3:requested_species:R:1", "species:Q:1:pos:R:3",
                       "species:S:x:pos:R:3",
                       "species:S:1:pos:R:99", "pos:R:3:species:S:1:requested_species:S:1",
                       "species:S:1:pos:R:3:requested_species:I:1",
                       "species:S:-1:pos:R:3"):  # fmt: skip
        yield f"columns {properties}", re.sub(r"Properties=\S+", f"Properties={properties}", text)
    for number, row in enumerate(rows):
        symbol, *_, token = row.split()
        for value in (*NO_NUMBERS, "-1e12"):
            changed = re.sub(r"^(\S+ )\S+", rf"\g<1>{value}", row)
            yield f"{value} in row {number}", text.replace(row, changed)
        for state in ("Xx+", "7", "+", "Fe", f"{symbol}9+", f"{symbol}3", "K+", "Fe3++",
            f"{symbol}3+ 1", "nan",
                      f"{symbol.lower()}+", "Fe3-", "O+", "None", "X" * 300,
                          "\x1b[31m"):  # fmt: skip
            changed = row.replace(f" {token}", f" {state}")
            if state != token:
                yield f"{state} in row {number}", text.replace(row, changed)
        yield f"{number} twice", text.replace(row, row * 2).replace("14\n", "15\n", 1)
        yield f"without {number}", text.replace(row, "").replace("14\n", "13\n", 1)
    yield "a comment for a head", text.replace(head, "salt\n")
    yield "an open quote", text.replace('8.8"', "8.8")
    yield "a second frame that is cut", text + text[: len(text) // 2]


@pytest.fixture
def ready(sweep: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The folder with a campaign for each format and a model that knows all species.

    The model is the same for all structures, and read once.
    """
    for file in ("s.cif", "POSCAR"):
        (sweep.folder / f"{file}.yaml").write_text(CAMPAIGN.format(file=file))
    potential = untrained(PainnSettings(channels=4)).extend(["P5+"])
    assert len(small_salt()) == 8
    model_file.write_model(sweep.folder / "model", [potential])
    monkeypatch.setattr(model_file, "load_model", cache(model_file.load_model))
    return sweep


COMMANDS = {
    "host": ("check", "{file}.yaml"),
    "label": ("label", "{file}", "--engine", "born", "--relax", "none"),
    "predict": ("predict", "model", "{file}"),
}
FORMATS: list[tuple[str, Callable[[random.Random], Cases], str, int]] = [
    ("host", cifs, "s.cif", 1),
    ("label", cifs, "s.cif", 3),
    ("predict", cifs, "s.cif", 4),
    ("host", poscars, "POSCAR", 1),
    ("label", poscars, "POSCAR", 3),
    ("label", extended_xyz, "s.xyz", 3),
    ("predict", extended_xyz, "s.xyz", 1),
]
"""Each format through each command, which share a reader: all cases, or every third or fourth."""


@pytest.mark.parametrize(("command", "family", "file", "step"), FORMATS)
def test_structures(command: str, family: Any, file: str, step: int, ready: Any, dice: Any) -> None:
    argv = [word.format(file=file) for word in COMMANDS[command]]
    names = (file, "host.", "charge of ", "charge states: ", "labeler: ")
    cases = list(family(dice))[::step]
    assert ready.each(cases, file, *argv, names=names) >= 200 // step


@pytest.mark.parametrize(
    ("command", "content", "file"),
    [
        ("host", CIF, "s.cif"),
        ("label", CIF, "s.cif"),
        ("host", poscar(), "POSCAR"),
        ("label", poscar(), "POSCAR"),
        ("label", extxyz(), "s.xyz"),
        ("predict", extxyz(), "s.xyz"),
    ],
)
def test_the_good_ones_are_good(command: str, content: str, file: str, ready: Any) -> None:
    (ready.folder / file).write_text(content)
    with pytest.raises(SystemExit) as end:
        main([word.format(file=file) for word in COMMANDS[command]])
    assert end.value.code in (0, None), ready.capture.readouterr()
