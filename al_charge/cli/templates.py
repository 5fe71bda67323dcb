"""The campaign files and launchers that come with the package."""

from __future__ import annotations

from pathlib import Path

from al_charge.errors import AlChargeError, InputError, did_you_mean


def packaged_folder(name: str) -> Path:
    """Return a folder of files: inside an installed package, or beside its source.

    Parameters
    ----------
    name
        Name of the folder: ``launchers`` or ``workflows``.

    Returns
    -------
    Path
        It exists.

    Raises
    ------
    AlChargeError
        If the folder is missing.
    """
    package = Path(__file__).resolve().parent.parent
    for folder in (package / name, package.parent / name):
        if folder.is_dir():
            return folder
    raise AlChargeError(f"the folder '{name}' of the package is missing", remedy="reinstall it")


def templates_folder() -> Path:
    """Return the folder of the campaign files that come with the package.

    Returns
    -------
    Path
        It holds YAML files, and their structures in ``hosts/``.
    """
    return packaged_folder("workflows")


def template(name: str) -> Path:
    """Return one of the campaign files that come with the package.

    Parameters
    ----------
    name
        Its name without the ending.

    Returns
    -------
    Path
        The YAML file.

    Raises
    ------
    InputError
        If there is none of that name.
    """
    known = {path.stem: path for path in sorted(templates_folder().glob("*.yaml"))}
    if name not in known:
        raise InputError(f"no template '{name}'", remedy=did_you_mean(name, known))
    return known[name]
