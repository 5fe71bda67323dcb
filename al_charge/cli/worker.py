"""`al-charge worker`: run a campaign's tasks on this machine."""

from __future__ import annotations

import signal
from pathlib import Path
from types import FrameType

import click

from al_charge.cli.target import PROCESSES, Target, campaign_argument, runs_folder


@click.command("worker")
@campaign_argument
@click.option(
    "--category",
    "categories",
    multiple=True,
    type=click.Choice(["cpu", "dft", "gpu"]),
    help="Only tasks of this kind: cpu (propose, select, assess), dft (label), gpu (train).",
)
@click.option("--processes", default=1, show_default=True, type=PROCESSES)
@click.option("--until-idle", is_flag=True, help="End when no task is ready, as queue jobs should.")
@click.option("--runs", type=click.Path(path_type=Path), help="Folder for the files of jobs.")
def command(
    target: Target, categories: tuple[str, ...], processes: int, until_idle: bool, runs: Path | None
) -> None:
    """Run tasks of CAMPAIGN until it ends or pauses."""
    from al_charge.cli.running import refuse_failed
    from al_charge.errors import AlChargeError
    from al_charge.fw.rounds import CATEGORIES
    from al_charge.fw.worker import WorkerPool

    target.store().campaign(target.name)
    pool = WorkerPool(
        target.database,
        target.name,
        (runs or runs_folder()).absolute(),
        processes=processes,
        categories=categories or CATEGORIES,
        until_idle=until_idle,
    )
    # Without this the processes would end at once, with this one, and not where they can go on.
    signal.signal(signal.SIGTERM, _end)
    pool.start()
    try:
        pool.wait()
    finally:
        pool.stop()
    document = target.store().campaign(target.name)
    refuse_failed(document)
    if pool.failed:
        raise AlChargeError(
            "a worker process ended early",
            where=target.name,
            remedy=f"run 'al-charge campaign resume {target.name}'",
        )
    click.echo(f"campaign '{target.name}' is {document.state.value}", err=True)


def _end(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)
