"""Outputs of any VASP or GPAW run: what is read from them, and how broken ones are refused."""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import cast

import numpy as np
import pytest
from ase import Atoms
from ase.io import ulm
from typing_extensions import override

from al_charge.crystal.valence import (
    GPAW_LCAO_WINDOWS,
    GPAW_PW_WINDOWS,
    GPAW_WINDOWS,
    VASP_WINDOWS,
    Windows,
)
from al_charge.errors import InputError
from al_charge.labelers.born import BornPlugin
from al_charge.labelers.output import Output
from al_charge.labelers.outputs import (
    audit_output,
    read_output,
    requested_species,
    windows_from_end_members,
)
from al_charge.labelers.plugin import LABELERS, LabelerPlugin
from al_charge.labelers.protocol import BaderCharges
from al_charge.plugins import Found

DATA = Path(__file__).parents[3] / "shared" / "data"
published = pytest.mark.skipif(not DATA.exists(), reason="published VASP results are not here")

SYMBOLS = ("Na", "Fe", "Fe", "O", "O", "O")
POSITIONS = np.arange(18.0).reshape(6, 3) / 4
MOMENTS = (0.001, 3.664, 4.224, 0.1, 0.05, 0.05)


def gpaw_log(
    moments: tuple[float, ...] | None = MOMENTS, mode: str = "LCAO()", energy: str = "-166.207762"
) -> str:
    """Return a text log in the format of GPAW 26: the start geometry, then the final one."""
    ended = ""
    if moments is not None:
        rows = "\n".join(
            f"| 0.000000 | 0.000000 | {moment:.6f} |  # {symbol:2} {i:3}"
            for i, (symbol, moment) in enumerate(zip(SYMBOLS, moments, strict=True))
        )
        ended = f"\nLocal magnetic moments\n|  x |  y |  z |\n|----|----|----|\n{rows}\n"
    forces = "\n".join("| 9.00000 | 9.00000 | 9.00000 |  # O 0" for _ in SYMBOLS)
    return (
        "  __  _  _\n | _ |_)|_||  |\n |__||  | ||/\\| - 26.7.0\n\nInput parameters:\n"
        f"  mode={mode},\n  h=0.22,\n"
        + geometry(POSITIONS + 0.1)
        + "|iter:   1| 12:00:00 | -160.0\n"
        + geometry(POSITIONS)
        + f"\nConverged in 20 steps\n  Free energy:    -1.0\n  Extrapolated:   {energy}\n"
        + ended
        + f"\nForces  # eV/Ang\n|  x |  y |  z |\n{forces}\n"
    )


def geometry(positions: np.ndarray) -> str:
    rows = "\n".join(
        f"| {i:2} | {symbol:>6} | {x:.6f} | {y:.6f} | {z:.6f} | ( 0.0000,  0.0000,  4.0000) |"
        for i, (symbol, (x, y, z)) in enumerate(zip(SYMBOLS, positions, strict=True))
    )
    cell = "\n".join(
        f"| {periodic:>8} | {' | '.join(f'{v:.6f}' for v in row)} | 5.000000 | 90.000000 |"
        for periodic, row in zip(("yes", "yes", "no"), 5 * np.eye(3), strict=True)
    )
    return (
        "\nAtoms  # Å, Bohr magnetons\n|    | symbol | x | y | z | initial |\n"
        f"{rows}\n\n\nUnit cell  # Å\n| periodic | x | y | z | lengths | angles |\n{cell}\n\n"
    )


def outcar(moments: tuple[float, ...] = (4.34, 3.78, 0.1, 0.1, 0.1, 0.0)) -> str:
    """Return an OUTCAR of Fe2O3Na with what a reader needs, in VASP's format."""
    rows = "".join(f"{x:12.5f}{y:12.5f}{z:12.5f}    0.1  0.0  0.0\n" for x, y, z in POSITIONS)
    spin = "".join(f"{i + 1:4d} 0.0 0.0 {m:.3f} {m:.3f}\n" for i, m in enumerate(moments))
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
        " General timing and accounting informations for this job:\n"
    )


