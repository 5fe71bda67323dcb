"""Outputs that do not mean what they say, or that lie beside what they need, and what is made of
them."""

from __future__ import annotations

import bz2
import gzip
import lzma
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.io import ulm, write

from al_charge.cli.main import main
from al_charge.crystal.structure_file import load_structure, read_structures
from al_charge.errors import InputError
from al_charge.labelers.outputs import read_output
from al_charge.labelers.vasp.outputs import read_vasprun
from al_charge.labelers.vasp_density import read_vasp_density

DATA = Path(__file__).parents[3] / "shared" / "data"
published = pytest.mark.skipif(not DATA.exists(), reason="published VASP results are not here")

COMPRESSED: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
}
PLACES = np.array([[0.0, 0, 0], [2, 2, 2], [2, 0, 0], [0, 2, 0], [0, 0, 2]])
MOMENTS = (4.34, 4.33, 0.1, 0.1, 0.1)
REACHED = "aborting loop because EDIFF is reached"
NOT_REACHED = "aborting loop EDIFF was not reached (unconverged)"


def outcar(
    *,
    version: str = "5.4.4.18Apr17-6-g9f103f2a35",
    steps: int = 9,
    nelm: int = 60,
    change: float = -0.3e-6,
    said: str = REACHED,
    ediff: str = "0.1E-05",
) -> str:
    """Return an OUTCAR of Fe2O3 in VASP's format, which ended after these electronic steps."""
    rows = "".join(f"{x:12.5f}{y:12.5f}{z:12.5f}    0.1  0.0  0.0\n" for x, y, z in PLACES)
    spin = "".join(f"{i + 1:4d} 0.0 0.0 {m:.3f} {m:.3f}\n" for i, m in enumerate(MOMENTS))
    datasets = "".join(
        f" POTCAR:    PAW_PBE {element} 01Jan2000\n   VRHFIN ={element}: x\n"
        f"   POMASS = 10.0; ZVAL   = {zval:8.3f}    mass and valenz\n"
        for element, zval in (("Fe", 14), ("O", 6))
    )
    lattice = "".join(f" {x:.9f} {y:.9f} {z:.9f}  0.0 0.0 0.0\n" for x, y, z in 4 * np.eye(3))
    electrons = "".join(
        f"--------- Iteration      1({step:4d})  ---------\n"
        f" total energy-change (2. order) : {change:.7E}  (-0.1E-06)\n"
        for step in range(1, steps + 1)
    )
    line = "-" * 80
    return (
        f" vasp.{version} (build) complex\n POTCAR:    PAW_PBE Fe 01Jan2000\n"
        f" POTCAR:    PAW_PBE O 01Jan2000\n{datasets}"
        "   ISPIN  =      2    spin polarized calculation?\n"
        "   number of dos      NEDOS =    301   number of ions     NIONS =      5\n"
        f"   NELM   = {nelm:6d};   NELMIN=  2; NELMDL= -5     # of ELM steps\n"
        f"   EDIFF  = {ediff}   stopping-criterion for ELM\n"
        "   EDIFFG = 0.1E-04   stopping-criterion for IOM\n"
        f"   ions per type =               2   3\n{electrons}"
        f"------------------------ {said} ------\n"
        f"      direct lattice vectors                 reciprocal lattice vectors\n{lattice}\n"
        f" POSITION                       TOTAL-FORCE (eV/Angst)\n {line}\n{rows} {line}\n"
        "  FREE ENERGIE OF THE ION-ELECTRON SYSTEM (eV)\n  ---\n"
        "  free  energy   TOTEN  =       -50.20000000 eV\n\n"
        "  energy  without entropy=      -50.20000000  energy(sigma->0) =      -50.20000000\n"
        f"\n magnetization (x)\n\n# of ion  s p d tot\n{line}\n{spin}{line}\n"
        " General timing and accounting informations for this job:\n"
    )


