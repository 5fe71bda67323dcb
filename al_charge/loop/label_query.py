"""Queries for labels of the database, by campaign, composition, host and settings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from al_charge.errors import InputError, did_you_mean
from al_charge.labelers.dft.kpoints import are_alike
from al_charge.loop.labelled_frames import cached_labels, learnable
from al_charge.store.labels import SUMMARY, LabelSummary
from al_charge.store.mongo import Store

if TYPE_CHECKING:
    from al_charge.potentials.data.dataset import Dataset
    from al_charge.potentials.data.frames import Regrouped, TrainingFrame

PREFIX = "db:"
"""What stands before a query where files may stand as well."""
SHOWN = 8
"""Characters of a hash that are enough to distinguish it from others."""
_FIELDS: dict[str, Callable[[LabelSummary], str]] = {
    "composition": lambda summary: summary.composition,
    "host": lambda summary: summary.host_fingerprint,
    "settings": lambda summary: summary.settings_hash,
}
_NAMES = ("campaign", *_FIELDS)


@dataclass(frozen=True)
class LabelQuery:
    """A query for labels.

    Attributes
    ----------
    text
        As the user wrote it.
    campaign
        Name of a campaign that uses them; None for all labels.
    wanted
        Values by field, any of which will do.
    """

    text: str
    campaign: str | None
    wanted: dict[str, tuple[str, ...]]


def parse_query(text: str) -> LabelQuery:
    """Read what stands for labels of the database.

    Parameters
    ----------
    text
        ``db:`` and terms with commas between them: a campaign's name, or a field, ``=`` and its
        value. ``composition`` is x as a fraction; ``host`` and ``settings`` are hashes, or their
        first characters. A field given twice takes either value.

    Returns
    -------
    LabelQuery
        The query.

    Raises
    ------
    InputError
        If a term cannot be read, or there is none.
    """
    wanted: dict[str, tuple[str, ...]] = {}
    for term in text.removeprefix(PREFIX).split(","):
        name, equals, value = (part.strip() for part in term.partition("="))
        if not equals:
            name, value = "campaign", name
        if name not in _NAMES:
            raise InputError(
                f"labels have no field '{name}'", where=text, remedy=did_you_mean(name, _NAMES)
            )
        if not value:
            raise InputError(
                "a term has no value", where=text, remedy=f"name a campaign, as in '{PREFIX}demo-1'"
            )
        if name == "composition":
            value = _fraction(value, text)
        wanted[name] = (*wanted.get(name, ()), value)
    campaigns = wanted.pop("campaign", ())
    if len(campaigns) > 1:
        raise InputError("it names two campaigns", where=text, remedy="name one, or none")
    return LabelQuery(text, campaigns[0] if campaigns else None, wanted)


def _fraction(value: str, where: str) -> str:
    try:
        return str(Fraction(value))
    except (ValueError, ZeroDivisionError) as error:
        raise InputError(
            f"'{value}' is not a composition", where=where, remedy="write a fraction, such as 2/3"
        ) from error


def query_labels(
    store: Store, query: LabelQuery, cache: Path, *, spin: bool, aware: bool = True
) -> Dataset:
    """Return the labels that a query finds, as frames to train and to test on.

    Parameters
    ----------
    store
        The database.
    query
        The query.
    cache
        Folder to keep their frames in.
    spin
        Whether the potential takes moments as input, and so learns from labels whose charge states
        are uncertain.
    aware
        Whether the potential tells charge states apart; one that does not learns from delocalised
        labels.

    Returns
    -------
    Dataset
        Frames are grouped by the canonical hash of their configuration, and read from the cache
        when they are used. ``left_out`` counts labels.

    Raises
    ------
    InputError
        If there is no such campaign or no such label, or labels have different settings.
    """
    from al_charge.potentials.data.dataset import Dataset

    if query.campaign is not None:
        store.campaigns.get(query.campaign)
    summaries = _matching(store.labels.read(SUMMARY, campaign=query.campaign), query)
    used = [one for one in summaries if learnable(one, spin=spin, aware=aware)]
    keys = {one.key for one in used}
    left_out = Counter(
        str(one.refusal or "delocalised") for one in summaries if one.key not in keys
    )
    if not used:
        why = ", ".join(f"{number} {reason}" for reason, number in left_out.items())
        raise InputError("none of its labels is usable", where=query.text, remedy=why)
    _refuse_mixed(used, query)
    _refuse_other_grids(store, used, query)
    frames = cached_labels(store, used, cache, spin=spin)
    sizes, units = frames.sizes, _formula_units(used)
    states_from: Counter[str] = Counter()
    for summary in used:
        uncertain = summary.refusal or summary.delocalised
        how = "nearest to uncertain moments" if uncertain else "as the labeler found them"
        states_from[how] += sizes[summary.key]
    several = len({summary.host_fingerprint for summary in used}) > 1
    return Dataset(
        frames=_across_hosts(frames) if several else frames,
        formula_units=[
            units.get(summary.host_fingerprint)
            for summary in used
            for _ in range(sizes[summary.key])
        ],
        left_out=dict(left_out),
        groups_from="config_hash and structure" if several else "config_hash",
        states_from=dict(states_from),
    )


def _across_hosts(frames: Sequence[TrainingFrame]) -> Regrouped:
    """Return frames of which the same structure in several hosts, under two hashes, is one group.

    As when one campaign has a larger cell of another's crystal.
    """
    from al_charge.potentials.data.frames import Regrouped, groups_of, last_indices
    from al_charge.potentials.data.grouping import derive_groups

    places = last_indices(frames)
    groups = groups_of(frames)
    names = derive_groups([frames[place].atoms for place in places])
    return Regrouped(frames, {groups[p]: name for p, name in zip(places, names, strict=True)})


def _matching(summaries: Iterable[LabelSummary], query: LabelQuery) -> list[LabelSummary]:
    """Return the labels that have one of the wanted values in every field."""
    found = list(summaries)
    for name, values in query.wanted.items():
        of = _FIELDS[name]
        known = {of(summary) for summary in found}
        chosen: set[str] = set()
        for value in values:
            like = {
                k for k in known if (k == value if name == "composition" else k.startswith(value))
            }
            if not like:
                raise InputError(
                    f"no label has {name} {value}",
                    where=query.text,
                    remedy=_instead(name, value, known),
                )
            chosen |= like
        found = [summary for summary in found if of(summary) in chosen]
    return found


def _instead(name: str, value: str, known: set[str]) -> str:
    """Return which values there are."""
    if name == "composition":
        return f"there are {', '.join(sorted(known, key=Fraction))}" if known else ""
    return did_you_mean(value[:SHOWN], {text[:SHOWN] for text in known})


def _refuse_mixed(summaries: Sequence[LabelSummary], query: LabelQuery) -> None:
    """Refuse energies that are not comparable."""
    settings = Counter((summary.settings_hash, summary.engine.split()[0]) for summary in summaries)
    if len({key for key, _ in settings}) < 2:
        return
    kinds = [f"{key[:SHOWN]} ({number} by {by})" for (key, by), number in settings.most_common()]
    (first, _), _ = settings.most_common(1)[0]
    raise InputError(
        f"labels of different settings are not comparable: {', '.join(kinds)}",
        where=query.text,
        remedy=f"choose one, as in '{query.text},settings={first[:SHOWN]}'",
    )


def _refuse_other_grids(store: Store, summaries: Sequence[LabelSummary], query: LabelQuery) -> None:
    """Refuse one k-point grid in cells of several hosts where it does not mean the same."""
    labels = [
        label
        for key in {one.host_fingerprint: one.key for one in summaries}.values()
        if (label := store.labels.get(key)) is not None
    ]
    grids: list[Any] = [label.settings.get("kpoints") for label in labels]
    cells = [label.frames[-1].cell for label in labels]
    for label, grid, cell in zip(labels, grids, cells, strict=True):
        # A spacing suits cells of every size, and engines without k-points have none.
        if not isinstance(grid, list) or are_alike(grids[0], cells[0], grid, cell):
            continue
        hosts = " and ".join(
            f"host {one.host_fingerprint[:SHOWN]} ({len(one.numbers)} atoms)"
            for one in (labels[0], label)
        )
        raise InputError(
            f"energies with the k-point grid {'x'.join(map(str, grid))} in cells of {hosts} are "
            "not comparable, and share no hull",
            where=query.text,
            remedy=f"choose one, as in '{query.text},host={labels[0].host_fingerprint[:SHOWN]}', "
            "or label with 'kpoint_spacing'",
        )


def _formula_units(summaries: Iterable[LabelSummary]) -> dict[str, int]:
    """Return the formula units of the cells of every host, as far as its labels show them."""
    return {
        summary.host_fingerprint: round(summary.n_ions / Fraction(summary.composition))
        for summary in summaries
        if summary.n_ions
    }
