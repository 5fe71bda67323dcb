"""The host: a parent crystal with its working-ion sites and its redox sites."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from pymatgen.core.structure import Structure

from al_charge.crystal.charges import usual_ion_charges
from al_charge.crystal.exclusions import Diagram, Pairs, diagram, excluded_pairs
from al_charge.crystal.formula import redox_sites_per_formula, written
from al_charge.crystal.host_spec import HostSpec
from al_charge.crystal.parent import Matrix, Repeats, number_of_cells, read_structure
from al_charge.crystal.space_group import symmetrized
from al_charge.crystal.species import token, unpaired_electrons
from al_charge.crystal.states import charge_of_state
from al_charge.errors import InputError

VACANCY = -1
"""State of an empty working-ion site."""
LARGEST_SUPERCELL = 1000
"""Largest number of sites in a supercell; symmetry and search would take hours on a larger one."""


def parent_structure(spec: HostSpec) -> Structure:
    """Return the parent structure of a host as it is used and stored.

    Parameters
    ----------
    spec
        The specification of a host in a campaign file.

    Returns
    -------
    Structure
        That of the file, its noise removed if the specification says so.

    Raises
    ------
    InputError
        If the file cannot be read.
    """
    structure = read_structure(spec.structure)
    return structure if spec.symmetrize is None else symmetrized(structure, spec.symmetrize)


@dataclass(frozen=True, eq=False)
class Host:
    """A parent supercell whose ion sites can be emptied and whose redox sites can change charge.

    Attributes
    ----------
    structure
        Supercell with every working-ion site occupied, without oxidation states.
    working_ion, working_ion_charge
        Element and charge (e) of the working ion.
    redox
        Allowed states of every redox element, ascending: oxidation states in e; where several spin
        states have one charge, see `SPIN_STEP` of `al_charge.crystal.states`.
    fixed
        Oxidation state of every other element.
    supercell
        Repeats of the given cell along a, b and c, or a matrix; see `HostSpec`.
    redox_sites_per_formula
        Redox sites in one formula unit; compositions and energies are given per formula unit.
    formula
        One of them as the campaign file writes it; empty where x is given per redox site.
    unpaired
        Unpaired electrons by element and state, where they are not those of the high-spin state.
    exclusions
        Pairs of ion sites, by their places among them, that are too near to be occupied at once.
    """

    structure: Structure
    working_ion: str
    working_ion_charge: int
    redox: dict[str, tuple[int, ...]]
    fixed: dict[str, int]
    supercell: Repeats | Matrix
    redox_sites_per_formula: Fraction = Fraction(1)
    formula: str = ""
    unpaired: Mapping[tuple[str, int], int] = field(default_factory=dict)
    exclusions: Pairs = ()

    @classmethod
    def from_spec(cls, spec: HostSpec) -> Host:
        """Read the structure file and build the host.

        Parameters
        ----------
        spec
            The specification of a host in a campaign file.

        Returns
        -------
        Host
            The supercell with its sites.

        Raises
        ------
        InputError
            If the file cannot be read, or for any reason of `build`.
        """
        return cls.build(spec, parent_structure(spec))

    @classmethod
    def build(cls, spec: HostSpec, structure: Structure) -> Host:
        """Build the host from the parent structure, checking every field against it.

        Parameters
        ----------
        spec
            The specification of a host in a campaign file; its ``structure`` is not read.
        structure
            The parent cell, before it is repeated, with every working-ion site filled.

        Returns
        -------
        Host
            The supercell with its sites.

        Raises
        ------
        InputError
            If the specification names an element that the structure lacks, leaves an element
            without a charge, or allows no charge-neutral occupation, or the supercell is too
            large or holds no whole number of formula units; or if an ion site excludes itself, or
            too many exclude each other.
        """
        structure = structure.copy()
        spec.check_elements({site.specie.symbol for site in structure})
        if not spec.working_ion_charge:
            usual = " or ".join(map(str, usual_ion_charges(spec.working_ion))) or "unknown"
            raise InputError(
                f"the charge of {spec.working_ion} may be {usual}",
                where="host.working_ion_charge",
                remedy="give it, such as 'working_ion_charge: 2'",
            )
        sites = len(structure) * number_of_cells(spec.supercell)
        if sites > LARGEST_SUPERCELL:
            raise InputError(
                f"the supercell would have {sites} sites",
                where="host.supercell",
                remedy=f"choose one of at most {LARGEST_SUPERCELL}",
            )
        structure.remove_oxidation_states()
        redox, fixed = spec.states()
        host = cls(
            structure=structure.make_supercell(spec.supercell, in_place=False),
            working_ion=spec.working_ion,
            working_ion_charge=spec.working_ion_charge,
            redox={element: tuple(states) for element, states in redox.items()},
            fixed={element: next(iter(states)) for element, states in fixed.items()},
            supercell=spec.supercell,
            formula=(spec.formula or "").replace(" ", ""),
            unpaired={
                (element, state): number
                for element, states in {**redox, **fixed}.items()
                for state, number in states.items()
                if number != unpaired_electrons(token(element, charge_of_state(state)))
            },
        )
        each = redox_sites_per_formula(spec, Counter(host.elements), len(host.redox_sites))
        host = replace(host, redox_sites_per_formula=each)
        pairs = excluded_pairs(host.structure, host.ion_sites, spec.min_distance)
        host = replace(host, exclusions=pairs)
        if not host.ion_counts:
            raise InputError(
                f"no occupation of the {len(host.ion_sites)} {host.working_ion} sites is neutral "
                f"with these oxidation states",
                where="host.redox",
                remedy="check the oxidation states in 'redox' and 'fixed'",
            )
        return host

    @cached_property
    def elements(self) -> tuple[str, ...]:
        """Element of every site, in site order."""
        return tuple(site.specie.symbol for site in self.structure)

    @cached_property
    def ion_sites(self) -> NDArray[np.int64]:
        """Indices of the working-ion sites, shape (n_ion_sites,)."""
        return np.flatnonzero(np.array(self.elements) == self.working_ion)

    @cached_property
    def redox_sites(self) -> NDArray[np.int64]:
        """Indices of the redox sites, shape (n_redox_sites,)."""
        return np.flatnonzero(np.isin(self.elements, list(self.redox)))

    @cached_property
    def variable_sites(self) -> NDArray[np.int64]:
        """Ion sites, then redox sites: the sites whose states a configuration gives."""
        return np.concatenate([self.ion_sites, self.redox_sites])

    @cached_property
    def allowed_states(self) -> tuple[tuple[int, ...], ...]:
        """Allowed states of every variable site: vacancy or ion charge; states of the element."""
        ion = (VACANCY, self.working_ion_charge)
        redox = tuple(self.redox[self.elements[i]] for i in self.redox_sites)
        return (ion,) * len(self.ion_sites) + redox

    @cached_property
    def fixed_charge(self) -> int:
        """Sum of the charges of all sites whose charge never changes, in e."""
        return sum(self.fixed[el] for el in self.elements if el in self.fixed)

    @cached_property
    def species(self) -> tuple[str, ...]:
        """Every species token that a configuration can contain, in alphabetical order."""
        states = {self.working_ion: (self.working_ion_charge,), **self.redox}
        states |= {element: (charge,) for element, charge in self.fixed.items()}
        return tuple(sorted(self.token(el, state) for el, some in states.items() for state in some))

    @cached_property
    def redox_species(self) -> frozenset[str]:
        """Species tokens of the redox elements."""
        return frozenset(self.token(el, state) for el, some in self.redox.items() for state in some)

    @cached_property
    def end_member_species(self) -> frozenset[str]:
        """Those that all sites of their element have at the lowest or the highest composition."""
        found: set[str] = set()
        for n_ions in (self.ion_counts[0], self.ion_counts[-1]):
            for element, states in self.redox.items():
                possible = [s for s in states if self._may_have(n_ions, element, s)]
                if len(possible) == 1:
                    found.add(self.token(element, possible[0]))
        return frozenset(found)

    def total_moments(self, n_ions: int) -> tuple[int, int]:
        """Return the least and the greatest ferromagnetic moment at a composition.

        Parameters
        ----------
        n_ions
            Working ions in the cell.

        Returns
        -------
        tuple of int
            Unpaired electrons in the cell; they differ where the same charge can be made up by
            different states.
        """
        fixed = sum(
            unpaired_electrons(self.token(element, self.fixed[element]))
            for element in self.elements
            if element in self.fixed
        )
        reached = {0: (fixed, fixed)}
        for site in self.redox_sites:
            element, found = self.elements[site], dict[int, tuple[int, int]]()
            for charge, (least, greatest) in reached.items():
                for state in self.redox[element]:
                    more = unpaired_electrons(self.token(element, state))
                    total = charge + charge_of_state(state)
                    low, high = found.get(total, (least + more, greatest + more))
                    found[total] = min(low, least + more), max(high, greatest + more)
            reached = found
        return reached[-self.fixed_charge - n_ions * self.working_ion_charge]

    def _may_have(self, n_ions: int, element: str, state: int) -> bool:
        """Tell whether a site of an element can be in a state at a composition."""
        others = [self.elements[i] for i in self.redox_sites]
        others.remove(element)
        needed = -self.fixed_charge - n_ions * self.working_ion_charge - charge_of_state(state)
        return needed in self._redox_charges(others)

    def _redox_charges(self, elements: Iterable[str]) -> set[int]:
        """Return what the charges of sites of redox elements can sum to, in e."""
        sums = {0}
        for element in elements:
            charges = set(map(charge_of_state, self.redox[element]))
            sums = {total + charge for total in sums for charge in charges}
        return sums

    def token(self, element: str, state: int) -> str:
        """Return the species token of an element in a state.

        Parameters
        ----------
        element
            Element symbol.
        state
            State of a site, as in `Configuration.occupation`.

        Returns
        -------
        str
            With its spin state, where that is not the high-spin one.
        """
        return token(element, charge_of_state(state), self.unpaired.get((element, state)))

    @property
    def has_spin_states(self) -> bool:
        """Whether an ion may be in one of several spin states of one charge."""
        return any(
            state != charge_of_state(state) for some in self.redox.values() for state in some
        )

    @property
    def formula_units(self) -> int:
        """Number of formula units in the supercell."""
        return int(len(self.redox_sites) / self.redox_sites_per_formula)

    @property
    def unit(self) -> str:
        """What x is given per: a formula, or such as ``redox site (Mn)``."""
        number = self.redox_sites_per_formula
        sites = "redox site" if number == 1 else f"{number} redox sites"
        return self.formula or f"{sites} ({', '.join(self.redox)})"

    @property
    def framework(self) -> str:
        """One formula unit without the working ion, such as ``FePO4``."""
        counted = Counter(element for element in self.elements if element != self.working_ion)
        return written({el: Fraction(n, self.formula_units) for el, n in counted.items()})

    @cached_property
    def ion_diagram(self) -> Diagram:
        """The occupations of the ion sites without an excluded pair."""
        return diagram(len(self.ion_sites), self.exclusions)

    @cached_property
    def most_ions(self) -> int:
        """The largest number of working ions that there is room for, whatever their charge."""
        if not self.exclusions:
            return len(self.ion_sites)
        return len(self.ion_diagram.numbers()) - 1

    @cached_property
    def ion_counts(self) -> tuple[int, ...]:
        """Numbers of working ions for which a charge-neutral configuration exists, ascending."""
        redox_charges = self._redox_charges(self.elements[i] for i in self.redox_sites)
        return tuple(
            n
            for n in range(self.most_ions + 1)
            if -self.fixed_charge - n * self.working_ion_charge in redox_charges
        )

    def composition(self, n_ions: int) -> Fraction:
        """Return the composition x of a cell.

        Parameters
        ----------
        n_ions
            Working ions in the cell.

        Returns
        -------
        Fraction
            Working ions per formula unit, exact.
        """
        return Fraction(n_ions, self.formula_units)

    def n_ions(self, composition: Fraction) -> int:
        """Return the number of working ions in a cell of a given composition.

        Parameters
        ----------
        composition
            x, working ions per formula unit.

        Returns
        -------
        int
            Working ions in the cell.

        Raises
        ------
        InputError
            If this supercell has no neutral configuration of that composition.
        """
        count = composition * self.formula_units
        if count.denominator != 1 or int(count) not in self.ion_counts:
            known = ", ".join(str(self.composition(n)) for n in self.ion_counts)
            raise InputError(
                f"the supercell has no composition x = {composition}",
                where="composition",
                remedy=f"choose one of: {known}",
            )
        return int(count)

    @cached_property
    def fingerprint(self) -> str:
        """Identity of the host: a hash of its supercell, its sites and its allowed states."""
        digest = hashlib.sha256()
        digest.update(repr((self.working_ion, self.working_ion_charge)).encode())
        digest.update(repr(sorted(self.redox.items())).encode())
        digest.update(repr(sorted(self.fixed.items())).encode())
        per_formula = self.redox_sites_per_formula
        whole = per_formula.denominator == 1  # as in every host before there were formulas
        digest.update(repr((self.elements, int(per_formula) if whole else per_formula)).encode())
        if self.unpaired:  # hosts of high-spin ions have the identity that they always had
            digest.update(repr(sorted(self.unpaired.items())).encode())
        if self.exclusions:
            digest.update(repr(self.exclusions).encode())
        # Adding zero turns -0.0 into 0.0: equal numbers must have equal bytes.
        digest.update((np.round(self.structure.lattice.matrix, 4) + 0.0).tobytes())
        digest.update((np.round(self.structure.frac_coords, 4) % 1.0).tobytes())
        return digest.hexdigest()[:16]
