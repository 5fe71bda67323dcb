"""Check the folder of a site: one line for each finding."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from fireworks import fw_config
from fireworks.fw_config import RUN_EXPIRATION_SECS

from al_charge.errors import AlChargeError, InputError, one_line
from al_charge.fw.queue_adapter import NamedJobsAdapter
from al_charge.fw.queue_folder import (
    fworker_file,
    queue_system_of,
    read_adapter,
    read_fields,
    refuse_unknown,
)
from al_charge.fw.queue_probe import probe
from al_charge.fw.queue_systems import (
    SAVE_SECONDS,
    WORKSTATION,
    QueueSystem,
    seconds_of,
    settings_for,
)
from al_charge.fw.tasks import CATEGORIES
from al_charge.loop.resources import ResourcesSettings
from al_charge.loop.strict_yaml import LARGEST_FILE
from al_charge.store.settings import PASSWORD_ENV, DatabaseSettings

Level = Literal["ok", "warning", "error"]
_HEARTBEATS = ("PING_TIME_SECS", "RUN_EXPIRATION_SECS", "WFLOCK_EXPIRATION_SECS")
_SECRET = re.compile(
    r"mongodb(?:\+srv)?://[^\s:@/]+:[^\s@/]+@"
    r"|^[^#\n]*\b[\w-]*(?:password|passwd|secret)\w*[\"']?\s*[:=]\s*"
    r"(?!null\b|''|\"\"|[\"']?\$)\S",
    re.IGNORECASE | re.MULTILINE,
)
"""A login in a URI, or a literal value of a field that is named like a password."""


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    Attributes
    ----------
    level
        ``ok``, ``warning`` or ``error``.
    what
        What was checked.
    text
        What was found, in one line.
    """

    level: Level
    what: str
    text: str


def check_launchers(
    folder: Path,
    campaign: Path | None,
    database: DatabaseSettings | None,
    resources: ResourcesSettings,
) -> list[Finding]:
    """Check everything that jobs of a site depend on.

    Parameters
    ----------
    folder
        Folder of the site.
    campaign
        File of the campaign that is to run there; None to check the site alone.
    database
        The database that the campaign or the environment names; None for the embedded server.
    resources
        What the campaign's jobs ask for; other settings are those of the folder.

    Returns
    -------
    list of Finding
        One for each check.

    Raises
    ------
    InputError
        If the folder is not one of a site.
    """
    system = queue_system_of(folder)
    findings = [Finding("ok", "site", system.name if system is not None else WORKSTATION)]
    findings += _tried("FW_config.yaml", partial(_heartbeats, folder))
    findings += _tried("my_launchpad.yaml", partial(_launchpad, folder))
    findings += _scripts(folder)
    findings += _secrets(folder)
    findings += _database(database, embedded_allowed=system is None)
    if system is not None:
        findings += _programs(system)
    environments: dict[str, list[str]] = {}
    for category in CATEGORIES:
        name = f"my_fworker_{category}.yaml"
        findings += _tried(name, partial(_fworker, folder, category))
        if system is None:
            environments.setdefault("", []).append(category)
            continue
        try:
            settings = read_adapter(folder, category)
            settings |= settings_for(system, getattr(resources, category), settings)
        except InputError as error:
            findings.append(_failed(f"jobs {category}", error))
            continue
        findings += _tried(f"jobs {category}", partial(_job, system, category, settings))
        environments.setdefault(str(settings.get("pre_rocket") or ""), []).append(category)
    for pre_rocket, categories in environments.items():
        findings += [Finding(*found) for found in probe(pre_rocket, categories, campaign)]
    return findings


def _tried(what: str, check: Callable[[], list[Finding]]) -> list[Finding]:
    """Return what a check finds; an error that it raises is a finding as well."""
    try:
        return check()
    except AlChargeError as error:
        return [_failed(what, error)]


def _failed(what: str, error: AlChargeError) -> Finding:
    return Finding("error", what, str(error))


def _heartbeats(folder: Path) -> list[Finding]:
    path = folder / "FW_config.yaml"
    settings = read_fields(path)
    refuse_unknown(path, settings, fw_config.config_to_dict())
    packaged = read_fields(Path(__file__).with_name("FW_config.yaml"))
    wrong = [name for name in _HEARTBEATS if settings.get(name) != packaged[name]]
    if wrong:
        name = wrong[0]
        value = one_line(str(settings.get(name)))
        text = f"{name} is {value}, not {packaged[name]} as for every other worker"
        return [Finding("error", path.name, text)]
    return [Finding("ok", path.name, f"a run that is silent for {RUN_EXPIRATION_SECS} s is lost")]


def _launchpad(folder: Path) -> list[Finding]:
    path = folder / "my_launchpad.yaml"
    settings = read_fields(path)
    refuse_unknown(path, settings, ("host", "name", "uri_mode", "strm_lvl"))
    if (settings.get("host"), settings.get("name")) != ("${uri}", "${name}"):
        raise InputError(
            "host and name are filled in by fireworks.sh",
            where=str(path),
            remedy="leave them '${uri}' and '${name}'",
        )
    return [Finding("ok", path.name, "a template without a login")]


