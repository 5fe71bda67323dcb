"""Running a campaign on this machine and watching it."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from al_charge.cli.target import Target, runs_folder
from al_charge.errors import AlChargeError


def run_here(target: Target, processes: int, runs: Path | None = None) -> None:
    """Run a campaign with worker processes of this machine and watch it until it ends.

    Raises
    ------
    AlChargeError
        If every worker ended while the campaign was still running.
    """
    from al_charge.fw.rounds import CATEGORIES
    from al_charge.fw.worker import WorkerPool

    pool = WorkerPool(
        target.database,
        target.name,
        runs or runs_folder(),
        processes=processes,
        categories=CATEGORIES,
    )
    pool.start()
    try:
        follow(target, 1.0, lambda: pool.alive > 0)
    finally:
        pool.stop()
    state = target.store().campaign(target.name).state.value
    if state == "running":
        raise AlChargeError(
            "every worker ended before the campaign did",
            where=target.name,
            remedy=f"run 'al-charge campaign resume {target.name}'",
        )


def follow(target: Target, interval: float, go_on: Callable[[], bool] = lambda: True) -> None:
    """Draw a campaign's status on standard error until it ends, pauses, or ``go_on`` is false."""
    from rich.console import Console
    from rich.live import Live

    from al_charge.fw.status import status_document
    from al_charge.report.progress import status_panel

    launchpad, campaign = target.launchpad(), target.campaign()
    console = Console(stderr=True)
    document = status_document(launchpad, campaign)
    with Live(status_panel(document), console=console, refresh_per_second=2) as live:
        while document["state"] == "running" and go_on():
            time.sleep(interval)
            document = status_document(launchpad, campaign)
            live.update(status_panel(document))
