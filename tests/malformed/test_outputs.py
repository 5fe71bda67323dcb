"""Outputs of VASP and GPAW that are cut, damaged or made to harm, through `al-charge audit`.

A number that was changed into another one cannot be told from the right one, so nothing here does
that; what must never happen is that a row is lost in silence, and moments go to other atoms.
"""

from __future__ import annotations

import gzip
import random
import re
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase.io import ulm

from al_charge.cli.main import main
from al_charge.crystal import compressed as compressed_files

DATA = Path(__file__).parents[3] / "shared" / "data" / "vasp_NiO"
published = pytest.mark.skipif(not DATA.exists(), reason="published VASP results are not here")
Cases = Iterator[tuple[str, bytes | str]]

SYMBOLS = ("Fe", "Fe", "O", "O", "O", "Na")
MOMENTS = (4.30, 3.68, 0.1, 0.1, 0.1, 0.0)
NO_NUMBERS = ("*****", "nan", "NaN", "inf", "", "-", "abc", "1.2.3")


def gpaw_log() -> str:
    rows = [f"| {i} | {s} | {float(i)} | 0.0 | 0.0 | start |" for i, s in enumerate(SYMBOLS)]
    axes = [f"| yes | {x} | {y} | {z} | 9.0 | 90.0 |" for x, y, z in 9 * np.eye(3)]
    lines = [
        " | _ |_)|_||  |\n |__||  | ||/\\| - 26.7.0\n\n  mode=PW(ecut=500.0),",
        "\nAtoms  # Å, Bohr magnetons", *rows, "\n\nUnit cell  # Å", *axes,
        "\n  Extrapolated:   -31.250000\n\nLocal magnetic moments",
        *[f"| 0.0 | 0.0 | {moment:.6f} |  # X" for moment in MOMENTS], "",
    ]  # fmt: skip
    return "\n".join(lines)


def outcar() -> str:
    places = np.arange(18.0).reshape(6, 3) / 4
    rows = "".join(f"{x:12.5f}{y:12.5f}{z:12.5f}    0.1  0.0  0.0\n" for x, y, z in places)
    spin = "".join(f"{i + 1:4d} 0.0 0.0 {m:.3f} {m:.3f}\n" for i, m in enumerate(MOMENTS))
    datasets = "".join(
        f" POTCAR:    PAW_PBE {element} 01Jan2000\n   VRHFIN ={element}: x\n"
        f"   POMASS = 10.0; ZVAL   = {zval:8.3f}    mass and valenz\n"
        for element, zval in (("Fe", 14), ("O", 6), ("Na", 7))
    )
    lattice = "".join(f" {x:.9f} {y:.9f} {z:.9f}  0.0 0.0 0.0\n" for x, y, z in 5 * np.eye(3))
    line = "-" * 80
    return (
        " vasp.6.9.9 01Jan24 (build) complex\n POTCAR:    PAW_PBE Fe 01Jan2000\n"
        f" POTCAR:    PAW_PBE O 01Jan2000\n POTCAR:    PAW_PBE Na 01Jan2000\n{datasets}"
        "   ISPIN  =      2    spin polarized calculation?\n"
        "   number of dos      NEDOS =    301   number of ions     NIONS =      6\n"
        "   ions per type =               2   3   1\n"
        f"--------- Iteration      1(   9)  ---------\n"
        "------------------------ aborting loop because EDIFF is reached ------\n"
        f"      direct lattice vectors                 reciprocal lattice vectors\n{lattice}\n"
        f" POSITION                       TOTAL-FORCE (eV/Angst)\n {line}\n{rows} {line}\n"
        "  FREE ENERGIE OF THE ION-ELECTRON SYSTEM (eV)\n  ---\n"
        "  free  energy   TOTEN  =       -50.20000000 eV\n\n"
        "  energy  without entropy=      -50.00000000  energy(sigma->0) =      -50.10000000\n"
        f"\n magnetization (x)\n\n# of ion  s p d tot\n{line}\n{spin}{line}\n"
        f"tot 0.0 0.0 {sum(MOMENTS):.3f} {sum(MOMENTS):.3f}\n"
        " General timing and accounting informations for this job:\n"
    )


def gpaw_logs(dice: random.Random) -> Cases:
    text = gpaw_log()
    for end in range(1, text.index("50000\n"), 6):
        yield f"ends at {end}", text[:end]
    table = text.index("Local magnetic moments\n") + 40
    for end in range(table, len(text) - len("000 |  # X\n"), 5):
        yield f"moments end at {end}", text[:end]
    lines = text.splitlines(True)
    for number, line in enumerate(lines):
        if line.startswith("|") or "Extrapolated" in line:
            yield f"without {line}", "".join(lines[:number] + lines[number + 1 :])
            if line.startswith("|"):
                yield f"twice {line}", "".join([*lines[: number + 1], *lines[number:]])
            for found in re.finditer(r"-?\d+\.\d+(?= \||$)", line.split("|  #")[0]):
                for value in NO_NUMBERS if number % 2 else NO_NUMBERS[:3]:
                    changed = line[: found.start()] + value + line[found.end() :]
                    if "9.0 | 90.0" not in changed and "yes" in line:
                        continue  # lengths and angles, which nobody reads
                    yield (
                        f"{value} in {line}",
                        "".join([*lines[:number], changed, *lines[number + 1 :]]),
                    )
    atoms = [number for number, line in enumerate(lines) if "start" in line]
    for one, other in pairwise(atoms):
        swapped = [*lines]
        swapped[one], swapped[other] = lines[other], lines[one]
        yield f"atoms {one} and {other} exchanged", "".join(swapped)
    yield "an unknown element", text.replace("| Na |", "| Xx |")
    yield "a flat cell", text.replace("0.0 | 0.0 | 9.0 | 9.0", "9.0 | 0.0 | 0.0 | 9.0")
    yield "no banner", text.replace("|__||", "")
    for size in (1, 100, 5000):
        yield f"{size} random bytes", dice.randbytes(size)
        yield f"{size} zeros", bytes(size)


