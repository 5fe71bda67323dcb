"""Write the input files of one VASP run through atomate2's input sets."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols
from numpy.typing import NDArray

from al_charge.errors import AlChargeError, InputError
from al_charge.labelers.dft.steering import start_moments, total_moment
from al_charge.labelers.vasp.potcars import dataset_name
from al_charge.labelers.vasp.settings import VaspSettings

FILES = ("INCAR", "KPOINTS", "POSCAR", "POTCAR")


def poscar_order(atoms: Atoms) -> NDArray[np.int64]:
    """Return the indices of atoms in the order of the POSCAR.

    One block for each element, electropositive ones first, whatever its charge states: Fe2+ and
    Fe3+ share a dataset. Within a block the atoms keep their order.

    Parameters
    ----------
    atoms
        In any order.

    Returns
    -------
    numpy.ndarray
        Indices, shape (n_atoms,).
    """
    from pymatgen.core.periodic_table import Element

    blocks = sorted(set(atoms.get_chemical_symbols()), key=lambda el: (Element(el).X, el))
    rank = [blocks.index(symbol) for symbol in atoms.get_chemical_symbols()]
    return np.argsort(rank, kind="stable")


def elements_in_order(atoms: Atoms) -> list[str]:
    """Return the elements of atoms, each once.

    Parameters
    ----------
    atoms
        In the order of the POSCAR.

    Returns
    -------
    list of str
        Symbols.
    """
    return [chemical_symbols[number] for number in dict.fromkeys(atoms.numbers.tolist())]


def initial_moments(atoms: Atoms, settings: VaspSettings) -> tuple[NDArray[np.float64], float]:
    """Return the moments to start from, and the total moment that may be held.

    The total is never negative: to VASP a negative one means none at all.

    Parameters
    ----------
    atoms
        With a ``species`` array.
    settings
        The engine's settings.

    Returns
    -------
    moments : numpy.ndarray
        Bohr magnetons, shape (n_atoms,).
    total : float
        Bohr magnetons.
    """
    moments, total = start_moments(atoms, settings), total_moment(atoms, settings)
    return (-moments, -total) if total < 0 else (moments, total)


def write(
    folder: Path,
    atoms: Atoms,
    incar: Mapping[str, Any],
    kpoints: Sequence[int],
    settings: VaspSettings,
    moments: NDArray[np.float64] | None,
) -> None:
    """Write INCAR, KPOINTS, POSCAR and POTCAR of one run.

    Parameters
    ----------
    folder
        Where; made if it is not there.
    atoms
        In the order of the POSCAR.
    incar
        Tags of the stage.
    kpoints
        Divisions of the grid, which is centred on Gamma.
    settings
        The engine's settings, for the datasets.
    moments
        To start from, in Bohr magnetons, shape (n_atoms,); None without spin.

    Raises
    ------
    AlChargeError
        If the files cannot be written.
    """
    from atomate2.vasp.sets.core import StaticSetGenerator
    from pymatgen.io.vasp.inputs import Kpoints

    elements = elements_in_order(atoms)
    datasets = {
        element: dataset_name(element, settings.potcars, settings.potcar_functional)
        for element in elements
    }
    grid: Any = Kpoints.gamma_automatic((kpoints[0], kpoints[1], kpoints[2]))
    try:
        with warnings.catch_warnings():
            # About the release of the datasets and the smearing, both chosen on purpose.
            warnings.simplefilter("ignore")
            generator = StaticSetGenerator(
                user_incar_settings=_only(incar),
                user_kpoints_settings=grid,
                user_potcar_settings=datasets,
                user_potcar_functional=settings.potcar_functional,
                sort_structure=False,
                inherit_incar=False,
                auto_ismear=False,
            )
            files = generator.get_input_set(_structure(atoms, moments), potcar_spec=False)
            files.write_input(str(folder), make_dir_if_not_present=True)
    except OSError as error:
        raise AlChargeError(
            f"cannot write the input files: {error.strerror or error}", where=str(folder)
        ) from error


def check_values(incar: Mapping[str, Any]) -> None:
    """Refuse INCAR values that VASP does not know.

    Parameters
    ----------
    incar
        The user's tags.

    Raises
    ------
    InputError
        If a tag has a value that VASP does not know.
    """
    from pymatgen.io.vasp.inputs import BadIncarWarning, Incar

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for tag, value in incar.items():
            try:
                Incar({tag: value}).check_params()
            except (TypeError, ValueError) as error:  # a word where a number belongs
                raise InputError(
                    f"{value!r} is not a value of {tag}",
                    where="labeler.incar",
                    remedy="see VASP's manual",
                ) from error
    for warning in caught:
        if issubclass(warning.category, BadIncarWarning):
            raise InputError(str(warning.message), where="labeler.incar")


def _only(incar: Mapping[str, Any]) -> dict[str, Any]:
    """Return user settings that leave nothing of the set's own INCAR but its initial moments."""
    from atomate2.vasp.sets.core import StaticSetGenerator

    generator = StaticSetGenerator()
    theirs = {*generator.config_dict["INCAR"], *generator.incar_updates} - {"MAGMOM"}
    return dict.fromkeys(theirs) | dict(incar)


def _structure(atoms: Atoms, moments: NDArray[np.float64] | None) -> Any:
    from pymatgen.core.structure import Structure

    properties = {} if moments is None else {"magmom": [float(m) for m in moments]}
    return Structure(
        atoms.cell.array,
        atoms.get_chemical_symbols(),
        atoms.get_scaled_positions(wrap=False),
        site_properties=properties,
    )
