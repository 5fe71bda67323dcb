"""Work on potentials: train them on labels, and relax structures with them."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from ase import Atoms

from al_charge.api.results import Result
from al_charge.errors import InputError, UnfinishedError, did_you_mean
from al_charge.loop.label_query import PREFIX, parse_query, query_labels
from al_charge.loop.labelled_frames import cache_of, delete_cache
from al_charge.loop.spec import PotentialSpec, load_potential_spec
from al_charge.plugins import Quantity
from al_charge.potentials.committee import Committee
from al_charge.potentials.data.dataset import Dataset, Reading, read_dataset
from al_charge.potentials.model_file import load_model, read_members, write_model
from al_charge.potentials.plugin import POTENTIALS
from al_charge.potentials.potential import Potential
from al_charge.potentials.relaxation.one_by_one import Relaxed

if TYPE_CHECKING:
    from rich.console import RenderableType

    from al_charge.potentials.data.frames import TrainingFrame
    from al_charge.potentials.training.fitting import Fit

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
        If an argument is wrong, a structure has no charge states, or the model does not know one.
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


@dataclass(frozen=True)
class TrainedResult(Result):
    """A model that was trained.

    Attributes
    ----------
    path
        Its file.
    members
        Its potentials.
    document
        What ``al-charge train --json`` prints: the history of every member, what was held out, and
        where charge states and groups come from.
    """

    path: Path
    members: list[Potential] = field(repr=False)
    document: dict[str, Any] = field(repr=False)

    def table(self) -> RenderableType:
        """Return the table of `al-charge train`.

        Returns
        -------
        rich renderable
            One line for each member: epochs, loss and errors of its best epoch.
        """
        from al_charge.report.curves import training_table

        return training_table(self.document)


def train(
    data: Path | str,
    model: Path | str,
    *,
    kind: str | None = None,
    settings: PotentialSpec | Path | str | None = None,
    blind: bool = False,
    members: int = 1,
    folds: int = 10,
    seed: int = 1,
    start: Path | str | None = None,
    device: str | None = None,
    oxidation: Sequence[str] = (),
    group: str | None = None,
    flip_charges: bool = False,
    overwrite: bool = False,
    progress: Callable[[int, int, dict[str, float]], None] | None = None,
) -> TrainedResult | None:
    """Train a potential, or a committee, and write it to a file.

    If it is interrupted, the same call continues from its last checkpoint, beside the file, and
    ends with the same weights.

    Parameters
    ----------
    data
        A file with energies and forces that ASE reads, such as ``al-charge export`` writes, or
        labels of the database: ``db:demo-1``.
    model
        File to write, in safetensors format.
    kind
        Kind of the potential, such as ``mace``, with its default settings.
    settings
        Settings, or a file with the sections ``potential`` and ``training``, such as a campaign
        file.
    blind
        Whether charge states are hidden from the potential.
    members
        How many potentials to train; several make a committee.
    folds
        Into how many parts the configurations are divided; each member holds one of them out, for
        early stopping. 1 holds out none.
    seed
        Seed of fresh weights and of the order of frames.
    start
        Model file to start from.
    device
        ``cpu``, ``cuda``, or one GPU such as ``cuda:1``; when None, a GPU if there is one.
    oxidation
        Charge states that the file does not give, such as ``["Fe3+"]``.
    group
        Key in each frame's ``info`` that frames of one configuration share.
    flip_charges
        Whether to change the sign of Bader charges, where the file has cations negative.
    overwrite
        Whether to replace a file that exists.
    progress
        Called with epochs done, all epochs (both over all members), and the epoch's figures:
        losses, and errors on held-out frames in eV/atom and eV/angstrom.

    Returns
    -------
    TrainedResult or None
        None in all processes but the first, where several train together (``torchrun``).

    Raises
    ------
    InputError
        If an argument is wrong, or the data cannot be read.
    UnfinishedError
        If the training was stopped by SIGTERM or by Ctrl-C; the same call continues it.
    SystemExit
        If it was stopped, in all processes but the first of ``torchrun``.

    Examples
    --------
    >>> import al_charge as ac
    >>> found = ac.train("labels.extxyz", "model.safetensors", settings="painn.yaml", members=2)
    >>> found.document["kind"], len(found.members)
    ('painn', 2)
    >>> len(ac.load("model.safetensors").members)
    2
    """
    from al_charge.potentials.device import choose_device
    from al_charge.potentials.training.distributed import process_group
    from al_charge.potentials.training.fitting import Fit, delete_checkpoints, fit

    path = Path(model)
    refuse_existing(path, overwrite)
    place = choose_device(device)
    spec, parents = _training_settings(kind, settings, blind, start)
    cache = cache_of(path.parent, path.name)
    checkpoint = path.with_name(f"{path.name}.checkpoint")
    with process_group(place) as ranks:
        found = read_data(
            data,
            need_states=spec.potential.charge_aware,
            share_moments=POTENTIALS.of(spec.potential).reads_moments(spec.potential),
            states=oxidation,
            group=group,
            flip_charges=flip_charges,
            cache=cache,
        )
        what = Fit(spec.potential, spec.training, members=members, seed=seed, folds=folds)
        _warn_of_lacking(what, found.frames)

        def report(member: int, epoch: int, epochs: int, figures: dict[str, float]) -> None:
            if progress is not None:
                progress(member * epochs + epoch, members * epochs, figures)

        try:
            potentials, how = fit(
                what,
                found.frames,
                checkpoint=checkpoint,
                parents=parents,
                progress=report,
                device=place,
            )
        except (KeyboardInterrupt, UnfinishedError) as stop:
            if not ranks.first:
                raise SystemExit(1) from stop  # the first process reports it
            raise UnfinishedError(
                getattr(stop, "what", "stopped"),
                where=str(path),
                remedy="give the same command again to go on",
            ) from stop
        ranks.wait()  # all read the cache until here
        if not ranks.first:
            if os.environ.get("LOCAL_RANK") == "0":  # the first of another machine
                delete_cache(cache)
            return None
        how |= {
            "data": Path(data).name,
            "groups_from": found.groups_from,
            "states_from": found.states_from,
        }
        write_model(path, potentials, how)
        delete_checkpoints(checkpoint, members)
        delete_cache(cache)
    document = {"model": str(path), "kind": str(spec.potential.kind)} | how
    return TrainedResult(path, potentials, document)


def read_data(
    data: Path | str,
    *,
    need_states: bool,
    share_moments: bool = False,
    states: Sequence[str] = (),
    group: str | None = None,
    flip_charges: bool = False,
    cache: Path,
) -> Dataset:
    """Read labelled structures from a file, or labels from the database; log what is left out.

    Parameters
    ----------
    data
        See `train`.
    need_states
        Whether charge states that cannot be determined are refused.
    share_moments
        See `al_charge.potentials.data.dataset.Reading`.
    states
        ``oxidation`` of `train`.
    group
        See `train`.
    flip_charges
        See `train`.
    cache
        Folder for labels of the database, from which frames are read when they are needed.

    Returns
    -------
    Dataset
        Frames, and where their groups and charge states come from.

    Raises
    ------
    InputError
        If there is no such data, or an argument is wrong.
    """
    if not str(data).startswith(PREFIX):
        reading = Reading(
            need_states=need_states,
            states=tuple(states),
            group=group,
            flip_charges=flip_charges,
            share_moments=share_moments,
        )
        found = read_dataset(Path(data), reading)
        _log_left_out(str(data), found, "frames")
        return found
    from al_charge.store.connection import connect
    from al_charge.store.mongo import Store
    from al_charge.store.settings import settings_from_environment

    query = parse_query(str(data))
    for option, value in (
        ("--oxidation", states),
        ("--group", group),
        ("--flip-charges", flip_charges),
    ):
        if value:
            raise InputError(
                "it is for files only; labels of the database have it already",
                where=option,
                remedy="leave it out",
            )
    store = Store(connect(settings_from_environment()))
    try:
        store.ensure_schema()
        found = query_labels(store, query, cache, spin=share_moments)
    finally:
        store.close()
    _log_left_out(str(data), found, "labels")
    return found


def _log_left_out(data: str, found: Dataset, what: str) -> None:
    for reason, number in found.left_out.items():
        _log.warning("%s: %d %s left out: %s", data, number, what, reason)


def refuse_existing(path: Path, overwrite: bool) -> None:
    """Refuse to write a file that exists, or whose folder does not.

    Parameters
    ----------
    path
        File to write.
    overwrite
        Whether an existing file may be replaced.

    Raises
    ------
    InputError
        If the file exists and may not be replaced, or there is no such folder.
    """
    if not path.parent.is_dir():
        raise InputError("no such folder", where=str(path.parent), remedy="make it first")
    if path.exists() and not (overwrite and path.is_file()):
        remedy = "use --force to replace it" if path.is_file() else "choose another name"
        raise InputError("it is already there", where=str(path), remedy=remedy)


def _training_settings(
    kind: str | None,
    settings: PotentialSpec | Path | str | None,
    blind: bool,
    start: Path | str | None,
) -> tuple[PotentialSpec, list[Potential]]:
    """Return the settings, and the potentials to start from."""
    parents = read_members(Path(start))[0] if start is not None else []
    if isinstance(settings, PotentialSpec):
        spec = settings
    elif settings is None and parents:
        theirs = parents[0].settings
        if kind not in (None, theirs.kind):
            raise InputError(f"it is a {theirs.kind}, not a {kind}", where=str(start))
        aware = theirs.charge_aware and not blind
        spec = PotentialSpec(potential=theirs.model_copy(update={"charge_aware": aware}))
    elif settings is None and kind is None:
        raise InputError(
            "no potential is given",
            where="--kind",
            remedy=f"choose one of {', '.join(POTENTIALS.kinds)}, or give a file with --settings",
        )
    else:
        spec = load_potential_spec(None if settings is None else Path(settings), kind)
    if blind:
        potential = spec.potential.model_copy(update={"charge_aware": False})
        spec = spec.model_copy(update={"potential": potential})
    return spec, parents


def _warn_of_lacking(what: Fit, frames: Sequence[TrainingFrame]) -> None:
    """Warn of quantities that no label has, and if nothing is held out."""
    from al_charge.potentials.training.fitting import held_out_groups

    gives = POTENTIALS.of(what.potential).gives
    for name in (Quantity.MOMENTS, Quantity.CHARGES):
        if name in gives and all(getattr(frame, name) is None for frame in frames):
            _log.warning("no frame has %s: the model's predictions of them mean nothing", name)
    if what.folds > 1 and not held_out_groups(frames, what.folds, 0):
        groups = len({frame.group for frame in frames})
        _log.warning(
            "nothing is held out of %d configurations: all epochs are run, and the last weights "
            "kept; fewer --folds hold more out",
            groups,
        )
