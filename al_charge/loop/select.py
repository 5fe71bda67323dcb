"""Select: which of a round's candidates are worth a label."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Sequence
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from al_charge.acquisition.diversity import Point, select_diverse
from al_charge.acquisition.plugin import (
    ACQUISITIONS,
    AcquisitionPlugin,
    Candidate,
    Choice,
    Labelled,
    Selection,
)
from al_charge.crystal.correlations import all_pair_correlations
from al_charge.errors import AlChargeError
from al_charge.loop.campaign import Campaign
from al_charge.loop.cells import configuration_of
from al_charge.loop.energies import (
    LabelledHull,
    labelled_hull,
    lowest_labels,
    usable,
)
from al_charge.loop.posterior import fit_posterior, predicted_together
from al_charge.loop.request_ledger import request_ledger
from al_charge.loop.verify import verifications
from al_charge.store.documents import CandidateDoc
from al_charge.store.labels import SUMMARY, LabelSummary

TEST = "tests the ground state predicted at x = "
"""Beginning of the reason of a label that tests predictions."""

_log = logging.getLogger("al_charge.loop")


def select_candidates(campaign: Campaign, round_number: int) -> list[str]:
    """Store, once, which candidates of a round are to be labelled, best first.

    Candidates that need no label are left out, and the campaign's label budget is never exceeded.
    In the first round the end members come first. Where a rule sees nothing worth a label, one
    label puts that to the test: see `ground_state_to_test`.

    Parameters
    ----------
    campaign
        The campaign.
    round_number
        Round whose candidates are proposed.

    Returns
    -------
    list of str
        Ids of the selected candidates: those of the first run, if this is a second one.

    Raises
    ------
    AlChargeError
        If the acquisition rule picks what it may not pick.
    """
    store = campaign.store
    record = store.rounds.get(campaign.name, round_number)
    if record is not None and record.selected is not None:
        return list(record.selected)
    started = time.monotonic()
    _adopt_imported(campaign, round_number)
    summaries = list(store.labels.read(SUMMARY, campaign=campaign.name))
    proposed = store.candidates.all(campaign.name, round_number)
    candidates = request_ledger(campaign, summaries).needing_label(proposed)
    left = labels_left(campaign)
    settings = campaign.spec.acquisition
    if round_number == 0:
        known = lowest_labels(campaign, filter(usable, summaries))
        count = _first_labels(campaign, known)
        candidates = _in_small_cells(campaign, candidates, count)
        picked: Sequence[Selection] = select_diverse(
            _points(campaign, candidates), min(count, left), _points(campaign, known)
        )
    else:
        count = min(settings.labels_per_round, left)
        found = labelled_hull(campaign, summaries=summaries)
        choice = _choice(campaign, candidates, proposed, found, count)
        rule = ACQUISITIONS.of(settings)
        picked = (
            rule.select(choice, settings, campaign.rng("select", round_number)) if count else []
        )
        _refuse_invalid(rule, choice, picked)
        picked = picked or ground_state_to_test(choice, _tested_in_vain(campaign, summaries))
    by_hash = {candidate.config_hash: candidate.doc_id for candidate in candidates}
    reasons = {by_hash[selection.key]: selection.reason for selection in picked}
    chosen = store.rounds.record_selection(campaign.name, round_number, reasons)
    where = f"{campaign.name} round {round_number}"
    _log.info("%s: %d of %d candidates selected", where, len(chosen), len(proposed))
    for selection in picked:
        _log.info("%s: %s: %s", where, selection.key[:8], selection.reason)
    store.rounds.add_seconds(campaign.name, round_number, "select", time.monotonic() - started)
    return chosen


def _adopt_imported(campaign: Campaign, round_number: int) -> None:
    """Let a round use every imported label that the campaign could have made itself.

    Called again, it adopts what was imported meanwhile.
    """
    labels, found = campaign.store.labels, set[str]()
    for host in campaign.cells.hosts:
        found |= labels.imported(host.fingerprint, campaign.settings_hash, host.ion_counts)
    new = sorted(found - labels.uses(campaign.name).keys())
    for key in new:
        labels.link(campaign.name, round_number, key, adopted=True)
    if new:
        _log.info(
            "%s round %d: %d imported labels are taken over", campaign.name, round_number, len(new)
        )


def _first_labels(campaign: Campaign, known: Sequence[LabelSummary]) -> int:
    """Return how many labels the first round selects, given the configurations it has adopted.

    End members that are not among these are selected in any case.
    """
    missing = {*campaign.cells.ends} - {label.composition for label in known}
    return max(campaign.spec.acquisition.first_round - len(known), len(missing))


def _in_small_cells(
    campaign: Campaign, candidates: Sequence[CandidateDoc], count: int
) -> list[CandidateDoc]:
    """Return the candidates in supercells no larger than it takes for so many; all end members."""
    sizes = [len(campaign.cells.of(one).elements) for one in candidates]
    largest = sorted(sizes)[:count][-1:] or [0]
    return [
        one
        for one, size in zip(candidates, sizes, strict=True)
        if size <= largest[0] or one.composition in campaign.cells.ends
    ]


def _points(campaign: Campaign, described: Sequence[CandidateDoc | LabelSummary]) -> list[Point]:
    return [
        Point(campaign.cells.order_of(one), Fraction(one.composition), 0.0, 0.0, feature)
        for one, feature in zip(described, _features(campaign, described), strict=True)
    ]


def labels_left(campaign: Campaign, up_to: int | None = None) -> int:
    """Return how many labels the campaign may still select.

    Imported labels that it has adopted count as if it had selected them; those of verifications
    come on top.

    Parameters
    ----------
    campaign
        The campaign.
    up_to
        Last round that counts; all if not given.

    Returns
    -------
    int
        Rest of the label budget, 0 at least.
    """
    rounds = [
        one
        for one in campaign.store.rounds.all(campaign.name)
        if up_to is None or one.number <= up_to
    ]
    verifying = verifications(rounds)
    used = sum(len(one.selected or []) for one in rounds if one.number not in verifying)
    if adopted := campaign.store.labels.uses(campaign.name, adopted=True):
        own = campaign.labeler.relax.value
        labels = campaign.store.labels.read(SUMMARY, keys=adopted)
        used += sum(label.relax == own for label in labels)
    return max(0, campaign.spec.convergence.max_labels - used)


def _choice(
    campaign: Campaign,
    candidates: Sequence[CandidateDoc],
    proposed: Sequence[CandidateDoc],
    found: LabelledHull,
    count: int,
) -> Choice:
    """Return what a rule chooses from. Of candidates the committee keeps energy and bar."""
    hull = found.hull
    atoms = np.array([len(candidate.geometry.numbers) for candidate in candidates], dtype=float)
    cost = (atoms / atoms.max()) ** 3 if len(atoms) else atoms
    unlabelled = [
        Candidate(one.config_hash, Fraction(one.composition), feature, float(part))
        for one, feature, part in zip(
            candidates, _features(campaign, candidates), cost, strict=True
        )
    ]
    labelled = [
        Labelled(
            key=entry.key,  # a static label leaves its configuration open to another
            x=entry.x,
            energy=hull.formation_energy(entry),
            features=feature,
        )
        for entry, feature in zip(
            hull.entries,
            _features(campaign, [found.labels[entry.key] for entry in hull.entries]),
            strict=True,
        )
    ]
    posterior = fit_posterior(campaign, found.labels.values(), proposed)
    known = predicted_together(campaign, posterior, candidates)
    lines = np.array([hull.reference(one.x) for one in unlabelled])
    return Choice(
        candidates=unlabelled,
        mean=known.mean - lines,
        covariance=known.covariance(),
        hull=[(vertex.x, hull.formation_energy(vertex)) for vertex in hull.vertices],
        labelled=labelled,
        pending=frozenset(),
        count=count,
        tolerance=campaign.spec.convergence.hull_tolerance,
    )


def ground_state_to_test(choice: Choice, in_vain: Collection[Fraction] = ()) -> list[Selection]:
    """Return the predicted ground state that is least certain, where none is labelled.

    Predictions that are wrong throughout agree that nothing is worth a label; a label where they
    are least sure tells.

    Parameters
    ----------
    choice
        Candidates and what is labelled.
    in_vain
        Compositions where a test has failed, which are left out.

    Returns
    -------
    list of Selection
        Of the candidates that are predicted lowest of all at their composition, by more than the
        tolerance, the one with the largest standard deviation. None if there is no such candidate,
        or no label may be made.
    """
    lowest = dict[Fraction, float]()
    for label in choice.labelled:
        lowest[label.x] = min(label.energy, lowest.get(label.x, np.inf))
    found = dict[Fraction, int]()
    for i in np.argsort(choice.mean, kind="stable").tolist():
        x = choice.candidates[i].x
        if x not in in_vain and choice.mean[i] < lowest.get(x, np.inf) - choice.tolerance:
            found.setdefault(x, i)
    if not found or not choice.count:
        return []
    index = max(found.values(), key=lambda i: choice.spread[i])
    one = choice.candidates[index]
    told = f"{TEST}{one.x}, {choice.odds(index)}"
    return [Selection(one.key, float(choice.spread[index]), told)]


def _tested_in_vain(campaign: Campaign, summaries: Sequence[LabelSummary]) -> set[Fraction]:
    """Return the compositions where a test has brought no usable label.

    Else one whose labels fail would be tested in round after round, and no other.
    """
    brought = {one.used for one in summaries if usable(one)}
    tests = [
        record.selected[0]
        for record in campaign.store.rounds.all(campaign.name)
        if record.selected and record.reasons[0].startswith(TEST) and record.number not in brought
    ]
    return {Fraction(one.composition) for one in campaign.store.candidates.stream(tests)}


def _refuse_invalid(rule: AcquisitionPlugin, choice: Choice, picked: Sequence[Selection]) -> None:
    """Refuse what a rule may not pick, so that an error of a plug-in costs no label."""
    keys = [selection.key for selection in picked]
    known = {candidate.key for candidate in choice.candidates}
    if len(keys) > choice.count or len(set(keys)) < len(keys) or not known.issuperset(keys):
        raise AlChargeError(
            f"the rule '{rule.kind}' selected {len(keys)} candidates, of which "
            f"{len(known & set(keys))} are distinct and available, not {choice.count}",
            where="acquisition",
            remedy="report it to the authors of the plug-in",
        )


def _features(
    campaign: Campaign, described: Sequence[CandidateDoc | LabelSummary]
) -> NDArray[np.float64]:
    """Return pair correlations, which are the same in every supercell."""
    hosts = [campaign.cells.of(one) for one in described]
    parts, order = [all_pair_correlations(campaign.host, [])], []
    for host in dict.fromkeys(hosts):
        some = [place for place, one in enumerate(hosts) if one is host]
        configs = [configuration_of(described[place].colours) for place in some]
        parts.append(all_pair_correlations(host, configs))
        order += some
    found: NDArray[np.float64] = np.vstack(parts)[np.argsort(order)]
    return found
