"""The folder of a site: write it from the launchers that come with the package, and read it."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from fireworks.user_objects.queue_adapters.common_adapter import CommonAdapter

from al_charge.errors import InputError, did_you_mean
from al_charge.fw.queue_systems import QUEUE_SYSTEMS, WORKSTATION, QueueSystem, settings_for
from al_charge.fw.tasks import CATEGORIES
from al_charge.loop.resources import ResourcesSettings
from al_charge.loop.strict_yaml import read_mapping
from al_charge.store.private_files import writing_to

SHARED = "shared"
"""Folder, among the launchers, of files that every site has."""

_OF_FIREWORKS = frozenset({"_fw_name", "_fw_q_type", "_fw_template_file", "_fw_timeout", "_jobs"})
_TEXTS = ("rocket_launch", "job_name", "walltime")
_NUMBERS = ("_jobs",)
_MOST = 10_000


def adapter_file(folder: Path, category: str) -> Path:
    """Return the file of a site that describes a category's jobs.

    Parameters
    ----------
    folder
        Folder of the site.
    category
        ``cpu``, ``dft`` or ``gpu``.

    Returns
    -------
    Path
        It need not exist.
    """
    return folder / f"my_qadapter_{category}.yaml"


def fworker_file(folder: Path, category: str) -> Path:
    """Return the file of a site that says which tasks a category has.

    Parameters
    ----------
    folder
        Folder of the site.
    category
        ``cpu``, ``dft`` or ``gpu``.

    Returns
    -------
    Path
        It need not exist.
    """
    return folder / f"my_fworker_{category}.yaml"


def write_launchers(
    launchers: Path,
    name: str,
    folder: Path,
    *,
    resources: ResourcesSettings,
    campaign: str | None,
    pre_rocket: str,
) -> None:
    """Write a site's folder, completely or not at all.

    Parameters
    ----------
    launchers
        The launchers that come with the package.
    name
        Kind of the site.
    folder
        Folder to write; it is new or empty.
    resources
        What jobs ask for; other settings stay as the package has them.
    campaign
        Name of the campaign whose tasks are run; None for those of all campaigns.
    pre_rocket
        Commands that a job runs first.

    Raises
    ------
    InputError
        If there is no such kind of site, or the folder has something in it.
    """
    known = [*QUEUE_SYSTEMS, WORKSTATION]
    if name not in known:
        raise InputError(f"no site '{name}'", remedy=did_you_mean(name, known))
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError("the folder is not empty", where=str(folder), remedy="name another folder")
    with writing_to(folder.parent):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".launchers-") as draft:
            content = Path(draft, "site")
            _copy(launchers / SHARED, content)
            _copy(launchers / name, content)
            for category in CATEGORIES:
                if name in QUEUE_SYSTEMS:
                    _fill_adapter(content, category, QUEUE_SYSTEMS[name], resources, pre_rocket)
                if campaign is not None:
                    query = json.dumps({"spec.campaign": campaign})
                    _set_values(fworker_file(content, category), {"query": query})
            content.replace(folder)


def _copy(source: Path, folder: Path) -> None:
    """Copy files, and make the copies editable whatever the originals' permissions."""
    folder.mkdir(exist_ok=True)
    for file in sorted(source.iterdir()):
        target = folder / file.name
        shutil.copyfile(file, target)
        target.chmod(0o755 if file.suffix == ".sh" else 0o644)


def _fill_adapter(
    folder: Path, category: str, system: QueueSystem, resources: ResourcesSettings, pre_rocket: str
) -> None:
    path = adapter_file(folder, category)
    settings = settings_for(system, getattr(resources, category), read_adapter(folder, category))
    _set_values(path, {"pre_rocket": pre_rocket} | settings)


def _set_values(path: Path, settings: dict[str, Any]) -> None:
    """Set values in a YAML file of one field per line, and keep its comments."""
    text = path.read_text(encoding="utf-8")
    for key, value in settings.items():
        field = re.compile(rf"^{key}: *(?:'[^'\n]*'|[^#\n]*?)( *#.*)?$", re.MULTILINE)
        found = field.search(text)
        if found is None:
            raise InputError(f"there is no line '{key}: ...'", where=str(path))
        line = f"{key}: {_scalar(value)}"
        if found[1]:
            line = f"{line:<{found[0].index('#') - 1}} {found[1].strip()}"
        text = text[: found.start()] + line + text[found.end() :]
    path.write_text(text, encoding="utf-8")


def _scalar(value: Any) -> str:
    """Return a value in YAML."""
    quoted = isinstance(value, str) and "'" not in value and value.isprintable()
    return f"'{value}'" if quoted else json.dumps(value)