def write(folder: Path, text: str, name: str = "gpaw.txt") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_text_log_of_gpaw(tmp_path: Path) -> None:
    path = write(tmp_path, gpaw_log())
    for given in (path, tmp_path):
        output = read_output(given)
        assert (output.source, output.engine) == (path, "GPAW 26.7.0, lcao mode")
        assert output.energy == -166.207762
        assert output.moments == pytest.approx(MOMENTS)
        assert output.atoms.get_chemical_symbols() == list(SYMBOLS)
        assert output.atoms.positions == pytest.approx(POSITIONS)
        assert output.atoms.cell.array == pytest.approx(5 * np.eye(3))
        assert output.atoms.pbc.tolist() == [True, True, False]
        assert output.bader is None
        assert output.bader_refused == ""
        species, windows = requested_species(output, output.windows)
        found = audit_output(output, species, windows)
        assert found.species == ("Na+", "Fe2+", "Fe3+", "O2-", "O2-", "O2-")


@pytest.mark.parametrize(
    ("mode", "windows"),
    [
        ("LCAO()", GPAW_LCAO_WINDOWS),
        ("PW(ecut=700.0)", GPAW_PW_WINDOWS),
        ("FD()", GPAW_WINDOWS),
        ("{'name': 'pw'}", GPAW_WINDOWS),
    ],
)
def test_each_mode_of_gpaw_has_its_windows(mode: str, windows: Windows, tmp_path: Path) -> None:
    assert read_output(write(tmp_path, gpaw_log(mode=mode))).windows == windows


def test_text_log_of_an_older_gpaw(tmp_path: Path) -> None:
    sites = list(enumerate(SYMBOLS))
    rows = [
        f"  {i} {s:2} {x:.6f} {y:.6f} {z:.6f} ( 0.0000,  0.0000,  4.0000)"
        for (i, s), (x, y, z) in zip(sites, POSITIONS, strict=True)
    ]
    axes = [
        f"  {i}. axis:    yes {x:.6f} {y:.6f} {z:.6f}    16     0.3125"
        for i, (x, y, z) in enumerate(5 * np.eye(3), start=1)
    ]
    moments = [f"   {i} {s:2} ( 0.000000,  0.000000,  {MOMENTS[i]:.6f})" for i, s in sites]
    lines = [
        "  __  _  _", " | _ |_)|_||  |", " |__||  | ||/\\|/ - 24.6.0", "", "Input parameters:",
        "  mode: {ecut: 500.0,", "         name: pw}", "", "Positions:", *rows, "", "Unit cell:",
        "           periodic     x           y           z      points  spacing", *axes, "",
        "Energy contributions relative to reference atoms: (reference = -1000.0)", "",
        "Kinetic:         +1.000000", "Extrapolated:   -31.250000", "",
        "Local magnetic moments:", *moments, "",
    ]  # fmt: skip
    output = read_output(write(tmp_path, "\n".join(lines)))
    assert (output.engine.split(",")[0], output.energy) == ("GPAW 24.6.0", -31.25)
    assert output.atoms.get_chemical_symbols() == list(SYMBOLS)
    assert output.atoms.positions == pytest.approx(POSITIONS)
    assert output.atoms.cell.array == pytest.approx(5 * np.eye(3))
    assert output.moments == pytest.approx(MOMENTS)
    unspun = "\n".join(lines[: lines.index("Local magnetic moments:")]).replace("4.0000", "0.0000")
    assert read_output(write(tmp_path, unspun)).energy == -31.25


def test_a_log_with_bytes_of_another_encoding_is_read(tmp_path: Path) -> None:
    path = tmp_path / "gpaw.txt"
    path.write_bytes(gpaw_log().encode() + "Å\n".encode("latin-1"))
    assert read_output(path).energy == -166.207762


def test_gpaw_without_spin_is_ambiguous_with_its_reason(tmp_path: Path) -> None:
    output = read_output(write(tmp_path, gpaw_log(None)))
    assert output.moments is None
    assert "no spin" in output.no_moments
    species, windows = requested_species(output, output.windows)
    assert audit_output(output, species, windows).ambiguous == (1, 2)


def test_a_gpaw_run_that_has_not_ended(tmp_path: Path) -> None:
    text = gpaw_log()
    for cut in ("\nConverged", "\n  Extrapolated"):
        path = write(tmp_path, text[: text.index(cut)])
        with pytest.raises(InputError, match=r"gpaw\.txt: it is truncated, .*; let GPAW finish$"):
            read_output(path)


