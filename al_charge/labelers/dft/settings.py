"""What a user may choose for every labeler by density-functional theory."""

from __future__ import annotations

from typing import Literal

from ase.data import chemical_symbols
from pydantic import Field, field_validator

from al_charge.crystal.shells import SHELL_DISTORTION
from al_charge.crystal.valence import Windows
from al_charge.errors import InputError
from al_charge.labelers.plugin import EngineSettings
from al_charge.units import Energy, Length


class DftSettings(EngineSettings):
    """A labeler that has to be led to a charge order, and whose moments tell where it ended."""

    hubbard_u: dict[str, Energy]
    magnetic_order: Literal["ferromagnetic", "antiferromagnetic"] = Field(
        default="ferromagnetic", description="signs of the redox sites' moments"
    )
    shell_distortion: Length = Field(
        default=SHELL_DISTORTION,
        ge=0,
        le=0.2,
        description="displacement of anions by which a start density with the charge order is made",
    )
    shell_contrast: Length = Field(
        default=0.08,
        ge=0,
        description="difference in mean bond length from which a geometry holds its charge order",
    )
    moment_windows: dict[str, tuple[float, float]] | None = Field(
        default=None,
        description="least and greatest moment of every charge state, e.g. {Fe3+: [4.1, 4.4]}; by "
        "default those of the campaign's end members, else known ones",
    )
    tries: int = Field(
        default=3, ge=1, le=3, description="steerings towards a charge order, each stronger"
    )
    bader: bool = Field(default=True, description="whether Bader charges are computed")

    @field_validator("hubbard_u")
    @classmethod
    def _check_u(cls, hubbard_u: dict[str, float]) -> dict[str, float]:
        for element, u in hubbard_u.items():
            check_element(element)
            if u < 0:
                raise ValueError(f"U of {element} is negative")
        return hubbard_u

    @field_validator("moment_windows")
    @classmethod
    def _check_windows(
        cls, windows: dict[str, tuple[float, float]] | None
    ) -> dict[str, tuple[float, float]] | None:
        try:
            Windows(windows or {})
        except InputError as error:
            raise ValueError(error.what) from error
        return windows


def check_element(element: str) -> None:
    """Refuse what is no element's symbol.

    Raises
    ------
    ValueError
        With what is wrong, for pydantic to report.
    """
    if element not in chemical_symbols[1:]:
        raise ValueError(f"'{element}' is no element; write it like 'Fe'")
