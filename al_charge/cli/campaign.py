"""`al-charge campaign`: submit, status, watch, pause, resume, list, jobs, logs, cost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from al_charge.cli.doctor import no_wait_option, watching
from al_charge.cli.output import Group, json_option, show
from al_charge.cli.target import PROCESSES, Target, campaign_argument, open_store

workers_option = click.option(
    "--workers",
    type=PROCESSES,
    help="Also run it here with this many worker processes, and watch it until it ends.",
)


@click.group("campaign", cls=Group)
def command() -> None:
    """Submit, follow, pause and resume campaigns."""


@command.command("submit")
@click.argument("file", type=click.Path(path_type=Path))
@workers_option
def submit(file: Path, workers: int | None) -> None:
    """Store the campaign in FILE and add its first round."""
    from al_charge.fw.tasks import ensure_round
    from al_charge.loop.campaign import open_campaign
    from al_charge.loop.rounds import current_round
    from al_charge.loop.spec import load_spec
    from al_charge.loop.submit import check_spec
    from al_charge.loop.submit import submit as store_campaign
    from al_charge.store.settings import settings_from_environment

    spec = load_spec(file)
    check_spec(spec)
    target = Target(spec.name, spec.database or settings_from_environment())
    store = target.store()
    new = store_campaign(store, spec)
    campaign = open_campaign(store, spec.name)
    ensure_round(target.launchpad(), campaign, current_round(campaign))
    click.echo(f"campaign '{spec.name}' {'submitted' if new else 'is already there'}")
    _go_on(target, workers)


@command.command("resume")
@campaign_argument
@no_wait_option
@click.option("--retry", is_flag=True, help="Also retry the labels that were given up.")
@workers_option
def resume(target: Target, no_wait: bool, retry: bool, workers: int | None) -> None:
    """Continue a campaign after any interruption, or after a pause.

    Finds runs whose worker is gone, repairs half-written workflows, deletes orphans, and adds the
    round that is due. Existing labels are never computed again. With --retry, labels that were
    given up are tried again; remove the cause first.
    """
    from al_charge.fw.repair import repair
    from al_charge.fw.repair import retry as retry_given_up

    campaign = target.campaign()
    target.warn_if_edited()
    if retry:
        count = len(retry_given_up(target.launchpad(), campaign))
        click.echo(f"labels that were given up and will be tried again: {count}")
    done = repair(target.launchpad(), campaign, wait=not no_wait, waiting=watching)
    counts = ", ".join(f"{kind} ({count})" for kind, count in done.items())
    found = f"repaired: {counts}" if counts else "nothing to repair"
    state = campaign.store.campaigns.get(target.name).state.value
    click.echo(f"campaign '{target.name}' is {state}; {found}")
    if state == "running":
        _go_on(target, workers)


def _go_on(target: Target, workers: int | None) -> None:
    if workers is None:
        click.echo(f"run its tasks with 'al-charge worker {target.name}'")
        return
    from al_charge.cli.running import run_here

    run_here(target, workers)


@command.command("pause")
@campaign_argument
def pause(target: Target) -> None:
    """Let running tasks end and start no new ones."""
    from al_charge.store.documents import CampaignState

    store = target.store()
    state = store.campaigns.get(target.name).state
    if state is CampaignState.RUNNING:
        store.campaigns.set_state(target.name, CampaignState.PAUSED, "paused by the user")
        click.echo(f"campaign '{target.name}' is paused; 'al-charge campaign resume' continues it")
    else:
        click.echo(f"campaign '{target.name}' is {state.value} already")


@command.command("list")
@json_option
def list_campaigns(as_json: bool) -> None:
    """List the campaigns of the database."""
    from al_charge.store.settings import settings_from_environment

    store = open_store(settings_from_environment())
    found = [
        {
            "campaign": c.name,
            "state": c.state.value,
            "reason": c.reason,
            "created": c.created.isoformat(),
        }
        for c in store.campaigns.all()
    ]
    show({"campaigns": found}, as_json, lambda: _list_table(found))


@command.command("status")
@campaign_argument
@click.option(
    "--runs", type=click.Path(path_type=Path), help="Folder of the jobs' files on this machine."
)
@json_option
def status(target: Target, runs: Path | None, as_json: bool) -> None:
    """Show the state of a campaign: tasks, labels, and which convergence criteria hold."""
    found = target.opened().status(runs)
    target.warn_if_edited()
    show(found.document, as_json, found.table)


@command.command("watch")
@campaign_argument
@click.option(
    "--interval",
    type=click.FloatRange(0.1, 3600.0),
    default=2.0,
    show_default=True,
    help="Seconds between updates.",
)
@click.option(
    "--notify",
    type=click.Choice(["mail", "webhook"]),
    multiple=True,
    help="Also send a message when it ends, a label fails, it is stuck, or no worker is left. "
    "Recipients are in notify.json in al-charge's folder. May be repeated.",
)
def watch(target: Target, interval: float, notify: tuple[str, ...]) -> None:
    """Follow a campaign until it ends or pauses."""
    from al_charge.cli.running import follow, follow_and_notify

    if notify:
        follow_and_notify(target, interval, notify)
    else:
        follow(target, interval)


@command.command("jobs")
@campaign_argument
@click.option("--failed", is_flag=True, help="Only those that failed, with the reason.")
@json_option
def jobs(target: Target, failed: bool, as_json: bool) -> None:
    """List the jobs of a campaign: state, label, machine and time of each."""
    found = target.opened().jobs(failed=failed)
    show(found.document, as_json, found.table)


@command.command("logs")
@campaign_argument
@click.argument("task")
@json_option
def logs(target: Target, task: str, as_json: bool) -> None:
    """Show the runs of a job: outcomes, errors, and the last lines of its logs.

    TASK is listed by 'al-charge campaign jobs', such as '3/label 2', or is the beginning of a
    label's id.
    """
    from al_charge.fw.jobs import find_job, jobs_of, logs_document
    from al_charge.report.jobs import logs_text

    launchpad, campaign = target.launchpad(), target.campaign()
    document = logs_document(launchpad, campaign, find_job(jobs_of(launchpad, campaign), task))
    show(document, as_json, lambda: logs_text(document))


@command.command("cost")
@campaign_argument
@click.option("--forecast", is_flag=True, help="Also say what the campaign may still cost.")
@json_option
def cost(target: Target, forecast: bool, as_json: bool) -> None:
    """Show what a campaign has cost: core hours by kind of task and by round."""
    from al_charge.report.cost import cost_table

    found = target.opened().cost()
    show(found.document, as_json, lambda: cost_table(found.document, forecast=forecast))


def _list_table(document: list[dict[str, Any]]) -> Any:
    from rich.table import Table

    table = Table("campaign", "state", "why", "submitted")
    for row in document:
        table.add_row(
            row["campaign"], row["state"], row["reason"], row["created"][:16].replace("T", " ")
        )
    return table