def test_gpw_file_is_read_without_gpaw(tmp_path: Path) -> None:
    path = gpw(tmp_path / "static.gpw")
    output = read_output(path, bader=False)
    assert (output.engine, output.energy) == ("GPAW 26.7.0, pw mode", -7.5)
    assert output.windows is GPAW_PW_WINDOWS
    assert output.moments == pytest.approx([4.301])
    with ulm.open(tmp_path / "unfinished.gpw", "w", tag="gpaw") as file:
        atoms = file.child("atoms")
        atoms.write(
            cell=np.eye(3), pbc=[1, 1, 1], numbers=np.array([1]), positions=np.zeros((1, 3))
        )
        file.child("results").write(steps=1)
        file.child("parameters").write(mode="lcao")
    with pytest.raises(InputError, match="it holds no result"):
        read_output(tmp_path / "unfinished.gpw")
    (tmp_path / "unfinished.gpw").unlink()
    # The state in which a labelling job was stopped is no result.
    path.rename(tmp_path / "state.gpw")
    with pytest.raises(InputError, match=r"no output of GPAW \(.*\) or VASP \("):
        read_output(tmp_path)


def test_densities_that_a_labelling_job_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import al_charge.labelers.bader as bader

    charges = BaderCharges(np.linspace(-1, 1, 6), np.full(6, 8.0))
    asked = []

    def from_gpaw(path: Path, atoms: object) -> BaderCharges:
        asked.append(path)
        return charges

    monkeypatch.setattr(bader, "from_gpaw", from_gpaw)
    path = write(tmp_path, gpaw_log())
    assert read_output(path).bader is None
    (tmp_path / "density.npz").touch()
    assert read_output(path).bader is charges
    assert asked == [tmp_path / "density.npz"]
    assert read_output(path, bader=False).bader is None
    monkeypatch.undo()
    assert "density.npz" in read_output(path).bader_refused


def gpw(path: Path) -> Path:
    """Write a .gpw file of one iron atom that has ended."""
    with ulm.open(path, "w", tag="gpaw") as file:
        file.write(version=7, gpaw_version="26.7.0", ha=27.2, bohr=0.529)
        atoms = file.child("atoms")
        atoms.write(cell=5 * np.eye(3), pbc=[1, 1, 1], numbers=np.array([26]))
        atoms.write(positions=np.zeros((1, 3)), initial_magmoms=np.array([4.0]))
        file.child("results").write(energy=-7.5, magmoms=np.array([4.301]))
        file.child("parameters").write(mode={"name": "pw", "ecut": 500})
    return path


