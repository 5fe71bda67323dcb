"""Settings of the rehearsal labeler."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Literal, Self

from pydantic import Field
from typing_extensions import override

from al_charge.errors import InputError
from al_charge.labelers.plugin import EngineSettings
from al_charge.labelers.protocol import Relax
from al_charge.units import Energy, Force


class ModelSettings(EngineSettings):
    """A stored potential that labels as if it were DFT, to rehearse a campaign for nothing."""

    kind: Literal["model"] = "model"
    model: Path = Field(
        description="file of 'al-charge train' with a charge-aware potential or committee; it is "
        "kept in the database with the campaign"
    )
    sha256: str = Field(
        default="",
        pattern=r"^([0-9a-f]{64})?$",
        description="checksum of that file, filled in when the campaign is submitted",
    )
    metal_energy: Energy | None = Field(
        default=None,
        description="energy per atom of the working-ion metal on the potential's scale, which no "
        "potential of ions knows; only the mean of the voltage depends on it",
    )
    relax: Relax = Field(
        default=Relax.CELL,
        description="what is relaxed: 'none' for single points, 'ions', or 'cell' for ions and "
        "cell",
    )
    fmax: Force = Field(
        default=0.01,
        ge=1e-4,
        le=0.1,
        description="largest force after a relaxation, e.g. '0.01 eV/A'",
    )
    max_steps: int = Field(
        default=500,
        ge=10,
        le=10000,
        description="evaluations after which a relaxation counts as failed",
    )

    @property
    def digest(self) -> str:
        """Checksum of the file, 64 hexadecimal digits.

        Raises
        ------
        InputError
            If it is not known yet and the file cannot be read.
        """
        return self.sha256 or hashlib.sha256(read_file(self.model)).hexdigest()

    @property
    @override
    def input_file(self) -> Path | None:
        return self.model

    @override
    def pinned(self) -> Self:
        return self.model_copy(update={"model": Path(self.model.name), "sha256": self.digest})

    @override
    def reading_from(self, path: Path) -> Self:
        return self.model_copy(update={"model": path})


def read_file(path: Path) -> bytes:
    """Return the bytes of a model file.

    Parameters
    ----------
    path
        The file.

    Returns
    -------
    bytes
        All of them.

    Raises
    ------
    InputError
        If it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(
            f"cannot read the model: {error.strerror or error}",
            where=f"labeler.model: {path}",
            remedy="give a file that 'al-charge train' wrote",
        ) from error
