"""Clusters of sites that are alike in every cell of one parent crystal, and features made of them.

A cluster expansion in charge states: each site has functions of its state, and a correlation is the
mean of their product over all clusters of one kind. Clusters are of one kind if their sites are
equivalent in the parent crystal and their distances are equal.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import combinations, permutations, product

import numpy as np
import spglib
from numpy.typing import NDArray
from pymatgen.core.structure import Structure
from scipy.spatial import KDTree

from al_charge.crystal.correlations import SHELL_GAP
from al_charge.crystal.electrostatics import pair_energies
from al_charge.crystal.host import VACANCY, Host
from al_charge.crystal.parent import matrix_of
from al_charge.crystal.space_group import SYMPREC
from al_charge.crystal.states import charge_of_state
from al_charge.errors import AlChargeError, InputError
from al_charge.surrogate.polynomial import (
    Monomial,
    Polynomial,
    SiteFunctions,
    functions_of_states,
)

PAIR_CUTOFF = 7.0
"""Pairs of variable sites up to this distance in angstrom are counted."""

Corner = tuple[int, int]
"""Class of a site, and which of its functions."""
Key = tuple[tuple[Corner, ...], tuple[int, ...]]
"""Kind of a cluster: its corners, and the shells of the distances between each two of them."""
Cluster = tuple[tuple[int, ...], tuple[int, ...]]
"""Variable sites, and shells of distances in the order of `itertools.combinations`."""


@dataclass(frozen=True, eq=False)
class Clusters:
    """The kinds of clusters of a parent crystal, and their correlations in any of its cells.

    Attributes
    ----------
    host
        One cell of the parent crystal, which says how classes, shells and kinds are numbered.
    pair_cutoff, triplet_cutoff
        Longest distance in a pair and in a triplet, in angstrom; 0 for none.
    """

    host: Host
    pair_cutoff: float = PAIR_CUTOFF
    triplet_cutoff: float = 0.0

    @cached_property
    def _parent_sites(self) -> tuple[KDTree, NDArray[np.int64]]:
        """Return the host's variable sites within a parent cell, with the class of each."""
        kinds = {kind: number for number, kind in enumerate(dict.fromkeys(self.host.kinds), 1)}
        structure = self.host.structure
        dataset = spglib.get_symmetry_dataset(
            (
                structure.lattice.matrix.tolist(),
                structure.frac_coords.tolist(),
                [kinds[kind] for kind in self.host.kinds],
            ),
            symprec=SYMPREC,
        )
        if dataset is None:
            raise AlChargeError("spglib finds no symmetry", where="host.structure")
        orbits = dataset.crystallographic_orbits[self.host.variable_sites]
        _, classes = np.unique(orbits, return_inverse=True)
        return KDTree(_in_parent_cell(self.host), boxsize=1.0), classes

    def classes(self, host: Host) -> NDArray[np.int64]:
        """Return the class of every variable site of a cell; those of one are equivalent.

        Parameters
        ----------
        host
            A cell of the parent crystal.

        Returns
        -------
        ndarray of int, shape (n_variable_sites,)
            From 0 up.

        Raises
        ------
        InputError
            If it is a cell of another crystal.
        """
        tree, classes = self._parent_sites
        distances, nearest = tree.query(_in_parent_cell(host))
        known = np.array(self.host.kinds, dtype=object)[self.host.variable_sites[nearest]]
        own = np.array(host.kinds, dtype=object)[host.variable_sites]
        per_formula = len(own) / host.formula_units, len(classes) / self.host.formula_units
        if distances.max() > SYMPREC or (known != own).any() or per_formula[0] != per_formula[1]:
            raise InputError(
                "the cells are not of one crystal with the same sites and states",
                where="host",
                remedy="fit each crystal on its own",
            )
        found: NDArray[np.int64] = classes[nearest]
        return found

    @cached_property
    def kinds(self) -> tuple[Key, ...]:
        """Every kind of cluster, with its functions, in the order of `correlations`."""
        return tuple(self.correlations(self.host))

    @cached_property
    def _shells(self) -> NDArray[np.float64]:
        """Shortest distance of every shell, in angstrom."""
        *_, distances = _neighbours(self.host, max(self.pair_cutoff, self.triplet_cutoff))
        ascending = np.sort(distances)
        return ascending[np.diff(ascending, prepend=-np.inf) > SHELL_GAP]

    def _shells_of(self, distances: NDArray[np.float64]) -> NDArray[np.int64]:
        """Return the number of the shell that each distance belongs to, from 0 up."""
        found: NDArray[np.int64] = np.searchsorted(self._shells[1:] - SHELL_GAP / 2, distances)
        return found

    def correlations(self, host: Host) -> dict[Key, dict[Monomial, float]]:
        """Return every correlation in a cell, as a polynomial in its site functions.

        Parameters
        ----------
        host
            A cell of the parent crystal.

        Returns
        -------
        dict
            Coefficient by monomial, by kind of cluster with its functions; ascending.

        Raises
        ------
        InputError
            If it is a cell of another crystal.
        """
        classes = self.classes(host)
        columns = SiteFunctions(host).columns
        sums: dict[Key, dict[Monomial, float]] = defaultdict(lambda: defaultdict(float))
        numbers: Counter[Key] = Counter()
        alike: dict[Key, int] = {}
        for sites, shells in self._clusters(host):
            numbers[_kind([(int(classes[site]), 0) for site in sites], shells)] += 1
            found: Counter[Key] = Counter()
            for chosen in product(*(range(len(columns[site])) for site in sites)):
                corners = [(int(classes[s]), f) for s, f in zip(sites, chosen, strict=True)]
                key = _kind(corners, shells)
                monomial = sorted(columns[s][f] for s, f in zip(sites, chosen, strict=True))
                sums[key][tuple(monomial)] += 1.0
                found[key] += 1
            alike |= found
        correlations = {}
        for key in sorted(sums, key=lambda key: (len(key[0]), key)):
            number = numbers[_kind([(place, 0) for place, _ in key[0]], key[1])]
            # Where functions may change places, so that no choice of functions counts for more.
            scale = 1 / (number * np.sqrt(alike[key]))
            correlations[key] = {m: float(value * scale) for m, value in sums[key].items()}
        return correlations

    def _clusters(self, host: Host) -> Iterator[Cluster]:
        """Yield single sites; then pairs, each from both ends; then triplets, from each corner."""
        for site in range(len(host.variable_sites)):
            yield (site,), ()
        first, second, vectors, distances = _neighbours(host, self.pair_cutoff)
        shells = self._shells_of(distances)
        for i, j, shell in zip(first.tolist(), second.tolist(), shells.tolist(), strict=True):
            yield (i, j), (shell,)
        if not self.triplet_cutoff:
            return
        first, second, vectors, distances = _neighbours(host, self.triplet_cutoff)
        shells = self._shells_of(distances)
        for i in range(len(host.variable_sites)):
            mine = np.flatnonzero(first == i)
            across = np.linalg.norm(vectors[mine][:, None] - vectors[mine][None], axis=2)
            third = self._shells_of(across)
            for a, b in combinations(range(len(mine)), 2):
                if across[a, b] <= self.triplet_cutoff:
                    sides = shells[mine[a]], shells[mine[b]], third[a, b]
                    corners = i, int(second[mine[a]]), int(second[mine[b]])
                    yield corners, tuple(map(int, sides))

    def reach(self, key: Key) -> float:
        """Return the longest distance in a kind of cluster.

        Parameters
        ----------
        key
            A kind.

        Returns
        -------
        float
            In angstrom; 0 for a single site.
        """
        return max((float(self._shells[shell]) for shell in key[1]), default=0.0)


