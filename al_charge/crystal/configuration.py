"""Configurations: occupations of the sites of a host, always charge-neutral."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import cast

import numpy as np
from ase import Atoms
from numpy.typing import ArrayLike, NDArray
from pymatgen.core.periodic_table import Species
from pymatgen.core.structure import Structure

from al_charge.crystal.host import VACANCY, Host
from al_charge.crystal.shells import KIND
from al_charge.crystal.species import TOKEN_DTYPE, element_of, token, tokens_of, unpaired_electrons
from al_charge.crystal.states import charge_of_state
from al_charge.errors import InputError

MATCHING_TOLERANCE = 0.35
"""Largest distance of an atom from its host site when sites are matched, as a fraction of the
mean spacing of sites, (volume per site)^(1/3)."""


@dataclass(frozen=True)
class Configuration:
    """What occupies a host's variable sites: ion sites first, then redox sites.

    Parameters
    ----------
    occupation
        For an ion site ``VACANCY`` or the ion's charge, for a redox site its state: the oxidation
        state, or see `al_charge.crystal.states.SPIN_STEP`.
    """

    occupation: tuple[int, ...]

    def as_array(self) -> NDArray[np.int8]:
        """Return the occupation as an array.

        Returns
        -------
        ndarray of int8, shape (n_variable_sites,)
            States, ion sites first.
        """
        return np.array(self.occupation, dtype=np.int8)


def configuration(host: Host, occupation: ArrayLike) -> Configuration:
    """Check an occupation against a host and return it as a configuration.

    Parameters
    ----------
    host
        The host whose sites are occupied.
    occupation
        State of every variable site, shape (n_variable_sites,); see `Configuration`.

    Returns
    -------
    Configuration
        As given, not in canonical form.

    Raises
    ------
    InputError
        If the number of sites is wrong, a site has a state that is not allowed there, two occupied
        sites exclude each other, or the charges do not sum to zero.
    """
    values = tuple(int(state) for state in np.asarray(occupation).ravel())
    if len(values) != len(host.variable_sites):
        raise InputError(
            f"{len(values)} states for {len(host.variable_sites)} variable sites",
            where="configuration",
        )
    for site, state, allowed in zip(host.variable_sites, values, host.allowed_states, strict=True):
        if state not in allowed:
            raise InputError(
                f"{host.elements[site]} on site {site} may not be {state}",
                where="configuration",
                remedy=f"allowed: {', '.join(map(str, allowed))}",
            )
    for one, other in host.exclusions:
        if VACANCY not in (values[one], values[other]):
            sites = f"{host.ion_sites[one]} and {host.ion_sites[other]}"
            raise InputError(
                f"{host.working_ion} on sites {sites}, which are too near each other",
                where="configuration",
                remedy="host.min_distance says how near they may be",
            )
    result = Configuration(values)
    if charge := total_charge(host, result):
        raise InputError(f"the charges sum to {charge:+d} e", where="configuration")
    return result


def total_charge(host: Host, config: Configuration) -> int:
    """Return the sum of all charges of a configuration.

    Parameters
    ----------
    host
        The host that it belongs to.
    config
        A configuration.

    Returns
    -------
    int
        In e; zero for a valid configuration.
    """
    n_sites = len(host.ion_sites)
    ions = ion_count(host, config) * host.working_ion_charge
    return host.fixed_charge + ions + sum(map(charge_of_state, config.occupation[n_sites:]))


def ion_count(host: Host, config: Configuration) -> int:
    """Return the number of working ions in a configuration.

    Parameters
    ----------
    host
        The host that it belongs to.
    config
        A configuration.

    Returns
    -------
    int
        In the whole cell, those that never leave among them.
    """
    ions = config.occupation[: len(host.ion_sites)]
    return host.inert_ions + len(ions) - ions.count(VACANCY)


def composition(host: Host, config: Configuration) -> Fraction:
    """Return the composition x of a configuration.

    Parameters
    ----------
    host
        The host that it belongs to.
    config
        A configuration.

    Returns
    -------
    Fraction
        Working ions per formula unit, exact.
    """
    return host.composition(ion_count(host, config))


def species_of(host: Host, config: Configuration) -> dict[int, str]:
    """Return the species token of every occupied host site.

    Parameters
    ----------
    host
        The host that it belongs to.
    config
        A configuration.

    Returns
    -------
    dict
        Species token by index of the host site, ascending.
    """
    states = dict(host.fixed)
    n_sites = len(host.ion_sites)
    for i, (site, state) in enumerate(zip(host.variable_sites, config.occupation, strict=True)):
        # A redox site is never empty: on it the vacancy's number means an anion such as O-.
        if i >= n_sites or state != VACANCY:
            states[int(site)] = state
    return {site: host.token(host.elements[site], states[site]) for site in sorted(states)}


def to_atoms(host: Host, config: Configuration) -> Atoms:
    """Return a configuration on the host's ideal sites as ASE Atoms.

    Parameters
    ----------
    host
        The host that it belongs to.
    config
        A configuration.

    Returns
    -------
    Atoms
        With their true elements, the arrays ``species`` (tokens such as ``Fe3+``) and ``host_site``
        (index of the host site), and the initial moments of the ferromagnetic state.
    """
    species = species_of(host, config)
    sites = np.array(list(species))
    tokens = list(species.values())
    atoms = Atoms(
        [element_of(t) for t in tokens],
        scaled_positions=host.structure.frac_coords[sites],
        cell=host.structure.lattice.matrix,
        pbc=True,
    )
    atoms.set_array("host_site", sites)
    set_species(atoms, tokens)
    return atoms


def set_site_kinds(host: Host, atoms: Atoms) -> None:
    """Tell sites of one element apart to which a host gives different states, for `shells`.

    Parameters
    ----------
    host
        The host that they belong to.
    atoms
        Atoms with an array ``host_site``, modified in place; not if elements say it all.
    """
    kinds = sorted(set(host.kinds))
    if len(kinds) > len(set(host.elements)):
        of_sites = [kinds.index(host.kinds[site]) for site in atoms.arrays["host_site"]]
        atoms.set_array(KIND, np.array(of_sites))


def set_species(atoms: Atoms, tokens: list[str]) -> None:
    """Set the species of every atom, and with them their spin-only initial moments.

    Parameters
    ----------
    atoms
        Modified in place.
    tokens
        Species token of every atom.
    """
    atoms.set_array("species", np.array(tokens, dtype=TOKEN_DTYPE))
    atoms.set_initial_magnetic_moments([unpaired_electrons(t) for t in tokens])


def from_atoms(host: Host, atoms: Atoms) -> Configuration:
    """Read a configuration back from Atoms with a ``species`` array.

    Atoms are matched to host sites by their ``host_site`` array, or else by position (fractional
    coordinates, so the cell may be strained).

    Parameters
    ----------
    host
        The host that they belong to.
    atoms
        Atoms with a ``species`` array, not modified.

    Returns
    -------
    Configuration
        Not in canonical form.

    Raises
    ------
    InputError
        If there is no ``species`` array, an atom lies on no host site, an atom of the host is
        missing or in a charge state that is not allowed, or the charges do not sum to zero.
    """
    tokens = tokens_of(atoms)
    sites = atoms.arrays["host_site"] if "host_site" in atoms.arrays else match_sites(host, atoms)
    found = {int(s): t for s, t in zip(sites, tokens, strict=True)}
    mobile = set(map(int, host.ion_sites))
    occupation = []
    for site in map(int, host.variable_sites):
        states = {
            host.token(host.elements[site], state): state
            for state in host.states[site]
            if site not in mobile or state != VACANCY
        }
        if site in found and found[site] not in states:
            raise InputError(
                f"{found[site]} where the host has {', '.join(states)}",
                where=f"site {site}",
                remedy="list it under 'redox' if it may occur",
            )
        occupation.append(states[found[site]] if site in found else VACANCY)
    config = configuration(host, occupation)
    expected = species_of(host, config)
    for site in sorted(found.keys() | expected.keys()):
        if found.get(site) != expected.get(site):
            raise InputError(
                f"{found.get(site, 'nothing')} where the host has {expected.get(site, 'no site')}",
                where=f"site {site}",
            )
    return config


def to_structure(atoms: Atoms) -> Structure:
    """Return Atoms as a pymatgen structure with oxidation states.

    Parameters
    ----------
    atoms
        Atoms with a ``species`` array.

    Returns
    -------
    Structure
        Its sites in the order of the atoms.
    """
    from pymatgen.io.ase import AseAtomsAdaptor  # slow, and workers need none of it

    bare = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True)
    structure = cast(Structure, AseAtomsAdaptor.get_structure(bare))
    for site, species in zip(structure, atoms.arrays["species"], strict=True):
        site.species = Species.from_str(str(species))
    return structure


def from_structure(host: Host, structure: Structure) -> Configuration:
    """Read a configuration from a pymatgen structure with oxidation states.

    Parameters
    ----------
    host
        The host that it belongs to.
    structure
        Matched to the host's sites by position; not modified.

    Returns
    -------
    Configuration
        Not in canonical form.

    Raises
    ------
    InputError
        If a site has no oxidation state, or a spin that the host does not have, or for any reason
        of `from_atoms`.
    """
    from pymatgen.io.ase import AseAtomsAdaptor

    if not all(isinstance(s, Species) and s.oxi_state is not None for s in structure.species):
        raise InputError("the structure has sites without an oxidation state", where="structure")
    atoms = AseAtomsAdaptor.get_atoms(structure.copy().remove_oxidation_states())
    atoms.set_array("host_site", match_sites(host, atoms))
    tokens = [
        _token_of(host, int(site), cast(Species, ion))
        for site, ion in zip(atoms.arrays["host_site"], structure.species, strict=True)
    ]
    set_species(atoms, tokens)
    return from_atoms(host, atoms)


def _token_of(host: Host, site: int, ion: Species) -> str:
    """Return an ion's token on a site: of several with its charge, that of the nearest spin."""
    element, charge, spin = ion.element.symbol, int(ion.oxi_state or 0), ion.spin
    states = [state for state in host.states[site] if charge_of_state(state) == charge]
    known = [host.token(element, state) for state in states]
    if not known or (spin is None and len(known) > 1):
        return token(element, charge)
    if spin is None:
        return known[0]
    found = min(known, key=lambda t: abs(unpaired_electrons(t) - abs(spin)))
    # Spin states of one charge are two unpaired electrons apart; a moment may be off by covalence.
    if abs(unpaired_electrons(found) - abs(spin)) > 1.0:
        raise InputError(
            f"an ion has {abs(spin):g} unpaired electrons; the host has {', '.join(known)}",
            where="structure",
        )
    return found


