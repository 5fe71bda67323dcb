"""Verification: the labeler relaxes the vertices of a converged hull and what lies near them.

It is a round of its own that proposes nothing: its candidates are the geometries of labels. If the
same configurations are the vertices of the hull with the relaxed labels in it, the hull is
verified; else the campaign goes on with what it has learned.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from fractions import Fraction
from typing import Any

from al_charge.labelers.protocol import Relax
from al_charge.loop.campaign import Campaign, label_key
from al_charge.loop.energies import LabelledHull, labelled_hull
from al_charge.store.documents import (
    CandidateDoc,
    FailedRelaxation,
    Geometry,
    LabelDoc,
    RoundDoc,
    Verification,
)
from al_charge.thermo.hull import Entry, Hull

VERTEX = "vertex at x = "
"""How the reason begins for which a verification selects a vertex; its composition follows."""


def is_verification(campaign: Campaign, number: int) -> bool:
    """Return whether a round verifies the hull of the round before.

    Parameters
    ----------
    campaign
        The campaign.
    number
        Number of the round.

    Returns
    -------
    bool
        Whether the round before requires it.
    """
    before = campaign.store.rounds.get(campaign.name, number - 1) if number else None
    return before is not None and _requires_verification(before)


def verifications(records: Iterable[RoundDoc]) -> set[int]:
    """Return the numbers of the rounds that verify a hull; see `is_verification`.

    Parameters
    ----------
    records
        Rounds of a campaign.

    Returns
    -------
    set of int
        Of rounds that may not exist yet.
    """
    return {one.number + 1 for one in records if _requires_verification(one)}


def _requires_verification(record: RoundDoc) -> bool:
    return record.assessment is not None and record.assessment.verify_next


def relax_in(campaign: Campaign, number: int) -> Relax:
    """Return what the labeler moves in a round: in a verification as much as it can.

    Parameters
    ----------
    campaign
        The campaign.
    number
        Number of the round.

    Returns
    -------
    Relax
        In a verification the cell too, if the labeler gives a stress.
    """
    if not is_verification(campaign, number):
        return campaign.labeler.relax
    return Relax.CELL if campaign.labeler.gives_stress else Relax.IONS


def open_verification(campaign: Campaign, number: int) -> None:
    """Store what a verification relaxes, unless that is done.

    Parameters
    ----------
    campaign
        The campaign.
    number
        Number of the round that verifies.
    """
    record = campaign.store.rounds.get(campaign.name, number)
    if record is not None and record.selected is not None:
        return
    found = labelled_hull(campaign, up_to=number - 1)
    reasons: dict[str, str] = {}
    by_x: dict[str, list[CandidateDoc]] = defaultdict(list)
    for entry, reason in _to_relax(campaign, found.hull):
        label = campaign.store.labels.get(entry.key)
        assert label is not None
        candidate = candidate_of(campaign, number, label)
        by_x[candidate.composition].append(candidate)
        reasons[candidate.doc_id] = reason
    for x, candidates in by_x.items():
        cell, n_ions = campaign.cells.compositions[Fraction(x)]
        campaign.store.proposals.put(campaign.name, number, n_ions, candidates, cell=cell)
    campaign.store.rounds.record_selection(campaign.name, number, reasons)


def _to_relax(campaign: Campaign, hull: Hull) -> list[tuple[Entry, str]]:
    """Return the vertices, then their nearest competitors at each composition, with reasons."""
    settings = campaign.spec.convergence
    vertices = {vertex.key for vertex in hull.vertices}
    chosen = [(vertex, f"{VERTEX}{vertex.x}") for vertex in hull.vertices]
    taken: dict[Any, int] = defaultdict(int)
    for entry in hull.entries:  # by x, then by energy
        distance = hull.distance(entry)
        near = distance <= settings.verify_window
        if entry.key in vertices or not near or taken[entry.x] >= settings.verify_competitors:
            continue
        taken[entry.x] += 1
        chosen.append((entry, f"{1e3 * distance:.0f} meV/f.u. above the hull at x = {entry.x}"))
    return chosen


def candidate_of(campaign: Campaign, number: int, label: LabelDoc) -> CandidateDoc:
    """Return the last geometry of a label as a candidate.

    Parameters
    ----------
    campaign
        Campaign that is to label it again.
    number
        Its round.
    label
        The label, with its frames.

    Returns
    -------
    CandidateDoc
        Under the charge states that were found, or those asked for where they are uncertain.
    """
    last = label.frames[-1]
    return CandidateDoc(
        campaign=campaign.name,
        round=number,
        cell=campaign.cells.hosts.index(campaign.cells.of(label)),
        n_ions=label.n_ions,
        composition=label.composition,
        config_hash=label.config_hash,
        identity=label.identity,
        colours=label.colours,
        geometry=Geometry(
            numbers=label.numbers,
            positions=last.positions,
            cell=last.cell,
            species=label.resolved or label.requested,
            host_site=label.host_site,
        ),
        energy=label.energy,
        spread=0.0,
        origin="label",
    )


def verification_of(campaign: Campaign, number: int, found: LabelledHull) -> Verification:
    """Return what a verification has shown.

    Parameters
    ----------
    campaign
        The campaign.
    number
        Number of the round that verifies.
    found
        The hull with the relaxed labels in it.

    Returns
    -------
    Verification
        Whether the hull is verified, and what could not be relaxed.
    """
    before, cells = labelled_hull(campaign, up_to=number - 1), campaign.cells
    relax = relax_in(campaign, number)
    record = campaign.store.rounds.get(campaign.name, number)
    relaxed: dict[str, float] = {}
    failed = []
    for doc_id in (record.selected if record is not None else None) or []:
        candidate = campaign.store.candidates.get(doc_id)
        assert candidate is not None and candidate.energy is not None
        key = label_key(campaign, candidate, relax)
        label = found.labels.get(key)
        if label is not None and label.config_hash == candidate.config_hash:
            lowered = candidate.energy - label.energy
            relaxed[cells.order_of(label)] = lowered / cells.of(label).formula_units
        else:
            failed.append(FailedRelaxation(candidate.composition, _why_not(campaign, key)))
    same = _same_vertices(campaign, before.hull, found.hull)
    missing = [v for v in found.hull.vertices if v.config_hash not in relaxed]
    return Verification(
        relax=relax.value,
        relaxed=len(relaxed),
        same_vertices=same,
        lowered=max(relaxed.values(), default=0.0),
        failed=failed,
        verified=same and not missing,
    )


def outcome_of(found: Verification) -> str:
    """Describe what a verification has shown.

    Parameters
    ----------
    found
        The verification.

    Returns
    -------
    str
        Part of a sentence.
    """
    relaxed = f"relaxing {found.relaxed} configuration{'s' * (found.relaxed != 1)}"
    if found.verified:
        return f"verified by {relaxed}"
    if not found.same_vertices:
        return f"{relaxed} changed the vertices"
    where = ", ".join(f"x = {x} ({reason})" for x, reason in found.failed)
    return f"not verified, since relaxing failed at {where}"


def _same_vertices(campaign: Campaign, before: Hull, after: Hull) -> bool:
    """Return whether two hulls have the same vertices; twins within the tolerance count as one."""
    if before.compositions != after.compositions:
        return False
    tolerance = campaign.spec.convergence.hull_tolerance
    energies = {entry.config_hash: entry.energy for entry in after.entries}
    return all(
        energies[old.config_hash] <= new.energy + tolerance
        for old, new in zip(before.vertices, after.vertices, strict=True)
    )


def _why_not(campaign: Campaign, key: str) -> str:
    """Return why a configuration has no relaxed label that could be on the hull."""
    failure, label = campaign.store.failures.get(key), campaign.store.labels.get(key)
    if failure is not None:
        return failure.reason
    if label is None:
        return "it was not labelled"
    return label.refused or "relaxing led to another charge order"
