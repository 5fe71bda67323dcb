"""Settings of the GPAW labeler."""

from __future__ import annotations

from typing import Literal

from ase.data import chemical_symbols
from pydantic import BaseModel, ConfigDict, Field, PositiveInt, field_validator

from al_charge.crystal.valence import GPAW_WINDOWS, Windows
from al_charge.errors import InputError
from al_charge.units import Energy, Length, Time


class GpawSettings(BaseModel):
    """Density-functional theory with GPAW in its atomic-orbital mode: single points.

    It gives no stress. The defaults are settings that were tried on olivine NaxFePO4.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["gpaw"] = "gpaw"
    mode: Literal["lcao"] = Field(default="lcao", description="how GPAW expands wave functions")
    basis: Literal["dzp", "szp(dzp)", "sz(dzp)"] = Field(
        default="dzp", description="atomic-orbital basis set; the smaller ones are for trials"
    )
    grid_spacing: Length = Field(
        default=0.22, gt=0.05, le=0.4, description="of the real-space grid, e.g. '0.22 A'"
    )
    xc: Literal["PBE", "LDA"] = Field(default="PBE", description="exchange-correlation functional")
    hubbard_u: dict[str, Energy] = Field(
        default={"Fe": 5.3},
        description="U on the d states by element, e.g. {Fe: 5.3 eV}",
    )
    smearing: Energy = Field(
        default=0.05, gt=0, le=0.5, description="width of the Fermi-Dirac occupations"
    )
    kpoints: tuple[PositiveInt, PositiveInt, PositiveInt] = Field(
        default=(1, 1, 1), description="k-point grid of the cell, centred on Gamma"
    )
    metal_kpoints: int = Field(
        default=12, ge=2, le=40, description="k-points along each axis of the working-ion metal"
    )
    energy_tolerance: Energy = Field(
        default=1e-5,
        gt=0,
        description="largest change of the energy per valence electron over three SCF steps",
    )
    density_tolerance: float = Field(
        default=1e-4, gt=0, description="largest change of the density, electrons per electron"
    )
    max_iterations: int = Field(
        default=100, ge=10, le=2000, description="SCF steps after which a run has failed"
    )
    mixer: Literal["msr1", "pulay"] = Field(
        default="msr1",
        description="how densities are mixed: 'msr1' is GPAW's own default, 'pulay' slower (0.1)",
    )
    shell_distortion: Length = Field(
        default=0.06,
        ge=0,
        le=0.2,
        description="displacement of anions by which a start density with the charge order is made",
    )
    shell_contrast: Length = Field(
        default=0.08,
        ge=0,
        description="difference in mean bond length from which a geometry holds its charge order",
    )
    moment_limit: float = Field(
        default=4.0,
        gt=0,
        description="greatest initial moment in Bohr magnetons; those of an element scale to it",
    )
    moment_windows: dict[str, tuple[float, float]] = Field(
        default=dict(GPAW_WINDOWS.ranges),
        description="least and greatest moment of every charge state, e.g. {Fe3+: [4.1, 4.4]}",
    )
    processes: int = Field(default=1, ge=1, le=1024, description="MPI ranks of one label")
    timeout: Time = Field(default=4 * 3600.0, gt=0, description="wall time of one label")

    @field_validator("hubbard_u")
    @classmethod
    def _check_elements(cls, hubbard_u: dict[str, float]) -> dict[str, float]:
        for element, u in hubbard_u.items():
            if element not in chemical_symbols[1:]:
                raise ValueError(f"'{element}' is no element; write it like 'Fe'")
            if u < 0:
                raise ValueError(f"U of {element} is negative")
        return hubbard_u

    @field_validator("moment_windows")
    @classmethod
    def _check_windows(
        cls, windows: dict[str, tuple[float, float]]
    ) -> dict[str, tuple[float, float]]:
        try:
            Windows(windows)
        except InputError as error:
            raise ValueError(error.what) from error
        return windows
