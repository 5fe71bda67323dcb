"""The command `al-charge`: its groups, and how errors reach the user."""

from __future__ import annotations

import contextlib
import gc
import importlib
import io
import logging
import sys
import warnings
from typing import Any, Literal

import click
from typing_extensions import override

from al_charge.errors import AlChargeError, InputError, did_you_mean, one_line
from al_charge.logs import FORMAT_ENV, FORMATS, LEVEL_ENV, LEVELS, LogSettings, configure

COMMANDS = {
    "audit": "Determine charge states from a run's output.",
    "campaign": "Submit, follow, pause and resume campaigns; jobs, logs, cost.",
    "check": "Check a campaign file without running anything.",
    "cite": "Print what to cite for a campaign.",
    "compare": "Compare two campaigns: settings, hulls and voltages.",
    "completion": "Print the script for command completion in a shell.",
    "converge": "Find the cutoff, k-points and smearing that a material needs.",
    "curves": "Show the training history of a model or a campaign.",
    "db": "Run the embedded MongoDB; back up, restore and migrate any database.",
    "demo": "Run a small real campaign to a converged hull.",
    "doctor": "Find and repair what crashes have left behind.",
    "embedding": "Plot a model's features of redox sites, layer by layer.",
    "enumerate": "Count or list the distinct configurations of a host.",
    "evaluate": "Compare a model with labels.",
    "export": "Write a campaign's labels for other programs.",
    "hull": "Show a campaign's convex hull.",
    "init": "Write a campaign file to start from.",
    "label": "Compute one label of one structure.",
    "labels": "List a campaign's labels one by one; import labels.",
    "launch": "Keep jobs of a campaign in a cluster's queue.",
    "launchers": "Write and check the files of a site and its queue.",
    "next": "Show what a campaign labels next.",
    "plot": "Draw figures of a campaign: parity, errors, cost and others.",
    "plugins": "List engines, potentials, acquisition rules and search methods.",
    "predict": "Predict energies, forces and more with a model.",
    "report": "Write everything about a campaign to one HTML file.",
    "runs": "Pack the files of labels on this machine.",
    "serve": "Show all campaigns in a browser, as they run.",
    "show": "Show one label of a campaign.",
    "structure": "Write the structure of a label to a file.",
    "train": "Train a potential on the labels of a file or the database.",
    "voltage": "Show a campaign's voltage profile.",
    "why": "Say why a label was chosen.",
    "worker": "Run a campaign's tasks on this machine.",
}
"""Every command with its line in the overview."""

_MODULES = {
    **dict.fromkeys(("check", "init"), "campaign_file"),
    **dict.fromkeys(("export", "hull", "labels", "voltage"), "results"),
    **dict.fromkeys(("structure", "why"), "show"),
}
"""Modules that hold several commands under their names; others are ``command`` in their own."""

_UNAUTHORIZED = 13
"""MongoDB's code for what a user's roles do not allow."""

_log = logging.getLogger("al_charge.cli")


class LazyGroup(click.Group):
    """A group that imports a command's module only when the command is run."""

    @override
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    @override
    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"al_charge.cli.{_MODULES.get(cmd_name, cmd_name)}")
        command: click.Command = getattr(module, cmd_name if cmd_name in _MODULES else "command")
        return command

    @override
    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in COMMANDS and not name.startswith("-"):
            raise InputError(f"no command '{name}'", remedy=did_you_mean(name, COMMANDS))
        return super().resolve_command(ctx, args)

    @override
    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):  # click's own would import every command
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.option(
    "--log-level",
    type=click.Choice(LEVELS),
    default="info",
    show_default=True,
    envvar=LEVEL_ENV,
    show_envvar=True,
    help="Least severe messages to write on standard error.",
)
@click.option(
    "--log-format",
    type=click.Choice(FORMATS),
    default="text",
    show_default=True,
    envvar=FORMAT_ENV,
    show_envvar=True,
    help="Messages as lines of text, or as one JSON document per line.",
)
@click.version_option(package_name="al-charge")
@click.pass_context
def cli(
    ctx: click.Context, debug: bool, log_level: str, log_format: Literal["text", "json"]
) -> None:
    """Active learning of charge-aware potentials for mixed-valence cathodes.

    Start with 'al-charge demo', or write a campaign file with 'al-charge init'.
    """
    ctx.obj = LogSettings(log_level, log_format)
    configure(ctx.obj)


def main(argv: list[str] | None = None) -> None:
    """Run the command line and exit: 0 when done, 1 if the work failed, 2 if the input was refused.

    Parameters
    ----------
    argv
        Arguments without the program's name; those of the process if None.
    """
    gc.set_threshold(50_000)  # imports make much and drop little
    warnings.filterwarnings("ignore", "gcd is deprecated", FutureWarning)  # pymatgen's, not ours
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # it may take ASCII alone
            with contextlib.suppress(OSError):
                stream.reconfigure(errors="backslashreplace")
    configure(LogSettings())
    arguments = sys.argv[1:] if argv is None else argv
    try:
        sys.exit(_run(arguments))
    except KeyboardInterrupt:
        _log.error("stopped; 'al-charge campaign resume' continues it")
        sys.exit(1)


def _run(arguments: list[str]) -> int:
    try:
        result: Any = cli.main(arguments, prog_name="al-charge", standalone_mode=False)
    except (AlChargeError, click.ClickException, click.Abort, OSError) as error:
        if "--debug" in arguments:
            raise
        return _report(error)
    except Exception as error:
        if "--debug" in arguments:
            raise
        if (code := _database_error(error)) is not None:
            return code
        summary = one_line(f"{type(error).__name__}: {error}")
        _log.error(f"{summary}; this is a bug in al-charge: run again with --debug and report it")
        return 1
    return result if isinstance(result, int) else 0


def _report(error: BaseException) -> int:
    """Say an error in one line and return its exit code."""
    if isinstance(error, AlChargeError):
        _log.error(str(error))
        return error.exit_code
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        error.show()
        return 2
    if isinstance(error, click.ClickException):
        _log.error(one_line(error.format_message()))
        return 2
    if isinstance(error, OSError):
        name = f"{error.filename}: " if error.filename else ""
        _log.error(one_line(f"{name}{error.strerror or error}"))
        return 2
    raise KeyboardInterrupt


def _database_error(error: Exception) -> int | None:
    if type(error).__module__.startswith("bson"):
        _log.error(
            f"database: a document in it cannot be read ({one_line(str(error))}); "
            "'al-charge doctor --deep' finds it"
        )
        return 1
    if not type(error).__module__.startswith("pymongo"):
        return None
    from pymongo.errors import PyMongoError

    from al_charge.store.outages import REFUSED, reason_of

    if getattr(error, "code", None) == _UNAUTHORIZED:
        # The server's own message repeats the whole command with its documents.
        remedy = "ask an admin of it for another role ('al-charge db users')"
        _log.error(f"database: your user may not do this there; {remedy}")
        return 2
    assert isinstance(error, PyMongoError)
    remedy = "check that it runs, or try again in a minute"
    if getattr(error, "code", None) == REFUSED:
        remedy = "if it was made by an earlier al-charge, run 'al-charge db migrate'"
    _log.error(f"database: {reason_of(error)}; {remedy}")
    return 1
