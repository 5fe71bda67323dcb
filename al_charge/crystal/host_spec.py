"""What a campaign file says about a host."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, model_validator
from pymatgen.core.periodic_table import Element

from al_charge.crystal.charges import (
    LARGEST_ION_CHARGE,
    ion_charge,
    known_ion_charges,
    usual_ion_charges,
)
from al_charge.crystal.parent import Matrix, Repeats, Supercell
from al_charge.crystal.states import WORKING_ION, IonState, SiteRole
from al_charge.errors import InputError, did_you_mean
from al_charge.units import Length

MIN_DISTANCE = 2.0
"""angstrom. Sites of layers, spinels and rock salts that share a face of their polyhedra are 1.6 to
1.9 apart; the shortest distance of ions that are there at once is 2.1, in Li3N."""

LARGEST_MULTIPLE = 12
"""Most primitive cells in a supercell of several; the shapes of 12 are some 200 together."""


def _named_once(value: Any) -> Any:
    """Return the names of sites as text, since the index of one is a number."""
    if not isinstance(value, dict):
        return value
    names = [str(key) if type(key) is int else key for key in value]
    for name in names:
        if isinstance(name, str) and ("." in name or name.startswith("$")):
            raise ValueError(f"'{name}' cannot be stored; give the index of the site instead")
        if names.count(name) > 1:
            raise ValueError(f"'{name}' is given twice; keep one")
    return dict(zip(names, value.values(), strict=True))


def _as_fraction(value: object) -> object:
    """Read a composition as it stands in a file: 1, 0.5 or '1/3'."""
    text = "" if isinstance(value, bool) else str(value).strip()
    if not re.fullmatch(r"\d{1,6}(\.\d{1,9}|/[1-9]\d{0,5})?", text):
        raise ValueError(f"'{value}' is not a composition; write it like 1, 0.5 or 1/3")
    return Fraction(text)


def _as_ends(value: object) -> object:
    """Refuse what does not name both ends of a window, and nothing else."""
    if not isinstance(value, dict) or value.keys() != {"from", "to"}:
        raise ValueError("it is not a window; write it like {from: 1, to: 3}")
    return value


X = Annotated[Fraction, BeforeValidator(_as_fraction), PlainSerializer(str)]
"""A composition, exact."""
Window = Annotated[dict[Literal["from", "to"], X], BeforeValidator(_as_ends)]
"""The lowest and the highest composition of a campaign."""


class SupercellsSpec(BaseModel):
    """Which supercells a campaign has, where it has several."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    up_to: int = Field(
        ge=1,
        le=LARGEST_MULTIPLE,
        description="largest number of primitive cells in a supercell; all shapes are used",
    )


