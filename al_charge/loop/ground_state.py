"""Whether labels are ground states of their electrons, judged by the runs in other states.

What a run has ended in is read from its final moments: one that fell back to the solution of the
label is not another state.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from al_charge.crystal.species import (
    charge_of,
    element_of,
    in_words,
    spin_name,
    unpaired_electrons,
)
from al_charge.crystal.valence import has_spin_state, spin_state_shown
from al_charge.loop.campaign import Campaign
from al_charge.loop.explore import Explored, explored
from al_charge.store.documents import LabelDoc
from al_charge.store.labels import WITHOUT_FRAMES

TOLERANCE = 0.005
"""eV per formula unit by which another spin state must be lower to stop a campaign."""

NO_MOMENT = 0.5
"""Bohr magnetons; a site with less has no sign in a magnetic order."""


@dataclass(frozen=True)
class Solution:
    """A solution for the electrons.

    Attributes
    ----------
    asked
        What was asked for, in words; empty for the campaign's own state.
    species
        Of each site with a spin, in the spin state that its moment shows; None if it shows none, or
        the site has another charge than was asked for.
    signs
        Of these sites' moments, the first of them positive; 0 for those without a moment.
    energy
        eV per formula unit.
    """

    asked: str
    species: tuple[str | None, ...]
    signs: tuple[int, ...]
    energy: float

    @property
    def order(self) -> str:
        """Its magnetic order; empty for one without several moments."""
        up, down = self.signs.count(1), self.signs.count(-1)
        if up + down < 2:
            return ""
        if not down:
            return "ferromagnetic"
        return "antiferromagnetic" if up == down else "ferrimagnetic"

    @property
    def spins(self) -> str:
        """The spin states, in words."""
        found = sorted({in_words(one) for one in self.species if one is not None})
        other = ["uncertain moments or other charges"] if None in self.species else []
        return " and ".join([*found, *other])


@dataclass(frozen=True)
class Electrons:
    """What the runs of one configuration in other electronic states have shown.

    Attributes
    ----------
    x
        Its composition, an exact fraction.
    config_hash
        Of the configuration.
    requested
        Species of each site with a spin, as the campaign asks for them.
    label
        The solution of the campaign's label; None if there is none.
    others
        Those of the runs, in their order.
    failed
        What was asked for in runs without a result, in words, and why there is none.
    pending
        What is asked for in runs that have not ended.
    left_out
        States that were not run, in words.
    """

    x: str
    config_hash: str
    requested: tuple[str, ...]
    label: Solution | None
    others: tuple[Solution, ...]
    failed: dict[str, str]
    pending: tuple[str, ...]
    left_out: tuple[str, ...]

    @property
    def lowest_as_asked(self) -> Solution | None:
        """The lowest in the spin states that the campaign asks for, in any magnetic order."""
        return _lowest(one for one in self._all if one.species == self.requested)

    @property
    def lower_spin(self) -> Solution | None:
        """The lowest solution if it is in other spin states than those asked for.

        None also where the difference is within the tolerance, and where the campaign's label has
        failed, so that nothing is known of what it asks for.
        """
        lowest, asked = _lowest(self._all), self.lowest_as_asked
        if self.label is None and asked is None:
            return None
        if lowest is None or None in lowest.species or lowest.species == self.requested:
            return None
        if asked is not None and asked.energy - lowest.energy <= TOLERANCE:
            return None
        return lowest

    @property
    def lowest_order(self) -> Solution | None:
        """The lowest in another magnetic order than the label, in the same spin states."""
        if self.label is None or self.label.species != self.requested:
            return None
        return _lowest(
            one
            for one in self.others
            if one.species == self.requested and one.signs != self.label.signs
        )

    @property
    def correction(self) -> float | None:
        """By how much another magnetic order is lower than the label, eV per formula unit.

        0 if no other order was found to be lower, or the ions have no moments; None if none was run
        to a result.
        """
        if self.label is None or self.label.species != self.requested:
            return None
        if not any(map(unpaired_electrons, self.requested)):
            return 0.0
        if self.lowest_order is not None:
            return min(0.0, self.lowest_order.energy - self.label.energy)
        same = any(one.species == self.requested for one in self.others)
        return 0.0 if same else None

    @property
    def outcome(self) -> str:
        """What has been shown, in a sentence."""
        asked = " and ".join(sorted(set(map(in_words, self.requested))))
        if self.pending:
            return f"{len(self.pending)} not finished yet"
        if (lower := self.lower_spin) is not None:
            return _compared(self, lower)
        if self.label is None:
            return f"there is no label of {asked} to compare with"
        lowest = _lowest(self._all)
        if lowest is not None and None in lowest.species:
            return f"the lowest run is not {asked}: its moments or charges fit no such state"
        if self.lowest_order is not None and self.correction:
            return (
                f"{self.lowest_order.order} order is {-1e3 * self.correction:.1f} meV/f.u. lower, "
                "for which the hull has a correction"
            )
        ended = len(self.others)
        return f"{asked} is the lowest of {ended} run{'s' * (ended != 1)} in other states"

    @property
    def _all(self) -> tuple[Solution, ...]:
        return self.others if self.label is None else (self.label, *self.others)


def electrons(campaign: Campaign, number: int) -> list[Electrons]:
    """Return what the runs of a round in other electronic states have shown.

    Parameters
    ----------
    campaign
        The campaign.
    number
        Number of the round.

    Returns
    -------
    list of Electrons
        One for each configuration that has such runs; empty for most rounds.
    """
    found = [one for one in explored(campaign, number) if one is not None and one.runs]
    return _all_judged(campaign, found)


def _all_judged(campaign: Campaign, found: list[Explored]) -> list[Electrons]:
    keys = [run.key for one in found for run in one.runs]
    labels = {label.key: label for label in campaign.store.labels.read(WITHOUT_FRAMES, keys=keys)}
    return [_judged(campaign, one, labels) for one in found]


def _judged(campaign: Campaign, one: Explored, labels: Mapping[str, LabelDoc]) -> Electrons:
    asked = one.candidate.geometry.species
    sites = [site for site, token in enumerate(asked) if has_spin_state(token)]
    units = campaign.cells.of(one.candidate).formula_units
    solutions, failed, pending = [], {}, []
    for run in one.runs:
        label = labels.get(run.key)
        if label is None:
            failure = campaign.store.failures.get(run.key)
            if failure is None:
                pending.append(run.state)
            else:
                failed[run.state] = failure.reason
            continue
        solution = _solution(label, asked, sites, units, run.state)
        if solution is None:
            failed[run.state] = label.refused or "the run has no moments"
        else:
            solutions.append(solution)
    return Electrons(
        x=one.candidate.composition,
        config_hash=campaign.cells.order_of(one.candidate),
        requested=tuple(asked[site] for site in sites),
        label=None if one.label is None else _solution(one.label, asked, sites, units, ""),
        others=tuple(solutions),
        failed=failed,
        pending=tuple(pending),
        left_out=one.left_out,
    )


def _solution(
    label: LabelDoc, asked: Sequence[str], sites: list[int], units: int, state: str
) -> Solution | None:
    """Return the solution that a label is; None for one whose energy does not count."""
    if label.moments is None or label.unusable or not label.converged:
        return None
    moments = np.array(label.moments)[sites]
    signs = np.where(np.abs(moments) < NO_MOMENT, 0, np.sign(moments)).astype(int)
    first = next((sign for sign in signs if sign), 1)
    # A label may have found other charges than it was asked for: what counts is what is asked now.
    found = label.resolved or label.requested
    return Solution(
        asked=state,
        species=tuple(
            _shown(asked[site], found[site], moment, by_windows=label.resolved is not None)
            for site, moment in zip(sites, moments, strict=True)
        ),
        signs=tuple(int(sign * first) for sign in signs),
        energy=label.energy / units,
    )


def _shown(asked: str, found: str, moment: float, *, by_windows: bool) -> str | None:
    """Return the spin state of an ion; None if its moment or its charge is another.

    Windows may be given for an ion with far less than its spin-only moment, so they come first.
    """
    if by_windows and found == asked:
        return asked
    return spin_state_shown(asked, moment) if charge_of(found) == charge_of(asked) else None


def _lowest(some: Iterable[Solution]) -> Solution | None:
    return min(some, key=lambda one: one.energy, default=None)


def lower_spin_states(campaign: Campaign) -> str:
    """Return why a campaign must not go on, if an end member is lower in other spin states.

    Parameters
    ----------
    campaign
        The campaign.

    Returns
    -------
    str
        Which, by how much, and what to write; empty as long as runs have not ended, and if what the
        campaign asks for is lowest.
    """
    ends = electrons(campaign, 0)
    if any(end.pending for end in ends):
        return ""
    lower = [(end, end.lower_spin) for end in ends]
    told, instead = [], dict[str, set[str]]()
    for end, solution in lower:
        if solution is None:
            continue
        told.append(f"at x = {end.x} {_compared(end, solution)}")
        for asked, found in zip(end.requested, solution.species, strict=True):
            if found is not None:
                instead.setdefault(asked, set()).add(found)
    if not told:
        return ""
    return f"{'; '.join(told)}; write {_to_write(campaign, instead)} under 'host'"


def _compared(end: Electrons, solution: Solution) -> str:
    changed = {
        (asked, found)
        for asked, found in zip(end.requested, solution.species, strict=True)
        if asked != found and found is not None
    }
    lower = " and ".join(sorted({in_words(found) for _, found in changed}))
    asked = " and ".join(sorted({in_words(asked) for asked, _ in changed}))
    if end.lowest_as_asked is None:
        return f"{lower} was found instead of {asked}"
    by = 1e3 * (end.lowest_as_asked.energy - solution.energy)
    return f"{lower} lies {by:.0f} meV/f.u. below {asked}"


def _to_write(campaign: Campaign, instead: Mapping[str, set[str]]) -> str:
    """Return the lines under ``host`` that ask for other spin states."""
    host, spec = campaign.host, campaign.spec.host

    def written(element: str, *, redox: bool) -> list[str]:
        kinds = {some for el, some in host.kinds if el == element and (len(some) > 1) is redox}
        asked = {host.token(element, state) for some in kinds for state in some}
        tokens = {t for one in asked for t in instead.get(one, {one})}
        order = sorted(tokens, key=lambda t: (charge_of(t), unpaired_electrons(t)))
        return [f"{charge_of(t)} {spin_name(t)}".strip() for t in order]

    redox = [f"{el}: [{', '.join(written(el, redox=True))}]" for el in spec.redox]
    lines = [f"'redox: {{{', '.join(redox)}}}'"]
    if any(element_of(token) in spec.fixed for token in instead):
        fixed = [f"{el}: {' or '.join(written(el, redox=False))}" for el in spec.fixed]
        lines.append(f"'fixed: {{{', '.join(fixed)}}}'")
    return " and ".join(lines) + (", and the same under 'sites'" if spec.sites else "")


def magnetic_corrections(campaign: Campaign) -> dict[str, float]:
    """Return by how much other magnetic orders lower the configurations that were run in them.

    Parameters
    ----------
    campaign
        The campaign.

    Returns
    -------
    dict
        eV per formula unit, 0 or negative, by the hash of the configuration; those at the
        geometries of a verification where there are several.
    """
    found: dict[str, float] = {}
    if campaign.spec.labeler.spin_runs:
        for record in campaign.store.rounds.all(campaign.name):
            # Those without moments have no other order, and need not be run for it.
            all_of_them = [one for one in explored(campaign, record.number) if one is not None]
            for judged in _all_judged(campaign, all_of_them):
                if judged.correction is not None:
                    found[judged.config_hash] = judged.correction
    return found
