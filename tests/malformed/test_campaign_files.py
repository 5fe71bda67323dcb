"""Campaign files that are wrong as files, as YAML, or as a whole."""

from __future__ import annotations

import copy
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from al_charge.cli.main import main
from al_charge.loop.spec import CampaignSpec

HOST = (Path(__file__).parents[2] / "workflows" / "hosts" / "NaFePO4.cif").read_bytes()
GOOD = """\
host:
  structure: host.cif
  working_ion: Na
  redox: {Fe: [2, 3]}
  fixed: {P: 5, O: -2}
  supercell: [1, 1, 1]
labeler:
  kind: born
  relax: cell
potential:
  kind: painn
  cutoff: 4 A
  channels: 16
training:
  epochs: 5
convergence:
  hull_tolerance: 1 meV
search:
  operators:
    ion_swap: 1.5
seed: 1
name: "wrong"
"""
"""Required fields first and last, the last in quotes, so that no part of it is a campaign."""
Cases = Iterator[tuple[str, bytes | str]]


def truncated(dice: random.Random) -> Cases:
    for end in range(len(GOOD) - 2):
        yield f"ends at byte {end}", GOOD[:end]


def with_other_lines(dice: random.Random) -> Cases:
    lines = GOOD.splitlines(keepends=True)
    for number, line in enumerate(lines):
        before, after = "".join(lines[:number]), "".join(lines[number + 1 :])
        key = line.partition(":")[0]
        if line.strip()[-1] != ":":
            yield f"line {number} twice", before + line + line + after
            yield f"line {number} with a tab", before + "\t" + line.lstrip() + after
            yield f"line {number} without its colon", before + line.replace(": ", " ", 1) + after
            yield f"line {number} is an unknown field", before + f"{key}z: 1\n" + after
        for tag in (
            "!!python/object/apply:os.mkdir [pwned]",
            "!!python/object/new:os.system [touch pwned]",
            "!!python/name:os.system",
            "!!binary aGVsbG8=",
            "!include /etc/passwd",
            "!!omap [a, b]",
            "!!timestamp never",
            "!!int x",
            "*nobody",
            "[unclosed",
            "{unclosed: 1",
            "'unclosed",
            "%",
            "@at",
            "\x07",
            "2026-01-01",
            "&a {<<: *a}",
            "{<<: 5}",
        ):
            yield f"line {number} is {tag}", before + f"{key}: {tag}\n" + after


def without_a_line(dice: random.Random) -> Cases:
    lines = GOOD.splitlines(keepends=True)
    optional = ("supercell", "relax", "cutoff", "channels", "epochs", "hull", "ion_swap", "seed")
    for number, line in enumerate(lines):
        if not line.strip().startswith(optional) and line.strip()[-1] != ":":
            yield f"without line {number}", "".join(lines[:number] + lines[number + 1 :])


def with_other_bytes(dice: random.Random) -> Cases:
    good = GOOD.encode()
    for encoding in ("utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-7"):
        name = GOOD.replace("wrong", "w+rong") if encoding == "utf-7" else GOOD
        yield encoding, name.encode(encoding)
    yield "Latin-1", GOOD.replace("wrong", "größe").encode("latin-1")
    yield "a letter that is not ASCII", GOOD.replace("wrong", "größe").encode()
    yield "a mark of the byte order inside", good.replace(b"wrong", b"\xef\xbb\xbf")
    yield "half a surrogate", good.replace(b"wrong", b"\xed\xa0\x80")
    yield "overlong", good.replace(b"wrong", b"\xc0\xae")
    for place in sorted(dice.sample(range(len(good)), 40)):
        for what in (b"\x00", b"\xff", b"\x1b", b"\x7f"):
            yield f"{what!r} at {place}", good[:place] + what + good[place:]
    for size in (1, 16, 300, 5000):
        yield f"{size} random bytes", dice.randbytes(size)
        yield f"{size} zeros", bytes(size)
    for magic in (
        b"\x89PNG\r\n\x1a\n",
        b"\x7fELF\x02",
        b"PK\x03\x04",
        b"\x1f\x8b\x08",
        b"%PDF-1.4",
    ):
        yield f"binary {magic!r}", magic + dice.randbytes(200)


