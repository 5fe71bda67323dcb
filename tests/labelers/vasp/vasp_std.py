"""A stand-in for VASP: it checks its inputs, and writes outputs of its own or copies recorded ones.

What it does is in the JSON file that ``VASP_STANDIN`` names:

- ``check``: by name of the folder, the INCAR tags that must be there, as text;
- ``copy``: a folder of recorded outputs to copy instead of writing any;
- ``faults``: by name of the folder, one fault for each start in turn, then none;
- ``notes``: a folder, in which a start beside another in one folder is noted as a file;
- ``chances``: by fault, its share of all starts, each of them noted as well;
- ``seconds``: how long it computes before it writes anything;
- ``hold``: a folder; it computes as long as there is a file named ``engine-`` and a part of its own
  folder's path up to a dash;
- ``remembers``: by how much at most, in eV, the energy depends on where the electrons began, which
  WAVECAR hands on;
- ``energy``, ``moments`` (in the order of the POSCAR); without them those of a model: atoms repel
  each other, and moments are a part of those in MAGMOM.

Every start is noted in ``starts`` beside that file.
"""

from __future__ import annotations

import fcntl
import gzip
import hashlib
import itertools
import json
import math
import os
import random
import shutil
import signal
import struct
import sys
import time
import uuid
from pathlib import Path

plan_file = Path(os.environ["VASP_STANDIN"])
plan = json.loads(plan_file.read_text())
here = Path.cwd()


def read_incar() -> dict[str, str]:
    pairs = (line.split("=", 1) for line in Path("INCAR").read_text().splitlines() if "=" in line)
    return {tag.strip(): value.strip() for tag, value in pairs}


incar = read_incar()
poscar = Path("POSCAR").read_text().splitlines()
cell = [[float(x) for x in line.split()] for line in poscar[2:5]]
elements, counts = poscar[5].split(), [int(n) for n in poscar[6].split()]
n_atoms = sum(counts)
positions = [[float(x) for x in line.split()[:3]] for line in poscar[8 : 8 + n_atoms]]
assert poscar[7].lower().startswith("direct")
divisions = Path("KPOINTS").read_text().splitlines()[3].split()
style = Path("KPOINTS").read_text().splitlines()[2].strip()
titles = [
    line.split("=")[1].strip()
    for line in Path("POTCAR").read_text().splitlines()
    if "TITEL" in line
]
starts = plan_file.with_name("starts")
number = sum(
    line.startswith(f"{here.name} ")
    for line in (starts.read_text().splitlines() if starts.exists() else [])
)
with starts.open("a") as notes:
    notes.write(f"{here.name} {os.getpid()} {Path(sys.argv[0]).name}\n")


def refuse(reason: str) -> None:
    print(f"INPUT REFUSED {here.name}: {reason}", file=sys.stderr)
    sys.exit(3)


for tag, value in plan.get("check", {}).get(here.name, {}).items():
    if incar.get(tag) != value:
        refuse(f"{tag} is {incar.get(tag)} and not {value}")
if len(titles) != len(elements):
    refuse(f"{len(titles)} datasets for {elements}")
if [title.split()[1].split("_")[0] for title in titles] != elements:
    refuse(f"datasets {titles} for {elements}")
waves = Path("WAVECAR").read_bytes() if Path("WAVECAR").exists() else b""
whole = len(waves) == 4 * 128
if incar.get("ISTART") == "1" and not whole:
    refuse("no wave functions to begin from")
if incar.get("ICHARG") == "1" and Path("CHGCAR").read_bytes() != b"density":
    refuse("no density to begin from")
# Rounded: libraries may add numbers in another order in another process.
begun = repr([[round(x, 5) + 0.0 for x in row] for row in cell + positions])
begun += "".join(poscar[5:7]) + incar.get("MAGMOM", "") + incar.get("NUPDOWN", "")
state = hashlib.sha256(begun.encode()).hexdigest()[:32].encode()
if incar.get("ISTART") == "1":
    state = waves[256:288]

faults = plan.get("faults", {}).get(here.name, [])
fault = faults[number] if number < len(faults) else ""


def note(what: str) -> None:
    Path(plan["notes"], f"VASP {what}-{uuid.uuid4().hex}").touch()


