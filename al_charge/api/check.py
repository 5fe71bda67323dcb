"""Check a campaign file, and say what it means."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pymatgen.core.structure import Structure

from al_charge.api.expected import atoms_of_labels, expected
from al_charge.api.results import Result
from al_charge.crystal.charge_balance import end_member_species, total_moments
from al_charge.crystal.charges import usual_ion_charges
from al_charge.crystal.enumeration import count_distinct
from al_charge.crystal.formula import units_in_cell, usual_formula
from al_charge.crystal.host import Host
from al_charge.crystal.parent import matrix_of, number_of_cells, read_structure
from al_charge.crystal.prepare import prepared
from al_charge.crystal.roles import NAMED
from al_charge.crystal.space_group import almost, space_group
from al_charge.crystal.species import (
    charge_of,
    element_of,
    in_words,
    spin_name,
    token,
    unpaired_electrons,
)
from al_charge.crystal.states import WORKING_ION
from al_charge.crystal.supercells import Supercells, hosts_of
from al_charge.crystal.valence import Windows
from al_charge.errors import InputError, NotInstalledError
from al_charge.labelers.dft.kpoints import spacing_of
from al_charge.labelers.dft.settings import DftSettings
from al_charge.labelers.hubbard import FUNCTIONAL, without_u
from al_charge.labelers.method import unlike_default_windows
from al_charge.labelers.plugin import LABELERS
from al_charge.loop.spec import CampaignSpec, load_spec
from al_charge.loop.submit import check_spec, labeler_of
from al_charge.report.checks import check_lines
from al_charge.thermo.hull import pretty_formula

if TYPE_CHECKING:
    from rich.console import RenderableType

CALIBRATED = "calibrated from the end member"
"""What `check` says of the moment window of a state that an end member consists of alone."""


@dataclass(frozen=True)
class CheckResult(Result):
    """A campaign file that is valid.

    Attributes
    ----------
    spec
        The campaign, every default filled in.
    compositions
        Number of distinct configurations at each composition x, a fraction written as text.
    missing
        What this machine lacks to run the campaign, in one line; empty if nothing.
    document
        What ``al-charge check --json`` prints.
    """

    spec: CampaignSpec
    compositions: dict[str, int]
    missing: str
    document: dict[str, Any] = field(repr=False)

    def table(self) -> RenderableType:
        """Return what `al-charge check` prints.

        Returns
        -------
        rich renderable
            What `__str__` returns.
        """
        from rich.text import Text

        return Text(str(self))

    def __str__(self) -> str:
        """Return one line that says it is valid, and one for each thing to know of it."""
        return "\n".join(check_lines(self.spec, self.document))


def check(file: Path | str) -> CheckResult:
    """Check a campaign file: every field, the host, its compositions.

    Parameters
    ----------
    file
        A YAML file.

    Returns
    -------
    CheckResult
        Valid also if something is not installed on this machine; ``missing`` then says what.

    Raises
    ------
    InputError
        If a field is invalid; the message says what to write instead.

    Examples
    --------
    >>> import al_charge as ac
    >>> found = ac.check("workflows/nafepo4_born.yaml")
    >>> found.compositions["1/2"]  # distinct configurations at x = 1/2
    344
    >>> found.spec.labeler.kind, found.missing
    ('born', '')
    """
    spec = load_spec(Path(file))
    missing = ""
    try:
        check_spec(spec)
    except NotInstalledError as error:
        missing = str(error)
    structure, changes = prepared(spec.host)
    supercells = hosts_of(spec.host, structure)
    hosts, host = supercells.hosts, supercells.widest
    cells = _cells(supercells) if spec.host.supercells is not None else []
    numbers = Counter[Fraction]()
    for one in supercells.numbers:
        numbers.update(one)
    counts = {str(x): numbers[x] for x in sorted(numbers)}
    group = space_group(host.structure)
    dft = _dft(spec)
    u = dft.u_of(set(host.elements)) if dft else {}
    document = {
        "ok": True,
        "name": spec.name,
        "formula": host.formula or _formula(host),
        "x": _range(*hosts),
        "x_means": meaning_of_x(host, *hosts),
        "structure": changes,
        "supercells": cells,
        "left_out": [
            {"supercell": matrix, "reason": reason} for matrix, reason in supercells.left_out
        ],
        "sites": _sites(host, spec, structure),
        "distinct": sum(counts.values()),
        "compositions": counts,
        "space_group": group.symbol,
        "operations": group.operations,
        "atoms_per_label": max(atoms_of_labels(one)[1] for one in hosts),
        "expected": expected(spec, supercells, counts),
        "working_ion_charge": host.working_ion_charge,
        "exclusions": _exclusions(host, spec),
        "states": _states(host, spec),
        "hubbard_u": u,
        "kpoints": _kpoints(host, dft),
        "spin_runs": spec.labeler.spin_runs,
        "labeler_remark": LABELERS.of(spec.labeler).remark(spec.labeler),
        "total_moment": {str(host.composition(n)): _total(host, n) for n in host.ion_counts},
        "warnings": _warnings(host)
        + _method_warnings(host, spec, u)
        + _kpoint_warnings(host, spec, dft),
        "missing": missing,
    }
    return CheckResult(spec, counts, missing, document)


def meaning_of_x(host: Host, *hosts: Host) -> str:
    """Return the range of x, and what it is given per, in one line.

    Parameters
    ----------
    host
        The host of a campaign file, at its highest x if there are several.
    *hosts
        All of them; none for the one.

    Returns
    -------
    str
        Where the file has no ``formula`` and the field would give x per another unit, also what to
        write for that.
    """
    x, ion = _range(*(hosts or [host])), token(host.working_ion, host.working_ion_charge)
    line = f"x = {x['from']} to {x['to']} {ion} per {host.unit}"
    line += f", in steps of {x['step']}" if len(hosts) < 2 else ""
    if host.formula:
        return line
    line += f"; {_formula(host)} at x = {x['to']}"
    cell = dict(Counter(host.elements)) | {host.working_ion: host.ion_counts[-1]}
    usual = usual_formula(cell, host.working_ion)
    if units_in_cell(usual, cell, host.working_ion) != host.formula_units:
        line += f"; write 'formula: {usual}' under 'host' for x per {usual}"
    return line


def _range(*hosts: Host) -> dict[str, str]:
    """Return the compositions of hosts, as exact fractions in strings."""
    x = sorted({host.composition(n) for host in hosts for n in host.ion_counts})
    step = min((right - left for left, right in pairwise(x)), default=Fraction(0))
    return {"from": str(x[0]), "to": str(x[-1]), "step": str(step)}


def _cells(supercells: Supercells) -> list[dict[str, Any]]:
    """Return what is to be known of several supercells."""
    return [
        {
            "supercell": matrix_of(host.supercell),
            "primitive_cells": number_of_cells(host.supercell),
            "atoms": atoms_of_labels(host)[1],
            "distinct": sum(count_distinct(host).values()),
            "in_no_smaller": sum(own.values()),
        }
        for host, own in zip(supercells.hosts, supercells.numbers, strict=True)
    ]


def _formula(host: Host) -> str:
    """Return the formula unit at the largest composition."""
    ion, x = host.working_ion, host.composition(host.ion_counts[-1])
    framework = pretty_formula(host.framework, ion)
    return f"{ion}{'' if x == 1 else x}{framework}" if x else framework


def _sites(host: Host, spec: CampaignSpec, structure: Structure) -> dict[str, str]:
    """Return what the sites are that the file names, by what names them."""
    names = structure.site_properties.get(NAMED) or []
    if names:
        tiles = len(host.elements) // len(names)
        names = [name for name in names for _ in range(tiles)]
    mobile = set(host.ion_sites.tolist())
    found: dict[str, str] = {}
    for site, name in enumerate(names):
        if name and name not in found:
            element = host.elements[site]
            states = [_ion_text(host.token(element, state)) for state in host.states[site]]
            role = WORKING_ION if site in mobile else " or ".join(states)
            number = names.count(name)
            found[name] = f"{role} on {number} site{'s' * (number != 1)}"
    return {name: found[name] for name in spec.host.sites if name in found}


def _ion_text(species: str) -> str:
    """Return a species for people, such as ``Fe2+ low spin``."""
    return in_words(species) + (" spin" if spin_name(species) else "")


def _exclusions(host: Host, spec: CampaignSpec) -> dict[str, Any] | None:
    """Return which ion sites are never occupied at once, and how much that leaves out."""
    if not host.exclusions:
        return None
    without = sum(count_distinct(replace(host, exclusions=())).values())
    one, other = host.ion_sites[np.array(host.exclusions)].T
    distances = host.structure.distance_matrix[one, other]
    return {
        "min_distance": float(spec.host.min_distance),
        "pairs": len(host.exclusions),
        "nearest": round(float(distances.min()), 2),
        "farthest": round(float(distances.max()), 2),
        "removed": without - sum(count_distinct(host).values()),
    }


def _states(host: Host, spec: CampaignSpec) -> list[dict[str, Any]]:
    """Return the states of redox and magnetic ions, and how a label is known to have them."""
    windows = LABELERS.of(spec.labeler).windows(spec.labeler)
    known = {} if windows is None else windows.ranges
    dft = _dft(spec)
    given = (dft.moment_windows if dft is not None else None) or {}
    pure = end_member_species(host)
    found: list[dict[str, Any]] = []
    for species in host.species:
        redox, unpaired = species in host.redox_species, unpaired_electrons(species)
        if not (redox or unpaired):
            continue
        window: Any = None
        calibrated = species in pure and species not in given
        if windows is not None and calibrated:
            window = CALIBRATED
        elif species in known:
            window = list(known[species])
        found.append(
            {
                "species": token(element_of(species), charge_of(species)),
                "spin": spin_name(species),
                "unpaired": unpaired,
                "window": window,
            }
        )
    return found


def _dft(spec: CampaignSpec) -> DftSettings | None:
    """Return the settings of an engine that has U and moments, else None."""
    return spec.labeler if isinstance(spec.labeler, DftSettings) else None


def _method_warnings(host: Host, spec: CampaignSpec, u: dict[str, float]) -> list[str]:
    """Return what is suspicious about functional and U, for redox elements and for windows."""
    dft = _dft(spec)
    if dft is None:
        return []
    redox = {element_of(species) for species in host.redox_species}
    bare = without_u(redox, set(host.elements), u)
    plugin = LABELERS.of(dft)
    try:
        method = plugin.method(labeler_of(spec).settings())
    except InputError:  # the engine is not installed here
        method = None
    rest = host.redox_species - end_member_species(host) - (dft.moment_windows or {}).keys()
    unlike = unlike_default_windows(method, rest, plugin.windows(dft) or Windows({}))
    fitted = method is None or method.functional == FUNCTIONAL or dft.hubbard_u is not None or not u
    return [
        *([f"labeler.hubbard_u: {bare}"] if bare else []),
        *(
            [f"labeler.hubbard_u: the default is that of {FUNCTIONAL}; give one"]
            if not fitted
            else []
        ),
        *([f"labeler.moment_windows: {unlike}; give your own"] if unlike else []),
    ]


def _total(host: Host, n_ions: int) -> int | list[int]:
    """Return the total moment, or its range where states of one charge differ in theirs."""
    smallest, largest = total_moments(host, n_ions)
    return smallest if smallest == largest else [smallest, largest]


def _kpoints(host: Host, dft: DftSettings | None) -> dict[str, Any] | None:
    """Return the k-point grid of the cell, and its density."""
    from pymatgen.io.ase import AseAtomsAdaptor  # slow

    if dft is None:
        return None
    atoms = AseAtomsAdaptor.get_atoms(host.structure)
    grid = dft.grid(atoms)
    return {"grid": list(grid), "spacing": round(spacing_of(grid, atoms.cell.array), 3)}


def _kpoint_warnings(host: Host, spec: CampaignSpec, dft: DftSettings | None) -> list[str]:
    """Return a warning where a spacing gives the cells of a campaign several grids."""
    from pymatgen.io.ase import AseAtomsAdaptor

    if dft is None or dft.kpoints or spec.host.empty_structure is None:
        return []
    empty = read_structure(spec.host.empty_structure, "host.empty_structure")
    ends = host.structure, empty.make_supercell(spec.host.supercell, in_place=False)
    full, emptied = (dft.grid(AseAtomsAdaptor.get_atoms(one)) for one in ends)
    if sorted(full) == sorted(emptied):  # the emptied one may name its axes in another order
        return []
    shown = " and ".join("x".join(map(str, grid)) for grid in (full, emptied))
    return [
        f"labeler.kpoint_spacing: the grids of 'structure' and 'empty_structure' differ, {shown}; "
        f"write 'kpoints: {list(max(full, emptied, key=prod))}' for one at every x"
    ]


def _warnings(host: Host) -> list[str]:
    """Return what is suspicious about a host, in a line each."""
    warnings = []
    ion, charge = host.working_ion, host.working_ion_charge
    if (usual := usual_ion_charges(ion)) and charge not in usual:
        warnings.append(
            f"host.working_ion_charge: {token(ion, charge)} is unusual; leave it out for "
            f"{' or '.join(token(ion, number) for number in usual)}"
        )
    found = almost(host.structure)
    if found is not None:
        looser, noise = found
        exact = space_group(host.structure)
        warnings.append(
            f"host.structure: within {looser.tolerance:g} A it is {looser.symbol} with "
            f"{looser.operations} operations; as it is, {exact.symbol} with {exact.operations}, "
            f"equivalent configurations are counted more than once; if that is noise, write "
            f"'symmetrize: {noise:g} A' under 'host'"
        )
    return warnings