def no_campaigns(dice: random.Random) -> Cases:
    for text in (
        "", " ", "\n\n", "# nothing\n", "---\n", "...\n", "null", "5", "text", "[]", "[1, 2]",
        "- a",
        "{}", "{a}", "{1: 2}", "{null: 1}", "{[1]: 2}", "{? {a: 1} : 2}", "? x", "---\n---\n",
        "!!set {a}",
        "\ufeff", "true", "<xml/>", '{"name": "x"}', "key: [", "a: b: c", "a:\n b\n  c: d",
        "|\n text", ">",
        "%YAML 9.9\n---\nname: x", "%TAG ! !!\n---\nx: 1", GOOD + "---\n" + GOOD, "- " + GOOD,
        GOOD.replace("\n", " "), GOOD.replace(":", "="), GOOD.upper(),
    ):  # fmt: skip
        yield repr(text[:40]), text
    for depth in (50, 2000, 40000):
        yield f"{depth} lists in each other", "name: " + "[" * depth
        yield f"{depth} maps in each other", "{a: " * depth
        yield f"{depth} lists, all closed", "name: " + "[" * depth + "]" * depth
        yield f"{depth} dashes", "- " * depth + "a"
    yield "a megabyte", "name: " + "a" * 2**20
    yield "a long key", "a" * 2000 + ": 1\n" + GOOD
    yield "many keys", "".join(f"k{i}: {i}\n" for i in range(3000)) + GOOD


def bombs(dice: random.Random) -> Cases:
    """Small files that are huge when every alias is replaced."""
    for field in ("name", "seed", "host", "labeler", "training", "x", "search", "database"):
        rest = "".join(line for line in GOOD.splitlines(True) if not line.startswith(field))
        for style in ("[{}]", "{{{}}}"):
            level = "&a0 " + style.format("lol: 1" if "{{" in style else "lol")
            lines = [f"l0: {level}"]
            for n in range(1, 12):
                refs = ", ".join(
                    f"*a{n - 1}" if "[" in style else f"k{i}: *a{n - 1}" for i in range(9)
                )
                lines.append(f"l{n}: &a{n} " + style.format(refs))
            yield f"laughs for {field} ({style})", "\n".join(lines) + f"\n{field}: *a11\n{rest}"
        yield f"itself in {field}", f"{field}: &a [*a]\n{rest}"
        yield f"itself in {field} by its key", f"{field}: &a {{b: *a}}\n{rest}"
        text = f"b: &b '{'lol' * 5000}'\n{field}: [{', '.join(['*b'] * 2000)}]\n{rest}"
        yield f"long text often in {field}", text
        merge = "\n".join(
            [f"m0: &m0 {{{', '.join(f'k{i}: 1' for i in range(9))}}}"]
            + [f"m{n}: &m{n} {{<<: [{', '.join([f'*m{n - 1}'] * 9)}]}}" for n in range(1, 12)]
        )
        yield f"merges for {field}", f"{merge}\n{field}: *m11\n{rest}"