def test_densities_of_a_gpw_file_come_from_gpaw(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import al_charge.labelers.bader as bader

    path = gpw(tmp_path / "static.gpw")

    class Calculator:
        def __init__(self, restart: Path, txt: object) -> None:
            assert (restart, txt) == (path, None)

        def get_all_electron_density(self, gridrefinement: int) -> np.ndarray:
            return np.full((gridrefinement,) * 3, 26 / 125)

    gpaw = ModuleType("gpaw")
    gpaw.GPAW = Calculator  # type: ignore[attr-defined]
    gpaw.__spec__ = ModuleSpec("gpaw", None)
    monkeypatch.setitem(sys.modules, "gpaw", gpaw)
    shapes = []

    def from_gpaw(file: Path, atoms: Atoms) -> BaderCharges:
        with np.load(file) as arrays:
            shapes.extend([arrays["density"].shape, arrays["coarse"].shape])
        return BaderCharges(np.zeros(len(atoms)), atoms.numbers)

    monkeypatch.setattr(bader, "from_gpaw", from_gpaw)
    found = read_output(path).bader
    assert found is not None
    assert found.electrons.tolist() == [26]
    assert shapes == [(2, 2, 2), (1, 1, 1)]
    assert not [file for file in tmp_path.iterdir() if file != path]
    # A log has no density, and without GPAW a .gpw file is read all the same.
    assert read_output(write(tmp_path, gpaw_log())).bader is None
    monkeypatch.setitem(sys.modules, "gpaw", None)
    output = read_output(path)
    assert (output.energy, output.bader, output.bader_refused) == (-7.5, None, "")


def test_charges_that_a_labelling_job_found(tmp_path: Path) -> None:
    path = write(tmp_path, gpaw_log())
    record = {"job": "1", "net": [0.9, 1.5, 1.8, -1.4, -1.4, -1.4], "electrons": [11.0] * 6}
    write(tmp_path, json.dumps(record), "bader.json")
    found = read_output(path).bader
    assert found is not None
    assert found.net == pytest.approx(record["net"])
    assert found.electrons.tolist() == record["electrons"]
    write(tmp_path, json.dumps(record | {"net": [0.0]}), "bader.json")
    assert "belongs to another structure" in read_output(path).bader_refused
    write(tmp_path, json.dumps({"refused": "the grid is too coarse"}), "bader.json")
    assert read_output(path).bader_refused == "the grid is too coarse"


def test_the_last_try_of_a_labelling_job(tmp_path: Path) -> None:
    for number, energy in enumerate(("-1.0", "-2.0")):
        stage = tmp_path / f"try-{number}" / "static"
        stage.mkdir(parents=True)
        write(stage, gpaw_log(energy=energy))
    assert read_output(tmp_path).energy == -2.0
    assert read_output(tmp_path / "try-0").energy == -1.0


def test_the_newest_stage_of_a_try_is_read(tmp_path: Path) -> None:
    for name, hour in (("a", 1), ("c", 3), ("b", 2)):
        stage = tmp_path / "try-0" / name
        stage.mkdir(parents=True)
        write(stage, gpaw_log(energy=f"-{hour}.0"))
        os.utime(stage, (3600 * hour, 3600 * hour))
    assert read_output(tmp_path).energy == -3.0


def test_moments_that_cannot_be_read_are_told(tmp_path: Path) -> None:
    path = write(tmp_path, gpaw_log().replace("| 0.100000 |  #", "| ******** |  #"))
    with pytest.raises(InputError, match="5 readable moments for 6 atoms") as caught:
        read_output(path)
    assert caught.value.where == str(path)


def test_what_is_no_output(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="it holds no output") as caught:
        read_output(tmp_path)
    assert caught.value.where == str(tmp_path)
    with pytest.raises(InputError, match="no such file or folder") as caught:
        read_output(tmp_path / "nothing")
    assert caught.value.where == str(tmp_path / "nothing")
    with pytest.raises(InputError, match="not an output that al-charge reads") as caught:
        read_output(write(tmp_path, "hello", "note"))
    assert caught.value.where == str(tmp_path / "note")
    with pytest.raises(InputError, match="it is not an output that al-charge reads"):
        read_output(write(tmp_path, "hello", "notes.txt"))
    for name in ("OUTCAR", "vasprun.xml", "x.gpw"):
        with pytest.raises(InputError, match="it has zero bytes"):
            read_output(write(tmp_path, "", name))
        with pytest.raises(InputError, match="truncated"):
            read_output(write(tmp_path, "<modeling>", name))
    (tmp_path / "OUTCAR.gz").write_bytes(gzip.compress(b"x" * 5000)[:-20])
    with pytest.raises(InputError, match="truncated"):
        read_output(tmp_path / "OUTCAR.gz")
    with pytest.raises(InputError, match="a density alone has no moments; give its folder"):
        read_output(write(tmp_path, "", "CHGCAR"))


def test_atoms_of_no_element_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path, gpaw_log().replace("|     Na |", "|      X |"))
    with pytest.raises(InputError, match="unknown elements") as caught:
        read_output(path)
    assert caught.value.where == str(path)


def end_member(symbols: str, moments: Sequence[float] | None, net: Sequence[float] = ()) -> Output:
    """Return an output in which all sites of the redox element are alike."""
    atoms = Atoms(symbols, pbc=True, cell=5 * np.eye(3))
    atoms.positions = np.arange(3.0 * len(atoms)).reshape(-1, 3)
    return Output(
        source=Path(symbols),
        engine="VASP",
        atoms=atoms,
        windows=VASP_WINDOWS,
        energy=None,
        moments=None if moments is None else np.array(moments),
        no_moments="set LORBIT",
        bader=BaderCharges(np.array(net), np.ones(len(net))) if len(net) else None,
    )


