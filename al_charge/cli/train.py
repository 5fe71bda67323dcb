"""`al-charge train`: potentials on the labelled structures of a file or the database."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from al_charge.cli.datafile import data_options, force_option, split_states
from al_charge.cli.output import json_option, plot_option, show, width_option
from al_charge.cli.progress import counting

if TYPE_CHECKING:
    from al_charge.report.style import Width


@click.command("train")
@data_options
@click.argument("model", metavar="MODEL", type=click.Path(path_type=Path))
@click.option("--kind", metavar="KIND", help="Potential with default settings, e.g. mace.")
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
    help="Parts of the configurations; each member holds one out for early stopping. 1: none.",
)
@click.option(
    "--seed",
    type=click.IntRange(0, 2**31 - 1),
    default=1,
    show_default=True,
    help="Seed of all random choices.",
)
@click.option(
    "--from", "start", type=click.Path(path_type=Path), help="Model to start from, of --kind."
)
@click.option(
    "--device", help="cpu, cuda, or one GPU such as cuda:1; by default a GPU if there is one."
)
@plot_option
@width_option
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
    width: Width,
    force: bool,
    as_json: bool,
    oxidation: str,
    group: str | None,
    flip_charges: bool,
) -> None:
    """Train a potential on DATA and write it to MODEL.

    DATA is what 'al-charge export' writes, or any file that ASE reads with energies and forces; or
    labels of the database: 'db:demo-1' those of a campaign, 'db:demo-1,composition=1/2' some of
    them, 'db:settings=3fa1,host=77c0' all whose hashes of settings and host begin so.

    MODEL is a safetensors file with weights, configuration and the history of the training. If
    interrupted, the same command continues from its last checkpoint, beside MODEL, and ends with
    the same weights. Several processes train together as
    'torchrun --nproc-per-node 2 -m al_charge train ...'.
    """
    from al_charge.api.training import train
    from al_charge.report.style import check_ending

    if plot is not None:
        check_ending(plot)
    with counting(kind or "training", "epochs") as report:

        def progress(done: int, total: int, figures: dict[str, float]) -> None:
            member = min((done - 1) * members // total, members - 1)
            report(done, total, f"member {member + 1} of {members}, {_figures(figures)}")

        found = train(
            data,
            model,
            kind=kind,
            settings=settings_file,
            blind=blind,
            members=members,
            folds=folds,
            seed=seed,
            start=start,
            device=device,
            oxidation=split_states(oxidation),
            group=group,
            flip_charges=flip_charges,
            overwrite=force,
            progress=progress,
        )
    if found is None:
        return
    if plot is not None:
        from al_charge.report.curve_plots import plot_curves
        from al_charge.report.curves import Curve

        histories = enumerate(found.document["history"])
        curves = [Curve(member, history) for member, history in histories]
        plot_curves(curves, plot, f"{found.document['kind']}, {model.name}")
    show(found.document, as_json, found.table)


def _figures(figures: dict[str, float]) -> str:
    loss = f"loss {figures['loss']:.3g}"
    if "energy" not in figures:
        return loss
    return (
        f"{loss}, held out {1e3 * figures['energy']:.2f} meV/atom, "
        f"{1e3 * figures['force']:.1f} meV/A"
    )
