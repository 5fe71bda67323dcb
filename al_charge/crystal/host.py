"""The host: a parent crystal with its working-ion sites and its redox sites."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from pymatgen.core.periodic_table import Element
from pymatgen.core.structure import Structure

from al_charge.crystal.charges import (
    LARGEST_ION_CHARGE,
    ion_charge,
    known_ion_charges,
    usual_ion_charges,
)
from al_charge.crystal.parent import Matrix, Repeats, Supercell, number_of_cells, read_structure
from al_charge.crystal.space_group import symmetrized
from al_charge.crystal.species import token
from al_charge.errors import InputError, did_you_mean
from al_charge.units import Length

VACANCY = -1
"""State of an empty working-ion site; every other state is a charge in e."""
LARGEST_SUPERCELL = 1000
"""Largest number of sites in a supercell; symmetry and search would take hours on a larger one."""

Charge = Annotated[int, Field(ge=-9, le=9)]
"""An oxidation state, in e."""


class HostSpec(BaseModel):
    """What a campaign file says about a host, besides its structure file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    structure: Path = Field(description="CIF or POSCAR of the parent with every ion site filled")
    empty_structure: Path | None = Field(
        default=None,
        description="CIF or POSCAR of the same cell without working ions; the first geometries lie "
        "between the two",
    )
    working_ion: str = Field(description="element that moves in and out, e.g. Na")
    working_ion_charge: int = Field(
        default_factory=lambda given: ion_charge(given.get("working_ion", "")),
        ge=1,
        le=LARGEST_ION_CHARGE,
        description="its charge, in e; by default the common oxidation state of its element",
    )
    redox: dict[str, tuple[Charge, ...]] = Field(
        description="allowed oxidation states of every redox element, e.g. {Fe: [2, 3]}"
    )
    fixed: dict[str, Charge] = Field(
        description="oxidation state of every other element, e.g. {P: 5, O: -2}"
    )
    supercell: Supercell = Field(
        default=(1, 1, 1),
        description="repeats of the structure file's cell along a, b and c; or three rows of three "
        "integers, the supercell's vectors as sums of those of the cell",
    )
    symmetrize: Length | None = Field(
        default=None,
        gt=0.0,
        le=0.2,
        description="noise of the coordinates in the structure file, such as '0.01 A', which is "
        "removed: the structure gets the symmetry that it has but for displacements of that size",
    )
    redox_sites_per_formula: int = Field(
        default=1, ge=1, description="redox sites in one formula unit, e.g. 2 for Na3V2(PO4)3"
    )

    def refuse_unknown_charge(self) -> None:
        """Refuse a charge that no compound of the working ion has.

        Campaigns that were stored when any charge was accepted keep theirs.

        Raises
        ------
        InputError
            If the charge is none of the element's known oxidation states.
        """
        known = known_ion_charges(self.working_ion)
        if self.working_ion_charge and known and self.working_ion_charge not in known:
            raise InputError(
                f"{self.working_ion} is never {self.working_ion_charge}+",
                where="host.working_ion_charge",
                remedy=f"leave it out, or give {' or '.join(map(str, known))}",
            )


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
        Allowed oxidation states of every redox element, ascending.
    fixed
        Oxidation state of every other element.
    supercell
        Repeats of the given cell along a, b and c, or a matrix; see `Supercell`.
    redox_sites_per_formula
        Redox sites in one formula unit; compositions and energies are given per formula unit.
    """

    structure: Structure
    working_ion: str
    working_ion_charge: int
    redox: dict[str, tuple[int, ...]]
    fixed: dict[str, int]
    supercell: Repeats | Matrix
    redox_sites_per_formula: int = 1

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
            large or holds no whole number of formula units.
        """
        structure = structure.copy()
        _check_elements(spec, {site.specie.symbol for site in structure})
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
        host = cls(
            structure=structure.make_supercell(spec.supercell, in_place=False),
            working_ion=spec.working_ion,
            working_ion_charge=spec.working_ion_charge,
            redox={el: tuple(sorted(set(states))) for el, states in spec.redox.items()},
            fixed=dict(spec.fixed),
            supercell=spec.supercell,
            redox_sites_per_formula=spec.redox_sites_per_formula,
        )
        if len(host.redox_sites) % spec.redox_sites_per_formula:
            raise InputError(
                f"{len(host.redox_sites)} redox sites do not make whole formula units of "
                f"{spec.redox_sites_per_formula}",
                where="host.redox_sites_per_formula",
            )
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
        """Allowed states of every variable site: vacancy or ion charge; oxidation states."""
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
        charges = {self.working_ion: (self.working_ion_charge,), **self.redox}
        charges |= {element: (charge,) for element, charge in self.fixed.items()}
        return tuple(sorted(token(el, charge) for el, some in charges.items() for charge in some))

    @property
    def formula_units(self) -> int:
        """Number of formula units in the supercell."""
        return len(self.redox_sites) // self.redox_sites_per_formula

    @cached_property
    def ion_counts(self) -> tuple[int, ...]:
        """Numbers of working ions for which a charge-neutral configuration exists, ascending."""
        redox_charges = {0}
        for site in self.redox_sites:
            states = self.redox[self.elements[site]]
            redox_charges = {total + state for total in redox_charges for state in states}
        return tuple(
            n
            for n in range(len(self.ion_sites) + 1)
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
        """Identity of the host: a hash of its supercell, its sites and its allowed charges."""
        digest = hashlib.sha256()
        digest.update(repr((self.working_ion, self.working_ion_charge)).encode())
        digest.update(repr(sorted(self.redox.items())).encode())
        digest.update(repr(sorted(self.fixed.items())).encode())
        digest.update(repr((self.elements, self.redox_sites_per_formula)).encode())
        # Adding zero turns -0.0 into 0.0: equal numbers must have equal bytes.
        digest.update((np.round(self.structure.lattice.matrix, 4) + 0.0).tobytes())
        digest.update((np.round(self.structure.frac_coords, 4) % 1.0).tobytes())
        return digest.hexdigest()[:16]


def _check_elements(spec: HostSpec, present: set[str]) -> None:
    named = {spec.working_ion: "host.working_ion"}
    named |= {element: "host.redox" for element in spec.redox}
    named |= {element: "host.fixed" for element in spec.fixed}
    if len(named) < 1 + len(spec.redox) + len(spec.fixed):
        raise InputError("an element has two roles", where="host", remedy="name each element once")
    for element, field in named.items():
        if not Element.is_valid_symbol(element):
            raise InputError(
                f"'{element}' is not an element", where=field, remedy=did_you_mean(element, present)
            )
        if element not in present:
            raise InputError(
                f"the structure has no {element}",
                where=field,
                remedy=f"it has {', '.join(sorted(present))}",
            )
    for element in sorted(present - set(named)):
        raise InputError(
            f"{element} has no oxidation state", where="host.fixed", remedy=f"add '{element}: ...'"
        )
    for element, states in spec.redox.items():
        if len(set(states)) < 2:
            raise InputError(
                f"{element} needs at least two oxidation states",
                where="host.redox",
                remedy="an element with one state belongs in 'fixed'",
            )