def outcars(dice: random.Random) -> Cases:
    text = outcar()
    for end in range(1, text.index("General timing"), 8):
        yield f"ends at {end}", text[:end]
    lines = text.splitlines(True)
    read = [i for i, line in enumerate(lines) if re.match(r"\s+[\d.]+( +[\d.-]+){4,5}\n", line)]
    for number in read:
        line = lines[number]
        moments = line.count(".") == 4
        for value in NO_NUMBERS:
            pattern = r"()\S+$" if moments else r"^(\s+)\S+"
            changed = re.sub(pattern, rf"\g<1>{value}", line.rstrip()) + "\n"
            yield f"{value} in {line}", "".join([*lines[:number], changed, *lines[number + 1 :]])
        yield f"without {line}", "".join(lines[:number] + lines[number + 1 :])
        if moments:
            yield f"twice {line}", "".join([*lines[: number + 1], *lines[number:]])
            larger = re.sub(r"\.(\d+\n)$", r"1.\g<1>", line)  # as the sum of all tells
            yield f"{larger} for {line}", "".join([*lines[:number], larger, *lines[number + 1 :]])
    spins = read[-len(MOMENTS) :]
    for one, other in pairwise(spins):
        swapped = [*lines]
        swapped[one], swapped[other] = lines[other], lines[one]
        yield f"moments {one} and {other} exchanged", "".join(swapped)
    for part in ("direct lattice vectors", "POSITION   ", "ions per type", "energy(sigma->0)"):
        yield f"without {part}", text.replace(part, "")
    for counts in ("", "2 3", "2 3 2", "1 1 1", "2 3 1 1", "x", "99999999 1 1"):
        yield f"types {counts}", text.replace("2   3   1", counts)
    for value in NO_NUMBERS:
        yield f"energy {value}", text.replace("=      -50.10000000", f"=  {value}")
    for size in (1, 100, 5000):
        yield f"{size} random bytes", dice.randbytes(size)
        yield f"{size} zeros", bytes(size)
    yield "another file", "<modeling/>"
    yield "UTF-16", text.encode("utf-16")


def compressed(dice: random.Random) -> Cases:
    good = gzip.compress(outcar().encode(), mtime=0)
    for end in range(1, len(good), 5):
        yield f"ends at {end}", good[:end]
    for place in range(10, len(good), 4):
        damaged = bytearray(good)
        damaged[place] ^= 1 + dice.randrange(255)
        yield f"damaged at {place}", bytes(damaged)
    yield "not compressed", outcar()
    yield "compressed twice", gzip.compress(good)
    yield "zip", b"PK\x03\x04" + good
    yield "a bomb", gzip.compress(bytes(3_000_000))
    yield "a long bomb", gzip.compress(outcar().encode() + b" " * 3_000_000)


def gpw(folder: Path, **changes: Any) -> bytes:
    """Return a .gpw file; of what is changed None is left out."""
    known = {
        "cell": 9 * np.eye(3), "pbc": [1, 1, 1], "numbers": np.array([26, 26, 8, 8, 8, 11]),
        "positions": np.array([[float(i), 0, 0] for i in range(6)]), "energy": -31.25,
        "magmoms": np.array(MOMENTS), "mode": {"name": "pw", "ecut": 500},
    } | changes  # fmt: skip
    kept = {name: value for name, value in known.items() if value is not None}
    part = lambda *names: {name: kept[name] for name in names if name in kept}  # noqa: E731
    path = folder / "tmp" / "x.gpw"
    with ulm.open(path, "w", tag="gpaw") as file:
        file.write(version=7, gpaw_version="26.7.0", ha=27.2, bohr=0.529)
        file.child("atoms").write(**part("cell", "pbc", "numbers", "positions"))
        file.child("results").write(**part("energy", "magmoms"))
        file.child("parameters").write(**part("mode"))
    content = path.read_bytes()
    path.unlink()
    return content


