"""What a user may choose for every labeler by density-functional theory."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, TypeVar, get_args

from ase.data import chemical_symbols
from pydantic import Field, PositiveInt, field_validator, model_validator
from typing_extensions import override

from al_charge.crystal.shells import SHELL_DISTORTION
from al_charge.crystal.species import element_of, parse
from al_charge.crystal.valence import Windows
from al_charge.errors import InputError
from al_charge.labelers.dft.kpoints import Grid, kpoint_grid
from al_charge.labelers.hubbard import usual_u
from al_charge.labelers.plugin import EngineSettings
from al_charge.units import Energy, Length

if TYPE_CHECKING:
    from ase import Atoms

LARGEST_MOMENT = 10.0
"""Bohr magnetons; more than any ion has, which is 7 for half-filled f shells."""

V = TypeVar("V")

MagneticOrder = Literal["ferromagnetic", "antiferromagnetic"]


class DftSettings(EngineSettings):
    """Settings of a labeler that is steered towards a charge order and gives moments.

    Attributes
    ----------
    first_tables
        Each table by element as the defaults of version 0.1 had it, whose labels have the hash of
        the whole table. It stays the same when a default changes.
    """

    first_tables: ClassVar[Mapping[str, Mapping[str, Any]]]

    hubbard_u: dict[str, Energy] | None = Field(
        default=None,
        description="U on the d states by element (with VASP on the f states of lanthanoids and "
        "actinoids), e.g. {Fe: 5.3 eV}, {} for none; by default the Materials Project's in oxides "
        "and fluorides, and none in other compounds",
    )
    kpoints: tuple[PositiveInt, PositiveInt, PositiveInt] | None = Field(
        default=None, description="grid of the campaign's cell, centred on Gamma"
    )
    kpoint_spacing: float = Field(
        default=0.3,
        ge=0.05,
        le=5,
        description="largest distance between k-points along an axis if no grid is given, "
        "1/angstrom, 2 pi included, as VASP's KSPACING",
    )
    fixed_moment: bool
    magnetic_order: MagneticOrder = Field(
        default="ferromagnetic", description="signs of the redox sites' moments"
    )
    moments: dict[str, float] = Field(
        default={},
        description="initial moments of ions, if not their spin-only moments, "
        "e.g. {Fe3+: 4.2, 'Co3+,spin=0': 0.6}; negative ones point down",
    )
    total_moment: float | None = Field(
        default=None,
        ge=0,
        description="total moment at which every cell is fixed, in Bohr magnetons, whatever its "
        "charge states, e.g. 0",
    )
    shell_distortion: Length = Field(
        default=SHELL_DISTORTION,
        ge=0,
        le=0.2,
        description="displacement of anions with which an initial density with the charge order "
        "is converged",
    )
    shell_contrast: Length = Field(
        default=0.08,
        ge=0,
        description="difference in mean bond length from which a geometry shows its charge order",
    )
    moment_windows: dict[str, tuple[float, float]] | None = Field(
        default=None,
        description="smallest and largest moment of every charge state, e.g. {Fe3+: [4.1, 4.4]}; "
        "by default those of the campaign's end members, else the engine's",
    )
    tries: int = Field(
        default=3,
        ge=1,
        le=3,
        description="attempts to reach the charge order, each steered more strongly",
    )
    bader: bool = Field(default=True, description="whether Bader charges are computed")
    explore_spin: bool = Field(
        default=True,
        description="whether end members are run in other spin states and magnetic orders before "
        "they count, and the vertices of a verified hull in other magnetic orders",
    )
    explore_runs: int = Field(
        default=6, ge=1, le=50, description="largest number of such runs for each end member"
    )

    @override
    def with_defaults_for(self, elements: Collection[str]) -> Self:
        if self.hubbard_u is not None:
            return self
        return self.model_copy(update={"hubbard_u": usual_u(elements)})

    @override
    def of_elements(self, elements: Collection[str]) -> Self:
        settings = self.with_defaults_for(elements)
        tables = {
            name: _of_elements(getattr(settings, name), first, elements)
            for name, first in self.first_tables.items()
        }
        moments = {t: m for t, m in self.moments.items() if element_of(t) in elements}
        return settings.model_copy(update=tables | {"moments": moments})

    def u_of(self, elements: Collection[str]) -> dict[str, float]:
        """Return the U that a structure is computed with.

        Parameters
        ----------
        elements
            Of the structure.

        Returns
        -------
        dict
            eV by element; elements without U are left out.
        """
        table = self.with_defaults_for(elements).hubbard_u or {}
        return {el: float(u) for el, u in sorted(table.items()) if u and el in elements}

    def hashed_u(self) -> dict[str, float]:
        """Return the table of U that a settings hash counts.

        Returns
        -------
        dict
            eV by element; without a table and a compound that of version 0.1.
        """
        table = self.first_tables["hubbard_u"] if self.hubbard_u is None else self.hubbard_u
        return {element: float(u) for element, u in sorted(table.items())}

    def grid(self, atoms: Atoms) -> Grid:
        """Return the k-point grid of a structure.

        Parameters
        ----------
        atoms
            Whose cell it is for.

        Returns
        -------
        tuple of int
            Divisions along each axis: those that are given, or those of the spacing.
        """
        return self.kpoints or kpoint_grid(atoms, self.kpoint_spacing)

    def hashed_kpoints(self) -> Any:
        """Return what a settings hash counts of the k-points.

        Returns
        -------
        list or dict
            The grid that is given, or the spacing that cells of every size share.
        """
        return list(self.kpoints) if self.kpoints else {"spacing": self.kpoint_spacing}

    @property
    @override
    def spin_runs(self) -> int:
        return self.explore_runs if self.explore_spin else 0

    @override
    def magnetic_orders(self) -> dict[str, Self]:
        """Return the settings by magnetic order; a total moment by hand is that of no other state.

        Moments by hand that point both ways are an order of their own.
        """
        free: dict[str, Any] = {}
        if self.total_moment is not None:
            free = {"total_moment": None, "fixed_moment": True}
        given = any(moment < 0 for moment in self.moments.values())
        own = "given" if given else self.magnetic_order
        found: dict[str, Self] = {own: self.model_copy(update=free)}
        sizes = {species: abs(moment) for species, moment in self.moments.items()}
        for order in get_args(MagneticOrder):
            if order not in found:
                changes = free | {"magnetic_order": order, "moments": sizes}
                found[order] = self.model_copy(update=changes)
        return found

    @property
    def holds_moment(self) -> bool:
        """Whether the total moment is held: at a given value, or at that of the charge states."""
        return self.fixed_moment or self.total_moment is not None

    def given_moments(self) -> dict[str, Any]:
        """Return what is given of moments by hand.

        Returns
        -------
        dict
            For the settings that energies depend on; empty if nothing is given, as before anything
            could be.
        """
        given: dict[str, Any] = {"moments": dict(sorted(self.moments.items()))}
        given["total_moment"] = self.total_moment
        return {name: value for name, value in given.items() if value not in ({}, None)}

    @field_validator("hubbard_u")
    @classmethod
    def _check_u(cls, hubbard_u: dict[str, float] | None) -> dict[str, float] | None:
        for element, u in (hubbard_u or {}).items():
            check_element(element)
            if u < 0:
                raise ValueError(f"U of {element} is negative")
        return hubbard_u

    @field_validator("moment_windows")
    @classmethod
    def _check_windows(
        cls, windows: dict[str, tuple[float, float]] | None
    ) -> dict[str, tuple[float, float]] | None:
        if windows is None:
            return None
        named = _by_token(windows, "windows")
        try:
            Windows(named)
        except InputError as error:
            raise ValueError(error.what) from error
        return named

    @field_validator("moments")
    @classmethod
    def _check_moments(cls, moments: dict[str, float]) -> dict[str, float]:
        for species, moment in moments.items():
            if not abs(moment) <= LARGEST_MOMENT:
                raise ValueError(
                    f"{species} cannot start from {moment:g}; no ion has more than "
                    f"{LARGEST_MOMENT:g} Bohr magnetons"
                )
        return _by_token(moments, "moments")

    @model_validator(mode="after")
    def _check_signs(self) -> Self:
        if self.magnetic_order == "antiferromagnetic" and min(self.moments.values(), default=0) < 0:
            raise ValueError(
                "moments with signs are an order of their own; leave out 'magnetic_order', or the "
                "signs"
            )
        return self


def _by_token(given: Mapping[str, V], what: str) -> dict[str, V]:
    """Return what is given by charge states as users write them by species token."""
    try:
        named = {parse(species): value for species, value in given.items()}
    except InputError as error:
        raise ValueError("; ".join(filter(None, (error.what, error.remedy)))) from error
    if len(named) < len(given):
        raise ValueError(f"a charge state is given twice in {what}")
    return named


def _of_elements(
    table: Mapping[str, Any], first: Mapping[str, Any], elements: Collection[str]
) -> dict[str, Any]:
    """Return the entries of some elements.

    A table that agrees with the first default there is replaced by that default as a whole, so
    that labels of version 0.1 keep their hash.
    """
    kept, usual = (
        {element: value for element, value in one.items() if value and element in elements}
        for one in (table, first)
    )
    return dict(first) if kept == usual else kept


def check_element(element: str) -> None:
    """Refuse what is not an element symbol.

    Parameters
    ----------
    element
        What a user gave as one.

    Raises
    ------
    ValueError
        If it is none; pydantic reports it.
    """
    if element not in chemical_symbols[1:]:
        raise ValueError(f"'{element}' is not an element; write it like 'Fe'")