def that_cannot_be_right(dice: random.Random) -> Cases:
    """Every field is of its type, and the campaign as a whole makes no sense."""
    changes: dict[str, list[Any]] = {
        "host.redox": [{"Fe": [2]}, {"Fe": [2, 2]}, {"Fe": [4, 5]}, {"Fe": [-2, -3]},
                       {"Mn": [2, 3]}, {},
                       {"Fe": [2, 3], "Na": [0, 1]}, {"Fe": [2, 3], "P": [5, 5]}, {"Fe": []},
                       {"fe": [2, 3]},
                       {"Fe2+": [2, 3]}, {"Fe ": [2, 3]}, {"Fe": [2, 300]}, {"": [2, 3]},
                       {"Ж": [2, 3]}],
        "host.fixed": [{}, {"P": 5}, {"O": -2}, {"P": 5, "O": 2}, {"P": -5, "O": -2},
                       {"P": 0, "O": 0},
                       {"P": 5, "O": -2, "S": 6}, {"P": 5, "O": -2, "Na": 1},
                       {"P": 5, "O": -2, "Fe": 3},
                       {"P": 4, "O": -2, "X": 1}, {"P": 99, "O": -2}, {"p": 5, "o": -2}],
        "host.working_ion": ["", "Li", "Xx", "na", "Na+", "Na1", " Na", "Fe", "P", "\n",
                             "Na\x1b[31m", "D"],
        "host.working_ion_charge": [2, 3],
        "host.supercell": [[100, 100, 100], [1, 1, 36], [2**31, 2**31, 2**31]],
        "host.redox_sites_per_formula": [3, 5, 400],
        "host.formula": ["", " ", "FePO5", "LiFePO4)", "((((", "Fe1e999PO4", "Fe1/0PO4", "Ж", "Xx2",
                         "NaxFePO4", "Fe" * 60, "(" * 90, "Fe0PO4", "-FePO4", "Na3Fe3P3O12",
                         "FePO4\x00", "D2O", "Na"],
        "host.compositions": [[], {}, {"from": 0}, {"from": 0, "to": 9}, {"from": 1, "to": 0},
                              {"from": 1, "to": 1}, {"from": -1, "to": 1}, {"from": "1e9", "to": 1},
                              {"from": 0, "to": "1/0"}, {"from": 0, "to": "9" * 400},
                              {"from": 0, "to": 1, "step": 1}, {0: 1, 1: 2},
                              {"from": [], "to": {}}],
        "host.structure": ["", ".", "..", "/", "none.cif", "/etc/passwd",
                           "../" * 30 + "etc/passwd", "c.yaml",
                           "~/host.cif", "$HOME/host.cif", "file:///host.cif",
                           "http://localhost/host.cif",
                           "a" * 300, "a/" * 3000, "host.cif/x", "\x00", "/dev/null", "host\n.cif"],
        "host.empty_structure": ["none.cif", "host.cif", "/etc/passwd", "..", "a" * 300],
        "potential.foundation": ["none.pt", "..", "/", "a" * 300],
        "name": ["", " ", "a b", "a/b", "../up", "..", ".hidden", "-x", "a" * 65, "a\nb", "x.yaml",
                 "x.yml",
                 "$where", "a\x00b", "ä", "a;b", "a$b", "db.x\x1b[2J"],
        "acquisition.first_round": [101],
        "convergence.max_labels": [2, 19],
        "database": [{"uri": uri} for uri in (
            "", "localhost", "http://localhost", "mongodb://", "mongodb:///x", "mongodb://user:secret@host",
            "mongodb://h/?authMechanismProperties=a:b", "mongodb://:secret@h", "file:///etc/passwd")],
        "database.name": ["", "a b", "a/b", "a.b", "$x", "a" * 39, "..", "a\x00"],
        "labeler": [{"kind": "gpaw", "mode": "lcao", "relax": "cell"}, {"kind": "born", "tries": 2},
                    {"kind": "gpaw", "moment_windows": {"Fe3+": [4.5, 4.1]}},
                    {"kind": "gpaw", "moment_windows": {"Fe3+": [4.1, 4.5], "Fe2+": [3.5, 4.2]}},
                    {"kind": "gpaw", "moment_windows": {"Fe": [4.1, 4.5]}},
                    {"kind": "gpaw", "hubbard_u": {"Fe": 5}},
                    {"kind": "gpaw", "moment_windows": {"Mn3+": [4.1, 4.5]}},
                    {"kind": "gpaw", "hubbard_u": {"Xx": "5 eV"}},
                    {"kind": "gpaw", "hubbard_u": {"Fe": "-1 eV"}},
                    {"kind": "vasp", "potcars": {"Fe": "O_s"}},
                    {"kind": "vasp", "incar": {"ENCUT": 400}},
                    {"kind": "vasp", "incar": {"NOTATAG": 1}}, {"kind": "vasp", "command": ""}],
        "relaxation": [{"reach": "0 A"}, {"reach": "3 A"}],
    }  # fmt: skip
    for place, values in changes.items():
        for value in values:
            document = copy.deepcopy(yaml.safe_load(GOOD))
            *steps, last = place.split(".")
            part = document
            for step in steps:
                part = part.setdefault(step, {})
            part[last] = value
            if place == "potential.foundation":
                part["kind"] = "mace"
            if place == "database.name":
                part["uri"] = "mongodb://localhost"
            yield f"{place} = {value!r:.60}", yaml.safe_dump(document)


