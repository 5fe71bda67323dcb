"""What is known of a campaign's labels while it is open, so that only new ones are read again."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

from al_charge.store.labels import SUMMARY, LabelSummary
from al_charge.thermo.hull import Entry

if TYPE_CHECKING:
    from al_charge.loop.cells import Cells
    from al_charge.store.mongo import Store

T = TypeVar("T")
Pair = tuple[Entry, LabelSummary]
"""A label that may be on a hull: its entry there, eV per formula unit, and what is known of it."""
Orders = dict[str, list[Pair]]
"""Labels by the hash of their configuration."""
KEPT = 8
"""Results that are kept."""


@dataclass
class KnownLabels:
    """Summaries of the labels that a campaign uses. Labels are written once and never edited.

    Attributes
    ----------
    store
        Where they are.
    campaign
        Name of the campaign.
    cells
        Its supercells.
    """

    store: Store
    campaign: str
    cells: Cells
    _summaries: dict[str, LabelSummary] = field(default_factory=dict)
    _entries: list[Pair] | None = None
    _orders: Orders | None = None
    _made: dict[Hashable, Any] = field(default_factory=dict)

    def summaries(self) -> dict[str, LabelSummary]:
        """Return what is known of every label that the campaign uses now; read what is new.

        Returns
        -------
        dict
            By the labels' keys: the same object as before if nothing is new.
        """
        labels = self.store.labels
        if labels.count(self.campaign) == len(self._summaries):
            return self._summaries
        new = None
        if self._summaries:
            uses = labels.uses(self.campaign)
            old = {key: one for key, one in self._summaries.items() if uses.get(key) == one.used}
            new, self._summaries = uses.keys() - old.keys(), old
        read = labels.read(SUMMARY, campaign=self.campaign, keys=new)
        self._summaries = self._summaries | {one.key: one for one in read}
        self._entries, self._orders, self._made = None, None, {}
        return self._summaries

    def kept(self, what: Hashable, make: Callable[[list[Pair], Orders], T]) -> T:
        """Return what was made of the labels, or make it; anew when the labels are others.

        Parameters
        ----------
        what
            Name of it.
        make
            Makes it from the labels that may be on a hull, by x, energy and key, and from the same
            by configuration, where the lowest of each comes first.

        Returns
        -------
        object
            What it made, now or before; the last `KEPT` are kept.
        """
        labels = self.summaries()
        if what not in self._made:
            if self._entries is None or self._orders is None:
                self._entries = entries_of(self.cells, labels.values())
                self._orders = by_order(self._entries)
            while len(self._made) >= KEPT:
                del self._made[next(iter(self._made))]
            self._made[what] = make(self._entries, self._orders)
        made: T = self._made[what]
        return made


def by_order(known: Iterable[Pair]) -> Orders:
    """Return labels by configuration.

    Parameters
    ----------
    known
        Entries and labels, in any order.

    Returns
    -------
    dict
        The same by the hash of the configuration, those of each in the order given.
    """
    orders: Orders = {}
    for one in known:
        orders.setdefault(one[0].config_hash, []).append(one)
    return orders


def entries_of(cells: Cells, labels: Iterable[LabelSummary]) -> list[Pair]:
    """Return the labels that may be on a hull as entries of one.

    Parameters
    ----------
    cells
        Supercells of their campaign.
    labels
        Summaries of labels; those that are refused are left out.

    Returns
    -------
    list of tuple
        Entry, energies in eV per formula unit, and label, by x, energy and key.
    """
    groups: dict[str, list[Pair]] = {}
    exact = cache(Fraction)
    for label in labels:
        if label.refusal is None:
            entry = Entry(
                key=label.key,
                config_hash=cells.order_of(label),
                x=exact(label.composition),
                energy=cells.energy_of(label),
                remark="delocalised" if label.delocalised else "",
            )
            groups.setdefault(label.composition, []).append((entry, label))
    # Exact fractions are slow to compare.
    for group in groups.values():
        group.sort(key=lambda pair: (pair[0].energy, pair[0].key))
    return [one for x in sorted(groups, key=exact) for one in groups[x]]
