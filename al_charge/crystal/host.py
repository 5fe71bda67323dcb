"""The host: a parent crystal with its working-ion sites and its redox sites."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from pymatgen.core.structure import Structure

from al_charge.crystal.exclusions import Diagram, Pairs, diagram, excluded_pairs, refuse_blocked
from al_charge.crystal.formula import redox_sites_per_formula, written
from al_charge.crystal.host_spec import HostSpec
from al_charge.crystal.ordering import WHOLE_CELL
from al_charge.crystal.parent import Matrix, Repeats, refuse_large, repeated
from al_charge.crystal.prepare import parent_structure
from al_charge.crystal.roles import NAMED, states_of_sites
from al_charge.crystal.space_group import STATES
from al_charge.crystal.species import token, unpaired_electrons
from al_charge.crystal.states import charge_of_state, sums_of_charges
from al_charge.errors import InputError

VACANCY = -1
"""State of an empty working-ion site."""


@dataclass(frozen=True, eq=False)
class Host:
    """A parent supercell whose ion sites can be emptied and whose redox sites can change charge.

    Attributes
    ----------
    structure
        Supercell with every working-ion site occupied, without oxidation states.
    parent
        The cell that it repeats; copies of one of its sites follow each other in ``structure``.
    working_ion, working_ion_charge
        Element and charge (e) of the working ion.
    states
        States that every site may have, ascending: `VACANCY` and the charge of the working ion, or
        oxidation states in e; where several spin states of an element have one charge, see
        `SPIN_STEP` of `al_charge.crystal.states`.
    supercell
        Repeats of the given cell along a, b and c, or a matrix; see `HostSpec`.
    redox_sites_per_formula
        Redox sites in one formula unit; compositions and energies are given per formula unit.
    formula
        One of them as the campaign file writes it; empty where x is given per redox site.
    window
        Lowest and highest x, where the campaign file restricts what the charges allow. It is no
        part of what the host is: labels are shared by campaigns with other windows.
    unpaired
        Unpaired electrons by element and state, where they are not those of the high-spin state.
    exclusions
        Pairs of ion sites, by their places among them, that are too near to be occupied at once.
    """

    structure: Structure
    parent: Structure
    working_ion: str
    working_ion_charge: int
    states: tuple[tuple[int, ...], ...]
    supercell: Repeats | Matrix
    redox_sites_per_formula: Fraction = Fraction(1)
    formula: str = ""
    window: tuple[Fraction, Fraction] | None = None
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
            The parent cell, before it is repeated, as `parent_structure` returns it.

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
        structure.remove_oxidation_states()
        repeats = (1, 1, 1) if WHOLE_CELL in structure.properties else spec.one_supercell
        refuse_large(structure, repeats)
        states, unpaired = states_of_sites(spec, structure)
        if NAMED in structure.site_properties:
            structure.remove_site_property(NAMED)
        structure.add_site_property(STATES, list(map(str, states)))
        supercell = repeated(structure, repeats)
        states = [some for some in states for _ in range(len(supercell) // len(structure))]
        host = cls(
            structure=supercell,
            parent=structure,
            working_ion=spec.working_ion,
            working_ion_charge=spec.working_ion_charge,
            states=tuple(some or (VACANCY, spec.working_ion_charge) for some in states),
            supercell=repeats,
            formula=(spec.formula or "").replace(" ", ""),
            unpaired={
                (element, state): number
                for (element, state), number in unpaired.items()
                if number != unpaired_electrons(token(element, charge_of_state(state)))
            },
        )
        each = redox_sites_per_formula(spec, Counter(host.elements), len(host.redox_sites))
        host = replace(host, redox_sites_per_formula=each)
        inert = np.array([site for site in host.fixed if host.elements[site] == host.working_ion])
        refuse_blocked(host.structure, host.ion_sites, inert, spec.min_distance)
        pairs = excluded_pairs(host.structure, host.ion_sites, spec.min_distance)
        host = replace(host, exclusions=pairs)
        if not host.ion_counts:
            raise InputError(
                f"no occupation of the {len(host.ion_sites)} {host.working_ion} sites is neutral "
                f"with these oxidation states",
                where="host.redox",
                remedy="check the oxidation states in 'redox' and 'fixed'",
            )
        return replace(host, window=spec.window([host.composition(n) for n in host.ion_counts]))

    @cached_property
    def elements(self) -> tuple[str, ...]:
        """Element of every site, in site order."""
        return tuple(site.specie.symbol for site in self.structure)

    @cached_property
    def kinds(self) -> tuple[tuple[str, tuple[int, ...]], ...]:
        """Element and allowed states of every site; symmetry operations keep both."""
        return tuple(zip(self.elements, self.states, strict=True))

    @cached_property
    def ion_sites(self) -> NDArray[np.int64]:
        """Indices of the sites that the working ion fills and leaves, shape (n_ion_sites,)."""
        mobile = (self.working_ion, (VACANCY, self.working_ion_charge))
        return np.flatnonzero([kind == mobile for kind in self.kinds])

    @cached_property
    def redox_sites(self) -> NDArray[np.int64]:
        """Indices of the sites with several states, shape (n_redox_sites,)."""
        return np.setdiff1d(np.flatnonzero([len(s) > 1 for s in self.states]), self.ion_sites)

    @cached_property
    def variable_sites(self) -> NDArray[np.int64]:
        """Ion sites, then redox sites: the sites whose states a configuration gives."""
        return np.concatenate([self.ion_sites, self.redox_sites])

    @cached_property
    def allowed_states(self) -> tuple[tuple[int, ...], ...]:
        """Allowed states of every variable site: vacancy or ion charge; states of the ion."""
        return tuple(self.states[i] for i in self.variable_sites)

    @cached_property
    def fixed(self) -> dict[int, int]:
        """State of every site that has but one, by its index."""
        return {site: some[0] for site, some in enumerate(self.states) if len(some) == 1}

    @cached_property
    def fixed_charge(self) -> int:
        """Sum of the charges, in e, of sites of other elements whose charge never changes."""
        return sum(
            charge_of_state(state)
            for site, state in self.fixed.items()
            if self.elements[site] != self.working_ion
        )

    @cached_property
    def inert_ions(self) -> int:
        """Number of ions of the working ion's element that never leave; `ion_counts` count them."""
        return self.elements.count(self.working_ion) - len(self.ion_sites)

    @cached_property
    def redox_elements(self) -> tuple[str, ...]:
        """Elements with a site that has several states, in site order."""
        return tuple(dict.fromkeys(self.elements[site] for site in self.redox_sites))

    @cached_property
    def species(self) -> tuple[str, ...]:
        """Every species token that a configuration can contain, in alphabetical order."""
        kinds = set(self.kinds) - {self.kinds[site] for site in self.ion_sites}
        tokens = {self.token(element, state) for element, some in kinds for state in some}
        if len(self.ion_sites):
            tokens.add(self.token(self.working_ion, self.working_ion_charge))
        return tuple(sorted(tokens))

    @cached_property
    def redox_species(self) -> frozenset[str]:
        """Species tokens of the redox elements, those of their inert sites among them."""
        changing = [kind for kind in set(self.kinds) if kind[0] in self.redox_elements]
        return frozenset(self.token(element, s) for element, some in changing for s in some)

    def redox_charge(self, n_ions: int) -> int:
        """Return the charge of the redox sites at a composition.

        Parameters
        ----------
        n_ions
            Working ions in the cell.

        Returns
        -------
        int
            Sum over them, in e, that makes the cell neutral.
        """
        return -self.fixed_charge - n_ions * self.working_ion_charge

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

    def with_spins(self, spins: Mapping[str, str]) -> Host:
        """Return the host with ions in other spin states.

        Parameters
        ----------
        spins
            The species that an ion is instead, by its species token.

        Returns
        -------
        Host
            With the same states, which have other numbers of unpaired electrons.
        """
        tokens = {
            (element, state): self.token(element, state)
            for element, some in set(self.kinds)
            for state in some
            if state != VACANCY
        }
        others = {which: unpaired_electrons(spins.get(t, t)) for which, t in tokens.items()}
        usual = {(el, s): unpaired_electrons(token(el, charge_of_state(s))) for el, s in tokens}
        return replace(self, unpaired={k: n for k, n in others.items() if n != usual[k]})

    @property
    def has_spin_states(self) -> bool:
        """Whether an ion may be in one of several spin states of one charge."""
        return any(
            len(set(map(charge_of_state, self.states[site]))) < len(self.states[site])
            for site in self.redox_sites
        )

    @cached_property
    def formula_units(self) -> int:
        """Number of formula units in the supercell."""
        return int(len(self.redox_sites) / self.redox_sites_per_formula)

    @property
    def unit(self) -> str:
        """What x is given per: a formula, or such as ``redox site (Mn)``."""
        number = self.redox_sites_per_formula
        sites = "redox site" if number == 1 else f"{number} redox sites"
        return self.formula or f"{sites} ({', '.join(self.redox_elements)})"

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
        """The largest number of ions that the ion sites have room for, whatever their charge."""
        if not self.exclusions:
            return len(self.ion_sites)
        return len(self.ion_diagram.numbers()) - 1

    @cached_property
    def ion_counts(self) -> tuple[int, ...]:
        """Numbers of working ions, inert ones included: all in the window that can be neutral."""
        window = self.window
        redox_charges = sums_of_charges([self.states[i] for i in self.redox_sites])
        return tuple(
            n
            for n in range(self.inert_ions, self.inert_ions + self.most_ions + 1)
            if self.redox_charge(n) in redox_charges
            and (window is None or window[0] <= self.composition(n) <= window[1])
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
        rest = set(self.kinds) - {self.kinds[site] for site in self.ion_sites}
        redox = sorted((element, some) for element, some in rest if len(some) > 1)
        fixed = sorted((element, some[0]) for element, some in rest if len(some) == 1)
        digest.update(repr(redox).encode())
        digest.update(repr(fixed).encode())
        per_formula = self.redox_sites_per_formula
        whole = per_formula.denominator == 1  # as in every host before there were formulas
        digest.update(repr((self.elements, int(per_formula) if whole else per_formula)).encode())
        if len({element for element, _ in self.kinds}) < len(set(self.kinds)):
            # Hosts whose sites of one element are alike have the identity that they always had.
            digest.update(repr(self.states).encode())
        if self.unpaired:  # hosts of high-spin ions have the identity that they always had
            digest.update(repr(sorted(self.unpaired.items())).encode())
        if self.exclusions:
            digest.update(repr(self.exclusions).encode())
        # Adding zero turns -0.0 into 0.0: equal numbers must have equal bytes.
        digest.update((np.round(self.structure.lattice.matrix, 4) + 0.0).tobytes())
        digest.update((np.round(self.structure.frac_coords, 4) % 1.0).tobytes())
        return digest.hexdigest()[:16]
