"""Which campaign, in which database: what most commands are given."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from al_charge.errors import InputError, NotInstalledError

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem
    from fireworks import LaunchPad
    from pymongo.database import Database

    from al_charge.api.campaign import Campaign as OpenedCampaign
    from al_charge.loop.campaign import Campaign
    from al_charge.store.mongo import Store
    from al_charge.store.settings import DatabaseSettings

COMPLETION_PATIENCE = 2.0
"""Seconds that a shell waits for the database."""
PROCESSES = click.IntRange(1, 256)
"""How many worker processes one command may start."""

_log = logging.getLogger("al_charge.cli")


@dataclass(frozen=True)
class Target:
    """A campaign and its database.

    Attributes
    ----------
    name
        The campaign's name.
    database
        None for the embedded server.
    file
        The campaign's file, where the command was given that instead of a name.
    """

    name: str
    database: DatabaseSettings | None
    file: Path | None = None

    def store(self) -> Store:
        """Connect to the store.

        Returns
        -------
        Store
            Closed when the command ends.
        """
        return open_store(self.database)

    def campaign(self) -> Campaign:
        """Load the campaign.

        Returns
        -------
        Campaign
            As the tasks see it.
        """
        from al_charge.loop.campaign import open_campaign

        return open_campaign(self.store(), self.name)

    def warn_if_edited(self) -> None:
        """Warn if the campaign's file, or a structure it names, was changed after submission."""
        from al_charge.loop.spec import load_spec
        from al_charge.loop.submit import is_edited

        if self.file is None:
            return
        try:
            edited = is_edited(load_spec(self.file), self.store().campaigns.get(self.name))
        except NotInstalledError:
            return  # nobody can tell here
        except InputError as error:
            _log.warning("warning: %s is no longer what was submitted: %s", self.file, error)
            return
        if edited:
            _log.warning(
                "warning: %s or a structure that it names was changed since it was submitted; the "
                "campaign goes on as it was; to run the new one, give it another name",
                self.file,
            )

    def opened(self) -> OpenedCampaign:
        """Load the campaign for the Python interface.

        Returns
        -------
        Campaign
            As ``al_charge.open`` returns it.
        """
        from al_charge.api.campaign import Campaign as OpenedCampaign

        return OpenedCampaign(self.campaign(), self.database)

    def launchpad(self) -> LaunchPad:
        """Connect to FireWorks' collections in the same database.

        Returns
        -------
        LaunchPad
            Closed when the command ends.
        """
        from al_charge.fw.launchpad import connect_launchpad

        launchpad = connect_launchpad(self.database)
        _when_done(launchpad.connection.close)
        return launchpad


def open_store(database: DatabaseSettings | None) -> Store:
    """Connect to a database; create collections and indexes if it is new.

    Parameters
    ----------
    database
        None for the embedded server, which is started if it does not run.

    Returns
    -------
    Store
        Closed when the command ends.
    """
    from al_charge.store.mongo import Store

    store = Store(open_database(database))
    store.ensure_schema()
    return store


def open_database(database: DatabaseSettings | None) -> Database[dict[str, Any]]:
    """Connect to a database, whatever it holds.

    Parameters
    ----------
    database
        None for the embedded server, which is started if it does not run.

    Returns
    -------
    Database
        Closed when the command ends.
    """
    from al_charge.store.connection import connect

    connected = connect(database)
    if database is not None and (warning := database.insecurity()) is not None:
        warn_once(warning)
    _when_done(connected.client.close)
    return connected


