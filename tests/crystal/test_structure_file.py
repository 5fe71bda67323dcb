"""Charge states of a structure file: told by something, or refused with what to do."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import read, write
from pymatgen.core.lattice import Lattice
from pymatgen.core.structure import Structure

from al_charge.crystal.charges import fixed_charges, redox_elements
from al_charge.crystal.configuration import to_atoms, to_structure
from al_charge.crystal.enumeration import enumerate_distinct
from al_charge.crystal.host import Host
from al_charge.crystal.parent import read_structure
from al_charge.crystal.species import parse, unpaired_electrons
from al_charge.crystal.strict_files import check_extxyz, check_poscar
from al_charge.crystal.structure_file import load_structure, read_structures
from al_charge.crystal.structure_output import FORMATS, file_name, write_structure
from al_charge.errors import InputError

HOSTS = Path(__file__).parents[2] / "workflows" / "hosts"


@pytest.fixture(scope="module")
def mixed_order(olivine: Host) -> Atoms:
    """Olivine Na2Fe4(PO4)4 with two Fe2+ and two Fe3+."""
    return to_atoms(olivine, enumerate_distinct(olivine, 2)[3])


def species(atoms: Atoms) -> list[str]:
    return atoms.arrays["species"].tolist()


def plain(atoms: Atoms) -> Atoms:
    return Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True)


def test_oxidation_states_of_a_cif(mixed_order: Atoms, tmp_path: Path) -> None:
    path = tmp_path / "mixed.cif"
    to_structure(mixed_order).to(filename=str(path))
    atoms, how = load_structure(path)
    assert how == "given in the file"
    assert sorted(species(atoms)) == sorted(species(mixed_order))
    moments = atoms.get_initial_magnetic_moments()
    assert {(token, m) for token, m in zip(species(atoms), moments, strict=True)} == {
        ("Na+", 0), ("Fe2+", 4), ("Fe3+", 5), ("P5+", 0), ("O2-", 0)
    }  # fmt: skip


@pytest.mark.parametrize("array", ["resolved_species", "requested_species"])
def test_species_of_an_extended_xyz_file(array: str, mixed_order: Atoms, tmp_path: Path) -> None:
    atoms = plain(mixed_order)
    atoms.set_array(array, mixed_order.arrays["species"])
    write(tmp_path / "mixed.extxyz", [plain(mixed_order), atoms])
    found, how = load_structure(tmp_path / "mixed.extxyz")
    assert species(found) == species(mixed_order)
    assert how == "given in the file"
    assert found.positions == pytest.approx(mixed_order.positions)
    assert found.cell.array == pytest.approx(mixed_order.cell.array)
    assert found.pbc.all()


def test_an_uncertain_state_of_an_exported_label_is_refused(
    mixed_order: Atoms, tmp_path: Path
) -> None:
    atoms = plain(mixed_order)
    states = mixed_order.arrays["species"].copy()
    states[np.flatnonzero(atoms.symbols == "Fe")[0]] = "Fe?"
    atoms.set_array("resolved_species", states)
    write(tmp_path / "blurred.extxyz", atoms)
    with pytest.raises(InputError, match=r"'Fe\?' is not a charge state"):
        load_structure(tmp_path / "blurred.extxyz")


@pytest.mark.parametrize(
    "moments",
    [{"Fe2+": 4.0, "Fe3+": 5.0}, {"Fe2+": 3.77, "Fe3+": -4.34}, {"Fe2+": 3.6, "Fe3+": 4.3}],
)
def test_moments_of_a_file(moments: dict[str, float], mixed_order: Atoms, tmp_path: Path) -> None:
    atoms = plain(mixed_order)
    values = [moments.get(token, 0.01) for token in species(mixed_order)]
    atoms.calc = SinglePointCalculator(atoms, energy=-1.0, magmoms=np.array(values))
    write(tmp_path / "mixed.extxyz", atoms)
    found, how = load_structure(tmp_path / "mixed.extxyz")
    assert species(found) == species(mixed_order)
    assert how == "from the file's magnetic moments"


def test_species_of_another_element_are_refused(mixed_order: Atoms, tmp_path: Path) -> None:
    atoms = plain(mixed_order)
    tokens = mixed_order.arrays["species"].copy()
    iron = int(np.flatnonzero(atoms.symbols == "Fe")[0])
    tokens[iron] = "P5+"
    atoms.set_array("resolved_species", tokens)
    path = tmp_path / "exchanged.extxyz"
    write(path, atoms)
    with pytest.raises(InputError, match=rf"atom {iron} is Fe, not P5\+") as caught:
        load_structure(path)
    assert caught.value.where == str(path)


def test_moments_that_tell_nothing_are_not_believed(mixed_order: Atoms, tmp_path: Path) -> None:
    atoms = plain(mixed_order)
    values = np.where(atoms.symbols == "Fe", 3.96, 0.0)
    atoms.calc = SinglePointCalculator(atoms, energy=-1.0, magmoms=values)
    write(tmp_path / "shared.extxyz", atoms)
    with pytest.raises(InputError, match=r"does not say which charge states its 4 Fe have.*--oxid"):
        load_structure(tmp_path / "shared.extxyz")


def test_states_that_are_given(mixed_order: Atoms, tmp_path: Path) -> None:
    path = tmp_path / "POSCAR"
    write(path, plain(mixed_order), format="vasp")
    states = [token for token in species(mixed_order) if token.startswith("Fe")]
    found, how = load_structure(path, [*states, "Na+"])
    assert (species(found), how) == (species(mixed_order), "as given")
    with pytest.raises(InputError, match=r"\(as given\) sum to -2 e: 2 Na\+, .*neutral$"):
        load_structure(path, ["Fe2+"])
    with pytest.raises(InputError, match=r"3 charge states for 4 atoms of Fe.*order of the file$"):
        load_structure(path, states[:3])
    with pytest.raises(InputError, match="charge states for 0 atoms of Mn"):
        load_structure(path, ["Mn2+"])
    with pytest.raises(InputError, match="'iron' is not a charge state"):
        load_structure(path, ["iron"])


@pytest.mark.parametrize(("name", "state"), [("NaFePO4", "Fe2+"), ("FePO4", "Fe3+")])
def test_end_members_need_no_states(name: str, state: str) -> None:
    atoms, how = load_structure(HOSTS / f"{name}.cif")
    assert {token for token in species(atoms) if token.startswith("Fe")} == {state}
    assert how == "all alike, by neutrality"


def test_no_redox_element(tmp_path: Path) -> None:
    salt = Atoms("NaCl", [(0, 0, 0), (2.8, 0, 0)], cell=[5.6, 4, 4], pbc=True)
    write(tmp_path / "salt.extxyz", salt)
    assert species(load_structure(tmp_path / "salt.extxyz")[0]) == ["Na+", "Cl-"]


def test_two_redox_elements_are_not_guessed(mixed: Host, tmp_path: Path) -> None:
    atoms = plain(to_atoms(mixed, enumerate_distinct(mixed, 4)[0]))
    write(tmp_path / "mixed.extxyz", atoms)
    with pytest.raises(InputError, match="does not say which charge states its 2 Fe have"):
        load_structure(tmp_path / "mixed.extxyz")
    with pytest.raises(InputError, match="does not say which charge states its 2 Mn have"):
        load_structure(tmp_path / "mixed.extxyz", ["Fe2+"])
    found, _ = load_structure(tmp_path / "mixed.extxyz", ["Fe2+", "Mn2+"])
    assert set(species(found)) == {"Na+", "Fe2+", "Mn2+", "P5+", "O2-"}


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        ("missing.cif", None, "no such file"),
        ("empty.cif", "", "cannot read a structure"),
        ("broken.extxyz", "3\n\nFe 0 0\n", "cannot read a structure"),
        ("what.abc", "hello", "cannot read a structure"),
        ("molecule.xyz", "1\n\nFe 0 0 0\n", "no cell in three dimensions"),
    ],
)
def test_files_that_are_refused(name: str, content: str | None, what: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=what) as caught:
        load_structure(tmp_path / name)
    assert caught.value.where.startswith(str(tmp_path / name))


def test_partly_occupied_sites_are_refused(tmp_path: Path) -> None:
    structure = Structure(Lattice.cubic(4.2), [{"Na": 0.5}, "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    structure.to(filename=str(tmp_path / "half.cif"))
    with pytest.raises(InputError, match="partly occupied sites") as caught:
        load_structure(tmp_path / "half.cif")
    assert caught.value.where == str(tmp_path / "half.cif")


FRAME = '2\nLattice="4 0 0 0 4 0 0 0 4"\nNa 0 0 0\nCl 2 0 0\n'
SALT = "salt\n1.0\n4 0 0\n0 4 0\n0 0 4\n{}\n{}\nDirect\n0 0 0\n0.5 0 0\n"


@pytest.mark.parametrize("missing", [1, 2, 3])
@pytest.mark.parametrize("whole", [0, 1, 2])
def test_the_frame_that_is_truncated_is_told(whole: int, missing: int, tmp_path: Path) -> None:
    path = tmp_path / "truncated.extxyz"
    lines = FRAME.splitlines(keepends=True)
    path.write_text(FRAME * whole + "".join(lines[:-missing]))
    with pytest.raises(InputError, match="it is truncated") as caught:
        read_structures(path)
    assert caught.value.where == f"{path}, frame {whole}"


def test_a_comment_in_another_encoding_does_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "latin.extxyz"
    path.write_bytes(FRAME.replace('4"', '4" by="Br\xf8nsted"').encode("latin-1"))
    check_extxyz(path)


def test_a_title_in_another_encoding_does_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "POSCAR"
    path.write_bytes(SALT.format("Na Cl", "1 1").replace("salt", "Br\xf8nsted").encode("latin-1"))
    check_poscar(path)


def test_the_frame_whose_atoms_overlap_is_told(tmp_path: Path) -> None:
    path = tmp_path / "frames.extxyz"
    near = FRAME.replace("2 0 0", "0.3 0 0")
    path.write_text(near)
    with pytest.raises(InputError, match="atoms 0 and 1 overlap") as caught:
        read_structures(path)
    assert caught.value.where == str(path)
    path.write_text(FRAME + near)
    with pytest.raises(InputError, match="atoms 0 and 1 overlap") as caught:
        read_structures(path)
    assert caught.value.where == f"{path}, frame 1"


def test_atoms_far_outside_of_the_cell_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "far.extxyz"
    path.write_text(FRAME.replace("2 0 0", "4100 0 0"))
    with pytest.raises(InputError, match="far outside") as caught:
        read_structures(path)
    assert caught.value.where == str(path)


@pytest.mark.parametrize(("names", "counts"), [("Na Cl", "2"), ("Na", "1 1")])
@pytest.mark.parametrize("reader", [load_structure, read_structure])
def test_a_poscar_counts_every_element(
    reader: Callable[[Path], object], names: str, counts: str, tmp_path: Path
) -> None:
    path = tmp_path / "POSCAR"
    path.write_text(SALT.format("Na Cl", "1 1"))
    reader(path)
    path.write_text(SALT.format(names, counts))
    with pytest.raises(InputError, match=r"\d elements?, but \d numbers of atoms") as caught:
        reader(path)
    assert str(path) in caught.value.where


@pytest.mark.parametrize(
    ("item", "value"),
    [
        ("_atom_site_fract_x", "."),
        ("_atom_site_occupancy", "abc"),
        ("_atom_site_occupancy", "0.0"),
        ("_cell_angle_beta", "180."),
    ],
)
def test_a_number_of_a_cif_that_cannot_be_is_named(item: str, value: str, tmp_path: Path) -> None:
    path = tmp_path / "s.cif"
    loop = ["_atom_site_label", "_atom_site_fract_x", "_atom_site_fract_y", "_atom_site_fract_z"]
    loop.append("_atom_site_occupancy")
    cell = {f"_cell_length_{axis}": "4.0" for axis in "abc"}
    cell |= {f"_cell_angle_{name}": "90.0" for name in ("alpha", "beta", "gamma")}
    atom = dict(zip(loop, ["Na1", "0.0", "0.0", "0.0", "1.0"], strict=True))

    def text(cell: dict[str, str], atom: dict[str, str]) -> str:
        lines = ["data_s", *map(" ".join, cell.items()), "loop_", *loop, " ".join(atom.values())]
        return "\n".join(lines) + "\n"

    path.write_text(text(cell, atom))
    assert [len(atoms) for atoms in read_structures(path)] == [1]
    for values in (cell, atom):
        if item in values:
            values[item] = value
    path.write_text(text(cell, atom))
    with pytest.raises(InputError, match=f"'{re.escape(value)}'") as caught:
        read_structures(path)
    assert caught.value.where == f"{path}: {item}"


def test_a_cif_of_two_structures_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "two.cif"
    text = (HOSTS / "NaFePO4.cif").read_text()
    path.write_text(text + "\n" + re.sub(r"^data_\S+", "data_second", text, flags=re.MULTILINE))
    with pytest.raises(InputError, match="it holds 2 structures; keep one") as caught:
        read_structures(path)
    assert caught.value.where == str(path)


@pytest.mark.parametrize(
    ("elements", "charges"),
    [
        ("Na P O", {"Na": 1, "P": 5, "O": -2}),
        ("Na Fe S O", {"Na": 1, "S": 6, "O": -2}),
        ("Na Fe Si O", {"Na": 1, "Si": 4, "O": -2}),
        ("Na V P O F", {"Na": 1, "P": 5, "O": -2, "F": -1}),
        ("Na Fe S", {"Na": 1, "S": -2}),
        ("H O", {"H": 1, "O": -2}),
        ("Na Fe C O", {"Na": 1, "C": 4, "O": -2}),
        ("Na Ti Cl O", {"Na": 1, "Ti": 4, "Cl": -1, "O": -2}),
    ],
)
def test_charges_that_are_taken_for_granted(elements: str, charges: dict[str, int]) -> None:
    assert fixed_charges(elements.split(), {"Fe", "V"}) == charges


def test_tokens_that_somebody_writes() -> None:
    assert [parse(text) for text in ("Fe3+", "Na1+", "Na+", "O2-")] == ["Fe3+", "Na+", "Na+", "O2-"]
    for text in ("Fe", "3+", "Xx2+", "Fe?", "", "Fe3+2", "fe3+"):
        with pytest.raises(InputError, match="is not a charge state; write it like Fe3"):
            parse(text)


def test_charges_that_are_not() -> None:
    assert redox_elements(["Na", "Fe", "Mo", "Zr", "O"]) == ["Fe", "Mo"]
    with pytest.raises(InputError, match=r"charge of Mo is not known: .* are \+4, \+6"):
        fixed_charges(["Mo", "O"], set())
    assert fixed_charges(["Mo", "O"], set(), {"Mo": 6}) == {"Mo": 6, "O": -2}
    with pytest.raises(InputError, match="there is no Mo in the cell"):
        fixed_charges(["Fe", "O"], {"Fe"}, {"Mo": 6})


@pytest.mark.parametrize("kind", FORMATS)
def test_a_written_structure_is_read_back(kind: str, mixed_order: Atoms, tmp_path: Path) -> None:
    path = tmp_path / file_name("one", kind)
    shuffled = mixed_order[np.random.default_rng(1).permutation(len(mixed_order))]
    write_structure(path, shuffled, kind)
    if kind == "poscar":
        title, *_ = path.read_text().splitlines()
        given = [(n, m) for n, m in re.findall(r"(\d+)\*(\d+)", title.partition("MAGMOM = ")[2])]
        written = [float(m) for n, m in given for _ in range(int(n))]
        lines = path.read_text().splitlines()
        found = read(path, format="vasp")
        found.set_array("species", np.array([line.split()[3] for line in lines[8:]]))
        assert len(list(itertools.groupby(found.symbols))) == 4
        assert written == [unpaired_electrons(token) for token in species(found)]
    else:
        found, _ = load_structure(path)
    distances = shuffled.cell.scaled_positions(shuffled.positions)[:, None]
    distances = distances - found.cell.scaled_positions(found.positions)[None]
    nearest = np.abs(distances - np.round(distances)).max(axis=-1).argmin(axis=1)
    assert sorted(nearest) == list(range(len(shuffled)))
    assert [species(found)[i] for i in nearest] == species(shuffled)
    assert found.cell.cellpar() == pytest.approx(shuffled.cell.cellpar())


def test_extended_xyz_has_sites_and_what_is_known(mixed_order: Atoms, tmp_path: Path) -> None:
    path = tmp_path / "one.extxyz"
    atoms = mixed_order.copy()
    atoms.info["energy_rank"] = 3
    write_structure(path, atoms, "extxyz")
    found = read(path)
    assert found.info["energy_rank"] == 3
    assert found.arrays["host_site"].tolist() == atoms.arrays["host_site"].tolist()
    assert found.get_initial_magnetic_moments() == pytest.approx(
        atoms.get_initial_magnetic_moments()
    )
    assert "species" in atoms.arrays
