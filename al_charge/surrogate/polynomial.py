"""Polynomials in functions of the states of a host's sites: features and energies of a lattice."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import helmert
from scipy.sparse import csr_array

from al_charge.crystal.configuration import Configuration
from al_charge.crystal.host import Host

AT_ONCE = 256
"""Configurations per batch; it bounds the memory."""
Monomial = tuple[int, ...]
"""Columns of site functions that are multiplied, ascending; none for the number 1."""


def occupations_of(configs: Sequence[Configuration], host: Host) -> NDArray[np.int8]:
    """Return the occupations of configurations as one array.

    Parameters
    ----------
    configs
        Configurations of one host; there may be none.
    host
        That host.

    Returns
    -------
    ndarray of int8, shape (n_configs, n_variable_sites)
        States, ion sites first.
    """
    rows = np.array([config.occupation for config in configs], dtype=np.int8)
    return rows.reshape(len(configs), len(host.variable_sites))


def functions_of_states(number: int) -> NDArray[np.float64]:
    """Return functions that tell the states of a site apart.

    Parameters
    ----------
    number
        How many states the site may have.

    Returns
    -------
    ndarray, shape (number, number - 1)
        Value by state and function. Over all states each function has the mean 0 and the mean
        square 1, and the mean product of two is 0.
    """
    values: NDArray[np.float64] = helmert(number).T * np.sqrt(number)
    return values


@dataclass(frozen=True, eq=False)
class SiteFunctions:
    """The values of functions of states, for every variable site of a host.

    Attributes
    ----------
    host
        The host.
    """

    host: Host

    @cached_property
    def columns(self) -> tuple[tuple[int, ...], ...]:
        """Columns of the functions of every variable site; column 0 is always 1."""
        found, following = [], 1
        for allowed in self.host.allowed_states:
            found.append(tuple(range(following, following + len(allowed) - 1)))
            following += len(allowed) - 1
        return tuple(found)

    @cached_property
    def sites(self) -> NDArray[np.int64]:
        """Variable site of every column but the first, by its place among them."""
        return np.repeat(np.arange(len(self.columns)), [len(some) for some in self.columns])

    @cached_property
    def _lookup(self) -> tuple[int, NDArray[np.float64]]:
        """Return the lowest state, and the value of every column for each state above it."""
        allowed = self.host.allowed_states
        lowest = min(min(states) for states in allowed)
        highest = max(max(states) for states in allowed)
        values = np.full((highest - lowest + 1, len(self.sites) + 1), np.nan)
        values[:, 0] = 1.0
        for columns, states in zip(self.columns, allowed, strict=True):
            rows = np.array(states) - lowest
            values[np.ix_(rows, np.array(columns, dtype=np.int64))] = functions_of_states(
                len(states)
            )
        return lowest, values

    def of(self, occupations: NDArray[np.int8]) -> NDArray[np.float64]:
        """Return the values of all functions.

        Parameters
        ----------
        occupations
            Allowed states of all variable sites, shape (n_configs, n_variable_sites).

        Returns
        -------
        ndarray, shape (n_configs, n_columns)
            With the column of ones before them.
        """
        lowest, values = self._lookup
        rows = occupations.astype(np.int64) - lowest
        found = np.ones((len(rows), values.shape[1]))
        found[:, 1:] = values[rows[:, self.sites], np.arange(1, values.shape[1])]
        return found

    def at(self, site: NDArray[np.int64], state: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the values of the functions of one site for each of several configurations.

        Parameters
        ----------
        site
            The site, by its place among the variable ones, shape (n_configs,).
        state
            Its state, shape (n_configs,).

        Returns
        -------
        ndarray, shape (n_configs, n_columns)
            Zero in the columns of other sites.
        """
        lowest, values = self._lookup
        mine = np.zeros((len(site), values.shape[1]), dtype=bool)
        mine[:, 1:] = self.sites == site[:, None]
        return np.where(mine, values[state - lowest], 0.0)


