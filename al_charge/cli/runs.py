"""`al-charge runs`: the files of labels, metals and trainings on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from al_charge.cli.output import Group, json_option, print_json
from al_charge.cli.target import Target, campaign_argument, runs_folder

if TYPE_CHECKING:
    from al_charge.fw.run_folders import RunFolder
    from al_charge.loop.packed_folder import Keep


@click.group("runs", cls=Group)
def command() -> None:
    """Manage the files of a campaign's runs on this machine."""


@command.command("clean")
@campaign_argument
@click.option(
    "--keep",
    type=click.Choice(["everything", "densities", "outputs"]),
    help="Files to keep, instead of the campaign's setting.",
)
@click.option("--dry-run", is_flag=True, help="List what would be packed, and change nothing.")
@click.option(
    "--runs", type=click.Path(path_type=Path), help="Folder of the jobs' files on this machine."
)
@json_option
def clean(target: Target, keep: str | None, dry_run: bool, runs: Path | None, as_json: bool) -> int:
    """Pack the files of each label that is in the database, and of the metal, into one archive.

    Wave functions are left out, with 'outputs' densities as well; see 'keep' in the campaign file.
    Checkpoints of models that are in the database are removed, unless everything is kept.
    What is not in the database, or under way, stays as it is. Workers may run meanwhile. Exit code
    1: a folder could not be packed.
    """
    from al_charge.fw.run_folders import clean as pack_all
    from al_charge.fw.run_folders import run_folders
    from al_charge.fw.tasks import files_of

    campaign, launchpad = target.campaign(), target.launchpad()
    files = files_of((runs or runs_folder()).absolute(), target.name)
    kept = _keep_of(target, keep, campaign.spec.keep)
    found = []
    for folder in (
        run_folders(launchpad, campaign, files, kept)
        if dry_run
        else pack_all(launchpad, campaign, files, kept)
    ):
        found.append(folder)
        if not as_json:
            click.echo(_line(folder, files.resolve(), dry_run=dry_run))
    if as_json:
        print_json({"campaign": target.name, "folders": [_document(folder) for folder in found]})
    else:
        click.echo(_summary(found, kept, dry_run=dry_run))
    return int(any(folder.failed for folder in found))


def _keep_of(target: Target, asked: str | None, stored: Keep) -> Keep:
    """Return what is kept: what the command says, else the file it was given, else the campaign."""
    from al_charge.loop.packed_folder import Keep
    from al_charge.loop.spec import load_spec

    if asked is not None:
        return Keep(asked)
    return stored if target.file is None else load_spec(target.file).keep


def _line(folder: RunFolder, files: Path, *, dry_run: bool) -> str:
    what = f"{folder.path.relative_to(files)}: {_amount(folder.before.files, folder.before.size)}"
    if folder.stays:
        return f"{what}: stays: {folder.stays}"
    if folder.is_training:
        return f"{what}: {'would be removed' if dry_run else 'removed'}: its model is stored"
    if folder.after is None:
        return f"{what}: {'would be packed' if dry_run else 'not packed'}"
    return f"{what}: packed into {_megabytes(folder.after.size)}"


def _summary(found: list[RunFolder], keep: Keep, *, dry_run: bool) -> str:
    due = [folder for folder in found if not folder.stays and not folder.is_training]
    gone = [folder for folder in found if not folder.stays and folder.is_training]
    before = _amount(sum(one.before.files for one in due), sum(one.before.size for one in due))
    stay = len(found) - len(due) - len(gone)
    after = _megabytes(sum(one.after.size for one in due if one.after is not None))
    done = f"would be packed, keeping {keep}" if dry_run else f"packed into {after}, keeping {keep}"
    what = "1 folder" if len(due) == 1 else f"{len(due)} folders"
    left = f"{stay} stay{'s' * (stay == 1)}"
    if gone:
        size = _megabytes(sum(one.before.size for one in gone))
        left = f"{size} of checkpoints {'would be ' * dry_run}removed; {left}"
    return f"{what} with {before}: {done}; {left}" if due else f"nothing to pack; {left}"


def _amount(files: int, size: int) -> str:
    return f"{files} {'file' if files == 1 else 'files'}, {_megabytes(size)}"


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.{1 if size >= 1e6 else 3}f} MB"


def _document(folder: RunFolder) -> dict[str, Any]:
    return {
        "folder": str(folder.path),
        "label": folder.label or None,
        "stays": folder.stays,
        "files": folder.before.files,
        "bytes": folder.before.size,
        "packed_bytes": None if folder.after is None else folder.after.size,
    }
