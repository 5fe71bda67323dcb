"""Relaxing the structures of `al-charge predict`: how, how far, and what it found."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from al_charge.cli.progress import counting
from al_charge.errors import InputError
from al_charge.units import parse_quantity

if TYPE_CHECKING:
    from ase import Atoms

    from al_charge.potentials.committee import Committee
    from al_charge.potentials.potential import Potential
    from al_charge.potentials.relaxation.one_by_one import Relaxed

MAX_STEPS, MAX_FIRE_STEPS = 500, 2000
"""Evaluations of one structure after which it is given up, by either method."""


def check(relax: bool, fmax: str, processes: int | None, batched: bool) -> float:
    """Return the largest force in eV/angstrom; refuse options that do not go together."""
    try:
        limit = parse_quantity(fmax, "force")
    except ValueError as error:
        raise InputError(str(error), where="--fmax") from error
    if limit <= 0.0:
        raise InputError("no force is as small as that", where="--fmax", remedy="give '0.03 eV/A'")
    if (processes or batched) and not relax:
        raise InputError(
            "there is nothing to relax",
            where="--processes" if processes else "--batched",
            remedy="give --relax, too",
        )
    if processes and batched:
        raise InputError(
            "a batch is relaxed by one process",
            where="--batched",
            remedy="leave --processes or --batched out",
        )
    return limit


def relaxed(
    predictor: Potential | Committee,
    images: Sequence[Atoms],
    *,
    fmax: float,
    processes: int | None,
    batched: bool,
) -> list[Relaxed]:
    """Relax ions and cell of structures, with a bar for people.

    Parameters
    ----------
    predictor
        A potential or a committee.
    images
        With ``species`` arrays.
    fmax
        eV/angstrom.
    processes
        How many, or None for this one.
    batched
        Whether torch-sim relaxes them together.
    """
    from al_charge.potentials.committee import Committee
    from al_charge.potentials.relaxation.batched import relax_batched
    from al_charge.potentials.relaxation.one_by_one import relax
    from al_charge.potentials.relaxation.processes import relax_in_processes

    committee = predictor if isinstance(predictor, Committee) else Committee([predictor])
    found: list[Relaxed] = []
    with counting("relaxing", "structures") as report:
        if batched:
            return relax_batched(
                committee, images, fmax=fmax, max_steps=MAX_FIRE_STEPS, progress=report
            )
        if processes:
            return relax_in_processes(
                committee,
                images,
                fmax=fmax,
                max_steps=MAX_STEPS,
                processes=processes,
                progress=report,
            )
        for atoms in images:
            found += relax(committee, [atoms], fmax=fmax, max_steps=MAX_STEPS)
            report(len(found), len(images))
    return found
