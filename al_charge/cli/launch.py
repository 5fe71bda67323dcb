"""`al-charge launch`: keep jobs of a campaign in a cluster's queue."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from al_charge.cli.launchers import DEFAULT_FOLDER
from al_charge.cli.target import complete_campaigns

if TYPE_CHECKING:
    from al_charge.fw.queue_adapter import Jobs
    from al_charge.fw.queue_launch import Launcher
    from al_charge.store.documents import CampaignState

LONGEST_OUTAGE = 3600.0
"""Seconds for which the queue or the database may not answer."""
LAST_JOBS = 60.0
"""Seconds in which jobs may end after their campaign, for the ledger to have their ends."""

_log = logging.getLogger("al_charge.cli")
_progress_log = logging.getLogger("al_charge.cli.progress")


@click.command("launch")
@click.argument("campaign", shell_complete=complete_campaigns)
@click.option(
    "--site",
    type=click.Path(path_type=Path),
    default=DEFAULT_FOLDER,
    show_default=True,
    help="Folder that 'al-charge launchers new' wrote.",
)
@click.option(
    "--category",
    "categories",
    multiple=True,
    type=click.Choice(["cpu", "dft", "gpu"]),
    help="Only jobs of this kind.",
)
@click.option(
    "--jobs",
    type=click.IntRange(1, 1000),
    help="How many of each kind to keep in the queue, instead of what the files say.",
)
@click.option(
    "--interval",
    type=click.FloatRange(1.0, 3600.0),
    default=30.0,
    show_default=True,
    help="Seconds between checks of the queue.",
)
@click.option("--once", is_flag=True, help="Fill the queue once and exit.")
def command(
    campaign: str,
    site: Path,
    categories: tuple[str, ...],
    jobs: int | None,
    interval: float,
    once: bool,
) -> None:
    """Keep jobs for CAMPAIGN in the queue until it ends.

    If CAMPAIGN is a file rather than a name, jobs request what its section 'resources' says. Ctrl-C
    leaves the jobs running; the same command continues.
    """
    from al_charge.cli.running import refuse_failed
    from al_charge.cli.target import target_of
    from al_charge.fw.queue_launch import Launcher, plan_jobs
    from al_charge.fw.tasks import CATEGORIES
    from al_charge.loop.resources import ResourcesSettings
    from al_charge.loop.spec import load_spec
    from al_charge.store.embedded import default_home

    target = target_of(campaign)
    is_file = campaign.endswith((".yaml", ".yml"))
    resources = load_spec(Path(campaign)).resources if is_file else ResourcesSettings()
    argument = str(Path(campaign).absolute()) if is_file else campaign
    plans = plan_jobs(
        site, target.name, resources, categories or CATEGORIES, argument=argument, jobs=jobs
    )
    if target.database is None:
        _log.warning("the embedded database serves jobs of this machine only")
    store = target.store()
    store.campaigns.get(target.name)
    folder = default_home() / "jobs" / target.name
    launcher = Launcher(target.launchpad(), target.name, plans, folder)
    try:
        _keep_filled(launcher, 0.0 if once else interval)
    except KeyboardInterrupt:
        _log.info("jobs stay in the queue; the same command continues")
        raise SystemExit(1) from None
    document = store.campaigns.get(target.name)
    refuse_failed(document)
    _log.info("campaign '%s' is %s", target.name, document.state.value)


def _keep_filled(launcher: Launcher, interval: float) -> None:
    """Check the queue, once or until the campaign ends; log what has changed."""
    from pymongo.errors import PyMongoError

    from al_charge.fw.queue_adapter import QueueError
    from al_charge.store.documents import CampaignState

    last_good: float | None = None
    ended: float | None = None
    last_line = ""
    while True:
        try:
            state, jobs = launcher.look()
        except (QueueError, PyMongoError) as error:
            # A queue that has never answered has no outage: it is set up wrongly.
            if last_good is None or time.monotonic() - last_good > LONGEST_OUTAGE:
                raise
            line = f"trying again: {' '.join(str(error).split())[:200]}"
        else:
            last_good, line = time.monotonic(), _summary(state, jobs)
            if state is CampaignState.RUNNING:
                ended = None
            elif ended is None:
                ended = last_good
            over = ended is not None and (
                not any(found.running for found in jobs.values()) or last_good - ended > LAST_JOBS
            )
            if over or not interval:
                _progress_log.info("%s", line)
                return
        if line != last_line:
            _progress_log.info("%s", line)
            last_line = line
        time.sleep(interval)


def _summary(state: CampaignState, jobs: Mapping[str, Jobs]) -> str:
    """Return one line: the campaign's state and the jobs of each category."""
    parts = [
        f"{category}: {found.running} running, {found.waiting} waiting"
        for category, found in jobs.items()
    ]
    return "; ".join([state.value, *parts])
