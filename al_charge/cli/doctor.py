"""`al-charge doctor`: find what crashes and outages have left, and mend it."""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from al_charge.cli.output import json_option, print_json
from al_charge.cli.progress import on_terminal
from al_charge.cli.target import (
    Target,
    complete_campaigns,
    open_database,
    runs_folder,
    target_of,
)

if TYPE_CHECKING:
    from al_charge.fw.doctor import Finding, Scene

no_wait_option = click.option(
    "--no-wait",
    is_flag=True,
    help="Leave silent runs on other machines alone, instead of watching for a heartbeat.",
)

_log = logging.getLogger("al_charge.cli.progress")


def watching(seconds: float) -> AbstractContextManager[object]:
    """Say on standard error that there is a pause, while it lasts.

    Parameters
    ----------
    seconds
        Length of the pause.

    Returns
    -------
    context manager
        To be entered for the pause.
    """
    line = f"checking again in {seconds:.0f} s what may still be running"
    if not on_terminal():
        _log.info("%s", line)
        return nullcontext()
    from rich.console import Console

    return Console(stderr=True).status(line)


@click.command("doctor")
@click.argument("campaign", required=False, shell_complete=complete_campaigns)
@click.option("--fix", is_flag=True, help="Repair what can be repaired.")
@no_wait_option
@click.option(
    "--runs", type=click.Path(path_type=Path), help="Folder of the jobs' files on this machine."
)
@click.option(
    "--deep", is_flag=True, help="Compare all stored data with their checksums, not only a sample."
)
@json_option
def command(
    campaign: str | None, fix: bool, no_wait: bool, runs: Path | None, deep: bool, as_json: bool
) -> int:
    """Find what is broken in CAMPAIGN, or in the whole database, and say how to repair it.

    Nothing is changed without --fix, and no label, model or file is ever deleted; damaged ones are
    set aside. Exit code 1: something is wrong and was not repaired.
    """
    from al_charge.fw.doctor import look, mend

    folder = (runs or runs_folder()).absolute()
    scene = _scene(campaign, folder, wait=not no_wait, deep=deep, writes=fix)
    mended: list[Finding] = []
    if scene is None:
        left: list[Finding] = []
    elif fix:
        mended, left = mend(scene, waiting=watching)
    else:
        left = look(scene, waiting=watching)
    if as_json:
        told = [_document(one, True) for one in mended] + [_document(one) for one in left]
        print_json({"findings": told})
    else:
        _tell(mended, left)
    return int(any(not finding.note for finding in left))


def _scene(
    campaign: str | None, runs: Path, *, wait: bool, deep: bool, writes: bool
) -> Scene | None:
    """Open the database as it is; None where it holds nothing yet."""
    from al_charge.fw.doctor import Scene
    from al_charge.fw.launchpad import connect_launchpad, open_launchpad
    from al_charge.store.migrations import stored_version
    from al_charge.store.mongo import Store
    from al_charge.store.settings import settings_from_environment

    target = target_of(campaign) if campaign else Target("", settings_from_environment())
    store = Store(open_database(target.database))
    if campaign and target.name not in store.campaigns.names():  # its document may be damaged
        store.campaigns.get(target.name)
    elif stored_version(store.database) == 0:
        return None
    launchpad = connect_launchpad(target.database) if writes else open_launchpad(target.database)
    click.get_current_context().call_on_close(launchpad.connection.close)
    return Scene(launchpad, store, target.name or None, runs, wait, deep)


def _tell(mended: list[Finding], left: list[Finding]) -> None:
    """Print one line for each finding, what is wrong before what is worth knowing."""
    for finding in mended:
        click.echo(f"repaired: {_line(finding)}")
    for finding in sorted(left, key=lambda one: one.note):
        click.echo(f"{'note: ' if finding.note else ''}{_line(finding)}")
    wrong = [finding for finding in left if not finding.note]
    curable = sum(finding.fix is not None for finding in wrong)
    if not wrong:
        click.echo("nothing is wrong" if not mended else "nothing else is wrong")
    elif curable and not mended:
        click.echo(f"findings: {len(wrong)}; 'al-charge doctor --fix' repairs {curable}")


def _line(finding: Finding) -> str:
    line = f"{finding.kind}: {finding.where}: {finding.what}; {finding.cure}"
    return " ".join(line.split())


def _document(finding: Finding, mended: bool = False) -> dict[str, Any]:
    return {
        "kind": finding.kind,
        "where": finding.where,
        "what": finding.what,
        "cure": finding.cure,
        "note": finding.note,
        "curable": finding.fix is not None,
        "mended": mended,
    }