def vasprun(*, steps: int = 9, nelm: int = 60, change: float = 0.3e-6, ediff: float = 1e-6) -> str:
    """Return the vasprun.xml of the same run, whose last electronic step changed it so."""

    def rows(name: str, values: np.ndarray) -> str:
        lines = "".join(f"<v> {x:.8f} {y:.8f} {z:.8f} </v>\n" for x, y, z in values)
        return f'<varray name="{name}">\n{lines}</varray>\n'

    def structure(name: str) -> str:
        basis = rows("basis", 4 * np.eye(3)) + '<i name="volume"> 64.0 </i>'
        crystal = f"<crystal>{basis}{rows('rec_basis', np.eye(3) / 4)}</crystal>"
        return f"<structure{name}>{crystal}{rows('positions', PLACES / 4)}</structure>\n"

    def energies(value: float) -> str:
        names = ("e_fr_energy", "e_wo_entrp", "e_0_energy")
        items = "".join(f'<i name="{name}"> {value:.8f} </i>' for name in names)
        return f"<energy>{items}</energy>\n"

    settings = (
        f'<i type="int" name="NELM"> {nelm} </i><i name="EDIFF"> {ediff:.8f} </i>'
        '<i type="int" name="NSW"> 0 </i><i type="int" name="IBRION"> -1 </i>'
        '<i type="string" name="GGA">PE</i>\n'
    )
    changes = [change * (steps - step) for step in range(1, steps + 1)]
    electrons = "".join(f"<scstep>{energies(-50.2 + left)}</scstep>\n" for left in changes)
    atoms = "".join(
        f"<rc><c>{symbol}</c><c> {kind} </c></rc>"
        for symbol, kind in [("Fe", 1)] * 2 + [("O ", 2)] * 3
    )
    types = "".join(
        f"<rc><c> {n} </c><c>{symbol}</c><c> 1.0 </c><c> {zval}.0 </c><c>PAW_PBE {symbol}</c></rc>"
        for n, symbol, zval in ((2, "Fe", 14), (3, "O ", 6))
    )
    return (
        '<?xml version="1.0" encoding="ISO-8859-1"?>\n<modeling>\n<generator>'
        '<i name="program" type="string">vasp </i><i name="version" type="string">5.4.4 </i>'
        f"</generator>\n<incar>\n{settings}</incar>\n"
        '<kpoints><generation param="Gamma"><v type="int" name="divisions"> 1 1 1 </v>'
        f'<v name="usershift"> 0.0 0.0 0.0 </v></generation>{rows("kpointlist", np.zeros((1, 3)))}'
        '<varray name="weights"><v> 1.0 </v></varray></kpoints>\n'
        f"<parameters>\n{settings}</parameters>\n"
        '<atominfo><atoms> 5 </atoms><types> 2 </types><array name="atoms">'
        '<dimension dim="1">ion</dimension><field type="string">element</field>'
        f'<field type="int">atomtype</field><set>{atoms}</set></array><array name="atomtypes">'
        '<dimension dim="1">type</dimension><field type="int">atomspertype</field>'
        '<field type="string">element</field><field>mass</field><field>valence</field>'
        f'<field type="string">pseudopotential</field><set>{types}</set></array></atominfo>\n'
        + structure(' name="initialpos"')
        + f"<calculation>\n{electrons}{structure('')}{rows('forces', np.zeros((5, 3)))}"
        + f"{rows('stress', np.eye(3))}{energies(-50.2)}</calculation>\n"
        + structure(' name="finalpos"')
        + "</modeling>\n"
    )


def audit(path: Path) -> int:
    with pytest.raises(SystemExit) as end:
        main(["audit", str(path), "--json"])
    return int(str(end.value.code))