@pytest.mark.parametrize("defaults", [VASP_WINDOWS, Windows({})])
def test_end_members_calibrate_moments_and_charges(defaults: Windows) -> None:
    outputs = [
        end_member("FeO", [3.70, 0.0], [1.3, -1.3]),
        end_member("FeONaF", [3.72, 0.0, 0.0, 0.0], [1.4, -1.3, 0.9, -1.0]),
        end_member("Fe2O3", [4.20, 4.22, 0, 0, 0], [1.7, 1.8, -1.2, -1.2, -1.1]),
        end_member("FeOF", [4.24, 0.0, 0.0]),
    ]
    windows = windows_from_end_members(outputs, defaults)
    # A window reaches 0.12 of the gap, 4.20 - 3.72, beyond the moments.
    assert windows.ranges["Fe2+"] == pytest.approx((3.70 - 0.0576, 3.72 + 0.0576))
    assert windows.ranges["Fe3+"] == pytest.approx((4.20 - 0.0576, 4.24 + 0.0576))
    assert windows.charges == pytest.approx({"Fe2+": 1.35, "Fe3+": 1.75})


def test_charges_that_a_user_gives_decide_the_state_of_an_end_member() -> None:
    output = end_member("FeMnO4", [4.2, 4.0, 0, 0, 0, 0])
    given = {"Mn": 4, "S": 6}
    windows = windows_from_end_members([output], Windows({}), given | {"O": -2})
    assert set(windows.ranges) == {"Fe4+"}
    output = end_member("FeMnO4", [4.2, 4.0, 0, 0, 0, 0])
    with pytest.raises(InputError, match=r"one redox element.* 2; .*--charge") as caught:
        windows_from_end_members([output], Windows({}))
    assert caught.value.where == "FeMnO4"
    with pytest.raises(InputError, match=r"neutrality gives its 3 Fe") as caught:
        windows_from_end_members([end_member("Fe3O4", [4.0] * 7)], Windows({}))
    assert caught.value.where == "Fe3O4"


def test_an_end_member_needs_moments() -> None:
    with pytest.raises(InputError, match=r"^FeO: set LORBIT$"):
        windows_from_end_members([end_member("FeO", None)], VASP_WINDOWS)


def test_a_log_without_a_version(tmp_path: Path) -> None:
    output = read_output(write(tmp_path, gpaw_log().replace(" - 26.7.0", "")))
    assert output.engine == "GPAW, lcao mode"


@pytest.mark.parametrize(("total", "readable"), [("8.424", True), ("8.404", False)])
def test_moments_add_up_to_their_total(total: str, readable: bool, tmp_path: Path) -> None:
    text = outcar().replace(" General timing", f"tot 0.0 0.0 {total} {total}\n\n General timing")
    path = write(tmp_path, text, "OUTCAR")
    if readable:
        assert read_output(path).moments is not None
        return
    with pytest.raises(InputError, match=r"sum to 8\.420"):
        read_output(path)


def test_an_output_that_would_fill_the_memory_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "OUTCAR.gz"
    path.write_bytes(gzip.compress(outcar().encode()))
    monkeypatch.setattr("al_charge.crystal.compressed.LARGEST", len(outcar()))
    assert read_output(path).energy == -50.1
    monkeypatch.setattr("al_charge.crystal.compressed.LARGEST", len(outcar()) - 1)
    with pytest.raises(InputError, match="it decompresses to far more") as caught:
        read_output(path)
    assert caught.value.where == str(path)


def test_an_outcar_that_has_not_ended(tmp_path: Path) -> None:
    path = write(tmp_path, outcar().replace("General timing", ""), "OUTCAR")
    with pytest.raises(InputError, match=r"VASP has not finished; let VASP finish$") as caught:
        read_output(path)
    assert caught.value.where == str(path)


def test_a_vasprun_that_defines_entities_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, '<!DOCTYPE x [<!ENTITY a "b">]><modeling>&a;</modeling>', "vasprun.xml")
    with pytest.raises(InputError, match="XML entities") as caught:
        read_output(path)
    assert caught.value.where == str(path)


def test_charges_and_windows_that_a_user_gives(tmp_path: Path) -> None:
    output = read_output(write(tmp_path, gpaw_log()))
    species, windows = requested_species(output, VASP_WINDOWS, {"Fe": 3})
    assert windows.elements == frozenset()
    assert species[1:3] == ("Fe3+", "Fe3+")
    known = Windows(VASP_WINDOWS.ranges, {"Fe2+": 1.5})
    assert requested_species(output, known)[1].charges == {"Fe2+": 1.5}
    with pytest.raises(InputError, match="the charge of Fe is not known"):
        requested_species(output, Windows({"Mn2+": (4.4, 4.8)}))
    with pytest.raises(InputError, match="there is no S in the cell"):
        requested_species(output, VASP_WINDOWS, {"S": 6})