if "notes" in plan:
    alone = os.open("alone", os.O_CREAT | os.O_RDWR)  # held to the end
    try:
        fcntl.flock(alone, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        note("beside another")
if "chances" in plan:
    names, shares = list(plan["chances"]), list(plan["chances"].values())
    fault = random.choices([*names, ""], [*shares, 1.0 - sum(shares)])[0]
    if fault:
        note(fault)
time.sleep(plan.get("seconds", 0.0))
kinds = {part.partition("-")[0] for part in here.parts}
while "hold" in plan and any(Path(plan["hold"], f"engine-{kind}").exists() for kind in kinds):
    time.sleep(0.1)
if fault == "die":
    print("forrtl: severe (174): SIGSEGV, segmentation fault occurred", file=sys.stderr)
    sys.exit(174)
if fault == "hang":
    time.sleep(600)
while fault == "until STOPCAR" and not Path("STOPCAR").exists():
    time.sleep(0.1)
if fault == "disk full":
    print("forrtl: No space left on device", file=sys.stderr)
    sys.exit(29)

KILLED = {"SIGKILL", "SIGSEGV", "SIGTERM", "cut off", "in WAVECAR", "in OUTCAR"}
"""Faults that end it in the middle: by a signal, or as behind a launcher that hides it."""

# A head of two records, then one of one k-point and that of its only band, as VASP has them.
head = struct.pack("3d", 128.0, 1.0, 45200.0).ljust(128, b"\0")
head += struct.pack("3d", 1.0, 1.0, 520.0).ljust(128, b"\0")
written = (head + state).ljust(4 * 128, b"\0")
if fault == "in WAVECAR":
    Path("WAVECAR").write_bytes(written[:300])
    Path("CHGCAR").write_bytes(b"")
elif fault not in KILLED - {"in OUTCAR"}:
    Path("WAVECAR").write_bytes(written)
    Path("CHGCAR").write_bytes(b"" if fault == "empty CHGCAR" else b"density")
for name in ("WAVECAR", "CHGCAR", "CONTCAR"):  # which VASP makes as soon as it starts
    Path(name).touch()

if "copy" in plan:
    for file in Path(plan["copy"]).iterdir():
        name = file.name.removesuffix(".gz")
        if name in ("OUTCAR", "vasprun.xml", "CONTCAR"):
            opener = gzip.open if file.suffix == ".gz" else open
            with opener(file, "rb") as source, Path(name).open("wb") as target:
                shutil.copyfileobj(source, target)
    Path("OSZICAR").write_text("recorded\n")
    sys.exit(0)

KINDS = {"ISPIN": "int", "ISMEAR": "int", "ISYM": "int", "NELM": "int", "NSW": "int"}
KINDS |= {"IBRION": "int", "ISIF": "int", "LMAXMIX": "int", "LORBIT": "int", "LDAUTYPE": "int"}
KINDS |= {"ISTART": "int", "ICHARG": "int", "LDAUPRINT": "int", "IMIX": "int", "LDAUL": "int"}


def xml_tag(tag: str, text: str) -> str:
    if text in ("True", "False"):
        return f'<i type="logical" name="{tag}"> {text[0]} </i>'
    if tag in ("LDAUU", "LDAUJ", "LDAUL"):
        kind = ' type="int"' if tag == "LDAUL" else ""
        return f'<v{kind} name="{tag}"> {text} </v>'
    if tag == "MAGMOM":
        values = []
        for item in text.split():
            repeat, _, value = item.rpartition("*")
            values += [value] * int(repeat or 1)
        return f'<v name="MAGMOM"> {" ".join(values)} </v>'
    if tag in KINDS:
        return f'<i type="int" name="{tag}"> {text} </i>'
    try:
        return f'<i name="{tag}"> {float(text):.8f} </i>'
    except ValueError:
        return f'<i type="string" name="{tag}">{text}</i>'


def rows(name: str, values: list[list[float]]) -> str:
    lines = "".join(f"<v> {a:.9f} {b:.9f} {c:.9f} </v>\n" for a, b, c in values)
    return f'<varray name="{name}">\n{lines}</varray>\n'


def structure(at: list[list[float]], label: str = "") -> str:
    named = f' name="{label}"' if label else ""
    identity = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    return (
        f"<structure{named}><crystal>\n{rows('basis', cell)}"
        f'<i name="volume"> 1.0 </i>\n{rows("rec_basis", identity)}</crystal>\n'
        f"{rows('positions', at)}</structure>\n"
    )


def energies(energy: float) -> str:
    return (
        f'<energy><i name="e_fr_energy"> {energy:.8f} </i><i name="e_wo_entrp"> {energy:.8f} </i>'
        f'<i name="e_0_energy"> {energy + 0.001:.8f} </i></energy>\n'
    )


Rows = list[list[float]]
IMAGES = list(itertools.product((-2, -1, 0, 1, 2), repeat=3))


def cartesian(at: Rows, axes: Rows) -> Rows:
    return [[sum(f[k] * axes[k][i] for k in range(3)) for i in range(3)] for f in at]


def model(at: Rows, axes: Rows) -> tuple[float, Rows, Rows]:
    """Return energy, forces and stress (kB, as VASP signs it) of 5 eV exp(-r / 0.7 A) per pair.

    Pairs more than 20 A apart, which have less than 1e-11 eV, are left out. Each pair is counted
    once, and written out: twenty-six atoms have 42000 of them.
    """
    places = cartesian(at, axes)
    shifts = cartesian([[float(n) for n in image] for image in IMAGES], axes)
    energy, forces = 0.0, [[0.0] * 3 for _ in places]
    xx = yy = zz = xy = xz = yz = 0.0
    for (i, (x1, y1, z1)), (j, (x2, y2, z2)) in itertools.combinations_with_replacement(
        enumerate(places), 2
    ):
        fx = fy = fz = 0.0
        share = 0.5 if i == j else 1.0  # of an atom with its own images
        for a, b, c in shifts:
            x, y, z = x2 - x1 + a, y2 - y1 + b, z2 - z1 + c
            square = x * x + y * y + z * z
            if not 1e-12 < square < 400.0:
                continue
            r = math.sqrt(square)
            pair = 5.0 * share * math.exp(-r / 0.7)
            energy += pair
            slope = pair / 0.7 / r
            fx, fy, fz = fx + slope * x, fy + slope * y, fz + slope * z
            xx, yy, zz = xx + slope * x * x, yy + slope * y * y, zz + slope * z * z
            xy, xz, yz = xy + slope * x * y, xz + slope * x * z, yz + slope * y * z
        for k, pull in enumerate((fx, fy, fz)):
            forces[i][k] -= pull
            forces[j][k] += pull
    virial = [[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]]
    (a1, a2, a3), (b1, b2, b3), (c1, c2, c3) = axes
    volume = abs(a1 * (b2 * c3 - b3 * c2) - a2 * (b1 * c3 - b3 * c1) + a3 * (b1 * c2 - b2 * c1))
    return energy, forces, [[1602.1766208 * x / volume for x in row] for row in virial]


def step_of(at: Rows, axes: Rows, n: int) -> tuple[float, Rows, Rows]:
    if "energy" not in plan:
        energy, forces, stress = model(at, axes)
        shift = int(state[:4], 16) / 65536
        return energy + shift * plan.get("remembers", 0.0), forces, stress
    forces = [[0.001 * (i + 1), 0.0, 0.0] for i in range(n_atoms)]
    return plan["energy"] - 0.1 * n, forces, [[10.0, 1.0, 0.0], [1.0, 20.0, 0.0], [0.0, 0.0, 30.0]]


nsw, nelm = int(incar.get("NSW", 0)), int(incar["NELM"])
scf_steps = nelm if fault in ("no SCF", "until STOPCAR") else 3
steps = []
start, final = cell, positions
for n in range(3 if nsw else 1):
    if n and "energy" in plan:
        final = [[x + 0.001 * n, y, z] for x, y, z in positions]
    elif n:
        # Downhill without inverting the cell: all spread out, or each moves a little of its force.
        if incar["ISIF"] == "3":
            cell = [[1.01 * x for x in row] for row in cell]
        _, pull, _ = model(final, cell)
        longest = [math.sqrt(sum(x * x for x in row)) for row in cell]
        # Exact for cells along the axes, which those of the tests are.
        final = [
            [f[k] + 0.02 * force[k] / longest[k] for k in range(3)]
            for f, force in zip(final, pull, strict=True)
        ]
    energy, forces, stress = step_of(final, cell, n)
    scf = "".join(f"<scstep>{energies(energy)}</scstep>\n" for _ in range(scf_steps))
    steps.append(
        f"<calculation>\n{scf}{structure(final)}{rows('forces', forces)}{rows('stress', stress)}"
        f"{energies(energy)}</calculation>\n"
    )
end, cell = cell, start
atoms = [element for element, count in zip(elements, counts, strict=True) for _ in range(count)]
types = [elements.index(element) + 1 for element in atoms]
parameters = "".join(xml_tag(tag, text) + "\n" for tag, text in incar.items() if "LDAU" not in tag)
parameters += '<i name="NELECT"> 100.0 </i>\n'
atom_rows = "".join(
    f"<rc><c>{el:2s}</c><c>{kind:4d}</c></rc>\n" for el, kind in zip(atoms, types, strict=True)
)
type_rows = "".join(
    f"<rc><c>{n:4d}</c><c>{el:2s}</c><c> 1.0</c><c> 1.0</c><c> {title} </c></rc>\n"
    for n, el, title in zip(counts, elements, titles, strict=True)
)
vasprun = (
    '<?xml version="1.0" encoding="ISO-8859-1"?>\n<modeling>\n'
    '<generator><i name="program" type="string">vasp </i>'
    '<i name="version" type="string">6.9.9 </i></generator>\n'
    f"<incar>\n{''.join(xml_tag(tag, text) + chr(10) for tag, text in incar.items())}</incar>\n"
    f'<kpoints><generation param="{style}"><v type="int" name="divisions"> {" ".join(divisions)} '
    '</v><v name="usershift"> 0.0 0.0 0.0 </v></generation>\n'
    f"{rows('kpointlist', [[0.0, 0.0, 0.0]])}"
    '<varray name="weights"><v> 1.0 </v></varray></kpoints>\n'
    f"<parameters>\n{parameters}</parameters>\n"
    f"<atominfo><atoms> {n_atoms} </atoms><types> {len(elements)} </types>\n"
    '<array name="atoms"><dimension dim="1">ion</dimension><field type="string">element</field>'
    f'<field type="int">atomtype</field><set>\n{atom_rows}</set></array>\n'
    '<array name="atomtypes"><dimension dim="1">type</dimension>'
    '<field type="int">atomspertype</field><field type="string">element</field>'
    '<field>mass</field><field>valence</field><field type="string">pseudopotential</field>'
    f"<set>\n{type_rows}</set></array></atominfo>\n"
    f"{structure(positions, 'initialpos')}{''.join(steps)}{structure(final, 'finalpos')}"
    "</modeling>\n"
)
cut = fault in ("truncate", *KILLED - {"in OUTCAR"})
Path("vasprun.xml").write_text(vasprun[: len(vasprun) // 2] if cut else vasprun)

given: list[float] = []
for item in incar.get("MAGMOM", "").split():
    repeat, _, value = item.rpartition("*")
    given += [float(value)] * int(repeat or 1)
moments = plan.get("moments") or [{4.0: 3.75, 5.0: 4.33}.get(m, m) for m in given]
moments = moments or [0.0] * n_atoms
table = "".join(
    f"{i + 1:5d} {0.0:12.3f} {0.0:7.3f} {m:7.3f} {m:7.3f}\n" for i, m in enumerate(moments)
)
spin = (
    "\n\n magnetization (x)\n\n# of ion       s       p       d       tot\n"
    f"------------------------------------------\n{table}"
    "--------------------------------------------------\n"
    f"tot          0.000   0.000   {sum(moments):.3f}   {sum(moments):.3f}\n\n"
)
outcar = (
    " vasp.6.9.9 stand-in\n running    2 mpi-ranks, with    1 threads/rank, on    1 nodes\n"
    "   k-points           NKPTS =      1   number of bands    NBANDS=     16\n"
    "   total plane-waves  NPLWV =  16000\n"
    f"\n\n{'-' * 104}\n\n\n"
    " k-point   1 :   0.0000 0.0000 0.0000  plane waves:    2000\n\n"
    " maximum and minimum number of plane-waves per node :      2000     2000\n\n"
    f"   IBRION = {incar.get('IBRION', '-1'):>6s}    ionic relax: 0-MD 1-quasi-New 2-CG\n"
    + (spin if incar.get("ISPIN") == "2" else "")
    + " General timing and accounting informations for this job:\n"
    " ========================================================\n"
    "                  Total CPU time used (sec):        5.000\n"
    "                            User time (sec):        4.000\n"
    "                          System time (sec):        1.000\n"
    "                         Elapsed time (sec):        7.000\n"
    "                   Maximum memory used (kb):         100.\n"
    "                   Average memory used (kb):          N/A\n"
)
if fault in KILLED:
    Path("OUTCAR").write_text(outcar[: outcar.index(" General timing")])
    Path("OSZICAR").write_text("DAV:   1     0.1E+03\n")
    if fault.startswith("SIG"):
        sys.stdout.flush()
        os.kill(os.getpid(), signal.Signals[fault])
    sys.exit(0)
Path("OUTCAR").write_text(outcar)
done = "".join(f"   {n + 1} F= -.1E+03 E0= -.1E+03  d E =-.1E+00\n" for n in range(len(steps)))
Path("OSZICAR").write_text(f"DAV:   1     0.1E+03\n{done}")
axes = [" ".join(f"{x:.12f}" for x in row) for row in end]
lines = [*poscar[:2], *axes, *poscar[5:8]]
lines += [f"{a:.12f} {b:.12f} {c:.12f}" for a, b, c in final]
Path("CONTCAR").write_text("\n".join(lines) + "\n")
if fault in ("stopped", "until STOPCAR"):  # as by a STOPCAR: whole files, electrons not converged
    sys.exit(0)
if fault.startswith("say "):
    print(fault.removeprefix("say "))
