"""What charge neutrality leaves of a host's states at a composition."""

from __future__ import annotations

from al_charge.crystal.host import Host
from al_charge.crystal.species import unpaired_electrons
from al_charge.crystal.states import charge_of_state, sums_of_charges


def end_member_species(host: Host) -> frozenset[str]:
    """Return the species that are their element's only one at an end of the composition range.

    Parameters
    ----------
    host
        A host.

    Returns
    -------
    frozenset of str
        Tokens of redox elements whose sites can all be in one state only, and in the same one,
        at the lowest or the highest composition.
    """
    found: set[str] = set()
    for n_ions in (host.ion_counts[0], host.ion_counts[-1]):
        for element in host.redox_elements:
            possible = {
                state
                for kind, allowed in set(host.kinds)
                for state in allowed
                if kind == element and _is_possible(host, n_ions, allowed, state)
            }
            if len(possible) == 1:
                found.add(host.token(element, possible.pop()))
    return frozenset(found)


def total_moments(host: Host, n_ions: int) -> tuple[int, int]:
    """Return the smallest and the largest ferromagnetic moment at a composition.

    Parameters
    ----------
    host
        A host.
    n_ions
        Working ions in the cell.

    Returns
    -------
    tuple of int
        Unpaired electrons in the cell; they differ where the same charge can be made up by
        different states.
    """
    fixed = sum(
        unpaired_electrons(host.token(host.elements[site], state))
        for site, state in host.fixed.items()
    )
    ion = unpaired_electrons(host.token(host.working_ion, host.working_ion_charge))
    fixed += (n_ions - host.inert_ions) * ion
    reached = {0: (fixed, fixed)}
    for site in host.redox_sites:
        element, found = host.elements[site], dict[int, tuple[int, int]]()
        for charge, (smallest, largest) in reached.items():
            for state in host.states[site]:
                more = unpaired_electrons(host.token(element, state))
                total = charge + charge_of_state(state)
                low, high = found.get(total, (smallest + more, largest + more))
                found[total] = min(low, smallest + more), max(high, largest + more)
        reached = found
    return reached[host.redox_charge(n_ions)]


def _is_possible(host: Host, n_ions: int, allowed: tuple[int, ...], state: int) -> bool:
    """Return whether a site with some allowed states can be in one of them at a composition."""
    if len(allowed) == 1:
        return True
    others = [host.states[site] for site in host.redox_sites]
    others.remove(allowed)
    return host.redox_charge(n_ions) - charge_of_state(state) in sums_of_charges(others)