def test_an_outcar_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import al_charge.labelers.bader as bader

    output = read_output(write(tmp_path, outcar(), "OUTCAR"))
    assert (output.engine, output.energy, output.converged) == ("VASP 6.9.9", -50.1, True)
    assert output.source == tmp_path / "OUTCAR"
    assert output.atoms.pbc.all()
    assert output.atoms.get_chemical_symbols() == ["Fe", "Fe", "O", "O", "O", "Na"]
    assert output.atoms.positions == pytest.approx(POSITIONS, abs=1e-5)
    species, windows = requested_species(output, output.windows)
    assert audit_output(output, species, windows).species == (
        "Fe3+", "Fe2+", "O2-", "O2-", "O2-", "Na+"
    )  # fmt: skip
    without = outcar().replace("magnetization (x)", "nothing")
    for text, reason in (
        (without, "set LORBIT = 11"),
        (without.replace("ISPIN  =      2", "ISPIN  =      1"), "no spin: set ISPIN = 2"),
    ):
        output = read_output(write(tmp_path, text, "OUTCAR"))
        assert output.moments is None
        assert reason in output.no_moments
    with pytest.raises(InputError, match="the run is non-collinear, which is not supported; run V"):
        read_output(write(tmp_path, outcar() + "\n magnetization (z)\n", "OUTCAR"))
    # The last electronic step decides, not one before it.
    unsettled = outcar().replace("because EDIFF is reached", "EDIFF was not reached")
    text = outcar().split("      direct", 1)[0] + unsettled.split("ions per type", 1)[1]
    assert not read_output(write(tmp_path, text, "OUTCAR")).converged
    # Charges of a density beside it are taken from the valence of each dataset.
    monkeypatch.setattr(bader, "from_aeccar", lambda folder, atoms, zval: BaderCharges(zval, zval))
    for name in ("AECCAR0", "AECCAR2"):
        (tmp_path / name).touch()
    found = read_output(write(tmp_path, outcar(), "OUTCAR")).bader
    assert found is not None
    assert found.electrons.tolist() == [14, 14, 6, 6, 6, 7]
    (tmp_path / "OUTCAR.gz").write_bytes(gzip.compress(outcar().encode()))
    assert read_output(tmp_path / "OUTCAR.gz").energy == -50.1


@published
def test_published_vasp_run() -> None:
    output = read_output(DATA / "vasp_Na1Fe24P24O96")
    assert (output.engine, output.energy, output.converged) == ("VASP 6.4.0", -1017.25848718, True)
    assert output.atoms.get_chemical_formula("reduce")[:4] == "Fe24"
    assert output.atoms.cell.lengths() == pytest.approx([10.4063, 18.6561, 9.8938], abs=1e-3)
    species, windows = requested_species(output, output.windows)
    found = audit_output(output, species, windows)
    assert found.species is not None
    assert found.count(windows.elements) == {"Fe3+": 23, "Fe2+": 1}
    assert (species.count("P5+"), species.count("O2-"), species.count("Na+")) == (24, 96, 1)