class HostSpec(BaseModel):
    """What a campaign file says about a host, besides its structure file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    structure: Path = Field(description="CIF or POSCAR of the parent with every ion site filled")
    empty_structure: Path | None = Field(
        default=None,
        description="CIF or POSCAR of the same cell without working ions, or with only those of "
        "the lowest x; initial geometries are interpolated between the two",
    )
    working_ion: str = Field(description="element that moves in and out, e.g. Na")
    spins: Literal["usual", "high"] = Field(
        default="usual",
        description="spin state of ions for which none is given: the usual one on octahedral sites "
        "(Co3+ in oxides low, for example), or high for all",
    )
    working_ion_charge: int = Field(
        default_factory=lambda given: ion_charge(given.get("working_ion", "")),
        ge=1,
        le=LARGEST_ION_CHARGE,
        description="its charge, in e; by default the common oxidation state of its element",
    )
    redox: dict[str, tuple[IonState, ...]] = Field(
        description="allowed oxidation states of every redox element, e.g. {Fe: [2, 3]}; with a "
        "spin state where it is not the usual one, e.g. {Co: [2, 3 high]}"
    )
    fixed: dict[str, IonState] = Field(
        description="oxidation state of every other element, e.g. {P: 5, O: -2}"
    )
    sites: Annotated[dict[str, SiteRole], BeforeValidator(_named_once)] = Field(
        default_factory=dict,
        description="exceptions for single sites, by label in the CIF, index in the file from 0, "
        "or element and Wyckoff position: the state that a site keeps, a list of states, or "
        "'working ion', e.g. {Fe2: 2 low, Li 4a: 1}",
    )
    supercell: Supercell = Field(
        default=(1, 1, 1),
        description="repeats of the structure file's cell along a, b and c; or three rows of "
        "three integers, the supercell's vectors in terms of the cell's",
    )
    supercells: SupercellsSpec | None = Field(
        default=None,
        description="all distinct supercells up to a size, instead of a single 'supercell', "
        "e.g. {up_to: 3}",
    )
    order: Literal["ewald"] | None = Field(
        default=None,
        description="ewald: shared and partly occupied sites are ordered by Ewald energy in the "
        "supercell; those of the working ion are filled",
    )
    symmetrize: Length | None = Field(
        default=None,
        gt=0.0,
        le=0.2,
        description="noise of the coordinates to remove, such as '0.01 A': the structure gets "
        "the highest symmetry within displacements of that size",
    )
    min_distance: Length = Field(
        default=MIN_DISTANCE,
        ge=0.0,
        description="working-ion sites closer together than this are never occupied at once; "
        "'0 A' for no limit",
    )
    formula: str | None = Field(
        default=None,
        max_length=100,
        description="one formula unit, e.g. LiNi0.5Mn1.5O4: x is working ions per formula unit "
        "(without it, per redox site); all amounts but the working ion's must match the structure",
    )
    compositions: Window | None = Field(
        default=None,
        description="lowest and highest x of the campaign, e.g. {from: 1, to: 3}; by default all "
        "that the oxidation states allow",
    )
    redox_sites_per_formula: int | None = Field(
        default_factory=lambda given: 1 if given.get("formula") is None else None,
        ge=1,
        description="redox sites in one formula unit; use 'formula' instead",
    )

    @model_validator(mode="after")
    def _has_one_kind_of_supercell(self) -> HostSpec:
        if self.supercells is not None:
            if self.supercell != (1, 1, 1):
                raise ValueError("give 'supercell' or 'supercells', not both")
            for name in ("order", "empty_structure"):
                if getattr(self, name) is not None:
                    raise ValueError(f"'{name}' needs one 'supercell', not 'supercells'")
        return self

    @property
    def one_supercell(self) -> Repeats | Matrix:
        """The supercell, in units of the cell of the file.

        Raises
        ------
        InputError
            If the specification asks for several.
        """
        if self.supercells is not None:
            raise InputError(
                "there are several supercells here, and this works on one",
                where="host.supercells",
                remedy="give one 'supercell' instead",
            )
        return self.supercell

    def refuse_unknown_charge(self) -> None:
        """Refuse a charge that no compound of the working ion has.

        Campaigns that were stored when any charge was accepted keep theirs.

        Raises
        ------
        InputError
            If the charge is not a known oxidation state of the element.
        """
        known = known_ion_charges(self.working_ion)
        if self.working_ion_charge and known and self.working_ion_charge not in known:
            raise InputError(
                f"{self.working_ion} is never {self.working_ion_charge}+",
                where="host.working_ion_charge",
                remedy=f"leave it out, or give {' or '.join(map(str, known))}",
            )

    def window(self, possible: Sequence[Fraction]) -> tuple[Fraction, Fraction] | None:
        """Return the lowest and the highest x that the file asks for.

        Parameters
        ----------
        possible
            Every x of the host, ascending.

        Returns
        -------
        tuple of Fraction or None
            None if the file does not restrict x.

        Raises
        ------
        InputError
            If an end is not possible, or the window holds fewer than two compositions.
        """
        if self.compositions is None:
            return None
        field, among = "host.compositions", f"choose two of: {', '.join(map(str, possible))}"
        lowest, highest = self.compositions["from"], self.compositions["to"]
        for x in (lowest, highest):
            if x not in possible:
                raise InputError(
                    f"the supercell has no composition x = {x}", where=field, remedy=among
                )
        if lowest >= highest:
            what = "a single composition" if lowest == highest else "no composition"
            raise InputError(
                f"from {lowest} to {highest} there is {what}", where=field, remedy=among
            )
        return lowest, highest

    def check_elements(self, present: set[str]) -> None:
        """Refuse elements that the structure lacks or that lack a role.

        Parameters
        ----------
        present
            Elements of the structure.

        Raises
        ------
        InputError
            If an element is named twice, is not one or is not there, or has no oxidation state; or
            the working ion has several usual charges, and none is given.
        """
        named = {self.working_ion: "host.working_ion"}
        named |= {element: "host.redox" for element in self.redox}
        named |= {element: "host.fixed" for element in self.fixed}
        # Some ions of the working ion's element may be fixed, if 'sites' says which are not.
        twice = (WORKING_ION,) in self.sites.values() and self.working_ion in self.fixed
        if len(named) + twice < 1 + len(self.redox) + len(self.fixed):
            raise InputError(
                "an element has two roles",
                where="host",
                remedy="name each element once, and under 'sites' those sites that differ",
            )
        for element, named_in in named.items():
            if not Element.is_valid_symbol(element):
                raise InputError(
                    f"'{element}' is not an element",
                    where=named_in,
                    remedy=did_you_mean(element, present),
                )
            if element not in present:
                raise InputError(
                    f"the structure has no {element}",
                    where=named_in,
                    remedy=f"it has {', '.join(sorted(present))}",
                )
        if not self.working_ion_charge:
            usual = " or ".join(map(str, usual_ion_charges(self.working_ion))) or "unknown"
            raise InputError(
                f"the charge of {self.working_ion} may be {usual}",
                where="host.working_ion_charge",
                remedy="give it, such as 'working_ion_charge: 2'",
            )
        for element in sorted(present - set(named)):
            raise InputError(
                f"{element} has no oxidation state",
                where="host.fixed",
                remedy=f"add '{element}: ...'",
            )
