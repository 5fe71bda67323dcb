"""Bader charges from densities on a grid, refused where the grid is too coarse for them.

docs/bader.md tells what is integrated, what is checked, and how far it is converged.
"""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.geometry import get_distances
from numpy.typing import ArrayLike, NDArray

from al_charge.crystal import compressed
from al_charge.crystal.bounded import limited
from al_charge.errors import AlChargeError, CrashedError
from al_charge.labelers.basins import OWN_MAXIMUM, integrate_basins
from al_charge.labelers.protocol import Array, BaderCharges
from al_charge.labelers.vasp_density import read_vasp_density

TOLERANCE = 0.01
"""Electrons per atom by which the sum over the grid may miss the number that it should be."""

SAME_SITE = 0.05
"""Angstrom within which an atom of a density file is the atom that was asked for."""

CONVERGED = 0.2
"""Charge in e by which an atom may differ between a GPAW density's grid and one twice as coarse."""

NEGLIGIBLE = 0.01
"""Electrons that a maximum far from every nucleus may hold."""

FINER_VASP = "give NGXF, NGYF and NGZF a finer grid"
FINER_GPAW = "give a higher grid refinement or a smaller grid spacing"


def from_density(
    density: Array,
    atoms: Atoms,
    electrons: ArrayLike,
    *,
    reference: Array | None = None,
    where: str = "density",
    remedy: str = FINER_GPAW,
) -> BaderCharges:
    """Return the charges of the basins of a density.

    Parameters
    ----------
    density
        Electrons/angstrom^3, shape (n1, n2, n3): values at the points (i/n1, j/n2, k/n3) of the
        periodic cell, whose far faces, being the near ones again, are not among them.
    atoms
        n_atoms atoms in that cell.
    electrons
        Electrons that the density has per neutral atom, shape (n_atoms,).
    reference
        Density whose basins are integrated, same grid and units; with its core electrons, so that
        every nucleus is a maximum. None for ``density`` itself.
    where
        File or job that an error names.
    remedy
        What an error about a grid that is too coarse recommends.

    Returns
    -------
    BaderCharges
        Net charge of each atom, and the electrons it is counted from.

    Raises
    ------
    AlChargeError
        If the electrons on the grid do not sum to those of the atoms within `TOLERANCE` per atom,
        an atom has no basin, a basin belongs to no atom, or a grid has another shape or NaN or
        infinite values.
    """
    basins = density if reference is None else reference
    return _charges(density, basins, atoms, electrons, where=where, remedy=remedy)


def from_gpaw(path: Path, atoms: Atoms) -> BaderCharges:
    """Return the charges of a GPAW density that its process has written.

    The file is made with ``numpy.savez(path, density=..., coarse=...)``, both arrays in
    electrons/angstrom^3:

    - ``density``: ``calc.get_all_electron_density(gridrefinement=2)``, shape (n1, n2, n3);
    - ``coarse``: ``calc.get_all_electron_density(gridrefinement=1)``, shape (n1/2, n2/2, n3/2).

    Every MPI rank has to take part in both calls; one rank writes. The cell has to be periodic
    along all three axes: then the points leave out its far faces, as `from_density` needs it.

    GPAW repairs the sum of these densities at the nuclei, so that it is right on any grid and
    proves nothing. The grid is judged by what it is for: no atom's charge may differ by more than
    `CONVERGED` between the two.

    Parameters
    ----------
    path
        That file.
    atoms
        The atoms of the calculation, in its order; their ``electrons`` are the atomic numbers.

    Returns
    -------
    BaderCharges
        On the finer grid.

    Raises
    ------
    CrashedError
        If the file is missing or damaged.
    AlChargeError
        If the charges depend on the grid, or for the reasons of `from_density`.
    """
    try:
        with limited(path), path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            density, coarse = (
                np.asarray(arrays[key], dtype=float) for key in ("density", "coarse")
            )
    except FileNotFoundError:
        raise CrashedError("it is missing, so there are no charges", where=str(path)) from None
    except (OSError, ValueError, KeyError, EOFError, TypeError, zipfile.BadZipFile) as error:
        raise CrashedError(f"it holds no densities ({error})", where=str(path)) from error
    if coarse.size * 4 > density.size:
        raise AlChargeError(
            f"its grids of {_points(density)} and {_points(coarse)} points are too similar "
            "to judge the charges by",
            where=str(path),
        )
    charges, rough = (
        from_density(grid, atoms, atoms.numbers, where=str(path)) for grid in (density, coarse)
    )
    change = np.abs(charges.net - rough.net)
    worst = int(change.argmax())
    if change[worst] > CONVERGED:
        raise AlChargeError(
            f"the charge of atom {worst} ({atoms.symbols[worst]}) is {charges.net[worst]:+.3f} e "
            f"on the grid of {_points(density)} points and {rough.net[worst]:+.3f} e on that of "
            f"{_points(coarse)}, a difference of more than {CONVERGED:g} e: no Bader charges",
            where=str(path),
            remedy=FINER_GPAW,
        )
    return charges


