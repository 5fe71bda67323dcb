"""Relaxing many structures at once with torch-sim, meant for a GPU.

FIRE on ions and cell. A structure leaves the batch when it has converged, and the next one takes
its place.
"""

from __future__ import annotations

import gc
from collections.abc import Sequence

import numpy as np
import torch
from ase import Atoms

from al_charge.errors import AlChargeError, InputError
from al_charge.potentials.committee import Committee
from al_charge.potentials.device import choose_device
from al_charge.potentials.relaxation.batched_run import BatchedRun
from al_charge.potentials.relaxation.one_by_one import Progress, Relaxed
from al_charge.potentials.relaxation.torch_sim_adapter import import_torch_sim

LARGEST_BATCH = 512
"""Atoms in a batch on a CPU, where larger ones are not faster."""
MEMORY_SHARE = 0.7
"""Part of a GPU's free memory that the first batch is to fill."""
_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")


def relax_batched(
    committee: Committee,
    structures: Sequence[Atoms],
    *,
    fmax: float,
    max_steps: int,
    cell: bool = True,
    largest_displacement: float = np.inf,
    device: str | None = None,
    progress: Progress | None = None,
) -> list[Relaxed]:
    """Relax structures as ``relax`` does, to the same minima, many at once.

    Steps are those of FIRE (Bitzek et al., Phys. Rev. Lett. 97, 170201 (2006)), which needs more of
    them than ``relax``: give ``max_steps`` in the hundreds. On a GPU the batch is as large as its
    free memory allows, by what the largest structure needs. Where it does not fit, it is halved.

    Parameters
    ----------
    committee
        Whose mean energy falls.
    structures
        Starts, with ``species`` arrays; not modified.
    fmax
        Largest force left in eV/angstrom, as for ``relax``.
    max_steps
        Evaluations of each structure at most.
    cell
        False keeps every cell as it is and moves ions only.
    largest_displacement
        Must be infinite: torch-sim cannot limit displacements.
    device
        Such as ``cuda`` or ``cpu``; a GPU if there is one when None.
    progress
        Called after every structure.

    Returns
    -------
    list of Relaxed
        One per structure, in their order.

    Raises
    ------
    NotInstalledError
        If torch-sim is not installed.
    InputError
        If displacements are limited, or there is no such device.
    AlChargeError
        If not even as many atoms as the largest structure has fit into memory.
    RuntimeError
        If torch fails for another reason than memory.
    """
    if not np.isinf(largest_displacement):
        raise InputError(
            "a batched relaxation cannot limit displacements",
            where="largest_displacement",
            remedy="relax by processes",
        )
    import_torch_sim()
    if not structures:
        return []
    run = BatchedRun(committee, structures, choose_device(device), fmax, max_steps, cell, progress)
    limit = _first_limit(run)
    while len(run.done) < len(structures):
        most = max(limit, *run.table.sizes)
        try:
            run.go_on(most)
            continue
        except RuntimeError as error:
            if not any(words in str(error).lower() for words in _MEMORY):
                raise
            if run.systems <= 1 or most == max(run.table.sizes):
                raise AlChargeError(
                    f"a batch of {most} atoms does not fit into the memory of the "
                    f"{run.table.device.type} device",
                    where="batched relaxation",
                    remedy="relax by processes, or with a smaller potential",
                ) from error
        limit = run.atoms // 2
        gc.collect()  # what the failed batch held, before the next one is made
        if run.table.device.type == "cuda":
            torch.cuda.empty_cache()
    return [run.done[number] for number in range(len(structures))]


def _first_limit(run: BatchedRun) -> int:
    """Return the number of atoms in the first batch."""
    device = run.table.device
    if device.type != "cuda":
        return LARGEST_BATCH
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    try:
        atoms = run.probe()
    except torch.cuda.OutOfMemoryError:
        return max(run.table.sizes)  # which the batch then says in one line
    needed = torch.cuda.max_memory_allocated(device) - before
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    free = torch.cuda.mem_get_info(device)[0] + unused
    return int(MEMORY_SHARE * free * atoms / max(needed, 1))