def database_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the option --database, passed on as settings named ``database``.

    Parameters
    ----------
    function
        A command.

    Returns
    -------
    callable
        The command with the option.
    """
    option = click.option(
        "--database",
        metavar="URI",
        callback=_settings,
        help="MongoDB to use: mongodb://HOST/NAME, without a password. By default the one that "
        "AL_CHARGE_DATABASE names, else the embedded one.",
    )
    return option(function)


def _settings(
    ctx: click.Context, parameter: click.Parameter, uri: str | None
) -> DatabaseSettings | None:
    from al_charge.store.settings import settings_from_environment, settings_of

    return settings_from_environment() if uri is None else settings_of(uri, "--database")


@functools.cache
def warn_once(line: str) -> None:
    """Log a warning, unless the same one was logged before.

    Parameters
    ----------
    line
        One line.
    """
    _log.warning("warning: %s", line)


def _when_done(close: Callable[[], None]) -> None:
    """Close a connection when the command that opened it ends."""
    context = click.get_current_context(silent=True)
    if context is not None:
        context.call_on_close(close)


def campaign_argument(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the argument CAMPAIGN, passed on as a `Target` named ``target``.

    Parameters
    ----------
    function
        A command.

    Returns
    -------
    callable
        The command with the argument.
    """
    return click.argument(
        "target", metavar="CAMPAIGN", callback=_resolve, shell_complete=complete_campaigns
    )(function)


def campaigns_argument(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the argument CAMPAIGN, one or more, passed on as a tuple of `Target`, ``targets``.

    Parameters
    ----------
    function
        A command.

    Returns
    -------
    callable
        The command with the argument.
    """
    return click.argument(
        "targets",
        metavar="CAMPAIGN...",
        nargs=-1,
        required=True,
        callback=_resolve_all,
        shell_complete=complete_campaigns,
    )(function)


def complete_campaigns(
    ctx: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Return what a shell may complete where a campaign is due.

    Parameters
    ----------
    ctx
        Click's, not looked at.
    parameter
        Likewise.
    incomplete
        What was typed already.

    Returns
    -------
    list of CompletionItem
        Campaigns of the database whose names begin so, or else files. The embedded server is not
        started for that, and a database that does not answer has no campaigns.
    """
    from click.shell_completion import CompletionItem

    try:
        names = _names_at_hand()
    except Exception as error:  # a shell has no place for it
        _log.debug("campaigns are not completed: %s", error)
        names = []
    found = [CompletionItem(name) for name in names if name.startswith(incomplete)]
    return [CompletionItem(incomplete, type="file"), *found]


def _names_at_hand() -> list[str]:
    import pymongo

    from al_charge.store.connection import connect
    from al_charge.store.embedded import EmbeddedServer
    from al_charge.store.mongo import Store
    from al_charge.store.settings import settings_from_environment

    settings = settings_from_environment()
    if settings is None and not EmbeddedServer().status()["running"]:
        return []
    with pymongo.timeout(COMPLETION_PATIENCE):
        store = Store(connect(settings))
        try:
            return store.campaigns.names()
        finally:
            store.close()


def runs_folder() -> Path:
    """Return the default folder for the files of jobs.

    Returns
    -------
    Path
        In al-charge's folder in the user's home, or where AL_CHARGE_HOME says.
    """
    from al_charge.store.embedded import default_home

    return default_home() / "runs"


def _resolve(ctx: click.Context, parameter: click.Parameter, value: str) -> Target:
    return target_of(value)


def _resolve_all(
    ctx: click.Context, parameter: click.Parameter, values: tuple[str, ...]
) -> tuple[Target, ...]:
    return tuple(target_of(value) for value in values)


def target_of(value: str) -> Target:
    """Return the campaign that a command was given.

    Parameters
    ----------
    value
        A campaign's name, or its file, which may also name its database.

    Returns
    -------
    Target
        The database is that of the file, else that of the environment, else the embedded one.

    Raises
    ------
    InputError
        If there is no such file.
    """
    from al_charge.store.embedded import refuse_never_used
    from al_charge.store.settings import settings_from_environment

    if not value.endswith((".yaml", ".yml")):
        settings = settings_from_environment()
        if settings is None:
            refuse_never_used(value)
        return Target(value, settings)
    from al_charge.loop.spec import load_spec

    if not Path(value).is_file():
        raise InputError("no such file", where=value, remedy="give a campaign's name or its file")
    spec = load_spec(Path(value))
    return Target(spec.name, spec.database or settings_from_environment(), Path(value))