@published
def test_recorded_nickel_oxide(tmp_path: Path) -> None:
    alone = tmp_path / "alone"
    alone.mkdir()
    shutil.copy(DATA / "vasp_NiO" / "vasprun.xml.gz", alone)
    for source in (
        DATA / "vasp_NiO" / "OUTCAR.gz",
        DATA / "vasp_NiO" / "vasprun.xml.gz",
        alone / "vasprun.xml.gz",
    ):
        output = read_output(source)
        assert (output.engine, output.energy) == ("VASP 6.4.1", -4.52549041)
        assert output.converged
        assert output.source == source
        assert output.atoms.pbc.all()
    assert output.moments is None
    assert "put the OUTCAR" in output.no_moments
    for source in (DATA / "vasp_NiO", DATA / "vasp_NiO" / "vasprun.xml.gz"):
        assert read_output(source).moments == pytest.approx([1.122, 0.903])
    # One more electronic step than is allowed, or a file without its end.
    text = gzip.decompress((DATA / "vasp_NiO" / "OUTCAR.gz").read_bytes()).decode()
    unconverged = text.replace(
        "aborting loop because EDIFF is reached", "aborting loop EDIFF was not reached"
    )
    assert not read_output(write(tmp_path, unconverged, "OUTCAR")).converged
    with pytest.raises(InputError, match="VASP has not finished"):
        read_output(write(tmp_path, text[: len(text) // 2], "OUTCAR"))
    xml = gzip.decompress((DATA / "vasp_NiO" / "vasprun.xml.gz").read_bytes()).decode()
    unnamed = re.sub(r'<i name="version".*?</i>', "", xml)
    assert read_output(write(tmp_path, unnamed, "vasprun.xml")).engine == "VASP"
    with pytest.raises(InputError, match=r"vasprun\.xml: it is truncated or damaged"):
        read_output(write(tmp_path, xml[: len(xml) // 2], "vasprun.xml"))


@published
def test_published_water_densities_are_refused(tmp_path: Path) -> None:
    output = read_output(DATA / "vasp_H2O_bader")
    assert output.bader is None
    assert "AECCAR2.gz" in output.bader_refused
    assert "electrons instead of 8.000" in output.bader_refused
    assert "instead of 10" in output.bader_refused
    assert read_output(DATA / "vasp_H2O_bader", bader=False).bader_refused == ""
    for name in ("vasprun.xml.gz", "AECCAR0.gz"):
        shutil.copy(DATA / "vasp_H2O_bader" / name, tmp_path)
    assert "AECCAR2" in read_output(tmp_path).bader_refused
    (tmp_path / "AECCAR2").touch()
    assert "zero bytes" in read_output(tmp_path).bader_refused


@published
def test_valence_electrons_of_every_atom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import al_charge.labelers.bader as bader

    seen: list[list[float]] = []

    def from_aeccar(folder: Path, atoms: object, zval: np.ndarray) -> BaderCharges:
        seen.append(zval.tolist())
        return BaderCharges(zval - zval, zval)

    monkeypatch.setattr(bader, "from_aeccar", from_aeccar)
    (tmp_path / "CHGCAR").touch()
    for source in (
        "vasp_NiO/OUTCAR.gz",
        "vasp_NiO/vasprun.xml.gz",
        "vasp_H2O_bader/vasprun.xml.gz",
    ):
        shutil.copy(DATA / source, tmp_path)
        read_output(tmp_path / Path(source).name)
    shutil.copy(DATA / "vasp_Na1Fe24P24O96" / "OUTCAR.gz", tmp_path)
    read_output(tmp_path)
    assert seen[:3] == [[16.0, 6.0], [16.0, 6.0], [1.0, 1.0, 6.0]]
    assert seen[3] == [14.0] * 24 + [5.0] * 24 + [6.0] * 96 + [7.0]


def test_outputs_of_an_engine_of_another_package_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Other(BornPlugin):
        kind = "other"
        title = "Other"
        output_files = "energy.dat"

        @override
        def find_output(self, path: Path) -> Path | None:
            file = path if path.is_file() else path / "energy.dat"
            return file if file.name == "energy.dat" and file.exists() else None

        @override
        def read_output(self, file: Path, *, bader: bool) -> Output:
            atoms = Atoms("Na", cell=3 * np.eye(3), pbc=True)
            return Output(file, self.title, atoms, Windows({}), float(file.read_text()), None)

    found = Found("other", "somewhere", cast(LabelerPlugin, Other()))
    monkeypatch.setitem(LABELERS.found, "other", found)
    (tmp_path / "energy.dat").write_text("-1.5")
    for path in (tmp_path, tmp_path / "energy.dat"):
        assert (read_output(path).engine, read_output(path).energy) == ("Other", -1.5)
    (tmp_path / "energy.dat").write_text("not finished")
    with pytest.raises(
        InputError, match=r"energy.dat: it is .* no output of GPAW or Other or VASP"
    ):
        read_output(tmp_path)
    (tmp_path / "energy.dat").write_text("")
    with pytest.raises(InputError, match=r"energy.dat: it has zero bytes"):
        read_output(tmp_path)


def test_vasp_comes_before_gpaw_in_a_folder_of_both(tmp_path: Path) -> None:
    for name in ("OUTCAR", "static.gpw"):
        (tmp_path / name).write_text("truncated")
    with pytest.raises(InputError, match="OUTCAR: it is truncated"):
        read_output(tmp_path)
