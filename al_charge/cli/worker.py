"""`al-charge worker`: run a campaign's tasks on this machine."""

from __future__ import annotations

import logging
from pathlib import Path

import click

from al_charge.cli.target import PROCESSES, Target, campaign_argument, runs_folder

_log = logging.getLogger("al_charge.cli")


@click.command("worker")
@campaign_argument
@click.option(
    "--category",
    "categories",
    multiple=True,
    type=click.Choice(["cpu", "dft", "gpu"]),
    help="Only tasks of this kind: cpu (propose, select, assess), dft (label), gpu (train).",
)
@click.option(
    "--processes", default=1, show_default=True, type=PROCESSES, help="Number of worker processes."
)
@click.option("--until-idle", is_flag=True, help="End when no task is ready, as queue jobs should.")
@click.option("--runs", type=click.Path(path_type=Path), help="Folder for the files of jobs.")
@click.option(
    "--patience",
    type=click.FloatRange(0.0, 1e6),
    default=600.0,
    show_default=True,
    help="Seconds to wait for a database that does not answer.",
)
def command(
    target: Target,
    categories: tuple[str, ...],
    processes: int,
    until_idle: bool,
    runs: Path | None,
    patience: float,
) -> None:
    """Run tasks of CAMPAIGN until it ends or pauses.

    On SIGTERM or SIGUSR1, which batch systems send some time before the walltime, its processes
    save their work, their tasks go back to other workers, and it exits.
    """
    from al_charge.cli.running import log_settings, refuse_failed
    from al_charge.errors import AlChargeError
    from al_charge.fw.pool import WorkerPool
    from al_charge.fw.tasks import CATEGORIES

    target.store().campaigns.get(target.name)
    with WorkerPool(
        target.database,
        target.name,
        (runs or runs_folder()).absolute(),
        processes=processes,
        categories=categories or CATEGORIES,
        until_idle=until_idle,
        patience=patience,
        logs=log_settings(),
    ) as pool:
        pool.wait()
    document = target.store().campaigns.get(target.name)
    refuse_failed(document)
    if pool.failed:
        raise AlChargeError(
            "a worker process ended early",
            where=target.name,
            remedy=f"run 'al-charge campaign resume {target.name}'",
        )
    _log.info("campaign '%s' is %s", target.name, document.state.value)
