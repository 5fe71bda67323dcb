"""Density-functional theory with GPAW, in a process of its own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from typing_extensions import override

from al_charge.crystal.valence import Windows
from al_charge.errors import InputError
from al_charge.labelers.dft.plugin import DftPlugin
from al_charge.labelers.gpaw.settings import GpawSettings, known_windows
from al_charge.labelers.method import Method
from al_charge.labelers.output import Output
from al_charge.labelers.protocol import Labeler
from al_charge.plugins import Quantity


class GpawPlugin(DftPlugin):
    """Density-functional theory with GPAW, in a process of its own."""

    kind = "gpaw"
    title = "GPAW"
    summary = "DFT+U with GPAW, in plane waves or atomic orbitals"
    settings = GpawSettings
    gives = frozenset(Quantity)
    output_files = ".gpw, text log"
    install = "python3 bootstrap.py gpaw, or pip install al-charge[gpaw]"

    @override
    def missing(self) -> str:
        from al_charge.labelers.gpaw.labeler import datasets_identity, gpaw_version

        try:
            gpaw_version()
            datasets_identity()
        except InputError as error:
            return error.what
        return ""

    @override
    def make(self, settings: Any) -> Labeler:
        from al_charge.labelers.gpaw.labeler import GpawLabeler

        return GpawLabeler(settings)

    @override
    def known_windows(self, settings: Any) -> Windows:
        return known_windows(settings)

    @override
    def method(self, physical: Mapping[str, Any]) -> Method:
        return Method(physical["xc"], physical["hubbard_u"])

    @override
    def find_output(self, path: Path) -> Path | None:
        from al_charge.labelers.outputs.gpaw import find_gpaw_output

        return find_gpaw_output(path)

    @override
    def read_output(self, file: Path, *, bader: bool) -> Output:
        from al_charge.labelers.outputs.gpaw import read_gpaw_output

        return read_gpaw_output(file, bader=bader)
