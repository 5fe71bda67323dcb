"""PBE+U with VASP, through atomate2's input sets, run by custodian."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from al_charge.crystal.valence import VASP_WINDOWS, Windows
from al_charge.errors import NotInstalledError
from al_charge.labelers.convergence import ConvergenceParameter, Step, around, series
from al_charge.labelers.dft.plugin import DftPlugin
from al_charge.labelers.foreign import Comparison, ForeignRun
from al_charge.labelers.method import Method
from al_charge.labelers.output import Output
from al_charge.labelers.protocol import Labeler
from al_charge.labelers.vasp.settings import VaspSettings
from al_charge.labelers.vasp_run import functional_of
from al_charge.plugins import Quantity

if TYPE_CHECKING:
    from ase import Atoms
    from numpy.typing import ArrayLike

_METAL = "k-points of the metal"


class VaspPlugin(DftPlugin):
    """PBE+U with VASP, through atomate2's input sets, run by custodian."""

    kind = "vasp"
    title = "VASP"
    summary = "DFT+U with VASP, through atomate2 and custodian"
    settings = VaspSettings
    gives = frozenset(Quantity)
    output_files = "OUTCAR, vasprun.xml"
    densities = frozenset(("CHGCAR", "AECCAR0", "AECCAR1", "AECCAR2", "ELFCAR", "LOCPOT", "PARCHG"))
    install = "VASP is licensed; see docs/vasp.md"

    @override
    def missing(self) -> str:
        try:
            self.check_machine(VaspSettings())
        except NotInstalledError as error:
            return error.what
        return ""

    @override
    def check_machine(self, settings: Any) -> None:
        from al_charge.labelers.vasp.labeler import VaspLabeler

        VaspLabeler(settings).command()

    @override
    def make(self, settings: Any) -> Labeler:
        from al_charge.labelers.vasp.labeler import VaspLabeler

        return VaspLabeler(settings)

    @override
    def disposable(self, settings: Any) -> Set[str]:
        """Return wave functions, unless they are to stay, and a density that is also in CHGCAR."""
        waves = () if settings.keep_wavecar else ("WAVECAR",)
        return {"WAVEDER", "TMPCAR", "CHG", *waves}

    @override
    def known_windows(self, settings: Any) -> Windows:
        return VASP_WINDOWS

    @override
    def convergence_parameters(self, settings: Any) -> Sequence[ConvergenceParameter]:
        cutoffs = around(settings.cutoff, (0.75, 1, 1.25, 1.5), -1)
        metal = around(settings.metal_kpoint_density, (0.5, 1, 2, 4), 1)
        return (
            series("cutoff", "cutoff", cutoffs, "eV"),
            self.kpoint_parameter(settings),
            *_smearing(settings),
            series(_METAL, "metal_kpoint_density", metal, metal_only=True, discrete=True),
        )

    @override
    def method(self, physical: Mapping[str, Any]) -> Method:
        return Method(functional_of(physical["incar"]), physical["hubbard_u"])

    @override
    def find_output(self, path: Path) -> Path | None:
        from al_charge.labelers.outputs.vasp import find_vasp_output

        return find_vasp_output(path)

    @override
    def read_output(self, file: Path, *, bader: bool) -> Output:
        from al_charge.labelers.outputs.vasp import read_vasp_output

        return read_vasp_output(file, bader=bader)

    @override
    def find_foreign(self, folder: Path) -> list[Path]:
        from al_charge.crystal import compressed

        there = any(compressed.find(folder, name) for name in ("vasprun.xml", "OUTCAR"))
        return [folder] if there else []

    @override
    def read_foreign(self, path: Path) -> ForeignRun:
        from al_charge.labelers.vasp.foreign import read_folder

        return read_folder(path)

    @override
    def compare(
        self, settings: Any, run: ForeignRun, atoms: Atoms, vectors: ArrayLike
    ) -> Comparison:
        from al_charge.labelers.vasp.foreign import unlike

        return Comparison(unlike(settings, run.settings, atoms, vectors))


def _smearing(settings: VaspSettings) -> tuple[ConvergenceParameter, ...]:
    """Return the widths of the smearing; the tetrahedron method has none."""
    if int(str(settings.incar.get("ISMEAR", 0))) < -1:
        return ()
    tags = settings.incar
    current = float(str(tags.get("SIGMA", 0.05)))
    steps = []
    for width in around(current, (4, 2, 1, 0.5), 4):
        incar = tags if width == current else tags | {"SIGMA": width}
        steps.append(Step(f"{width:g} eV", {"incar": incar}))
    return (ConvergenceParameter("smearing", tuple(steps)),)