@dataclass(frozen=True, eq=False)
class Polynomial:
    """Several polynomials in the site functions of a host.

    Attributes
    ----------
    functions
        The site functions.
    monomials
        Every product that occurs, shape (n_monomials, degree); column 0 fills short ones up.
    coefficients
        Coefficient of every product in every polynomial, shape (n_monomials, n_polynomials).
    """

    functions: SiteFunctions
    monomials: NDArray[np.int64]
    coefficients: csr_array = field(repr=False)

    @classmethod
    def of_terms(
        cls, functions: SiteFunctions, terms: Sequence[Mapping[Monomial, float]]
    ) -> Polynomial:
        """Return polynomials from their terms.

        Parameters
        ----------
        functions
            The site functions.
        terms
            For each polynomial the coefficient of each of its monomials.

        Returns
        -------
        Polynomial
            In the order of ``terms``.
        """
        every = sorted({monomial for some in terms for monomial in some})
        degree = max((len(monomial) for monomial in every), default=0)
        place = {monomial: i for i, monomial in enumerate(every)}
        filled = [(0,) * (degree - len(monomial)) + monomial for monomial in every]
        entries = [
            (place[monomial], column, value)
            for column, some in enumerate(terms)
            for monomial, value in some.items()
        ]
        rows, columns, values = zip(*entries, strict=True) if entries else ((), (), ())
        shape = (len(every), len(terms))
        return cls(
            functions,
            np.array(filled, dtype=np.int64).reshape(len(every), degree),
            csr_array((np.array(values, dtype=float), (rows, columns)), shape=shape),
        )

    def of(self, occupations: NDArray[np.int8]) -> NDArray[np.float64]:
        """Return the values of all polynomials.

        Parameters
        ----------
        occupations
            Allowed states of all variable sites, shape (n_configs, n_variable_sites).

        Returns
        -------
        ndarray, shape (n_configs, n_polynomials)
            Computed in blocks.
        """
        found = np.empty((len(occupations), self.coefficients.shape[1]))
        weights = csr_array(self.coefficients.T)
        for start in range(0, len(occupations), AT_ONCE):
            some = slice(start, start + AT_ONCE)
            # One row for each column of functions: what is gathered lies together in memory.
            values = np.ascontiguousarray(self.functions.of(occupations[some]).T)
            found[some] = (weights @ _products(values, self.monomials)).T
        return found

    def combined(self, weights: NDArray[np.float64]) -> Energy:
        """Return a weighted sum of the polynomials.

        Parameters
        ----------
        weights
            Shape (n_polynomials,).

        Returns
        -------
        Energy
            The sum, as one polynomial.
        """
        return Energy(self.functions, self.monomials, self.coefficients @ weights)


@dataclass(frozen=True, eq=False)
class Energy:
    """One polynomial in the site functions of a host, ready for many configurations and for moves.

    Attributes
    ----------
    functions
        The site functions.
    monomials
        Products, shape (n_monomials, degree); see `Polynomial`.
    coefficients
        Of each, shape (n_monomials,).
    """

    functions: SiteFunctions
    monomials: NDArray[np.int64]
    coefficients: NDArray[np.float64]

    @cached_property
    def _factored(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return all different products without their last factor, and coefficients by that.

        Far fewer than the products, and the sum over last factors is a product of matrices.
        """
        first, place = np.unique(self.monomials[:, :-1], axis=0, return_inverse=True)
        by_last = np.zeros((len(first), len(self.functions.sites) + 1))
        last = self.monomials[:, -1:].sum(axis=1)  # 0 where there are no factors at all
        np.add.at(by_last, (place, last), self.coefficients)
        return first, by_last

    def of(self, occupations: NDArray[np.int8]) -> NDArray[np.float64]:
        """Return the values for many configurations.

        Parameters
        ----------
        occupations
            Allowed states of all variable sites, shape (n_configs, n_variable_sites).

        Returns
        -------
        ndarray, shape (n_configs,)
            In the unit of the coefficients.
        """
        first, by_last = self._factored
        found = np.empty(len(occupations))
        for start in range(0, len(occupations), AT_ONCE):
            some = slice(start, start + AT_ONCE)
            values = np.ascontiguousarray(self.functions.of(occupations[some]).T)
            found[some] = np.einsum("ij,ij->j", by_last @ values, _products(values, first))
        return found

    @cached_property
    def _touched(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return monomials and coefficients by the site that they contain, filled up with zeros."""
        by_site = defaultdict[int, list[int]](list)
        for i, monomial in enumerate(self.monomials.tolist()):
            for site in {int(self.functions.sites[column - 1]) for column in monomial if column}:
                by_site[site].append(i)
        n_sites = len(self.functions.columns)
        most = max((len(some) for some in by_site.values()), default=0)
        monomials = np.zeros((n_sites, most, self.monomials.shape[1]), dtype=np.int64)
        coefficients = np.zeros((n_sites, most))
        for site, some in by_site.items():
            monomials[site, : len(some)] = self.monomials[some]
            coefficients[site, : len(some)] = self.coefficients[some]
        return monomials, coefficients

    def change(
        self, values: NDArray[np.float64], site: NDArray[np.int64], state: NDArray[np.int64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return what changing one site costs, in each of several configurations.

        Only the terms that contain the site are looked at.

        Parameters
        ----------
        values
            Site functions of the configurations, shape (n_configs, n_columns).
        site
            The site of each that changes, by its place among the variable ones, shape (n_configs,).
        state
            Its new state, shape (n_configs,).

        Returns
        -------
        tuple of ndarray
            The differences of the values, shape (n_configs,), and the new site functions.
        """
        monomials, coefficients = self._touched
        new = self.functions.at(site, state)
        mine = np.zeros(values.shape, dtype=bool)
        mine[:, 1:] = self.functions.sites == site[:, None]
        changed = np.where(mine, new, values)
        row = np.arange(len(values))[:, None, None]
        touched = monomials[site]
        after, before = changed[row, touched], values[row, touched]
        difference = after.prod(axis=2) - before.prod(axis=2)
        return np.einsum("ij,ij->i", difference, coefficients[site]), changed


def _products(values: NDArray[np.float64], monomials: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return products of rows, shape (n_monomials, n_configs)."""
    found = np.ones((len(monomials), values.shape[1]))
    for columns in monomials.T:
        found *= values[columns]
    return found