def match_sites(host: Host, atoms: Atoms) -> NDArray[np.int64]:
    """Assign every atom to the host site of its element that lies nearest.

    Parameters
    ----------
    host
        The host that they belong to.
    atoms
        In a cell of the host's vectors, which may be strained.

    Returns
    -------
    ndarray of int64, shape (n_atoms,)
        Index of the host site of every atom.

    Raises
    ------
    InputError
        If there are more atoms than sites, or one of them lies on none.
    """
    from scipy.optimize import linear_sum_assignment

    lattice = host.structure.lattice
    distances = lattice.get_all_distances(atoms.get_scaled_positions(), host.structure.frac_coords)
    mismatch = np.array(atoms.get_chemical_symbols())[:, None] != np.array(host.elements)[None, :]
    cost = distances + 1e3 * mismatch
    if len(atoms) > len(host.elements):
        raise InputError("more atoms than the host has sites", where="atoms")
    rows, columns = linear_sum_assignment(cost)
    limit = MATCHING_TOLERANCE * (lattice.volume / len(host.elements)) ** (1 / 3)
    worst = int(np.argmax(cost[rows, columns]))
    if cost[rows, columns][worst] > limit:
        raise InputError(
            f"atom {rows[worst]} ({atoms.symbols[rows[worst]]}) lies on no site of the host",
            where="atoms.positions",
        )
    sites: NDArray[np.int64] = columns
    return sites
