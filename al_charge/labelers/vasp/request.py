"""What a job of VASP is: its stages and their inputs, kept beside its files as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from ase import Atoms

from al_charge.crystal.shells import distort_shells
from al_charge.labelers.dft.kpoints import grid_of_density
from al_charge.labelers.dft.steering import starts_distorted
from al_charge.labelers.files import read_json, write_json
from al_charge.labelers.protocol import Relax
from al_charge.labelers.vasp import incar, inputs, stages
from al_charge.labelers.vasp.potcars import Dataset
from al_charge.labelers.vasp.settings import VaspSettings

Rows = list[list[float]]


@dataclass(frozen=True)
class Stage:
    """One run of VASP.

    Attributes
    ----------
    name
        Also that of its folder.
    incar
        Its tags; those of PBE+U by element.
    positions
        angstrom, shape (n_atoms, 3), in the order of the POSCAR. A stage after a relaxation takes
        over its geometry instead.
    """

    name: str
    incar: dict[str, Any]
    positions: Rows


@dataclass(frozen=True)
class Request:
    """One job.

    Attributes
    ----------
    order
        Index of the job's atom at each place of the POSCAR, shape (n_atoms,).
    symbols
        Elements, in the order of the POSCAR.
    cell
        angstrom, shape (3, 3).
    moments
        To start from, in Bohr magnetons, in the order of the POSCAR; None without spin.
    kpoints
        The grid, centred on Gamma.
    start
        What the charge order starts from, in words.
    stages
        In the order in which they are run.
    bader
        Whether Bader charges are computed.
    titles, hashes, electrons
        Of each element's dataset: its title, the hash of its file, and its valence electrons.
    """

    order: list[int]
    symbols: list[str]
    cell: Rows
    moments: list[float] | None
    kpoints: list[int]
    start: str
    stages: list[Stage]
    bader: bool
    titles: dict[str, str] = field(default_factory=dict)
    hashes: dict[str, str] = field(default_factory=dict)
    electrons: dict[str, float] = field(default_factory=dict)

    @property
    def elements(self) -> list[str]:
        """Elements in the order of the POSCAR, each once."""
        return list(dict.fromkeys(self.symbols))

    def atoms(self, stage: Stage) -> Atoms:
        """Return the geometry that a stage begins with.

        Parameters
        ----------
        stage
            One of ``stages``.

        Returns
        -------
        ase.Atoms
            In the order of the POSCAR.
        """
        return Atoms(self.symbols, positions=stage.positions, cell=self.cell, pbc=True)

    def with_datasets(self, datasets: Mapping[str, Dataset]) -> Request:
        """Return the request with the identity of its datasets.

        Parameters
        ----------
        datasets
            By element.

        Returns
        -------
        Request
            A new one.
        """
        return replace(
            self,
            titles={element: found.title for element, found in datasets.items()},
            hashes={element: found.sha256 for element, found in datasets.items()},
            electrons={element: found.electrons for element, found in datasets.items()},
        )

    @staticmethod
    def is_in(directory: Path) -> bool:
        """Tell whether a folder has a request.

        Parameters
        ----------
        directory
            The folder of a job.

        Returns
        -------
        bool
            Whether it was written.
        """
        return (directory / stages.REQUEST).is_file()

    def write(self, directory: Path) -> None:
        """Write the request, after all the files that it stands for.

        Parameters
        ----------
        directory
            The folder of the job.
        """
        document = asdict(self)
        document["stages"] = {stage.pop("name"): stage for stage in document["stages"]}
        write_json(directory / stages.REQUEST, document)

    @classmethod
    def read(cls, directory: Path) -> Request:
        """Read a request that `write` wrote.

        Parameters
        ----------
        directory
            The folder of the job.

        Returns
        -------
        Request
            Equal to the one that was written.

        Raises
        ------
        CrashedError
            If there is none, or it is truncated or damaged.
        """
        document = read_json(directory / stages.REQUEST)
        listed = [Stage(name=name, **stage) for name, stage in document.pop("stages").items()]
        return cls(stages=listed, **document)


def plan_label(settings: VaspSettings, atoms: Atoms, relax: Relax, attempt: int) -> Request:
    """Return the job of one label.

    Parameters
    ----------
    settings
        The engine's settings.
    atoms
        Atoms with a ``species`` array.
    relax
        What may move.
    attempt
        From 0; every one after the first begins at distorted shells, further each time.

    Returns
    -------
    Request
        Without the identity of its datasets.

    Raises
    ------
    InputError
        If the atoms have no species.
    """
    order = inputs.poscar_order(atoms)
    ordered = atoms[order]
    moments, total = inputs.initial_moments(ordered, settings)
    elements = inputs.elements_in_order(ordered)
    listed: list[Stage] = []
    start = "the geometry itself"
    amplitude = _distortion(settings, atoms, attempt)
    if amplitude:
        start = f"shells distorted by {amplitude:.3f} A"
        distorted = distort_shells(atoms, amplitude)[order]
        listed.append(_stage(stages.START, incar.start_density(settings, elements), distorted))
    if relax is not Relax.NONE:
        tags = incar.relaxation(settings, elements, relax)
        listed.append(_stage(stages.RELAXATION, _after(listed, tags), ordered))
    single_point = incar.single_point(settings, elements)
    listed.append(_stage(stages.SINGLE_POINT, _after(listed, single_point), ordered))
    if settings.holds_moment:
        for stage in listed:
            stage.incar["NUPDOWN"] = round(total) if total.is_integer() else total
    return Request(
        order=[int(index) for index in order],
        symbols=ordered.get_chemical_symbols(),
        cell=ordered.cell.tolist(),
        moments=moments.tolist(),
        kpoints=list(settings.grid(ordered)),
        start=start,
        stages=listed,
        bader=settings.bader,
    )


def plan_metal(settings: VaspSettings, atoms: Atoms) -> Request:
    """Return the job of the working-ion metal: a relaxation with its cell, then a single point.

    Parameters
    ----------
    settings
        The engine's settings.
    atoms
        The primitive cell of the metal.

    Returns
    -------
    Request
        Without the identity of its datasets.
    """
    elements = inputs.elements_in_order(atoms)
    relaxation = incar.of_metal(incar.relaxation(settings, elements, Relax.CELL))
    single_point = incar.of_metal(incar.single_point(settings, elements))
    listed = [_stage(stages.RELAXATION, relaxation, atoms)]
    listed.append(_stage(stages.SINGLE_POINT, _after(listed, single_point), atoms))
    return Request(
        order=list(range(len(atoms))),
        symbols=atoms.get_chemical_symbols(),
        cell=atoms.cell.tolist(),
        moments=None,
        kpoints=list(grid_of_density(atoms, settings.metal_kpoint_density)),
        start="the metal at its experimental lattice constant",
        stages=listed,
        bader=False,
    )


def _distortion(settings: VaspSettings, atoms: Atoms, attempt: int) -> float:
    """Return how far anions are moved for the start, in angstrom; 0 for not at all."""
    if not starts_distorted(settings, atoms, attempt):
        return 0.0
    return float(settings.shell_distortion) * (1 + attempt / 2)


def _stage(name: str, tags: dict[str, Any], ordered: Atoms) -> Stage:
    return Stage(name, tags, ordered.positions.tolist())


def _after(listed: list[Stage], tags: dict[str, Any]) -> dict[str, Any]:
    return incar.continued(tags) if listed else tags
