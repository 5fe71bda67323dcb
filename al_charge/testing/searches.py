"""What every search method must do: inherit from `SearchContract` and say which method it is.

Example
-------
A test module of another package needs no more than::

    class TestMine(SearchContract):
        plugin = MyPlugin()
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from pymatgen.core.lattice import Lattice
from pymatgen.core.structure import Structure

from al_charge.crystal.configuration import Configuration, configuration, ion_count
from al_charge.crystal.enumeration import count_distinct, count_new, enumerate_distinct
from al_charge.crystal.host import Host
from al_charge.crystal.host_spec import HostSpec
from al_charge.crystal.symmetry import canonical
from al_charge.search.plugin import SearchPlugin, SearchResult, Space

EVALUATIONS = 8
_SITES = {
    "Na": [[0.0, 0.0, 0.0]],
    "Fe": [[0.28222, 0.25, 0.97472]],
    "P": [[0.09486, 0.25, 0.4182]],
    "O": [[0.09678, 0.25, 0.74279], [0.4571, 0.25, 0.20602], [0.16558, 0.04646, 0.28478]],
}
"""Olivine, space group Pnma."""


@cache
def olivine(supercell: tuple[int, int, int]) -> Host:
    """Return a cell of olivine NaxFePO4.

    Parameters
    ----------
    supercell
        Repeats of its four formula units.

    Returns
    -------
    Host
        With Na sites to empty, and iron of two charge states.
    """
    structure = Structure.from_spacegroup(
        "Pnma",
        Lattice.orthorhombic(10.41, 6.22, 4.95),
        [element for element, sites in _SITES.items() for _ in sites],
        [site for sites in _SITES.values() for site in sites],
    )
    spec = HostSpec(
        structure=Path("olivine"),
        working_ion="Na",
        redox={"Fe": (2, 3)},
        fixed={"P": 5, "O": -2},
        supercell=supercell,
    )
    return Host.build(spec, structure)


@cache
def overlapping() -> Host:
    """Return a cell of P2-NaxCoO2 with both of its Na sites, which exclude their neighbours.

    Returns
    -------
    Host
        Two layers of four Na sites each; four Na fit in.
    """
    places = [[0.0, 0.0, 0.25], [1 / 3, 2 / 3, 0.75], [0.0, 0.0, 0.0], [1 / 3, 2 / 3, 0.0913]]
    structure = Structure.from_spacegroup(
        "P6_3/mmc", Lattice.hexagonal(2.84, 10.88), ["Na", "Na", "Co", "O"], places
    )
    spec = HostSpec(
        structure=Path("layers"),
        working_ion="Na",
        redox={"Co": (3, 4)},
        fixed={"O": -2},
        supercell=(2, 1, 1),
    )
    return Host.build(spec, structure)


class Landscape:
    """Random energies of configurations, and a record of what was asked for.

    Parameters
    ----------
    host
        Whose symmetry copies have one energy.
    """

    def __init__(self, host: Host) -> None:
        self.host = host
        self.asked: list[tuple[Space, Configuration]] = []

    def energy(self, config: Configuration) -> float:
        """Return the energy of a configuration, eV per cell.

        Parameters
        ----------
        config
            In any image.

        Returns
        -------
        float
            Between 0 and 1; the same for all symmetry copies.
        """
        form = canonical(self.host, config)
        return float(np.random.default_rng([2 + state for state in form.occupation]).random())

    def evaluate(self, points: Sequence[tuple[Space, Configuration]]) -> list[float]:
        """Return energies, as `al_charge.search.plugin.Evaluate` does.

        Parameters
        ----------
        points
            Spaces and configurations.

        Returns
        -------
        list of float
            eV per cell.
        """
        self.asked += points
        return [self.energy(config) for _, config in points]


class SearchContract:
    """Tests that every search method must pass.

    Attributes
    ----------
    plugin
        The method.
    options
        Settings with which a search is quick, beside ``evaluations`` and ``seeds``.
    """

    plugin: ClassVar[SearchPlugin]
    options: ClassVar[dict[str, Any]] = {}

    @pytest.fixture
    def host(self) -> Host:
        """Return a cell with 874 distinct configurations.

        Returns
        -------
        Host
            Olivine NaFePO4, in a supercell of two cells.
        """
        return olivine((1, 2, 1))

    def search(
        self, host: Host, seed: int = 1
    ) -> tuple[Landscape, list[Space], list[SearchResult]]:
        """Search two compositions, of which one has a configuration that is known.

        Parameters
        ----------
        host
            The cell.
        seed
            Of chance.

        Returns
        -------
        landscape, spaces, results
            What was asked for, where, and what was found.
        """
        settings = self.plugin.settings.model_validate(
            {"evaluations": EVALUATIONS, "seeds": 4, "kind": self.plugin.kind} | self.options
        )
        landscape = Landscape(host)
        spaces = []
        for n_ions in (2, 4):
            rng = np.random.default_rng([seed, n_ions])
            seeds = [random_occupation(host, n_ions, rng) for _ in range(4)]
            known = {seeds[0]: landscape.energy(seeds[0])} if n_ions == 2 else {}
            spaces.append(
                Space(host, n_ions, rng=rng, seeds=seeds, labelled=list(known), known=known)
            )
        return landscape, spaces, self.plugin.search(spaces, landscape.evaluate, settings)

    def test_a_ranking_for_every_space_in_order(self, host: Host) -> None:
        """Each holds what was evaluated there, in canonical form, lowest energy first."""
        landscape, spaces, results = self.search(host)
        for space, result in zip(spaces, results, strict=True):
            ranking = result.ranking
            asked = {canonical(host, config) for at, config in landscape.asked if at is space}
            assert {config for config, _ in ranking} == asked
            energies = [energy for _, energy in ranking]
            assert energies == sorted(energies)
            assert energies == [landscape.energy(config) for config, _ in ranking]

    def test_every_configuration_belongs_to_its_space(self, host: Host) -> None:
        """Neutral, and with the number of ions that was asked for."""
        _, spaces, results = self.search(host)
        for space, result in zip(spaces, results, strict=True):
            for config, _ in result.ranking:
                assert configuration(host, config.occupation) == config == canonical(host, config)
                assert ion_count(host, config) == space.n_ions

    def test_ions_keep_their_distance(self) -> None:
        """No configuration has ions on two sites that exclude each other."""
        host = overlapping()
        landscape = Landscape(host)
        settings = self.plugin.settings.model_validate(
            {"evaluations": EVALUATIONS, "seeds": 4, "kind": self.plugin.kind} | self.options
        )
        rng = np.random.default_rng(1)
        space = Space(host, 2, rng=rng, seeds=enumerate_distinct(host, 2)[:4])
        (result,) = self.plugin.search([space], landscape.evaluate, settings)
        assert len(result.ranking) > 4
        for config, _ in result.ranking:
            there = [config.occupation[a] == config.occupation[b] == 1 for a, b in host.exclusions]
            assert there and not any(there)

    def test_the_budget_is_kept_and_nothing_is_asked_twice(self, host: Host) -> None:
        """Nor is what is known."""
        landscape, spaces, _ = self.search(host)
        for space in spaces:
            asked = [canonical(host, config) for at, config in landscape.asked if at is space]
            assert 0 < len(asked) <= EVALUATIONS
            assert max(Counter(asked).values()) == 1
            assert not {canonical(host, config) for config in space.known} & set(asked)

    def test_the_same_chance_finds_the_same(self, host: Host) -> None:
        """So that a task that was killed and runs again proposes the same."""
        first, second, other = (self.search(host, seed)[2] for seed in (1, 1, 2))
        assert list(map(vars, first)) == list(map(vars, second))
        assert [result.ranking for result in first] != [result.ranking for result in other]

    def test_what_smaller_cells_hold_is_left_out(self) -> None:
        """Also where all else is relaxed."""
        small, large = olivine((1, 1, 1)), olivine((1, 1, 2))
        settings = self.plugin.settings.model_validate(
            {"evaluations": EVALUATIONS, "seeds": 4, "kind": self.plugin.kind} | self.options
        )
        for n_ions in (1, 2):
            landscape, rng = Landscape(large), np.random.default_rng(n_ions)
            space = Space(large, n_ions, rng=rng, seeds=[], smaller=[small])
            number = count_new(large, (small,))[large.composition(n_ions)]
            assert space.number == number
            (result,) = self.plugin.search([space], landscape.evaluate, settings)
            asked = [config for _, config in landscape.asked]
            assert space.without_smaller(asked) == asked
            if number <= EVALUATIONS:
                assert len(result.ranking) == number

    def test_a_small_space_is_searched_to_its_end(self) -> None:
        """Where the budget covers all configurations, none is left out."""
        host = olivine((1, 1, 1))
        counts = count_distinct(host)
        assert counts[Fraction(1, 4)] <= EVALUATIONS
        landscape = Landscape(host)
        rng = np.random.default_rng(1)
        space = Space(host, 1, rng=rng, seeds=[random_occupation(host, 1, rng)])
        settings = self.plugin.settings.model_validate(
            {"evaluations": EVALUATIONS, "seeds": 4, "kind": self.plugin.kind} | self.options
        )
        (result,) = self.plugin.search([space], landscape.evaluate, settings)
        assert len(result.ranking) == counts[Fraction(1, 4)]
        assert result.screened in (None, 1.0)
        assert result.p_missed in (None, 0.0)


def random_occupation(host: Host, n_ions: int, rng: np.random.Generator) -> Configuration:
    """Return a random configuration, drawn apart from what the search itself uses.

    Parameters
    ----------
    host
        With two charge states of one element, and an ion of charge one.
    n_ions
        Working ions.
    rng
        Source of chance.

    Returns
    -------
    Configuration
        Neutral.
    """
    ions = np.full(len(host.ion_sites), -1)
    ions[rng.permutation(len(ions))[:n_ions]] = 1
    redox = np.full(len(host.redox_sites), 3)
    redox[rng.permutation(len(redox))[:n_ions]] = 2
    return configuration(host, [*ions, *redox])