def from_aeccar(folder: Path, atoms: Atoms, zval: ArrayLike) -> BaderCharges:
    """Return the charges of a VASP run with LAECHG, whose files may be compressed.

    CHGCAR is integrated in the basins of AECCAR0 + AECCAR2; without a CHGCAR, AECCAR2 is. The sum
    of CHGCAR is exact on any grid, so the grid is judged by the sum of AECCAR2.

    Parameters
    ----------
    folder
        Folder with AECCAR0, AECCAR2 and, better, CHGCAR.
    atoms
        The atoms, in any order; the charges come in theirs.
    zval
        Valence electrons that each atom's pseudopotential has (ZVAL), shape (n_atoms,).

    Returns
    -------
    BaderCharges
        In the order of ``atoms``.

    Raises
    ------
    AlChargeError
        If a file is missing, empty, truncated, of another structure or another grid, or for the
        reasons of `from_density`.
    """
    expected = np.broadcast_to(np.asarray(zval, dtype=float), (len(atoms),)).copy()
    core_path, valence_path = _require(folder, "AECCAR0"), _require(folder, "AECCAR2")
    charge_path = compressed.find(folder, "CHGCAR") or valence_path
    grids: list[Array] = []
    for path in (core_path, valence_path, charge_path):
        grid, found = read_vasp_density(path)
        _check_same_atoms(found, atoms, str(path))
        if grids and grid.shape != grids[0].shape:
            raise AlChargeError(
                f"its grid {grid.shape} differs from {grids[0].shape} of {core_path.name}",
                where=str(path),
            )
        grids.append(grid)
    core, valence, charge = grids
    total = core + valence
    both = f"AECCAR0 + AECCAR2 hold {_count(total, atoms):.3f} instead of {atoms.numbers.sum()}"
    _check_sum(valence, atoms, expected, where=str(valence_path), remedy=f"{both}; {FINER_VASP}")
    return from_density(
        charge, atoms, expected, reference=total, where=str(charge_path), remedy=FINER_VASP
    )


def _charges(
    density: Array,
    reference: Array,
    atoms: Atoms,
    electrons: ArrayLike,
    *,
    where: str,
    remedy: str,
) -> BaderCharges:
    """Return the charges of a density, in the basins of the reference."""
    expected = np.broadcast_to(np.asarray(electrons, dtype=float), (len(atoms),)).copy()
    if density.ndim != 3 or reference.shape != density.shape:
        raise AlChargeError(
            f"its grids {density.shape} and {reference.shape} do not match",
            where=where,
        )
    if not (np.isfinite(density).all() and np.isfinite(reference).all()):
        raise AlChargeError("its density has NaN or infinite values", where=where)
    _check_sum(density, atoms, expected, where=where, remedy=remedy)
    maxima, held = integrate_basins(
        density, reference, atoms.cell.array, atoms.get_scaled_positions()
    )
    owner = _owners(maxima, held, atoms, where, remedy)
    return BaderCharges(expected - np.bincount(owner, held, len(atoms)), expected)


def _check_sum(density: Array, atoms: Atoms, electrons: Array, *, where: str, remedy: str) -> None:
    """Refuse a density whose electrons are not those of its atoms, given per atom."""
    found, expected = _count(density, atoms), float(electrons.sum())
    if not abs(found - expected) <= TOLERANCE * len(atoms):
        raise AlChargeError(
            f"its grid of {_points(density)} points holds {found:.3f} electrons instead of "
            f"{expected:.3f}, off by more than {TOLERANCE:g} per atom: no Bader charges",
            where=where,
            remedy=remedy,
        )


def _require(folder: Path, name: str) -> Path:
    path = compressed.find(folder, name)
    if path is None:
        raise AlChargeError(
            "it is missing, so there are no Bader charges",
            where=str(folder / name),
            remedy="run VASP with LAECHG = .TRUE. and LCHARG = .TRUE.",
        )
    return path


def _check_same_atoms(found: Atoms, atoms: Atoms, where: str) -> None:
    """Refuse a file of another structure; the order of the atoms does not matter."""
    same = len(found) == len(atoms) and np.allclose(found.cell, atoms.cell, atol=1e-3)
    if same:
        distances = _distances(atoms.positions, found.positions, atoms)
        distances[atoms.numbers[:, None] != found.numbers[None, :]] = np.inf
        nearest = distances.argmin(axis=1)
        same = len(set(nearest)) == len(atoms) and bool((distances.min(axis=1) < SAME_SITE).all())
    if not same:
        raise AlChargeError(
            f"its structure ({found.get_chemical_formula()}) is not the requested one "
            f"({atoms.get_chemical_formula()}), or differs in cell or positions",
            where=where,
        )


def _points(density: Array) -> str:
    return "x".join(map(str, density.shape))


def _count(density: Array, atoms: Atoms) -> float:
    return float(density.mean() * atoms.get_volume())


def _distances(of: Array, to: Array, atoms: Atoms) -> Array:
    """Return distances in angstrom to the nearest images, shape (len(of), len(to))."""
    return np.asarray(get_distances(of, to, cell=atoms.cell, pbc=True)[1])


def _owners(maxima: Array, held: Array, atoms: Atoms, where: str, remedy: str) -> NDArray[np.intp]:
    """Return the index of the atom that each basin belongs to, shape (n_basins,).

    A grid has false maxima next to a nucleus, which go to the nearest atom. A maximum far away
    that holds electrons belongs to no atom, and an atom without a maximum has lost its electrons
    to a neighbour.
    """
    distances = _distances(maxima @ atoms.cell.array, atoms.positions, atoms)
    owner: NDArray[np.intp] = distances.argmin(axis=1)
    away = distances.min(axis=1)
    stray = np.flatnonzero((away > OWN_MAXIMUM) & (np.abs(held) > NEGLIGIBLE))
    if len(stray):
        raise AlChargeError(
            f"a maximum of its density with {held[stray[0]]:.3f} electrons lies "
            f"{away[stray[0]]:.2f} angstrom from the nearest atom: no Bader charges",
            where=where,
            remedy=remedy,
        )
    without = set(range(len(atoms))) - set(owner[away <= OWN_MAXIMUM].tolist())
    if without:
        first = min(without)
        raise AlChargeError(
            f"its density has no maximum at atom {first} ({atoms.symbols[first]}): "
            "no Bader charges",
            where=where,
            remedy=remedy,
        )
    return owner
