"""The campaign files and launchers that come with the package."""

from __future__ import annotations

from pathlib import Path

from al_charge.errors import AlChargeError, InputError, did_you_mean


def packaged_folder(name: str) -> Path:
    """Return a folder of files: inside an installed package, or beside its source."""
    package = Path(__file__).resolve().parent.parent
    for folder in (package / name, package.parent / name):
        if folder.is_dir():
            return folder
    raise AlChargeError(f"the folder '{name}' of the package is missing", remedy="reinstall it")


def templates_folder() -> Path:
    """Return the folder of campaign files."""
    return packaged_folder("workflows")


def template(name: str) -> Path:
    """Return one campaign file by its name without the ending.

    Raises
    ------
    InputError
        If there is none of that name.
    """
    known = {path.stem: path for path in sorted(templates_folder().glob("*.yaml"))}
    if name not in known:
        raise InputError(f"no template '{name}'", remedy=did_you_mean(name, known))
    return known[name]
