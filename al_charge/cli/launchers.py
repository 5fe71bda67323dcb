"""`al-charge launchers`: what a cluster needs to run campaigns, written and checked."""

from __future__ import annotations

import shlex
import sys
from dataclasses import asdict
from pathlib import Path

import click

from al_charge.cli.campaign_file import packaged_folder
from al_charge.cli.output import Group, json_option, print_json

DEFAULT_FOLDER = Path("site")
_STYLES = {"ok": "green", "warning": "yellow", "error": "red"}

campaign_option = click.option(
    "--campaign",
    "file",
    type=click.Path(path_type=Path),
    help="File of the campaign that is to run there.",
)


@click.group("launchers", cls=Group)
def command() -> None:
    """Write and check the files of a site and its queue."""


@command.command("new")
@click.argument("site")
@click.argument("folder", type=click.Path(path_type=Path), default=DEFAULT_FOLDER)
@campaign_option
def new(site: str, folder: Path, file: Path | None) -> None:
    """Write the files of a SITE into FOLDER, 'site' by default.

    SITE is slurm, pbs, lsf, sge or workstation. The resources of jobs are those of the campaign
    file's section 'resources', if given.
    """
    from al_charge.fw.queue_folder import write_launchers
    from al_charge.loop.resources import ResourcesSettings
    from al_charge.loop.spec import load_spec

    spec = None if file is None else load_spec(file)
    write_launchers(
        packaged_folder("launchers"),
        site,
        folder,
        resources=ResourcesSettings() if spec is None else spec.resources,
        campaign=None if spec is None else spec.name,
        pre_rocket=f"export PATH={shlex.quote(str(Path(sys.executable).parent))}:$PATH",
    )
    options = "" if file is None else f" --campaign {file}"
    click.echo(f"wrote {folder}; edit it, then 'al-charge launchers check {folder}{options}'")


@command.command("check")
@click.argument("folder", type=click.Path(path_type=Path), default=DEFAULT_FOLDER)
@campaign_option
@json_option
def check(folder: Path, file: Path | None, as_json: bool) -> None:
    """Check the files of a site in FOLDER, and what its jobs would find. Nothing is submitted."""
    from al_charge.fw.queue_check import check_launchers, worst
    from al_charge.loop.resources import ResourcesSettings
    from al_charge.loop.spec import load_spec
    from al_charge.store.settings import settings_from_environment

    spec = None if file is None else load_spec(file)
    findings = check_launchers(
        folder,
        None if file is None else file.absolute(),
        (spec and spec.database) or settings_from_environment(),
        ResourcesSettings() if spec is None else spec.resources,
    )
    level = worst(findings)
    if as_json:
        print_json({"level": level, "findings": [asdict(finding) for finding in findings]})
    else:
        for finding in findings:
            mark = click.style(f"{finding.level:8}", fg=_STYLES[finding.level])
            click.echo(f"{mark}{finding.what}: {finding.text}")
    if level == "error":
        raise SystemExit(2)
