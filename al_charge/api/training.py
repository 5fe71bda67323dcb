"""Train potentials on a file, on labels of the database, or on a campaign's."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from al_charge.api.results import Result
from al_charge.errors import InputError, UnfinishedError
from al_charge.loop.label_query import PREFIX, parse_query, query_labels
from al_charge.loop.labelled_frames import cache_of, delete_cache
from al_charge.loop.spec import PotentialSpec, load_potential_spec
from al_charge.plugins import Quantity
from al_charge.potentials.data.dataset import Dataset, Reading, read_dataset
from al_charge.potentials.model_file import read_members, write_model
from al_charge.potentials.plugin import POTENTIALS
from al_charge.potentials.potential import Potential

if TYPE_CHECKING:
    from rich.console import RenderableType

    from al_charge.potentials.data.frames import TrainingFrame
    from al_charge.potentials.training.fitting import Fit

MAX_STEPS, MAX_FIRE_STEPS = 500, 2000
"""Evaluations of one structure after which it is given up: quasi-Newton, and FIRE in batches."""
FEW_HELD_OUT = 5
"""Of fewer configurations the root mean square of the errors is uncertain by a third and more."""

_log = logging.getLogger("al_charge.api")


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
        found = query_labels(store, query, cache, spin=share_moments, aware=need_states)
    finally:
        store.close()
    _log_left_out(str(data), found, "labels")
    return found


def _log_left_out(data: str, found: Dataset, what: str) -> None:
    for reason, number in found.left_out.items():
        _log.warning("%s: %d %s left out: %s", data, number, what, reason)
    for remark in found.remarks:
        _log.warning("%s: %s", data, remark)


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
    """Warn of quantities that no label has, and if too little is held out to tell the error."""
    from al_charge.potentials.data.frames import groups_of
    from al_charge.potentials.training.fitting import held_out_groups

    gives = POTENTIALS.of(what.potential).gives
    for name in (Quantity.MOMENTS, Quantity.CHARGES):
        if name in gives and all(getattr(frame, name) is None for frame in frames):
            _log.warning("no frame has %s: the model's predictions of them mean nothing", name)
    if what.folds == 1:
        return
    groups = len(set(groups_of(frames)))
    distinct = f"{groups} configuration{'s' if groups != 1 else ''}"
    folds = range(min(what.members, what.folds))
    held = [held_out_groups(frames, what.folds, member) for member in folds]
    if not held[0]:
        _log.warning(
            "nothing is held out of %s, so the error of the model is not known: all epochs are "
            "run, and the last weights kept; fewer --folds hold more out",
            distinct,
        )
    elif sum(held) < FEW_HELD_OUT:
        _log.warning(
            "only %d of %s held out: so few say next to nothing about the error of the model; "
            "fewer --folds hold more out",
            sum(held),
            f"{distinct} {'is' if sum(held) == 1 else 'are'}",
        )