def _fworker(folder: Path, category: str) -> list[Finding]:
    path = fworker_file(folder, category)
    settings = read_fields(path)
    refuse_unknown(path, settings, ("name", "category", "query", "env"))
    if settings.get("category") != category:
        raise InputError(
            f"its category is '{settings.get('category')}'",
            where=f"{path}: category",
            remedy=f"write '{category}'",
        )
    try:
        query = json.loads(settings.get("query") or "null")
    except (TypeError, ValueError):
        query = None
    if not isinstance(query, dict):
        raise InputError(
            "it is not a query in JSON", where=f"{path}: query", remedy="write '{}' for every task"
        )
    return []


def _scripts(folder: Path) -> Iterator[Finding]:
    scripts = sorted(folder.glob("*.sh"))
    for script in scripts:
        if not os.access(script, os.X_OK):
            yield Finding("error", script.name, f"it cannot be run; chmod +x {script}")
        elif complaint := _bash_complaint(_text(script)):
            yield Finding("error", script.name, complaint)
    if "job.sh" not in {script.name for script in scripts}:
        yield Finding("error", "job.sh", "it is missing; jobs need it")


def _text(path: Path) -> str:
    """Return the text of a file, as far as one is looked at."""
    with path.open(encoding="utf-8", errors="replace") as file:
        return file.read(LARGEST_FILE)


def _bash_complaint(script: str) -> str:
    """Return bash's first complaint about a script, or an empty string."""
    done = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True, check=False)
    return (done.stderr.strip().splitlines() or [""])[0]


def _secrets(folder: Path) -> Iterator[Finding]:
    password = os.environ.get(PASSWORD_ENV, "")
    found = False
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        text = _text(path)
        if _SECRET.search(text) or (len(password) > 3 and password in text):
            found = True
            yield Finding(
                "error",
                path.name,
                "it holds a password; put that into a credentials file or the environment",
            )
    if not found:
        yield Finding("ok", "secrets", "no file holds a password")


def _programs(system: QueueSystem) -> Iterator[Finding]:
    for program in system.programs:
        if shutil.which(program):
            yield Finding("ok", "queue", f"{program} is there")
        else:
            yield Finding(
                "error", "queue", f"there is no {program} here; run this where jobs are submitted"
            )


def _database(settings: DatabaseSettings | None, *, embedded_allowed: bool) -> Iterator[Finding]:
    from al_charge.store.connection import connect
    from al_charge.store.credentials import find_credentials
    from al_charge.store.mongod import find_mongod

    if settings is None:
        if not embedded_allowed:
            yield Finding(
                "error",
                "database",
                "the embedded one serves a single machine; name one that compute nodes reach",
            )
            return
        yield from _tried("database", lambda: [Finding("ok", "database", str(find_mongod()))])
        return
    try:
        with connect(settings).client:
            yield Finding("ok", "database", f"{settings.uri} answers")
        if find_credentials(settings) is None:
            yield Finding("warning", "database", "it is used without a user name and password")
        elif os.environ.get(PASSWORD_ENV) and not embedded_allowed:
            yield Finding(
                "warning",
                "database",
                f"{PASSWORD_ENV} goes through the queue, whose administrators can read it; "
                "a credentials file does not",
            )
    except AlChargeError as error:
        yield _failed("database", error)


def _job(system: QueueSystem, category: str, settings: dict[str, Any]) -> list[Finding]:
    """Render the script of a category's jobs, and check it."""
    what = f"jobs {category}"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        script = NamedJobsAdapter.from_dict(settings).get_script_str(".")
    if complaint := _bash_complaint(script):
        return [Finding("error", what, f"bash: {complaint}")]
    command = str(settings["rocket_launch"])
    for part in ("job.sh", "al-charge worker", f"--category {category}", "--until-idle"):
        if part not in command:
            return [Finding("error", what, f"rocket_launch lacks '{part}'")]
    seconds = _walltime(settings)
    warned = _warning_seconds(system, settings)
    if warned < SAVE_SECONDS:
        text = f"it is warned {warned} s before its end, but may need {SAVE_SECONDS} s to save"
        return [Finding("error", what, text)]
    if seconds <= warned + RUN_EXPIRATION_SECS:
        least = f"the warning ({warned} s) and the heartbeat ({RUN_EXPIRATION_SECS} s)"
        text = f"its walltime, {settings['walltime']}, has to be longer than {least}"
        return [Finding("error", what, text)]
    text = f"walltime {settings['walltime']}, {settings['_jobs']} kept in the queue"
    return [Finding("ok", what, text)]


def _walltime(settings: dict[str, Any]) -> int:
    try:
        return seconds_of(str(settings["walltime"]))
    except ValueError as error:
        raise InputError(str(error), where="walltime") from None


def _warning_seconds(system: QueueSystem, settings: dict[str, Any]) -> int:
    """Return how long before its end a job is told to save."""
    if system.name == "slurm":
        found = re.fullmatch(r"B:TERM@(\d+)", str(settings.get("signal")))
        return int(found[1]) if found else 0
    if system.name == "lsf":
        return 60 * int(settings["warning"])
    return SAVE_SECONDS + 60  # job.sh has a clock of its own


def worst(findings: Sequence[Finding]) -> Level:
    """Return the most serious level among findings.

    Parameters
    ----------
    findings
        The findings.

    Returns
    -------
    Level
        ``ok`` if there is none.
    """
    levels = {finding.level for finding in findings}
    return "error" if "error" in levels else "warning" if "warning" in levels else "ok"
