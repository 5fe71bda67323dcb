"""Settings of the GPAW labeler."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from al_charge.crystal.valence import GPAW_LCAO_WINDOWS, GPAW_PW_WINDOWS, Windows
from al_charge.labelers.dft.settings import DftSettings
from al_charge.labelers.protocol import Relax
from al_charge.units import Energy, Force, Length, Time


class GpawSettings(DftSettings):
    """Density-functional theory with GPAW, in plane waves or in its atomic-orbital mode.

    The defaults are settings that were tried on olivine NaxFePO4.
    """

    first_tables: ClassVar = {"hubbard_u": {"Fe": 5.3}}

    kind: Literal["gpaw"] = "gpaw"
    mode: Literal["lcao", "pw"] = Field(
        default="lcao",
        description="how wave functions are expanded: atomic orbitals, or plane waves, which give "
        "stress as well",
    )
    cutoff: Energy = Field(
        default=700.0, ge=100, le=3000, description="plane-wave cutoff (mode pw), e.g. '700 eV'"
    )
    basis: Literal["dzp", "szp(dzp)", "sz(dzp)"] = Field(
        default="dzp",
        description="atomic-orbital basis set (mode lcao); the smaller ones are for trials",
    )
    grid_spacing: Length = Field(
        default=0.22,
        gt=0.05,
        le=0.4,
        description="spacing of the real-space grid (mode lcao), e.g. '0.22 A'; plane waves set "
        "their own",
    )
    xc: Literal["PBE", "LDA"] = Field(default="PBE", description="exchange-correlation functional")
    smearing: Energy = Field(
        default=0.05, gt=0, le=0.5, description="width of the Fermi-Dirac occupations"
    )
    metal_kpoints: int = Field(
        default=12, ge=2, le=40, description="k-points along each axis of the working-ion metal"
    )
    fixed_moment: bool = Field(
        default=False,
        description="whether the total moment is fixed at the sum of the species' spin-only "
        "moments",
    )
    energy_tolerance: Energy = Field(
        default=1e-6,
        gt=0,
        description="largest change of the energy per valence electron over three SCF steps",
    )
    density_tolerance: float = Field(
        default=1e-4, gt=0, description="largest change of the density, electrons per electron"
    )
    eigenstates_tolerance: float = Field(
        default=1e-6,
        gt=0,
        description="largest squared residual of the states (mode pw), eV^2 per valence electron",
    )
    max_iterations: int = Field(
        default=100, ge=10, le=2000, description="SCF steps after which an attempt counts as failed"
    )
    mixer: Literal["msr1", "pulay"] | None = Field(
        default=None,
        description="how densities are mixed at first: 'msr1' or 'pulay'; by default msr1 in mode "
        "lcao and pulay in mode pw",
    )
    scf_ladder: bool = Field(
        default=True,
        description="whether an SCF that does not converge is repeated with other mixing",
    )
    relax: Relax = Field(
        default=Relax.NONE,
        description="what GPAW relaxes for a label: 'none', 'ions', or 'cell' (ions and cell; "
        "mode pw)",
    )
    fmax: Force = Field(
        default=0.05,
        ge=1e-3,
        le=0.5,
        description="largest force at which a relaxation ends, e.g. '0.05 eV/A'; for the cell, "
        "stress times the volume per atom divided by 1 A",
    )
    max_steps: int = Field(
        default=100,
        ge=1,
        le=2000,
        description="ionic steps after which a relaxation counts as failed",
    )
    moment_limit: float = Field(
        default=4.0,
        gt=0,
        description="largest initial moment in Bohr magnetons; those of an element scale to it",
    )
    bader_refinement: Literal[2, 4] = Field(
        default=2,
        description="points of the density's grid per point of the calculation's, along each "
        "axis; charges are checked against half as many",
    )
    processes: int = Field(default=1, ge=1, le=1024, description="MPI ranks of one label")
    timeout: Time = Field(
        default=4 * 3600.0,
        gt=0,
        description="wall time of one run, after which it stops and can be continued",
    )
    save_interval: Time = Field(
        default=120.0, ge=0, description="wall time between two saved states within an SCF"
    )

    @model_validator(mode="after")
    def _check_relax(self) -> Self:
        if self.relax == Relax.CELL and self.mode == "lcao":
            raise ValueError("relax: cell needs the stress, which only mode: pw gives")
        return self


def known_windows(settings: GpawSettings) -> Windows:
    """Return the moments that GPAW is known to give in a mode.

    Parameters
    ----------
    settings
        Whose mode counts: atomic orbitals give smaller moments than plane waves.

    Returns
    -------
    Windows
        Smallest and largest moment of each charge state, Bohr magnetons.
    """
    return GPAW_LCAO_WINDOWS if settings.mode == "lcao" else GPAW_PW_WINDOWS
