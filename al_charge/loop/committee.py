"""The committee of a round, loaded from the store, and what it says of labels and candidates."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from al_charge.errors import UnfinishedError
from al_charge.loop.campaign import Campaign, atoms_of, geometry_of
from al_charge.loop.energies import lowest_labels
from al_charge.loop.posterior import of_minima
from al_charge.loop.request_ledger import MISSES, RequestLedger
from al_charge.loop.verify import candidate_of
from al_charge.store.documents import CandidateDoc, ModelDoc
from al_charge.store.labels import LAST_GEOMETRY, LabelSummary

if TYPE_CHECKING:
    from ase import Atoms

    from al_charge.potentials.committee import Committee
    from al_charge.potentials.potential import Potential
    from al_charge.potentials.relaxation.one_by_one import Relaxed


KEPT = 8
"""Potentials that a process keeps, once built."""


def load_committee(campaign: Campaign, round_number: int) -> Committee:
    """Return the committee that a round trained, its spread scaled by that round's calibration.

    Parameters
    ----------
    campaign
        The campaign.
    round_number
        Number of the round.

    Returns
    -------
    Committee
        All members, which are shared by all that load them in this process; the spread is not
        scaled if the round is not assessed yet.

    Raises
    ------
    UnfinishedError
        If a member is not there: the order of tasks rules out that it was not trained, so it was
        lost, and is trained again.
    """
    from al_charge.potentials.committee import Committee

    members = []
    for member in range(campaign.spec.committee.size):
        stored = campaign.store.models.get(campaign.name, round_number, member)
        if stored is None:
            raise missing(campaign, round_number, member)
        members.append(_built(_Stored(str(stored[0].config), *stored)))
    record = campaign.store.rounds.get(campaign.name, round_number)
    assessment = record.assessment if record is not None else None
    scale = assessment.spread_scale if assessment is not None else 1.0
    return Committee(members, spread_scale=scale)


@dataclass(frozen=True)
class _Stored:
    """A stored potential; one with the same weights and settings is the same."""

    settings: str
    document: ModelDoc = field(compare=False)
    weights: bytes


@lru_cache(maxsize=KEPT)
def _built(stored: _Stored) -> Potential:
    """Return a potential that is only asked for predictions.

    The tasks of a round, one for each composition, use the same; to build one may take longer than
    to relax a structure with it.
    """
    from safetensors.torch import load

    from al_charge.potentials.potential import Potential

    potential = Potential.from_state(stored.document.config, load(stored.weights))
    potential.module.requires_grad_(False)
    return potential


@dataclass(frozen=True)
class KnowingMembers:
    """The members of a committee that have learnt a configuration, where it has a label.

    A member that a label is held out from goes on to predict what the label has refuted.

    Attributes
    ----------
    committee
        All members.
    held_out
        For each member the orders held out from it, as `Cells.order_of` names them.
    """

    committee: Committee
    held_out: list[frozenset[str]] = field(repr=False)
    _made: dict[tuple[int, ...], Committee] = field(default_factory=dict, repr=False)

    def of(self, order: str) -> Committee:
        """Return the members to ask about a configuration.

        Parameters
        ----------
        order
            Its name.

        Returns
        -------
        Committee
            All members if it has no label, or if it is held out from all. The spread of a single
            one is zero.
        """
        from al_charge.potentials.committee import Committee

        some = tuple(i for i, held in enumerate(self.held_out) if order not in held)
        if len(some) in (0, len(self.held_out)):
            return self.committee
        if some not in self._made:
            members = [self.committee.members[i] for i in some]
            self._made[some] = Committee(members, self.committee.spread_scale)
        return self._made[some]


def knowing_members(campaign: Campaign, round_number: int, committee: Committee) -> KnowingMembers:
    """Return which members of a committee to ask about what.

    Parameters
    ----------
    campaign
        The campaign.
    round_number
        Round that has trained the committee.
    committee
        All its members.

    Returns
    -------
    KnowingMembers
        By configuration.
    """
    models = campaign.store.models.all(campaign.name, round_number)
    return KnowingMembers(committee, [frozenset(model.held_out) for model in models])


def relax_with(campaign: Campaign, committee: Committee, atoms: Atoms) -> Relaxed:
    """Relax a structure with a committee, as a campaign's candidates are.

    Parameters
    ----------
    campaign
        The campaign, whose settings count.
    committee
        All members, or those to ask about this structure.
    atoms
        The structure, with its species.

    Returns
    -------
    Relaxed
        Where the committee's mean energy has led it.
    """
    from al_charge.potentials.relaxation.one_by_one import relax

    (found,) = relax(
        committee,
        [atoms],
        fmax=campaign.spec.relaxation.fmax,
        max_steps=campaign.spec.relaxation.max_steps,
        cell=campaign.committee_relaxes_cells,
        largest_displacement=campaign.largest_displacement,
    )
    return found


def newest_candidates(
    campaign: Campaign,
    round_number: int,
    committee: Committee,
    ledger: RequestLedger,
    labels: Iterable[LabelSummary],
) -> list[CandidateDoc]:
    """Return what the committee of a round predicts for the candidates of the round.

    Static labels are relaxed further: the committee has learnt their forces, which may lead to a
    lower minimum.

    Parameters
    ----------
    campaign
        The campaign.
    round_number
        Number of the round.
    committee
        Trained by the round.
    ledger
        What was requested.
    labels
        Summaries of all usable labels.

    Returns
    -------
    list of CandidateDoc
        Those that were relaxed before, at the same geometries, with new energies if they may need a
        label. And configurations with static labels, at the minima that the committee finds from
        there; their energies are those of the labels less what the relaxation takes off.
    """
    cells, asked = campaign.cells, knowing_members(campaign, round_number, committee)
    relaxed = [
        one
        for one in campaign.store.candidates.all(campaign.name, round_number)
        if one.energy is not None
    ]
    groups: dict[Committee, list[CandidateDoc]] = defaultdict(list)
    for one in filter(ledger.may_need_label, relaxed):
        groups[asked.of(cells.order_of(one))].append(one)
    again: dict[str, CandidateDoc] = {}
    for members, some in groups.items():
        predicted = members.predict([atoms_of(one.geometry) for one in some])
        for one, p in zip(some, predicted, strict=True):
            told = {"energy": p.energy, "spread": p.spread}
            again[one.doc_id] = one.model_copy(update=told)
    found = {cells.order_of(one): again.get(one.doc_id, one) for one in relaxed}
    for order, lower in _labels_relaxed_further(campaign, round_number, asked, ledger, labels):
        known = found.get(order)
        if known is None or known.doc_id not in again or _below(campaign, lower, known):
            found[order] = lower
    return list(found.values())


def _labels_relaxed_further(
    campaign: Campaign,
    round_number: int,
    asked: KnowingMembers,
    ledger: RequestLedger,
    labels: Iterable[LabelSummary],
) -> Iterator[tuple[str, CandidateDoc]]:
    """Yield the order of each configuration with static labels, and it relaxed from the lowest."""
    if not campaign.static_labels:
        return
    aware = campaign.spec.potential.charge_aware
    for summary in lowest_labels(campaign, of_minima(campaign, labels)):
        order = campaign.cells.order_of(summary)
        settled = order in ledger.relaxed or ledger.missed[order] >= MISSES
        # A charge-aware committee learns nothing from a label whose sites share a charge.
        if settled or (aware and summary.delocalised):
            continue
        label = campaign.store.labels.get(summary.key)
        assert label is not None
        one = candidate_of(campaign, round_number, label)
        start, members = atoms_of(one.geometry), asked.of(order)
        (before,) = members.predict([start])
        result = relax_with(campaign, members, start)
        drop = max(before.energy - result.energy, 0.0)
        told = {"energy": label.energy - drop, "spread": result.spread}
        yield order, one.model_copy(update={**told, "geometry": geometry_of(result.atoms)})


def _below(campaign: Campaign, one: CandidateDoc, other: CandidateDoc) -> bool:
    energies = [
        (each.energy or 0.0) / campaign.cells.of(each).formula_units for each in (one, other)
    ]
    return energies[0] < energies[1]


def missing(campaign: Campaign, round_number: int, member: int) -> UnfinishedError:
    """Return the error of a task that needs a model which is not there (any more).

    Parameters
    ----------
    campaign
        The campaign.
    round_number
        Number of the round.
    member
        Number of the potential in the committee, from 0.

    Returns
    -------
    UnfinishedError
        To be raised.
    """
    return UnfinishedError(
        f"round {round_number} has no potential {member}",
        where=campaign.name,
        remedy="one that was lost is trained again by workers",
    )


def load_member(campaign: Campaign, round_number: int, member: int) -> Potential | None:
    """Return one potential of a round.

    Parameters
    ----------
    campaign
        The campaign.
    round_number
        Number of the round.
    member
        Number of the potential in the committee, from 0.

    Returns
    -------
    Potential or None
        None if it was not trained.
    """
    stored = campaign.store.models.get(campaign.name, round_number, member)
    if stored is None:
        return None
    from safetensors.torch import load

    from al_charge.potentials.potential import Potential

    document, weights = stored
    return Potential.from_state(document.config, load(weights))


def member_energies(
    campaign: Campaign,
    round_number: int,
    committee: Committee,
    labels: Sequence[LabelSummary],
) -> NDArray[np.float64]:
    """Return every member's energies of labels.

    What is not stored with a model is predicted now: earlier versions stored nothing.

    Parameters
    ----------
    campaign
        The campaign.
    round_number
        Round that has trained the committee.
    committee
        Its committee.
    labels
        The labels, by key.

    Returns
    -------
    array
        Shape (n_members, n_labels), eV per formula unit.
    """
    rows, keys = [], [label.key for label in labels]
    units = np.array([campaign.cells.of(label).formula_units for label in labels])
    models = campaign.store.models.all(campaign.name, round_number)
    for model, potential in zip(models, committee.members, strict=True):
        known = campaign.store.models.predictions(model)
        known |= predict_labels(campaign, potential, [key for key in keys if key not in known])
        rows.append([known[key] for key in keys])
    found: NDArray[np.float64] = np.array(rows) / units
    return found


def predict_labels(
    campaign: Campaign, potential: Potential, keys: Sequence[str]
) -> dict[str, float]:
    """Return a potential's energies of labels.

    Parameters
    ----------
    campaign
        The campaign.
    potential
        The potential, on the machine that has trained it.
    keys
        Keys of the labels, sorted.

    Returns
    -------
    dict
        Energy in eV per cell, by the label's key.
    """
    results = campaign.store.labels.read(LAST_GEOMETRY, keys=keys)
    found = potential.predict_each(atoms_of(geometry) for _, geometry in results)
    return {key: one.energy for key, one in zip(keys, found, strict=True)}