FAMILIES: list[tuple[Callable[[random.Random], Cases], int]] = [
    (truncated, 300),
    (with_other_lines, 300),
    (without_a_line, 7),
    (with_other_bytes, 150),
    (no_campaigns, 40),
    (bombs, 40),
    (that_cannot_be_right, 100),
]


@pytest.mark.parametrize(
    ("family", "least"), FAMILIES, ids=lambda value: getattr(value, "__name__", "")
)
def test_files(family: Callable[[random.Random], Cases], least: int, sweep: Any, dice: Any) -> None:
    (sweep.folder / "host.cif").write_bytes(HOST)
    sections = [f"{name}." for name in CampaignSpec.model_fields]
    names = ("c.yaml", "host: ", "labeler: ", "moment_windows: ", "File name too long", *sections)
    number = sweep.each(family(dice), "c.yaml", "check", "c.yaml", names=names)
    assert number >= least
    # Neither is it sent to a database, nor is one started for it.
    assert sweep.each(
        list(family(dice))[::9], "c.yaml", "campaign", "submit", "c.yaml", names=names
    )


def test_the_good_file_is_good(sweep: Any) -> None:
    """Else all of this would show nothing."""
    (sweep.folder / "host.cif").write_bytes(HOST)
    (sweep.folder / "c.yaml").write_text(GOOD)
    with pytest.raises(SystemExit) as end:
        main(["check", "c.yaml"])
    assert end.value.code == 0


def test_what_is_no_file_to_read(sweep: Any) -> None:
    folder = sweep.folder
    (folder / "folder.yaml").mkdir()
    (folder / "dangling.yaml").symlink_to("nowhere")
    (folder / "loop.yaml").symlink_to("loop.yaml")
    (folder / "ends.yaml").symlink_to("/dev/null")
    (folder / "broken.yaml").symlink_to("/proc/self/mem")  # read errors, even for root
    (folder / "endless.yaml").symlink_to("/dev/zero")
    (folder / "locked.yaml").write_text(GOOD)
    (folder / "locked.yaml").chmod(0)
    names = ["folder", "dangling", "loop", "ends", "broken", "endless", "none"]
    names += [] if os.geteuid() == 0 else ["locked"]
    files = [f"{name}.yaml" for name in names] + [
        "a" * 300 + ".yaml",
        "no/such/folder.yaml",
        "loop.yaml/x.yaml",
    ]
    files += [
        "folder.yaml/../none.yaml",
        "evil\x1b[31m.yaml",
        "two\nlines.yaml",
        "\udcff.yaml",
        "-.yaml",
        " ",
    ]
    for file in files:
        for command in (
            ["check"],
            ["enumerate"],
            ["campaign", "submit"],
            ["campaign", "status"],
            ["hull"],
        ):
            if command[0] in ("campaign", "hull") and not file.endswith(".yaml"):
                continue
            assert sweep.refuse(*command, "--", file) == "", file
