"""Runs of labels in other spin states and magnetic orders of the electrons.

Each is a label of its own: that of the same ions in other states of their electrons, or with the
settings of another magnetic order. Its campaign does not use it, so that no hull, no training and
no proposal sees it; `al_charge.loop.ground_state` says what the runs have shown.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from al_charge.crystal.identity import identity
from al_charge.crystal.species import (
    charge_of,
    element_of,
    in_words,
    spin_name,
    spin_states,
    unpaired_electrons,
)
from al_charge.crystal.symmetry import hash_of_canonical
from al_charge.loop.campaign import Campaign, label_key
from al_charge.loop.cells import configuration_of
from al_charge.loop.energies import lowest_labels
from al_charge.loop.label import make_once
from al_charge.loop.rounds import label_slots
from al_charge.loop.verify import VERTEX, candidate_of, is_verification, relax_in
from al_charge.store.documents import CandidateDoc, LabelDoc
from al_charge.store.labels import LAST_FRAME

END_MEMBERS = 2
"""Slots of the first round whose labels the others wait for."""


@dataclass(frozen=True)
class SpinRun:
    """One run in another electronic state.

    Attributes
    ----------
    campaign
        The campaign in that state.
    candidate
        What is labelled.
    key
        Of its label.
    state
        What is different, in words, such as ``Co3+ high, antiferromagnetic``.
    """

    campaign: Campaign
    candidate: CandidateDoc
    key: str
    state: str


@dataclass(frozen=True)
class Explored:
    """A configuration that is run in other electronic states.

    Attributes
    ----------
    candidate
        It, as the campaign labels it.
    label
        The campaign's label of it; None if there is none (yet).
    runs
        The others.
    left_out
        States that would be too many, in words.
    """

    candidate: CandidateDoc
    label: LabelDoc | None
    runs: tuple[SpinRun, ...]
    left_out: tuple[str, ...]


def explore_slots(campaign: Campaign, number: int) -> dict[int, tuple[int, int]]:
    """Return the tasks of a round that explore other electronic states.

    Parameters
    ----------
    campaign
        The campaign.
    number
        Number of the round; if it is a verification, it must be open.

    Returns
    -------
    dict
        By the number of the task, which follow those of the round's labels: which configuration
        it runs, as in `explored`, and which of its runs. There may be fewer runs than tasks.
    """
    most = campaign.spec.labeler.spin_runs
    count = END_MEMBERS if number == 0 else 0
    if most and number and is_verification(campaign, number):
        count = len(_vertices(campaign, number))
        most = min(most, len(campaign.spec.labeler.magnetic_orders()) - 1)
    first = label_slots(campaign, number) if most and count else 0
    return {first + i: divmod(i, most) for i in range(count * most)}


def explore(
    campaign: Campaign,
    number: int,
    slot: int,
    directory: Path,
    *,
    spool: Path,
    lock: Callable[[str], AbstractContextManager[None]],
) -> str | None:
    """Make the label of one run, unless it is there or was given up.

    Parameters
    ----------
    campaign
        The campaign.
    number
        Number of the round.
    slot
        Number of the task in the round.
    directory
        As for `al_charge.loop.label.label`.
    spool
        As for `al_charge.loop.label.label`.
    lock
        As for `al_charge.loop.label.label`.

    Returns
    -------
    str or None
        Key of the label; None if there is no such run, or it was given up.

    Raises
    ------
    UnfinishedError
        If the engine was stopped early; called again, it continues.
    """
    which, place = explore_slots(campaign, number)[slot]
    found = explored(campaign, number)[which]
    if found is None or place >= len(found.runs):
        return None
    run = found.runs[place]
    return make_once(
        run.campaign,
        number,
        slot,
        run.candidate,
        directory,
        spool=spool,
        lock=lock,
        state=run.state,
    )


def explored(campaign: Campaign, number: int) -> list[Explored | None]:
    """Return what a round runs in other electronic states.

    In the first round these are the end members, in every spin state and magnetic order that
    their ions allow; in a verification the vertices, in the other magnetic orders.

    Parameters
    ----------
    campaign
        The campaign.
    number
        Number of the round.

    Returns
    -------
    list of Explored or None
        In the first round that of the least and that of the greatest x, None if it is not
        selected; else one for each vertex.
    """
    most = campaign.spec.labeler.spin_runs
    if not most:
        return []
    if number == 0:
        found = [_end_member(campaign, x) for x in campaign.cells.ends]
    elif is_verification(campaign, number):
        found = [_labelled(campaign, number, doc_id) for doc_id in _vertices(campaign, number)]
    else:
        return []
    relax = relax_in(campaign, number)
    some: list[Explored | None] = []
    for one in found:
        if one is None:
            some.append(None)
            continue
        candidate, label = one
        states = [s for s in _states(campaign, candidate) if number == 0 or not s[0]]
        runs = []
        for flips, order in states[:most]:
            settings = campaign.spec.labeler.magnetic_orders()[order]
            other = campaign.in_state(settings, flips | _alike(campaign, candidate, flips))
            asked = _in_spins(other, candidate)
            key = label_key(other, asked, relax)
            runs.append(SpinRun(other, asked, key, _in_words(campaign, flips, order)))
        left_out = tuple(_in_words(campaign, *state) for state in states[most:])
        some.append(Explored(candidate, label, tuple(runs), left_out))
    return some


def explored_keys(campaign: Campaign) -> dict[str, tuple[int, int]]:
    """Return the runs of all rounds in other electronic states.

    Parameters
    ----------
    campaign
        The campaign.

    Returns
    -------
    dict
        Round and number of the task by the key of the label.
    """
    keys: dict[str, tuple[int, int]] = {}
    if not campaign.spec.labeler.spin_runs:
        return keys
    for record in campaign.store.rounds.all(campaign.name):
        found = explored(campaign, record.number)
        for slot, (which, place) in explore_slots(campaign, record.number).items():
            one = found[which]
            if one is not None and place < len(one.runs):
                keys.setdefault(one.runs[place].key, (record.number, slot))
    return keys


def _end_member(campaign: Campaign, x: str) -> tuple[CandidateDoc, LabelDoc | None] | None:
    """Return what the first round selected of an end member, or the label it has adopted."""
    store = campaign.store
    record = store.rounds.get(campaign.name, 0)
    for doc_id in (record.selected if record is not None else None) or []:
        candidate = store.candidates.get(doc_id)
        if candidate is not None and candidate.composition == x:
            label = store.labels.get(label_key(campaign, candidate))
            if label is not None and label.resolved is not None:
                candidate = candidate_of(campaign, 0, label)
            return candidate, label
    adopted = store.labels.uses(campaign.name, 0, adopted=True)
    labels = store.labels.read(LAST_FRAME, keys=adopted.keys(), compositions=[x], refused=False)
    lowest = min(lowest_labels(campaign, labels), key=campaign.cells.energy_of, default=None)
    return None if lowest is None else (candidate_of(campaign, 0, lowest), lowest)


def _vertices(campaign: Campaign, number: int) -> list[str]:
    """Return the ids of the vertices that a verification relaxes."""
    record = campaign.store.rounds.get(campaign.name, number)
    if record is None or record.selected is None:
        return []
    chosen = zip(record.selected, record.reasons, strict=True)
    return [doc_id for doc_id, reason in chosen if reason.startswith(VERTEX)]


def _labelled(
    campaign: Campaign, number: int, doc_id: str
) -> tuple[CandidateDoc, LabelDoc | None] | None:
    """Return a candidate of a verification, at the geometry where its relaxation has ended."""
    candidate = campaign.store.candidates.get(doc_id)
    if candidate is None:
        return None
    key = label_key(campaign, candidate, relax_in(campaign, number))
    label = campaign.store.labels.get(key)
    return None if label is None else (candidate_of(campaign, number, label), label)


def _states(campaign: Campaign, candidate: CandidateDoc) -> list[tuple[dict[str, str], str]]:
    """Return the other electronic states of a configuration: spins of species, magnetic order.

    Those that differ least come first. All ions of a species change together, never to a state
    that their sites have anyway.
    """
    tokens = candidate.geometry.species
    orders = list(campaign.spec.labeler.magnetic_orders())

    def flips() -> Iterator[dict[str, str]]:
        some = sorted({t for t in tokens if len(spin_states(t)) > 1})
        choices = []
        for token in some:
            taken = _on_the_same_sites(campaign, token)
            choices.append((token, *(s for s in spin_states(token) if s not in taken)))
        for states in product(*choices):
            yield {t: s for t, s in zip(some, states, strict=True) if t != s}

    found = []
    for spins in flips():
        magnetic = sum(bool(unpaired_electrons(spins.get(t, t))) for t in tokens)
        # A single moment has no other order.
        possible = orders if magnetic > 1 else orders[:1]
        found += [(spins, order) for order in possible if spins or order != orders[0]]
    return sorted(found, key=lambda state: (len(state[0]), orders.index(state[1])))


def _alike(campaign: Campaign, candidate: CandidateDoc, spins: dict[str, str]) -> dict[str, str]:
    """Return what other ions of these elements, of which the cell has none, are in such spins.

    A campaign that asks for the spin state throughout is then the same, and has these labels.
    """
    return {
        token: state
        for asked, found in spins.items()
        for token in set(campaign.host.species).difference(candidate.geometry.species)
        for state in spin_states(token)
        if element_of(token) == element_of(asked)
        and spin_name(token) == spin_name(asked)
        and spin_name(state) == spin_name(found)
        and state not in _on_the_same_sites(campaign, token)
    }


def _on_the_same_sites(campaign: Campaign, species: str) -> set[str]:
    """Return the species that sites which may hold an ion may hold, itself among them."""
    host = campaign.host
    ions = {host.kinds[site] for site in host.ion_sites}
    kinds = [
        {host.token(element, state) for state in some} for element, some in set(host.kinds) - ions
    ]
    return {species}.union(*(tokens for tokens in kinds if species in tokens))


def _in_words(campaign: Campaign, spins: dict[str, str], order: str) -> str:
    own = next(iter(campaign.spec.labeler.magnetic_orders()))
    ions = Counter((element_of(token), charge_of(token)) for token in campaign.host.species)

    def change(asked: str, found: str) -> str:
        if ions[element_of(asked), charge_of(asked)] == 1:
            return in_words(found)
        return f"{in_words(found)} for {in_words(asked)}"

    changes = [change(*one) for one in spins.items()]
    return ", ".join([*changes, *([order] if order != own else [])])


def _in_spins(campaign: Campaign, candidate: CandidateDoc) -> CandidateDoc:
    """Return a candidate as the campaign in other spin states asks for it."""
    species = [campaign.spins.get(token, token) for token in candidate.geometry.species]
    host = campaign.cells.of(candidate)
    config = configuration_of(candidate.colours)  # canonical in any spin states
    return candidate.model_copy(
        update={
            "config_hash": hash_of_canonical(host, config),
            "identity": identity(host, config),
            "geometry": candidate.geometry.model_copy(update={"species": species}),
            "energy": None,
            "spread": None,
            "origin": "explore",
        }
    )
