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
    _entries: list[tuple[Entry, LabelSummary]] | None = None
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
        self._entries, self._made = None, {}
        return self._summaries

    def kept(self, what: Hashable, make: Callable[[], T]) -> T:
        """Return what was made of the labels, or make it; anew when the labels are others.

        Parameters
        ----------
        what
            Name of it.
        make
            Makes it from the labels.

        Returns
        -------
        object
            What it made, now or before; the last `KEPT` are kept.
        """
        self.summaries()
        if what not in self._made:
            while len(self._made) >= KEPT:
                del self._made[next(iter(self._made))]
            self._made[what] = make()
        made: T = self._made[what]
        return made

    def entries(self) -> list[tuple[Entry, LabelSummary]]:
        """Return the labels that may be on a hull as entries of one.

        Returns
        -------
        list of tuple
            Entry, eV per formula unit, and label, by x, energy and key.
        """
        labels = self.summaries()
        if self._entries is None:
            self._entries = entries_of(self.cells, labels.values())
        return self._entries


def entries_of(cells: Cells, labels: Iterable[LabelSummary]) -> list[tuple[Entry, LabelSummary]]:
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
    groups: dict[str, list[tuple[Entry, LabelSummary]]] = {}
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