def ewald_terms(host: Host) -> dict[Monomial, float]:
    """Return the Ewald energy of formal charges as a polynomial in the site functions.

    Parameters
    ----------
    host
        The cell.

    Returns
    -------
    dict
        Coefficient by monomial, eV per formula unit; it holds for neutral configurations on the
        host's ideal sites.
    """
    pairs = pair_energies(host.structure)
    columns = SiteFunctions(host).columns
    # Charges of all sites are linear in the site functions, so energies are quadratic in them.
    charges = np.zeros((len(host.elements), 1 + sum(map(len, columns))))
    for site, state in host.fixed.items():
        charges[site, 0] = charge_of_state(state)
    for site, own, allowed in zip(host.variable_sites, columns, host.allowed_states, strict=True):
        ion = site in host.ion_sites
        each = [0 if ion and state == VACANCY else charge_of_state(state) for state in allowed]
        charges[site, 0] = np.mean(each)
        charges[site, list(own)] = np.array(each) @ functions_of_states(len(each)) / len(each)
    matrix = charges.T @ pairs @ charges / host.formula_units
    terms: dict[Monomial, float] = {}
    for one, other in zip(*np.triu_indices(len(matrix)), strict=True):
        monomial = tuple(int(column) for column in (one, other) if column)
        terms[monomial] = float(matrix[one, other] * (1 if one == other else 2))
    return terms


@lru_cache(maxsize=64)
def features(host: Host, clusters: Clusters) -> Polynomial:
    """Return the number 1, the correlations of a cell and, last, its Ewald energy.

    Parameters
    ----------
    host
        A cell of the parent crystal.
    clusters
        Kinds of clusters.

    Returns
    -------
    Polynomial
        Equal for symmetry images, and for a configuration that is repeated in a larger cell;
        the Ewald energy is in eV per formula unit.

    Raises
    ------
    InputError
        If it is a cell of another crystal.
    """
    one: dict[Monomial, float] = {(): 1.0}
    terms = [one, *clusters.correlations(host).values(), ewald_terms(host)]
    return Polynomial.of_terms(SiteFunctions(host), terms)


def _kind(corners: list[Corner], shells: tuple[int, ...]) -> Key:
    """Return the name of a decorated cluster, whichever of its corners comes first."""
    if len(corners) == 2:
        first, second = corners
        return (min((first, second), (second, first)), shells)
    place = {pair: i for i, pair in enumerate(combinations(range(len(corners)), 2))}
    found = []
    for order in permutations(range(len(corners))):
        sides = tuple(shells[place[min(a, b), max(a, b)]] for a, b in combinations(order, 2))
        found.append((tuple(corners[i] for i in order), sides))
    return min(found)


def _neighbours(
    host: Host, cutoff: float
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Return pairs of variable sites, with images: both ends, vectors and distances (angstrom)."""
    variable = Structure.from_sites([host.structure[i] for i in host.variable_sites])
    first, second, images, distances = variable.get_neighbor_list(cutoff)
    places = variable.cart_coords
    vectors = places[second] + images @ variable.lattice.matrix - places[first]
    return first, second, vectors, distances


def _in_parent_cell(host: Host) -> NDArray[np.float64]:
    """Return where the variable sites lie in the parent cell, as fractions of its vectors."""
    parent = np.linalg.solve(np.array(matrix_of(host.supercell)), host.structure.lattice.matrix)
    places = host.structure.cart_coords[host.variable_sites] @ np.linalg.inv(parent)
    within: NDArray[np.float64] = places % 1.0 % 1.0
    return within
