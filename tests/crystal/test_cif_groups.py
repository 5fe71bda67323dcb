"""CIFs that name their space group and list no symmetry operations."""

from __future__ import annotations

from pathlib import Path

import pytest
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core.lattice import Lattice
from pymatgen.core.structure import Structure

from al_charge.crystal.strict_files import read_parent
from al_charge.errors import InputError

MONOCLINIC = (5.4387, 2.8086, 5.3878, 90.0, 116.006, 90.0)
CUBIC = (8.0, 8.0, 8.0, 90.0, 90.0, 90.0)
RHOMBOHEDRAL = (5.0, 5.0, 5.0, 60.0, 60.0, 60.0)
HEXAGONAL = (2.8, 2.8, 14.0, 90.0, 90.0, 120.0)
SITES = {"Li": (0.0, 0.0, 0.5), "Mn": (0.0, 0.0, 0.0), "O": (0.272, 0.0, 0.771)}


def write(folder: Path, group: str, cell: tuple[float, ...]) -> Path:
    """Write LiMnO2 in a cell, with what a CIF says of its space group."""
    names = [f"_cell_length_{axis}" for axis in "abc"]
    names += [f"_cell_angle_{angle}" for angle in ("alpha", "beta", "gamma")]
    told = [f"{name} {value}" for name, value in zip(names, cell, strict=True)]
    loop = [f"_atom_site_{name}" for name in ("label", *(f"fract_{axis}" for axis in "xyz"))]
    rows = [f"{element} {x} {y} {z}" for element, (x, y, z) in SITES.items()]
    path = folder / "host.cif"
    path.write_text("\n".join(["data_a", *group.splitlines(), *told, "loop_", *loop, *rows]) + "\n")
    return path


@pytest.mark.parametrize(
    ("group", "cell", "name"),
    [
        ("_symmetry_space_group_name_H-M 'C 1 2/m 1'", MONOCLINIC, "C2/m"),
        ("_space_group_name_H-M_alt ?\n_space_group_IT_number 12", MONOCLINIC, "C2/m"),
        ("_symmetry_space_group_name_H-M 'R -3 m'", HEXAGONAL, "R-3m"),
        ("_symmetry_space_group_name_H-M 'P 1'", MONOCLINIC, "P1"),
        ("_symmetry_Int_Tables_number 1", MONOCLINIC, "P1"),
        ("_symmetry_space_group_name_H-M .", MONOCLINIC, "P1"),
    ],
)
def test_a_group_that_is_known_is_applied(
    tmp_path: Path, group: str, cell: tuple[float, ...], name: str
) -> None:
    with pytest.warns(UserWarning):
        found = read_parent(write(tmp_path, group, cell))
    right = Structure.from_spacegroup(
        name, Lattice.from_parameters(*cell), list(SITES), list(SITES.values())
    )
    assert found.composition == right.composition
    assert StructureMatcher(primitive_cell=False).fit(found, right)


@pytest.mark.parametrize(
    ("group", "cell", "why"),
    [
        ("_symmetry_space_group_name_H-M 'C 2/m'", MONOCLINIC, "cannot be told from its name"),
        ("_space_group_name_Hall '-C 2y'", MONOCLINIC, "cannot be told from its name"),
        ("_space_group_IT_number 227", CUBIC, "has two origins"),
        ("_symmetry_space_group_name_H-M 'F d -3 m'", CUBIC, "has two origins"),
        ("_symmetry_space_group_name_H-M 'R -3 m'", RHOMBOHEDRAL, "does not fit its cell"),
        ("_space_group_IT_number 12", RHOMBOHEDRAL, "does not fit its cell"),
    ],
)
def test_a_group_that_tells_too_little_is_refused(
    tmp_path: Path, group: str, cell: tuple[float, ...], why: str
) -> None:
    with pytest.raises(InputError, match=f"lists no symmetry operations, only .*, which {why}; li"):
        read_parent(write(tmp_path, group, cell))