def gpws(dice: random.Random, folder: Path) -> Cases:
    good = gpw(folder)
    for end in range(1, len(good), 9):
        yield f"ends at {end}", good[:end]
    for place in range(8):
        damaged = bytearray(good)
        damaged[place] ^= 255
        yield f"damaged at {place}", bytes(damaged)
    for name, value in (
        ("cell", None), ("cell", np.zeros((3, 3))), ("cell", np.eye(2)),
        ("cell", np.full((3, 3), np.nan)),
        ("numbers", None), ("numbers", np.array([26])), ("numbers", np.array([999] * 6)),
        ("numbers", "Fe"),
        ("numbers", np.array([-1] * 6)), ("positions", None), ("positions", np.zeros((6, 3))),
        ("positions", np.full((6, 3), np.nan)), ("positions", np.zeros((5, 3))),
        ("positions", np.zeros(18)),
        ("energy", None), ("energy", np.nan), ("energy", np.inf), ("energy", "low"),
        ("energy", [1.0, 2.0]),
        ("magmoms", np.array(MOMENTS[:5])), ("magmoms", np.array([*MOMENTS, 0.0])),
        ("magmoms", np.full(6, np.nan)),
        ("magmoms", np.full(6, np.inf)), ("magmoms", np.zeros((6, 3))), ("magmoms", "up"),
        ("mode", None),
        ("mode", {"ecut": 500}),
    ):  # fmt: skip
        yield f"{name} = {value}", gpw(folder, **{name: value})
    for size in (1, 100, 5000):
        yield f"{size} random bytes", dice.randbytes(size)


FAMILIES: list[tuple[str, Callable[[random.Random], Cases], int]] = [
    ("gpaw.txt", gpaw_logs, 200),
    ("OUTCAR", outcars, 200),
    ("OUTCAR.gz", compressed, 150),
]


@pytest.mark.parametrize(("file", "family", "least"), FAMILIES)
def test_outputs(
    file: str, family: Any, least: int, sweep: Any, dice: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr(compressed_files, "LARGEST", 2_000_000)
    assert sweep.each(family(dice), file, "audit", file) >= least
    # The folder is read like its file.
    assert sweep.each(
        list(family(dice))[::15], file, "audit", ".", names=(file, "it holds no output")
    )


def test_gpw_files(sweep: Any, dice: Any) -> None:
    cases = list(gpws(dice, sweep.folder))
    assert sweep.each(cases, "x.gpw", "audit", "x.gpw", "--no-bader") >= 100


def vaspruns(dice: random.Random) -> Cases:
    text = gzip.decompress((DATA / "vasprun.xml.gz").read_bytes()).decode()
    for end in sorted(dice.sample(range(1, len(text.rstrip()) - 1), 60)):
        yield f"ends at {end}", text[:end]
    laughs = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10 if n else "lol"}">' for n in range(12))
    for what, head in {
        "laughs": f"<!DOCTYPE modeling [{laughs}]>",
        "a file": '<!DOCTYPE modeling [<!ENTITY l11 SYSTEM "file:///etc/passwd">]>',
        "a host": '<!DOCTYPE modeling [<!ENTITY l11 SYSTEM "http://localhost:1/x">]>',
        "a parameter": '<!DOCTYPE modeling [<!ENTITY % x SYSTEM "file:///etc/passwd"> %x;]>',
        "a document type": '<!DOCTYPE modeling SYSTEM "http://localhost:1/x.dtd">',
    }.items():
        body = text.replace("<modeling>", f"{head}\n<modeling>", 1)
        yield what, body
        yield f"{what}, used", body.replace("<c>Ni", "<c>&l11;", 1)
    last = text.rindex("<calculation>")
    starts = [text.index(f'<varray name="{name}"', last) for name in ("basis", "positions")]
    for found in (re.compile(r"<v>\s+(\S+)").search(text, start) for start in starts):
        assert found is not None
        for value in NO_NUMBERS:
            yield (
                f"{value} at {found.start()}",
                text[: found.start(1)] + value + text[found.end(1) :],
            )
    for tag in ("atominfo", "calculation", "structure", "modeling"):
        yield f"without {tag}", re.sub(rf"<{tag}[ >].*</{tag}>", "", text, flags=re.DOTALL)
        yield f"{tag} not closed", text.replace(f"</{tag}>", "", 1)
    for place in sorted(dice.sample([m.start() for m in re.finditer("<", text)], 40)):
        yield f"< lost at {place}", text[:place] + text[place + 1 :]
        yield f"NUL at {place}", text[:place] + "\x00" + text[place:]


@published
def test_vaspruns(sweep: Any, dice: Any) -> None:
    assert sweep.each(vaspruns(dice), "vasprun.xml", "audit", "vasprun.xml") >= 100


def test_the_good_ones_are_good(sweep: Any) -> None:
    contents = {
        "gpaw.txt": gpaw_log().encode(),
        "OUTCAR": outcar().encode(),
        "x.gpw": gpw(sweep.folder),
    }
    contents["OUTCAR.gz"] = gzip.compress(contents["OUTCAR"])
    for file, content in contents.items():
        (sweep.folder / file).write_bytes(content)
        with pytest.raises(SystemExit) as end:
            main(["audit", file, "--no-bader"])
        out = sweep.capture.readouterr()
        assert end.value.code == 0, (file, out)
        assert "1 Fe3+, 1 Fe2+; neutral" in out.out
