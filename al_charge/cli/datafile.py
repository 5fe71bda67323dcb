"""What the commands on models share: reading labelled structures, and writing no file over."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from al_charge.cli.progress import busy

if TYPE_CHECKING:
    from al_charge.potentials.committee import Committee
    from al_charge.potentials.data.dataset import Dataset
    from al_charge.potentials.potential import Potential

oxidation_option = click.option(
    "--oxidation",
    metavar="STATES",
    default="",
    help="Charge states where the file does not tell them, e.g. Fe3+ for all iron, or "
    "Fe2+,Fe2+,Fe3+,Fe3+ for each in the order of the file.",
)
force_option = click.option("--force", is_flag=True, help="Replace a file that is there.")
_log = logging.getLogger("al_charge.cli")


def data_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the argument DATA and how it is read, passed on as ``data`` and ``reading``."""
    for decorate in (
        click.option(
            "--flip-charges",
            is_flag=True,
            help="Turn over Bader charges that are negative for cations.",
        ),
        click.option(
            "--group",
            metavar="KEY",
            help="Entry of every frame's info that frames of one configuration share; without it "
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
    cache: Path | None = None,
) -> Dataset:
    """Read labelled structures as the options say; tell on standard error what was left out.

    Parameters
    ----------
    cache
        Folder to keep labels of the database in; one that goes with the command if None.
    """
    from al_charge.loop.label_query import PREFIX
    from al_charge.potentials.data.dataset import Reading, read_dataset

    if str(data).startswith(PREFIX):
        given = {"--oxidation": oxidation, "--group": group, "--flip-charges": flip_charges}
        return _query(str(data), given, share_moments, cache)
    reading = Reading(
        need_states=need_states,
        states=split_states(oxidation),
        group=group,
        flip_charges=flip_charges,
        share_moments=share_moments,
    )
    with busy(f"reading {data}"):
        found = read_dataset(data, reading)
    _tell_left_out(data, found, "frames")
    return found


def _query(text: str, given: dict[str, Any], spin: bool, cache: Path | None) -> Dataset:
    """Return labels of the database; refuse options that say how a file is read."""
    import tempfile

    from al_charge.cli.target import open_store
    from al_charge.errors import InputError
    from al_charge.loop.label_query import parse_query, query_labels
    from al_charge.store.settings import settings_from_environment

    query = parse_query(text)
    for option, value in given.items():
        if value:
            raise InputError(
                "it is for files; labels of the database know it",
                where=option,
                remedy="leave it out",
            )
    if cache is None:
        folder = tempfile.TemporaryDirectory(prefix="al-charge-")
        cache = Path(click.get_current_context().with_resource(folder))
    store = open_store(settings_from_environment())
    with busy(f"reading {text}"):
        found = query_labels(store, query, cache, spin=spin)
    _tell_left_out(text, found, "labels")
    return found


def _tell_left_out(data: Path | str, found: Dataset, what: str) -> None:
    for reason, number in found.left_out.items():
        _log.warning("%s: %d %s left out: %s", data, number, what, reason)


def split_states(oxidation: str) -> tuple[str, ...]:
    """Return the species tokens of the option --oxidation."""
    return tuple(word.strip() for word in oxidation.split(",") if word.strip())


def refuse_existing(path: Path, force: bool) -> None:
    """Refuse a file to write that is there already, or whose folder is not.

    Raises
    ------
    InputError
        Before anything was computed.
    """
    from al_charge.errors import InputError

    if not path.parent.is_dir():
        raise InputError("no such folder", where=str(path.parent), remedy="make it first")
    if path.exists() and not (force and path.is_file()):
        remedy = "use --force to replace it" if path.is_file() else "choose another name"
        raise InputError("it is already there", where=str(path), remedy=remedy)


def is_aware(model: Potential | Committee) -> bool:
    """Return whether a potential, or a member of a committee, sees charge states."""
    return any(member.vocabulary.charge_aware for member in members_of(model))


def members_of(model: Potential | Committee) -> list[Potential]:
    """Return the potentials of a committee, or the one that there is."""
    from al_charge.potentials.committee import Committee

    return model.members if isinstance(model, Committee) else [model]


def refuse_unknown(model: Potential | Committee, species: set[str], where: str) -> None:
    """Refuse structures with species that a model has never seen.

    Raises
    ------
    InputError
        With those that it lacks, and those that it knows.
    """
    from al_charge.errors import InputError

    for member in members_of(model):
        vocabulary = member.vocabulary
        lacking = {token for token in species if vocabulary.name(token) not in vocabulary.tokens}
        if lacking:
            raise InputError(
                f"the model does not know {', '.join(sorted(lacking))}",
                where=where,
                remedy=f"it knows {', '.join(vocabulary.tokens)}",
            )