@pytest.mark.parametrize(
    ("changes", "converged"),
    [
        ({}, True),
        ({"nelm": 9, "change": 0.3}, False),  # VASP 5 says this of a run that NELM stopped
        ({"nelm": 9}, False),
        ({"nelm": 10}, True),
        ({"change": 0.3}, False),  # stopped by hand
        ({"change": 1.4e-6}, True),  # one digit of EDIFF is written
        ({"change": 1.6e-6}, False),
        ({"change": -2e-6, "ediff": "0.1E-04"}, True),
        ({"said": NOT_REACHED}, False),
        ({"version": "6.4.1 05Apr23", "nelm": 9, "said": NOT_REACHED}, False),
        ({"version": "6.4.1 05Apr23", "change": 0.3}, False),
        ({"version": "6.4.1 05Apr23"}, True),
    ],
)
def test_electrons_of_an_outcar(
    changes: dict[str, object], converged: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "OUTCAR"
    path.write_text(outcar(**changes))  # type: ignore[arg-type]
    assert read_output(path).converged is converged
    assert audit(path) == (0 if converged else 1)
    told = "the SCF of the last geometry did not converge"
    assert (told in capsys.readouterr().out) is not converged


@pytest.mark.parametrize(
    ("changes", "converged"),
    [
        ({}, True),
        ({"nelm": 9}, False),
        ({"nelm": 9, "change": 0.3}, False),
        ({"change": 0.3}, False),
        ({"change": 0.99e-6}, True),
        ({"change": 1.1e-6}, False),
        ({"change": 0.0, "ediff": 1e-9}, True),  # written as 0.00000000
        ({"steps": 1}, True),
    ],
)
def test_electrons_of_a_vasprun(changes: dict[str, float], converged: bool, tmp_path: Path) -> None:
    """As audits read it, and as the labeler does."""
    path = tmp_path / "vasprun.xml"
    path.write_text(vasprun(**changes))  # type: ignore[arg-type]
    assert read_output(path).converged is converged
    run = read_vasprun(tmp_path)
    assert (run.electrons_converged, len(run.frames)) == (converged, int(converged))


def test_the_outcar_beside_a_vasprun_has_its_moments(tmp_path: Path) -> None:
    path = tmp_path / "vasprun.xml"
    path.write_text(vasprun())
    output = read_output(path)
    assert output.moments is None
    assert "put the OUTCAR of a run with LORBIT = 11 beside it" in output.no_moments
    assert audit(path) == 1
    for ending, compress in {"": bytes, **COMPRESSED}.items():
        beside = tmp_path / f"OUTCAR{ending}"
        beside.write_bytes(compress(outcar().encode()))
        output = read_output(path)
        assert output.source == path
        assert output.moments == pytest.approx(MOMENTS)
        assert output.no_moments == ""
        beside.unlink()
    (tmp_path / "OUTCAR").write_text(outcar())
    assert audit(path) == 0
    for text, reason in (
        (outcar().replace("-50.2", "-50.3"), "the OUTCAR beside it is from another run"),
        (outcar()[:-40], "the OUTCAR beside it cannot be read"),
        (outcar().replace("magnetization (x)", "nothing"), "the OUTCAR has no moments"),
    ):
        (tmp_path / "OUTCAR").write_text(text)
        output = read_output(path)
        assert output.moments is None
        assert reason in output.no_moments
    # Each step of a series has its own.
    path = path.rename(tmp_path / "vasprun.relax2.xml")
    (tmp_path / "OUTCAR.relax2").write_text(outcar())
    assert read_output(path).moments == pytest.approx(MOMENTS)


def test_a_damaged_contcar_is_not_needed(tmp_path: Path) -> None:
    (tmp_path / "OUTCAR").write_text(outcar())
    for content in ("Fe2 O3\n 1.0\n 4.0 0.0", "", "\x00" * 100):
        (tmp_path / "CONTCAR").write_text(content)
        assert read_output(tmp_path).atoms.positions == pytest.approx(PLACES)


@pytest.mark.parametrize("ending", list(COMPRESSED))
def test_every_reader_reads_every_compression(ending: str, tmp_path: Path) -> None:
    compress = COMPRESSED[ending]

    def squeezed(name: str, content: str) -> Path:
        path = tmp_path / f"{name}{ending}"
        path.write_bytes(compress(content.encode()))
        return path

    outputs = {
        "vasprun.xml": vasprun(),
        "OUTCAR": outcar(),
    }
    for name, content in outputs.items():
        for given in (squeezed(name, content), tmp_path):
            output = read_output(given)
            assert (output.energy, output.converged) == (-50.2, True)
            assert output.source == tmp_path / f"{name}{ending}"
    assert read_vasprun(tmp_path).electrons_converged
    salt = Atoms("NaCl", [(0.0, 0, 0), (2.8, 2.8, 2.8)], cell=[5.6, 5.6, 5.6], pbc=True)
    for form, name in (("extxyz", "salt.extxyz"), ("cif", "salt.cif"), ("vasp", "POSCAR")):
        plain = tmp_path / name
        write(plain, salt, format=form)
        path = squeezed(name, plain.read_text())
        plain.unlink()
        (atoms,) = read_structures(path)
        assert atoms.get_chemical_symbols() == ["Na", "Cl"]
        assert load_structure(path)[0].arrays["species"].tolist() == ["Na+", "Cl-"]
    density = "d\n1.0\n2 0 0\n0 2 0\n0 0 2\nH\n1\nDirect\n0 0 0\n\n1 1 2\n 8.0 16.0\n"
    grid, _ = read_vasp_density(squeezed("AECCAR0", density))
    assert grid.ravel() == pytest.approx([1.0, 2.0], abs=1e-12)


def test_an_exponent_of_three_digits(tmp_path: Path) -> None:
    """Fortran writes 0.91424592000-103 for 0.91E-103."""
    head = "d\n1.0\n2 0 0\n0 2 0\n0 0 2\nH\n1\nDirect\n0 0 0\n\n1 1 4\n"
    path = tmp_path / "AECCAR0"
    path.write_text(head + " 0.80000000000E+01 0.91424592000-103\n-0.16000000000+101 8.0\n")
    grid, _ = read_vasp_density(path)
    assert grid.ravel() == pytest.approx([1.0, 0.91424592e-103 / 8, -0.16e101 / 8, 1.0], rel=1e-12)
    for broken in ("0.914-10", "0.9-1034", "5-103", "0.914--103", "0.914-103x"):
        path.write_text(head + f" 8.0 {broken} 8.0 8.0\n")
        with pytest.raises(Exception, match="it is damaged or truncated"):
            read_vasp_density(path)


def gpaw_log(moments: list[str], *, settings: str = "") -> str:
    rows = [f"| {i} | Fe | {2.0 * i} | 0.0 | 0.0 | start |" for i in range(len(moments))]
    axes = [f"| yes | {x} | {y} | {z} | 9.0 | 90.0 |" for x, y, z in 9 * np.eye(3)]
    lines = [
        f" | _ |_)|_||  |\n |__||  | ||/\\| - 26.7.0\n\n  mode=PW(ecut=500.0),\n{settings}",
        "\nAtoms  # Å, Bohr magnetons", *rows, "\n\nUnit cell  # Å", *axes,
        "\n  Extrapolated:   -31.250000\n\nLocal magnetic moments",
        *[f"| {moment} |  # Fe  0" for moment in moments], "",
    ]  # fmt: skip
    return "\n".join(lines)


@pytest.mark.parametrize("ending", ["", *COMPRESSED])
def test_a_log_of_gpaw_may_be_compressed(ending: str, tmp_path: Path) -> None:
    content = gpaw_log(["0.000000 | 0.000000 | 4.301000"] * 2).encode()
    path = tmp_path / f"gpaw.txt{ending}"
    path.write_bytes(COMPRESSED.get(ending, bytes)(content))
    (tmp_path / "another.log.xz").write_bytes(b"not compressed")
    for given in (path, tmp_path):
        output = read_output(given)
        assert output.source == path
        assert output.moments == pytest.approx([4.301, 4.301])


@pytest.mark.parametrize(
    ("moments", "settings"),
    [
        (["3.300000 | 0.000000 | 2.700000", "0.000000 | 0.000000 | 4.300000"], ""),
        (["0.000000 | -4.200000 | 0.000000"] * 2, ""),
        (["0.000000 | 0.000000 | 4.300000"] * 2, "  soc=True,\n"),
        (["0.000000 | 0.000000 | 4.300000"] * 2, "  soc: True\n"),
        (["0.000000 | 0.000000 | 4.300000"] * 2, "Non-collinear calculation.\n"),
    ],
)
def test_a_non_collinear_log_of_gpaw_is_refused(
    moments: list[str], settings: str, tmp_path: Path
) -> None:
    path = tmp_path / "gpaw.txt"
    path.write_text(gpaw_log(moments, settings=settings))
    with pytest.raises(InputError, match=r"gpaw\.txt: the run is non-collinear"):
        read_output(path)
    assert audit(path) == 2


@pytest.mark.parametrize(
    ("magmoms", "soc", "vectors", "refused"),
    [
        (None, False, [[0.0, 0.0, 4.3]], False),
        ([4.0], False, [[0.0, 0.0, 4.3]], False),
        (None, False, None, False),
        ([[0.0, 0.0, 4.0]], False, None, True),
        (None, True, [[0.0, 0.0, 4.3]], True),
        (None, False, [[3.0, 0.0, 3.0]], True),
    ],
)
def test_a_non_collinear_gpw_file_is_refused(
    magmoms: object, soc: bool, vectors: object, refused: bool, tmp_path: Path
) -> None:
    path = tmp_path / "x.gpw"
    with ulm.open(path, "w", tag="gpaw") as file:
        file.write(version=7, gpaw_version="26.7.0", ha=27.2, bohr=0.529)
        atoms = file.child("atoms")
        atoms.write(cell=5 * np.eye(3), pbc=[1, 1, 1], numbers=np.array([26]))
        atoms.write(positions=np.zeros((1, 3)))
        results = file.child("results")
        results.write(energy=-7.5, magmoms=np.array([4.3]))
        if vectors is not None:
            results.write(non_collinear_magmoms=np.array(vectors))
        file.child("parameters").write(mode="pw", magmoms=magmoms, soc=soc)
    if not refused:
        assert read_output(path, bader=False).moments == pytest.approx([4.3])
        return
    with pytest.raises(InputError, match=r"x\.gpw: the run is non-collinear"):
        read_output(path, bader=False)


@published
def test_a_published_run_that_nelm_stopped(tmp_path: Path) -> None:
    source = DATA / "vasp_Na1Fe24P24O96" / "OUTCAR.gz"
    assert audit(source) == 0
    text = gzip.decompress(source.read_bytes()).decode()
    for old, new in (
        ("vasp.6.4.0 14Feb23", "vasp.5.4.4.18Apr17"),
        ("NELM   =    300", "NELM   =     14"),
        (":-0.6628834E-06", ": 0.3000000E+00"),
    ):
        assert text.count(old) == 1
        text = text.replace(old, new)
    (tmp_path / "OUTCAR.gz").write_bytes(gzip.compress(text.encode()))
    output = read_output(tmp_path)
    assert (output.engine, output.converged) == ("VASP 5.4.4.18", False)
    assert audit(tmp_path) == 1


@published
@pytest.mark.parametrize("ending", list(COMPRESSED))
def test_a_published_run_in_every_compression(ending: str, tmp_path: Path) -> None:
    for name in ("OUTCAR", "CONTCAR", "vasprun.xml"):
        shutil.copy(DATA / "vasp_NiO" / f"{name}.gz", tmp_path)
        content = gzip.decompress((tmp_path / f"{name}.gz").read_bytes())
        (tmp_path / f"{name}.gz").unlink()
        if name == "CONTCAR":  # cut in the middle
            (tmp_path / name).write_bytes(content[: len(content) // 2])
        else:
            (tmp_path / f"{name}{ending}").write_bytes(COMPRESSED[ending](content))
    for given in (tmp_path, tmp_path / f"OUTCAR{ending}", tmp_path / f"vasprun.xml{ending}"):
        output = read_output(given)
        assert output.energy == -4.52549041
        assert output.moments == pytest.approx([1.122, 0.903])
