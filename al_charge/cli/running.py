"""Running a campaign on this machine and watching it."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from al_charge.cli.target import Target, runs_folder
from al_charge.errors import AlChargeError

if TYPE_CHECKING:
    from al_charge.store.documents import CampaignDoc


def run_here(target: Target, processes: int, runs: Path | None = None) -> None:
    """Run a campaign with worker processes of this machine and watch it until it ends.

    Raises
    ------
    AlChargeError
        If every worker ended while the campaign was still running, or a task failed for good.
    """
    from al_charge.fw.pool import WorkerPool
    from al_charge.fw.rounds import CATEGORIES

    with WorkerPool(
        target.database,
        target.name,
        runs or runs_folder(),
        processes=processes,
        categories=CATEGORIES,
    ) as pool:
        follow(target, 1.0, pool.tend)
    document = target.store().campaign(target.name)
    refuse_failed(document)
    if document.state.value == "running":
        raise AlChargeError(
            "every worker ended before the campaign did",
            where=target.name,
            remedy=f"run 'al-charge campaign resume {target.name}'",
        )


def refuse_failed(document: CampaignDoc) -> None:
    """Raise what stopped a campaign, if something did.

    Raises
    ------
    AlChargeError
        If its state is ``failed``.
    """
    if document.state.value == "failed":
        raise AlChargeError(
            document.reason,
            where=f"campaign '{document.name}'",
            remedy=f"mend the cause, then 'al-charge campaign resume {document.name}'",
        )


def follow(target: Target, interval: float, go_on: Callable[[], bool] = lambda: True) -> None:
    """Draw a campaign's status on standard error until it ends, pauses, or ``go_on`` is false.

    A database that is away is waited for.
    """
    from rich.console import Console
    from rich.live import Live

    from al_charge.fw.leaving import OUTAGE
    from al_charge.fw.status import status_document
    from al_charge.fw.worker import PATIENCE
    from al_charge.report.progress import status_panel

    launchpad, campaign = target.launchpad(), target.campaign()
    console = Console(stderr=True)
    document = status_document(launchpad, campaign)
    with Live(status_panel(document), console=console, refresh_per_second=2) as live:
        answered = time.monotonic()
        while document["state"] == "running" and go_on():
            time.sleep(interval)
            try:
                document = status_document(launchpad, campaign)
            except OUTAGE:
                if time.monotonic() - answered > PATIENCE:
                    raise
                continue
            answered = time.monotonic()
            live.update(status_panel(document))
