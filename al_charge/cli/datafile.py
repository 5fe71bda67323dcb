"""What the commands on models share: their options, and reading labelled structures."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from al_charge.cli.progress import busy

if TYPE_CHECKING:
    from al_charge.potentials.data.dataset import Dataset

oxidation_option = click.option(
    "--oxidation",
    metavar="STATES",
    default="",
    help="Charge states that the file does not give, e.g. Fe3+ for all iron, or "
    "Fe2+,Fe2+,Fe3+,Fe3+ for each in the order of the file.",
)
force_option = click.option("--force", is_flag=True, help="Replace an existing file.")


def data_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the argument DATA and the options of how it is read, which `read_data` takes.

    Parameters
    ----------
    function
        A command.

    Returns
    -------
    callable
        The command with them.
    """
    for decorate in (
        click.option(
            "--flip-charges",
            is_flag=True,
            help="Reverse the sign of Bader charges that are negative for cations.",
        ),
        click.option(
            "--group",
            metavar="KEY",
            help="Key in each frame's info that frames of one configuration share; by default "
            "config_hash, or else similar structures are one group.",
        ),
        oxidation_option,
        click.argument("data", metavar="DATA", type=click.Path(path_type=Path)),
    ):
        function = decorate(function)
    return function


def read_data(
    data: Path,
    *,
    need_states: bool,
    oxidation: str,
    group: str | None,
    flip_charges: bool,
    share_moments: bool = False,
) -> Dataset:
    """Read labelled structures as the options say; log what is left out.

    Labels of the database are cached in a folder that is deleted when the command ends.

    Parameters
    ----------
    data
        A file, or ``db:`` and a query.
    need_states
        Whether charge states that cannot be determined are refused.
    oxidation
        The option --oxidation.
    group
        The option --group.
    flip_charges
        The option --flip-charges.
    share_moments
        See `al_charge.potentials.data.dataset.Reading`.

    Returns
    -------
    Dataset
        Frames, and where their groups and charge states come from.
    """
    import tempfile

    from al_charge.api import training

    folder = tempfile.TemporaryDirectory(prefix="al-charge-")
    cache = Path(click.get_current_context().with_resource(folder))
    with busy(f"reading {data}"):
        return training.read_data(
            data,
            need_states=need_states,
            share_moments=share_moments,
            states=split_states(oxidation),
            group=group,
            flip_charges=flip_charges,
            cache=cache,
        )


def split_states(oxidation: str) -> tuple[str, ...]:
    """Return the species tokens of the option --oxidation.

    Parameters
    ----------
    oxidation
        Its value, tokens separated by commas, which may be ``Co3+,spin=0``.

    Returns
    -------
    tuple of str
        None of them empty.
    """
    words = re.split(r",(?!\s*spin=)", oxidation)
    return tuple(word.strip() for word in words if word.strip())
