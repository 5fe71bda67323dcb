"""Work on single files: audit an output, label a structure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ase import Atoms

from al_charge.api.results import Result
from al_charge.crystal.charges import redox_elements
from al_charge.crystal.geometry import refuse_non_periodic
from al_charge.crystal.species import element_of, parse
from al_charge.crystal.structure_file import load_structure, tell_species
from al_charge.crystal.valence import Audit, Windows
from al_charge.labelers.hubbard import without_u
from al_charge.labelers.labelling import make_label
from al_charge.labelers.method import Method, unlike_default_windows
from al_charge.labelers.outputs import (
    Output,
    audit_output,
    read_output,
    requested_species,
    windows_from_end_members,
)
from al_charge.labelers.plugin import LABELERS, EngineSettings
from al_charge.labelers.protocol import LabelResult, Relax
from al_charge.loop.spec import load_labeler_settings
from al_charge.report.audits import audit_document, audit_table, label_document

if TYPE_CHECKING:
    from rich.console import RenderableType


@dataclass(frozen=True)
class AuditResult(Result):
    """The charge states that the output of a run shows.

    Attributes
    ----------
    output
        What was read: geometry, energy (eV), moments (Bohr magnetons), Bader charges (e).
    audit
        The charge state of every atom.
    windows
        Moment windows that the charge states were determined with.
    document
        What ``al-charge audit --json`` prints.
    """

    output: Output
    audit: Audit
    windows: Windows
    document: dict[str, Any] = field(repr=False)

    @property
    def certain(self) -> bool:
        """Whether every charge state is certain and the cell is neutral."""
        return bool(self.document["certain"])

    @property
    def species(self) -> tuple[str, ...] | None:
        """Species token of every atom; None where a charge state is ambiguous."""
        return self.audit.species

    def table(self, *, every_site: bool = False) -> RenderableType:
        """Return the table of `al-charge audit`.

        Parameters
        ----------
        every_site
            Whether to list the sites of elements with a single charge state too.

        Returns
        -------
        rich renderable
            One line for each site, and a summary.
        """
        return audit_table(self.document, every_site=every_site)


@dataclass(frozen=True)
class LabelledResult(Result):
    """The label of one structure.

    Attributes
    ----------
    result
        Energy, forces, moments, Bader charges and charge states, with every attempt of the engine.
    folder
        Where the engine's files are.
    document
        What ``al-charge label --json`` prints.
    """

    result: LabelResult
    folder: Path
    document: dict[str, Any] = field(repr=False)

    @property
    def energy(self) -> float:
        """Energy of the cell, eV."""
        return self.result.reading.frames[-1].energy

    @property
    def usable(self) -> bool:
        """Whether every charge state is certain and the energy can be compared with others."""
        return bool(self.document["certain"] and not self.document["unusable"])

    def table(self) -> RenderableType:
        """Return the table of `al-charge label`.

        Returns
        -------
        rich renderable
            One line for each site that has charge states, and a summary.
        """
        return audit_table(self.document)


def audit(
    source: Path | str,
    *,
    windows: Mapping[str, tuple[float, float]] | None = None,
    charges: Mapping[str, int] | None = None,
    end_members: Sequence[Path | str] = (),
    bader: bool = True,
) -> AuditResult:
    """Determine the charge state of each site from a run's moments and Bader charges.

    Parameters
    ----------
    source
        Output of VASP or GPAW: an OUTCAR, a vasprun.xml, a .gpw file, a text log of GPAW, or the
        folder of one.
    windows
        Smallest and largest moment (Bohr magnetons) by charge state, such as
        ``{"Fe3+": (4.1, 4.4)}``; they take precedence over calibrated and default ones.
    charges
        Charge (e) of elements with a single charge state, such as ``{"S": 6}``.
    end_members
        Outputs with all sites of the redox element in one state, same engine and settings, to
        calibrate windows on.
    bader
        Whether to analyse the densities beside the output.

    Returns
    -------
    AuditResult
        Prints as a table.

    Raises
    ------
    InputError
        If the output cannot be read, or an argument is invalid.

    Examples
    --------
    >>> import al_charge as ac
    >>> found = ac.audit("gpaw.txt")  # NaFe2O3, with one iron of each charge state
    >>> found.species
    ('Na+', 'Fe2+', 'Fe3+', 'O2-', 'O2-', 'O2-')
    >>> found.certain, found.document["states"]
    (True, {'Fe3+': 1, 'Fe2+': 1})
    >>> narrow = ac.audit("gpaw.txt", windows={"Fe2+": (3.4, 3.6)})
    >>> narrow.certain, narrow.document["reasons"]
    (False, ['the moments of Fe 1 fit no charge state'])
    """
    return audit_of(
        read_output(Path(source), bader=bader),
        windows=windows,
        charges=charges,
        end_members=[read_output(Path(path), bader=bader) for path in end_members],
    )


def audit_of(
    output: Output,
    *,
    windows: Mapping[str, tuple[float, float]] | None = None,
    charges: Mapping[str, int] | None = None,
    end_members: Sequence[Output] = (),
) -> AuditResult:
    """Determine the charge states of an output that was read already; see `audit`.

    Parameters
    ----------
    output
        The output.
    windows
        See `audit`.
    charges
        See `audit`.
    end_members
        Outputs to calibrate windows on.

    Returns
    -------
    AuditResult
        Prints as a table.
    """
    species, used, told = output.species, output.windows, output.told
    given = {parse(state): window for state, window in (windows or {}).items()}
    if species is None or charges or windows or end_members:
        if end_members:
            used = windows_from_end_members(end_members, used, charges)
        known = Windows({**used.ranges, **given}, used.charges)
        species, used = requested_species(output, known, charges)
        told = None
    found = told or audit_output(output, species, used)
    symbols = output.atoms.get_chemical_symbols()
    determined = used.elements | frozenset(redox_elements(symbols) if told else ())
    warnings = _warnings(output.method, output.atoms, used, given, end_members)
    document = audit_document(output, found, species, used, determined, warnings=warnings)
    return AuditResult(output, found, used, document)


def _warnings(
    method: Method | None,
    atoms: Atoms,
    windows: Windows,
    given: Collection[str],
    end_members: Sequence[Output] = (),
) -> list[str]:
    """Say where functional or U are not those of the windows, or an oxide has none."""
    if method is None:
        return []
    elements = set(atoms.get_chemical_symbols())
    told = windows.elements & elements
    species = [one for one in windows.ranges if element_of(one) in told and one not in given]
    unlike = unlike_default_windows(method, species, windows)
    lines = [
        without_u(told, elements, method.hubbard_u),
        unlike and f"{unlike}; calibrate them, or give your own",
    ]
    for member in end_members:
        if member.method is not None and (
            found := method.differs_from(member.method, told & set(member.atoms.symbols))
        ):
            lines.append(f"computed with {found}, which the end member {member.source} has")
    return [line for line in lines if line]


def label(
    structure: Atoms | Path | str,
    engine: str | EngineSettings,
    *,
    oxidation: Sequence[str] = (),
    relax: str | None = None,
    folder: Path | str | None = None,
) -> LabelledResult:
    """Label one structure: energy, forces, moments, Bader charges and charge states.

    Parameters
    ----------
    structure
        A file that ASE reads, or Atoms; charge states are taken from an array ``species``, from
        oxidation states or moments, or from neutrality where that leaves no choice.
    engine
        Kind of a labeler, such as ``gpaw``, with its default settings; or settings.
    oxidation
        Charge states: one for all atoms of an element, or one for each in the order of the
        structure, such as ``["Fe2+", "Fe3+"]``.
    relax
        ``none``, ``ions`` or ``cell``; the engine's own setting when None.
    folder
        Where the engine's files go; an interrupted job is continued there. By default a folder of
        the structure's and the engine's name in the working folder.

    Returns
    -------
    LabelledResult
        Prints as a table.

    Raises
    ------
    InputError
        If the structure is not periodic, its charge states cannot be determined, or the engine
        cannot label them.
    NotInstalledError
        If the engine is not installed on this machine.
    AlChargeError
        If the calculation failed, with its reason.

    Examples
    --------
    >>> import al_charge as ac
    >>> found = ac.label("workflows/hosts/NaFePO4.cif", "born", folder="born-run")
    >>> found.usable, found.document["states"]
    (True, {'Fe2+': 4})
    >>> print(f"{found.energy:.3f} eV, relaxed: {found.document['relax']}")
    -415.991 eV, relaxed: cell
    """
    from al_charge.labelers.files import write_json

    settings = load_labeler_settings(None, engine) if isinstance(engine, str) else engine
    if isinstance(structure, Atoms):
        refuse_non_periodic(structure.pbc, "structure")
        atoms, name = structure, structure.get_chemical_formula("metal")
        if "species" not in atoms.arrays:
            from al_charge.crystal.configuration import set_species

            tokens, states_from = tell_species(atoms, oxidation, where="structure")
            atoms = atoms.copy()
            set_species(atoms, list(tokens))
        else:
            states_from = "the array 'species'"
    else:
        atoms, states_from = load_structure(Path(structure), list(oxidation))
        name = Path(structure).stem
    settings = settings.of_elements(set(atoms.get_chemical_symbols()))
    plugin = LABELERS.of(settings)
    windows = plugin.windows(settings)
    if windows is not None:
        states = set(atoms.arrays["species"].tolist())
        mixed = Counter(map(element_of, states))
        windows.check(token for token in states if mixed[element_of(token)] > 1)
    labeler = plugin.make(settings)
    moved = Relax(relax) if relax else labeler.relax
    directory = Path(folder or f"{name}-{settings.kind}").absolute()
    result = make_label(labeler, atoms, directory, relax=moved)
    method = plugin.method(labeler.settings())
    given = getattr(settings, "moment_windows", None) or {}
    document = label_document(
        result,
        atoms.numbers.tolist(),
        windows or Windows({}),
        relax=moved.value,
        states_from=states_from,
        method=method,
        warnings=_warnings(method, atoms, windows or Windows({}), given),
    )
    write_json(directory / "label.json", document)
    return LabelledResult(result, directory, document)