def queue_system_of(folder: Path) -> QueueSystem | None:
    """Return the queue of a site.

    Parameters
    ----------
    folder
        Folder of the site.

    Returns
    -------
    QueueSystem or None
        None for a workstation.

    Raises
    ------
    InputError
        If the folder is not one of a site.
    """
    for category in CATEGORIES:
        if adapter_file(folder, category).is_file():
            return _queue_of(adapter_file(folder, category))
    if fworker_file(folder, CATEGORIES[0]).is_file():
        return None
    raise InputError(
        "it is not a folder of launchers",
        where=str(folder),
        remedy="write one with 'al-charge launchers new SITE FOLDER'",
    )


def _queue_of(path: Path) -> QueueSystem:
    """Return the queue that an adapter is for."""
    q_type = read_fields(path).get("_fw_q_type")
    for system in QUEUE_SYSTEMS.values():
        if system.q_type == q_type:
            return system
    raise InputError(
        f"'{q_type}' is not a known queue",
        where=f"{path}: _fw_q_type",
        remedy=did_you_mean(str(q_type), [system.q_type for system in QUEUE_SYSTEMS.values()]),
    )


def read_fields(path: Path) -> dict[Any, Any]:
    """Return the fields of one of a site's files.

    Parameters
    ----------
    path
        A YAML file.

    Returns
    -------
    dict
        Values by name.

    Raises
    ------
    InputError
        If it cannot be read, or is not YAML with fields.
    """
    return read_mapping(path, remedy="copy it from a new folder of 'al-charge launchers new'")


def read_adapter(folder: Path, category: str) -> dict[str, Any]:
    """Return the settings of a category's jobs.

    Parameters
    ----------
    folder
        Folder of the site.
    category
        ``cpu``, ``dft`` or ``gpu``.

    Returns
    -------
    dict
        Values by name, the path of the job script's template made absolute.

    Raises
    ------
    InputError
        If a setting is unknown, of the wrong kind, or missing.
    """
    path = adapter_file(folder, category)
    system, settings = _queue_of(path), read_fields(path)
    if (template := settings.get("_fw_template_file")) is not None:
        settings["_fw_template_file"] = str((folder / str(template)).absolute())
    refuse_unknown(path, settings, _known_settings(settings, path))
    for key, value in settings.items():
        if isinstance(value, bool) or not isinstance(value, str | int | float | None):
            raise InputError("its value is neither text nor number", where=f"{path}: {key}")
        if "$$" in str(value) or not str(value).replace("\n", "").isprintable():
            raise InputError("no job script can hold this text", where=f"{path}: {key}")
    for key in (*_TEXTS, *_NUMBERS, *system.numbers):
        if settings.get(key) is None:
            raise InputError("this field is required", where=f"{path}: {key}")
    for key in _TEXTS:
        if not isinstance(settings[key], str):
            raise InputError(
                f"YAML reads '{settings[key]}' as a number",
                where=f"{path}: {key}",
                remedy="write it in quotes, such as '24:00:00'",
            )
    for key in (*_NUMBERS, *system.numbers):
        if not isinstance(settings[key], int) or not 1 <= settings[key] <= _MOST:
            raise InputError(
                f"'{settings[key]}' is not a valid number",
                where=f"{path}: {key}",
                remedy=f"write a whole number from 1 to {_MOST}",
            )
    return settings


def refuse_unknown(path: Path, settings: Iterable[Any], known: Iterable[str]) -> None:
    """Refuse the first unknown field of a file.

    Parameters
    ----------
    path
        The file, for the message.
    settings
        Names of its fields.
    known
        Names of the fields that it may have.

    Raises
    ------
    InputError
        With the field that was probably meant.
    """
    words = set(known)
    for key in settings:
        if key not in words:
            raise InputError(
                f"there is no field '{key}'",
                where=f"{path}: {key}",
                remedy=did_you_mean(str(key), words),
            )


def _known_settings(settings: dict[str, Any], path: Path) -> set[str]:
    """Return the fields that an adapter's template has, and those that FireWorks reads itself."""
    default = CommonAdapter._get_default_template_file(settings["_fw_q_type"])
    template = Path(settings.get("_fw_template_file") or default)
    try:
        text = template.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise InputError(
            "cannot read the template of its script",
            where=f"{path}: _fw_template_file",
            remedy="copy it from a new folder of 'al-charge launchers new'",
        ) from error
    found = set(re.findall(r"\$\$\{([\w-]+)\}", text))
    return (found - {"launch_dir"}) | _OF_FIREWORKS
