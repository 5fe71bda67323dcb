"""`al-charge train`: potentials on the labelled structures of a file or the database."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from al_charge.cli.datafile import data_options, force_option, read_data, refuse_existing
from al_charge.cli.output import json_option, plot_option, show
from al_charge.cli.progress import counting

if TYPE_CHECKING:
    from al_charge.loop.spec import PotentialSpec
    from al_charge.potentials.data.frames import TrainingFrame
    from al_charge.potentials.potential import Potential
    from al_charge.potentials.training.fitting import Fit

KINDS = ("painn", "cpainn", "mace", "chgnet")
SITES = {"cpainn": ("moments", "charges"), "chgnet": ("moments",)}
"""What the kinds that have heads predict of sites."""

_log = logging.getLogger("al_charge.cli")


@click.command("train")
@data_options
@click.argument("model", metavar="MODEL", type=click.Path(path_type=Path))
@click.option("--kind", type=click.Choice(KINDS), help="Potential, by default settings.")
@click.option(
    "--settings",
    "settings_file",
    type=click.Path(path_type=Path),
    help="YAML file with the sections 'potential' and 'training' of a campaign file.",
)
@click.option("--blind", is_flag=True, help="Elements only: no charge states.")
@click.option(
    "--members",
    type=click.IntRange(1, 16),
    default=1,
    show_default=True,
    help="Potentials to train; several make a committee.",
)
@click.option(
    "--folds",
    type=click.IntRange(1, 100),
    default=10,
    show_default=True,
    help="Parts of the configurations, of which each member holds one out to stop by; 1: none.",
)
@click.option("--seed", type=click.IntRange(0, 2**31 - 1), default=1, show_default=True)
@click.option(
    "--from", "start", type=click.Path(path_type=Path), help="Model to start from, of --kind."
)
@click.option(
    "--device", help="cpu, cuda, or one GPU such as cuda:1; by default a GPU if there is one."
)
@plot_option
@force_option
@json_option
def command(
    data: Path,
    model: Path,
    kind: str | None,
    settings_file: Path | None,
    blind: bool,
    members: int,
    folds: int,
    seed: int,
    start: Path | None,
    device: str | None,
    plot: Path | None,
    force: bool,
    as_json: bool,
    **reading: Any,
) -> None:
    """Train a potential on DATA and write it to MODEL.

    DATA is what 'al-charge export' writes, or any file that ASE reads with energies and forces; or
    labels of the database: 'db:demo-1' those of a campaign, 'db:demo-1,composition=1/2' some of
    them, 'db:settings=3fa1,host=77c0' all with settings and host whose hash begins so.

    MODEL is a safetensors file with weights, configuration and the history of the training. Killed,
    the same command goes on from its last checkpoint, beside MODEL, and ends the same. Several
    processes train together as 'torchrun --nproc-per-node 2 -m al_charge train ...'.
    """
    from al_charge.errors import UnfinishedError
    from al_charge.loop.labelled_frames import cache_of, delete_cache
    from al_charge.potentials.device import choose_device
    from al_charge.potentials.model_file import write_model
    from al_charge.potentials.training.distributed import process_group
    from al_charge.potentials.training.fitting import Fit, delete_checkpoints, fit
    from al_charge.report.curves import Curve, plot_curves
    from al_charge.report.plots import check_ending

    refuse_existing(model, force)
    if plot is not None:
        check_ending(plot)
    place = choose_device(device)
    ranks = click.get_current_context().with_resource(process_group(place))
    spec, parents = _settings(kind, settings_file, blind, start)
    cache = cache_of(model.parent, model.name)
    found = read_data(
        data,
        need_states=spec.potential.charge_aware,
        share_moments=bool(getattr(spec.potential, "spin", False)),
        cache=cache,
        **reading,
    )
    what = Fit(spec.potential, spec.training, members=members, seed=seed, folds=folds)
    _tell_lacking(what, found.frames)
    checkpoint = model.with_name(f"{model.name}.checkpoint")
    try:
        with counting(str(spec.potential.kind), "epochs") as report:

            def progress(member: int, epoch: int, epochs: int, figures: dict[str, float]) -> None:
                text = f"member {member + 1} of {members}, {_figures(figures)}"
                report(member * epochs + epoch, members * epochs, text)

            potentials, how = fit(
                what,
                found.frames,
                checkpoint=checkpoint,
                parents=parents,
                progress=progress,
                device=place,
            )
    except (KeyboardInterrupt, UnfinishedError) as stop:
        if not ranks.first:
            raise SystemExit(1) from stop  # the first process says it
        raise UnfinishedError(
            getattr(stop, "what", "stopped"),
            where=str(model),
            remedy="give the same command again to go on",
        ) from stop
    ranks.wait()  # all read the cache until here
    if not ranks.first:
        if os.environ.get("LOCAL_RANK") == "0":  # the first of another machine
            delete_cache(cache)
        return
    how |= {"data": data.name, "groups_from": found.groups_from, "states_from": found.states_from}
    write_model(model, potentials, how)
    delete_checkpoints(checkpoint, members)
    delete_cache(cache)
    if plot is not None:
        curves = [Curve(member, history) for member, history in enumerate(how["history"])]
        plot_curves(curves, plot, f"{spec.potential.kind}, {model.name}")
    document = {"model": str(model), "kind": str(spec.potential.kind)} | how
    show(document, as_json, lambda: _table(document))


def _settings(
    kind: str | None, file: Path | None, blind: bool, start: Path | None
) -> tuple[PotentialSpec, list[Potential]]:
    """Return the settings, and the potentials to start from."""
    from al_charge.errors import InputError
    from al_charge.loop.spec import PotentialSpec, load_potential_spec
    from al_charge.potentials.model_file import read_members

    parents = read_members(start)[0] if start is not None else []
    if file is None and parents:
        theirs = parents[0].settings
        if kind not in (None, theirs.kind):
            raise InputError(f"it is a {theirs.kind}, not a {kind}", where=str(start))
        aware = theirs.charge_aware and not blind
        spec = PotentialSpec(potential=theirs.model_copy(update={"charge_aware": aware}))
    elif file is None and kind is None:
        raise InputError(
            "no potential is given",
            where="--kind",
            remedy=f"choose one of {', '.join(KINDS)}, or give a file with --settings",
        )
    else:
        spec = load_potential_spec(file, kind)
    if blind:
        potential = spec.potential.model_copy(update={"charge_aware": False})
        spec = spec.model_copy(update={"potential": potential})
    return spec, parents


def _tell_lacking(what: Fit, frames: Sequence[TrainingFrame]) -> None:
    """Say what is trained without labels, and so means nothing, and whether nothing is held out."""
    from al_charge.potentials.training.fitting import held_out_groups

    for name in SITES.get(what.potential.kind, ()):
        if all(getattr(frame, name) is None for frame in frames):
            _log.warning(f"no frame has {name}: what the model will say of them means nothing")
    if what.folds > 1 and not held_out_groups(frames, what.folds, 0):
        groups = len({frame.group for frame in frames})
        _log.warning(
            f"nothing is held out of {groups} configurations: all epochs are run, and the last "
            "weights kept; fewer --folds hold more out"
        )


def _figures(figures: dict[str, float]) -> str:
    loss = f"loss {figures['loss']:.3g}"
    if "energy" not in figures:
        return loss
    return (
        f"{loss}, held out {1e3 * figures['energy']:.2f} meV/atom, "
        f"{1e3 * figures['force']:.1f} meV/A"
    )


def _table(document: dict[str, Any]) -> Any:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    from al_charge.report.curves import best_entry

    table = Table("member", "epochs", "loss", "energy (meV/atom)", "forces (meV/A)", "held out")
    for number, (history, held) in enumerate(
        zip(document["history"], document["held_out"], strict=True)
    ):
        best = best_entry(history)
        errors = [f"{1e3 * best[n]:.2f}" if n in best else "" for n in ("energy", "force")]
        table.add_row(
            str(number + 1), str(len(history)), f"{best['loss']:.3g}", *errors, str(len(held))
        )
    states = ", ".join(f"{how}: {n} frames" for how, n in document["states_from"].items())
    return Group(
        table,
        Text(
            f"{document['frames']} frames of {document['groups']} configurations (by "
            f"{document['groups_from']}); errors of the best epoch on those held out"
        ),
        Text(f"charge states {states}"),
        Text(f"{document['kind']} written to {document['model']}"),
    )
