"""Relax structures by a model: one by one, in processes, or batched."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, overload

from ase import Atoms

from al_charge.crystal.geometry import refuse_non_periodic
from al_charge.errors import InputError, did_you_mean
from al_charge.potentials.committee import Committee
from al_charge.potentials.model_file import load_model
from al_charge.potentials.potential import Potential
from al_charge.potentials.relaxation.one_by_one import Relaxed

if TYPE_CHECKING:
    pass

MAX_STEPS, MAX_FIRE_STEPS = 500, 2000
"""Evaluations of one structure after which it is given up: quasi-Newton, and FIRE in batches."""

_log = logging.getLogger("al_charge.api")


class Method(StrEnum):
    """How several structures are relaxed."""

    SERIAL = "serial"
    PROCESSES = "processes"
    BATCHED = "batched"


@overload
def relax(
    structures: Atoms,
    model: Potential | Committee | Path | str,
    *,
    method: str = ...,
    fmax: float = ...,
    max_steps: int | None = ...,
    cell: bool = ...,
    processes: int | None = ...,
    progress: Callable[[int, int], None] | None = ...,
) -> Relaxed: ...
@overload
def relax(
    structures: Sequence[Atoms],
    model: Potential | Committee | Path | str,
    *,
    method: str = ...,
    fmax: float = ...,
    max_steps: int | None = ...,
    cell: bool = ...,
    processes: int | None = ...,
    progress: Callable[[int, int], None] | None = ...,
) -> list[Relaxed]: ...
def relax(
    structures: Atoms | Sequence[Atoms],
    model: Potential | Committee | Path | str,
    *,
    method: str = "serial",
    fmax: float = 0.03,
    max_steps: int | None = None,
    cell: bool = True,
    processes: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Relaxed | list[Relaxed]:
    """Relax structures with a potential or a committee, at fixed charge states.

    Parameters
    ----------
    structures
        One structure or several, each with an array ``species`` of tokens such as ``Fe3+``. They
        are not modified.
    model
        A potential, a committee, or a file of either.
    method
        ``serial``, one by one in this process; ``processes``, several at a time; ``batched``,
        together with torch-sim, which pays on a GPU.
    fmax
        Largest force below which a structure is relaxed, eV/angstrom; the stress counts as a force
        on the strain.
    max_steps
        Evaluations of one structure after which it is given up; when None 500, or 2000 in batches.
    cell
        Whether the cell is relaxed with the ions.
    processes
        How many, for ``method="processes"``; when None, as many as there are cores.
    progress
        Called with the number of structures that are done, and the number of all.

    Returns
    -------
    Relaxed or list of Relaxed
        Structure, energy (eV for the cell), spread and number of steps; a list if several
        structures were given.

    Raises
    ------
    InputError
        If an argument is wrong, a structure is not periodic or has no charge states, or the model
        does not know one.
    NotInstalledError
        If ``method`` is ``batched`` and torch-sim is not installed.

    Examples
    --------
    >>> import al_charge as ac
    >>> with ac.open("demo-1") as campaign:
    ...     committee = campaign.committee()
    ...     atoms = campaign.atoms(campaign.hull().vertices[1])
    >>> found = ac.relax(atoms, committee, max_steps=20)
    >>> found.energy <= committee.predict([atoms])[0].energy
    True
    >>> several = ac.relax([atoms, found.atoms], committee, cell=False, max_steps=5)
    >>> [one.steps <= 5 for one in several]
    [True, True]
    """
    if method not in set(Method):
        raise InputError(
            f"there is no method '{method}'", where="method", remedy=did_you_mean(method, Method)
        )
    if processes is not None and method != Method.PROCESSES:
        raise InputError(
            f"method '{method}' takes no number of processes",
            where="processes",
            remedy="leave it out, or give method='processes'",
        )
    if not fmax > 0.0:
        raise InputError("the largest force must be positive", where="fmax", remedy="give 0.03")
    predictor = load_model(model) if isinstance(model, str | Path) else model
    committee = predictor if isinstance(predictor, Committee) else Committee([predictor])
    images = [structures] if isinstance(structures, Atoms) else list(structures)
    for number, atoms in enumerate(images):
        where = f"structure {number}" if len(images) > 1 else "structure"
        if "species" not in atoms.arrays:
            raise InputError(
                "it has no array 'species'", where=where, remedy="give a token for every atom"
            )
        refuse_non_periodic(atoms.pbc, where)
        refuse_unknown(committee, set(map(str, atoms.arrays["species"])), where)
    steps = max_steps or (MAX_FIRE_STEPS if method == Method.BATCHED else MAX_STEPS)
    found = _relaxed(committee, images, Method(method), fmax, steps, cell, processes, progress)
    return found[0] if isinstance(structures, Atoms) else found


def _relaxed(
    committee: Committee,
    images: list[Atoms],
    method: Method,
    fmax: float,
    max_steps: int,
    cell: bool,
    processes: int | None,
    progress: Callable[[int, int], None] | None,
) -> list[Relaxed]:
    if method is Method.BATCHED:
        from al_charge.potentials.relaxation.batched import relax_batched

        return relax_batched(
            committee, images, fmax=fmax, max_steps=max_steps, cell=cell, progress=progress
        )
    if method is Method.PROCESSES:
        from al_charge.potentials.relaxation.processes import relax_in_processes

        return relax_in_processes(
            committee,
            images,
            fmax=fmax,
            max_steps=max_steps,
            cell=cell,
            processes=processes or os.cpu_count() or 1,
            progress=progress,
        )
    from al_charge.potentials.relaxation import one_by_one

    found: list[Relaxed] = []
    for atoms in images:
        found += one_by_one.relax(committee, [atoms], fmax=fmax, max_steps=max_steps, cell=cell)
        if progress is not None:
            progress(len(found), len(images))
    return found


def refuse_unknown(model: Potential | Committee, species: set[str], where: str) -> None:
    """Refuse structures with species that a model was not trained on.

    Parameters
    ----------
    model
        A potential or a committee.
    species
        Species tokens of the structures.
    where
        The file or structure, for the message.

    Raises
    ------
    InputError
        If there are such species; the message names them, and those that the model knows.
    """
    for member in members_of(model):
        vocabulary = member.vocabulary
        lacking = {token for token in species if vocabulary.name(token) not in vocabulary.tokens}
        if lacking:
            raise InputError(
                f"the model does not know {', '.join(sorted(lacking))}",
                where=where,
                remedy=f"it knows {', '.join(vocabulary.tokens)}",
            )


def members_of(model: Potential | Committee) -> list[Potential]:
    """Return the members of a committee.

    Parameters
    ----------
    model
        A committee, or a single potential.

    Returns
    -------
    list of Potential
        The one potential, if it is one.
    """
    return model.members if isinstance(model, Committee) else [model]


def is_charge_aware(model: Potential | Committee) -> bool:
    """Tell whether a model sees charge states.

    Parameters
    ----------
    model
        A potential or a committee.

    Returns
    -------
    bool
        True if any member does.
    """
    return any(member.vocabulary.charge_aware for member in members_of(model))
