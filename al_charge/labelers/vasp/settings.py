"""Settings of the VASP labeler."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, field_validator
from typing_extensions import override

from al_charge.crystal.valence import VASP_WINDOWS
from al_charge.errors import InputError
from al_charge.labelers.dft.kpoints import Grid, grid_of_density
from al_charge.labelers.dft.settings import DftSettings, check_element
from al_charge.labelers.hubbard import MP_U
from al_charge.labelers.protocol import Relax
from al_charge.labelers.vasp.tags import check_overrides
from al_charge.units import Energy, Force, Time

if TYPE_CHECKING:
    from ase import Atoms

Incar = dict[str, bool | int | float | str | list[float]]
"""INCAR tags and their values."""


class VaspSettings(DftSettings):
    """PBE+U with VASP, a licensed program that must be installed already.

    The defaults are those of the Materials Project's PBE+U with a tighter electronic convergence.
    """

    first_tables: ClassVar = {"hubbard_u": MP_U, "potcars": {}}

    kind: Literal["vasp"] = "vasp"
    relax: Relax = Field(
        default=Relax.NONE,
        description="what VASP relaxes for a label: 'none', 'ions', or 'cell' (ions and cell)",
    )
    cutoff: Energy = Field(
        default=520.0, ge=200, le=2000, description="plane-wave cutoff (ENCUT), e.g. '520 eV'"
    )
    kpoint_density: float | None = Field(
        default=None,
        gt=0,
        le=2000,
        description="k-points times cubic angstrom of the reciprocal cell, in place of a spacing",
    )
    metal_kpoint_density: float = Field(
        default=1000.0, gt=0, le=10000, description="the same for the working-ion metal"
    )
    fixed_moment: bool = Field(
        default=True,
        description="whether the total moment is fixed at that of the charge states (NUPDOWN)",
    )
    potcar_functional: Literal["PBE", "PBE_52", "PBE_54", "PBE_64"] = Field(
        default="PBE", description="release of the PAW datasets, by pymatgen's name"
    )
    potcars: dict[str, str] = Field(
        default={}, description="dataset by element where it is not the usual one, e.g. {Fe: Fe}"
    )
    verify_potcars: bool = Field(
        default=True,
        description="whether a POTCAR must be that of the named release, as pymatgen knows it",
    )
    incar: Incar = Field(
        default={}, description="any other INCAR tag, or another value for one, e.g. {NCORE: 4}"
    )
    fmax: Force = Field(default=0.02, gt=0, description="largest force at which a relaxation ends")
    max_steps: int = Field(
        default=99, ge=1, le=2000, description="ionic steps of one start of a relaxation"
    )
    tries: int = Field(
        default=3,
        ge=1,
        le=6,
        description="attempts to reach the charge order, each steered more strongly",
    )
    command: str | None = Field(
        default=None,
        min_length=1,
        description="command that starts VASP, e.g. 'srun vasp_std'; "
        "by default atomate2's VASP_CMD",
    )
    gamma_command: str | None = Field(
        default=None,
        min_length=1,
        description="the same for a single k-point; by default atomate2's VASP_GAMMA_CMD",
    )
    timeout: Time = Field(
        default=24 * 3600.0, gt=0, description="wall time of one run, after which it may be resumed"
    )
    keep_wavecar: bool = Field(
        default=False, description="whether the wave functions of a finished run are kept"
    )

    @override
    def grid(self, atoms: Atoms) -> Grid:
        if self.kpoints or self.kpoint_density is None:
            return super().grid(atoms)
        return grid_of_density(atoms, self.kpoint_density)

    @override
    def hashed_kpoints(self) -> Any:
        if self.kpoints or self.kpoint_density is None:
            return super().hashed_kpoints()
        return {"density": self.kpoint_density}

    @field_validator("moment_windows")
    @classmethod
    def _tell_known_from_given(
        cls, windows: dict[str, tuple[float, float]] | None
    ) -> dict[str, tuple[float, float]] | None:
        """Take for not given what earlier releases wrote into every stored campaign."""
        high_spin = {s: w for s, w in VASP_WINDOWS.ranges.items() if "spin=" not in s}
        return None if windows == high_spin else windows

    @field_validator("potcars")
    @classmethod
    def _check_potcars(cls, potcars: dict[str, str]) -> dict[str, str]:
        for element, name in potcars.items():
            check_element(element)
            if name.partition("_")[0].partition(".")[0] != element:
                raise ValueError(f"the dataset {name} is not for {element}")
        return potcars

    @field_validator("incar", mode="before")
    @classmethod
    def _check_incar(cls, incar: Any) -> Any:
        if not isinstance(incar, dict):
            return incar
        try:
            return check_overrides(incar)
        except InputError as error:
            raise ValueError("; ".join(filter(None, (error.what, error.remedy)))) from error
