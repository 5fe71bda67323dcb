"""Which labels of a campaign fulfil a condition."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from functools import cache
from typing import Any

import numpy as np

from al_charge.crystal.host import VACANCY, Host
from al_charge.crystal.species import charge_of, element_of, parse
from al_charge.crystal.states import charge_of_state
from al_charge.errors import InputError, did_you_mean
from al_charge.loop.campaign import Campaign
from al_charge.loop.conditions import Kind, read_condition
from al_charge.loop.energies import present_hull, usable
from al_charge.store.labels import LAST_CELL, LabelSummary
from al_charge.thermo.hull import Entry

FIELDS = {
    "x": Kind.NUMBER,
    "energy": Kind.NUMBER,
    "formation_energy": Kind.NUMBER,
    "above_hull": Kind.NUMBER,
    "volume": Kind.NUMBER,
    "round": Kind.NUMBER,
    "atoms": Kind.NUMBER,
    "ions": Kind.NUMBER,
    "label": Kind.ID,
    "hash": Kind.ID,
    "settings": Kind.ID,
    "engine": Kind.TEXT,
    "relax": Kind.TEXT,
    "refusal": Kind.TEXT,
    "refused": Kind.FLAG,
    "delocalised": Kind.FLAG,
}
"""What conditions may look at, besides numbers of ions of a species. Energies are in eV and volumes
in cubic angstrom, both per formula unit; ``atoms`` and ``ions`` (working ions) are those of the
cell, ``round`` that of the campaign; ``refused`` labels are on no hull, ``refusal`` says why."""
_OF_THE_HULL = {"formation_energy", "above_hull"}
Value = Callable[[LabelSummary], Any]


def labels_where(campaign: Campaign, text: str) -> list[str]:
    """Return the labels of a campaign that fulfil a condition.

    Parameters
    ----------
    campaign
        The campaign.
    text
        Such as ``x = 1/2 and Fe2+ >= 4``: `FIELDS`, and species, which count ions in the cell. A
        species without a spin state counts those of all spin states.

    Returns
    -------
    list of str
        Their keys, sorted.

    Raises
    ------
    InputError
        If the condition cannot be read, or names what is not a field.
    AlChargeError
        If it asks for energies against a hull that is not there yet.
    """
    known = sorted({species for host in campaign.cells.hosts for species in host.species})
    condition = read_condition(text, FIELDS, lambda written: _known_species(written, known))
    holds = condition.test({name: _value(campaign, name) for name in condition.fields})
    summaries = campaign.known_labels.summaries()
    return sorted(key for key, one in summaries.items() if holds(one))


def _value(campaign: Campaign, name: str) -> Value:
    """Return what reads a field of a label."""
    cells = campaign.cells
    if name in _OF_THE_HULL:
        return _of_the_hull(campaign, name)
    if name == "volume":
        cell = dict(campaign.store.labels.read(LAST_CELL, campaign=campaign.name))
        return lambda one: abs(np.linalg.det(cell[one.key])) / cells.of(one).formula_units
    if name not in FIELDS:
        return _number_of(campaign, name)
    x = cache(lambda composition: float(Fraction(composition)))
    simple: dict[str, Value] = {
        "x": lambda one: x(one.composition),
        "energy": cells.energy_of,
        "round": lambda one: one.used,
        "atoms": lambda one: len(cells.of(one).fixed) + sum(s != VACANCY for s in one.colours),
        "ions": lambda one: one.n_ions,
        "label": lambda one: one.key,
        "hash": lambda one: one.config_hash,
        "settings": lambda one: one.settings_hash,
        "engine": lambda one: one.engine,
        "relax": lambda one: one.relax,
        "refusal": lambda one: one.refusal and str(one.refusal),
        "refused": lambda one: one.refusal is not None,
        "delocalised": lambda one: one.delocalised,
    }
    return simple[name]


def _of_the_hull(campaign: Campaign, name: str) -> Value:
    """Return energies against the hull of all labels; None of those that no hull may hold."""
    hull = present_hull(campaign).hull

    @cache
    def floor(composition: str) -> float:
        point = Entry("", "", Fraction(composition), 0.0)
        return hull.distance(point) if name == "above_hull" else hull.formation_energy(point)

    def value(one: LabelSummary) -> float | None:
        return campaign.cells.energy_of(one) + floor(one.composition) if usable(one) else None

    return value


def _known_species(written: str, known: list[str]) -> str:
    """Return a species of the host as it was written; refuse others."""
    token = parse(written)
    ions = {species.partition(",")[0] for species in known}
    if (token if _names_spin(written) else token.partition(",")[0]) not in {*known, *ions}:
        raise InputError(
            f"no site of the host can be {written}",
            where="condition",
            remedy=did_you_mean(written, ions),
        )
    return written


def _names_spin(written: str) -> bool:
    return "," in written or " " in written


def _number_of(campaign: Campaign, written: str) -> Value:
    """Return the number of ions of a species in the cell of a label."""
    token, spin = parse(written), _names_spin(written)
    element, charge = element_of(token), charge_of(token)

    def counts(host: Host, state: int) -> bool:
        if state == VACANCY or charge_of_state(state) != charge:
            return False
        return not spin or host.token(element, state) == token

    @cache
    def sites_of(place: int) -> tuple[int, list[int], frozenset[int]]:
        """Return the ions that are always there, places in ``colours``, and the states there."""
        host = campaign.cells.hosts[place]
        fixed = sum(
            host.elements[site] == element and counts(host, state)
            for site, state in host.fixed.items()
        )
        places = [i for i, site in enumerate(host.variable_sites) if host.elements[site] == element]
        some = {state for i in places for state in host.allowed_states[i] if counts(host, state)}
        return fixed, places, frozenset(some)

    order = {id(host): place for place, host in enumerate(campaign.cells.hosts)}

    def counted(one: LabelSummary) -> int:
        fixed, places, states = sites_of(order[id(campaign.cells.of(one))])
        return fixed + sum(one.colours[i] in states for i in places)

    known: dict[tuple[str, str], int] = {}

    def value(one: LabelSummary) -> int:
        key = one.host_fingerprint, one.config_hash  # of which there may be many labels
        number = known.get(key)
        if number is None:
            number = known[key] = counted(one)
        return number

    return value
