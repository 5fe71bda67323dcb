"""What GPAW is as an engine of campaigns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from al_charge.crystal.valence import Windows
from al_charge.errors import InputError
from al_charge.labelers.convergence import ConvergenceParameter, around, series
from al_charge.labelers.dft.plugin import DftPlugin
from al_charge.labelers.files import DENSITY, STATE
from al_charge.labelers.foreign import Comparison, ForeignRun
from al_charge.labelers.gpaw.settings import GpawSettings, known_windows
from al_charge.labelers.method import Method
from al_charge.labelers.output import Output
from al_charge.labelers.protocol import Labeler
from al_charge.plugins import Quantity

if TYPE_CHECKING:
    from ase import Atoms
    from numpy.typing import ArrayLike


class GpawPlugin(DftPlugin):
    """Density-functional theory with GPAW, in a process of its own."""

    kind = "gpaw"
    title = "GPAW"
    summary = "DFT+U with GPAW, in plane waves or atomic orbitals"
    settings = GpawSettings
    gives = frozenset(Quantity)
    output_files = ".gpw, text log"
    densities = frozenset({DENSITY})
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
    def remark(self, settings: Any) -> str:
        if settings.mode == "pw":
            return ""
        return (
            "computed in a small basis of atomic orbitals, for trials: formation energies may be "
            "off by hundreds of meV per formula unit; use plane waves for results"
        )

    @override
    def disposable(self, settings: Any) -> Set[str]:
        return {STATE}

    @override
    def make(self, settings: Any) -> Labeler:
        from al_charge.labelers.gpaw.labeler import GpawLabeler

        return GpawLabeler(settings)

    @override
    def known_windows(self, settings: Any) -> Windows:
        return known_windows(settings)

    @override
    def convergence_parameters(self, settings: Any) -> Sequence[ConvergenceParameter]:
        if settings.mode == "pw":
            cutoffs = around(settings.cutoff, (0.75, 1, 1.25, 1.5), -1)
            expansion = series("cutoff", "cutoff", cutoffs, "eV")
        else:
            spacings = around(settings.grid_spacing, (1.2, 1, 0.8, 0.7), 3)
            expansion = series("grid spacing", "grid_spacing", spacings, "A", discrete=True)
        widths = around(settings.smearing, (4, 2, 1, 0.5), 4)
        metal = [settings.metal_kpoints + more for more in (-4, 0, 4, 8)]
        return (
            expansion,
            self.kpoint_parameter(settings),
            series("smearing", "smearing", widths, "eV"),
            series("k-points of the metal", "metal_kpoints", metal, metal_only=True),
        )

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

    @override
    def find_foreign(self, folder: Path) -> list[Path]:
        from al_charge.labelers.gpaw.foreign import find_runs

        return find_runs(folder)

    @override
    def read_foreign(self, path: Path) -> ForeignRun:
        from al_charge.labelers.gpaw.foreign import read_run

        return read_run(path)

    @override
    def compare(
        self, settings: Any, run: ForeignRun, atoms: Atoms, vectors: ArrayLike
    ) -> Comparison:
        from al_charge.labelers.gpaw.foreign import compare

        return compare(settings, run.settings, atoms, vectors)
