"""Labels of the database as frames to train on, by way of a cache on the local disk."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from ase import Atoms

from al_charge.crystal.configuration import set_species
from al_charge.store.documents import FrameDoc, LabelDoc, Refusal
from al_charge.store.labels import ALL_FRAMES, LabelSummary
from al_charge.store.mongo import Store

if TYPE_CHECKING:
    from al_charge.potentials.data.frame_cache import CachedFrames
    from al_charge.potentials.data.frames import TrainingFrame


def learnable(summary: LabelSummary, *, spin: bool, aware: bool) -> bool:
    """Return whether a potential may be trained on a label.

    One whose charge states are uncertain is of use only to a potential that takes moments as input;
    a delocalised one also to a potential that knows no charge states, for which nothing is missing.

    Parameters
    ----------
    summary
        Summary of the label.
    spin
        Whether the potential takes moments as input.
    aware
        Whether the potential tells charge states apart.

    Returns
    -------
    bool
        Whether it may.
    """
    if summary.refusal is Refusal.AMBIGUOUS or (aware and summary.delocalised):
        return spin and summary.has_moments
    return summary.refusal is None


def cache_of(folder: Path, name: str = "") -> Path:
    """Return the folder of this machine's cache; no two machines share one.

    Parameters
    ----------
    folder
        Folder that the cache is in.
    name
        What the cache is for, where the folder has caches of several things.

    Returns
    -------
    pathlib.Path
        Folder of the cache, with the machine's name in it.
    """
    return folder / f"{name}{'.' if name else ''}labels-{socket.gethostname()}"


def delete_cache(cache: Path) -> None:
    """Delete a cache; a process that still reads it is not disturbed.

    Parameters
    ----------
    cache
        Its folder, which may be missing.
    """
    shutil.rmtree(cache, ignore_errors=True)


def cached_labels(
    store: Store,
    summaries: Iterable[LabelSummary],
    cache: Path,
    *,
    spin: bool,
    orders: Mapping[str, str] | None = None,
) -> CachedFrames:
    """Return the frames of labels, after streaming those that the cache lacks into it.

    Parameters
    ----------
    store
        The database.
    summaries
        Summaries of the labels, in order.
    cache
        Folder of the cache.
    spin
        Whether the potential takes moments as input.
    orders
        What names the order of each label, by its key: frames of one order are trained on or held
        out together. None for the hash of its configuration in its supercell.

    Returns
    -------
    CachedFrames
        The frames of all labels, in the order of the summaries.
    """
    from al_charge.potentials.data.frame_cache import cached_frames

    def fetch(keys: Sequence[str]) -> Iterator[tuple[str, list[TrainingFrame]]]:
        for label in store.labels.read(ALL_FRAMES, keys=keys):
            yield label.key, frames_of(label, spin=spin, order=(orders or {}).get(label.key))

    # A database that was made anew may have another label under the same key.
    wanted = {h.key: f"{h.created.isoformat()} {h.energy!r} {int(spin)}" for h in summaries}
    return cached_frames(cache, wanted, fetch)


def frames_of(label: LabelDoc, *, spin: bool, order: str | None = None) -> list[TrainingFrame]:
    """Return a label's frames to train on.

    The engine gives moments and charges of the last geometry. They are targets there alone; as the
    input of a spin-aware potential, an array of the structure, moments stand for all geometries.

    Parameters
    ----------
    label
        The label, with all its frames.
    spin
        Whether the potential takes moments as input.
    order
        As in `cached_labels`.

    Returns
    -------
    list of TrainingFrame
        One for each frame: energy in eV per cell, forces in eV/angstrom.
    """
    from al_charge.potentials.data.frames import TrainingFrame

    last = len(label.frames) - 1
    moments = None if label.moments is None else np.array(label.moments)
    charges = None if label.bader is None else np.array(label.bader)
    structures = [label_atoms(label, frame) for frame in label.frames]
    for atoms in structures:
        if spin and moments is not None:
            atoms.set_array("moments", moments)
    return [
        TrainingFrame(
            atoms=atoms,
            energy=frame.energy,
            forces=np.array(frame.forces),
            stress=np.array(frame.stress) if frame.stress is not None else None,
            group=order or label.config_hash,
            moments=moments if number == last else None,
            charges=charges if number == last else None,
        )
        for number, (atoms, frame) in enumerate(zip(structures, label.frames, strict=True))
    ]


def label_atoms(label: LabelDoc, frame: FrameDoc) -> Atoms:
    """Return one frame of a label as a structure.

    Parameters
    ----------
    label
        The label.
    frame
        One of its frames.

    Returns
    -------
    Atoms
        With arrays ``host_site`` and ``species``: the species that the engine found, or those
        nearest to the moments where they are uncertain.
    """
    atoms = Atoms(label.numbers, frame.positions, cell=frame.cell, pbc=True)
    atoms.set_array("host_site", np.array(label.host_site))
    set_species(atoms, list(label.resolved or _fitting_states(label)))
    return atoms


def _fitting_states(label: LabelDoc) -> list[str]:
    """Return for every atom a charge state whose window its moment is near to."""
    from al_charge.potentials.data.nearest_states import fitting_states

    assert label.moments is not None
    middles = {token: float(np.mean(window)) for token, window in label.windows.items()}
    sites = label.sites or [None] * len(label.requested)
    return fitting_states(sites, label.requested, label.moments, middles)
