"""What the output of any run of an engine says about the charge states of its cell."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from ase.data import chemical_symbols

from al_charge.crystal.charges import fixed_charges, redox_elements
from al_charge.crystal.geometry import refuse_impossible
from al_charge.crystal.species import element_of, token, unpaired_electrons, unpaired_of
from al_charge.crystal.valence import Audit, Windows, audit, calibrate
from al_charge.errors import AlChargeError, InputError
from al_charge.labelers.output import Output
from al_charge.labelers.plugin import LABELERS, LabelerPlugin

__all__ = [
    "Output",
    "audit_output",
    "read_output",
    "requested_species",
    "windows_from_end_members",
]


def read_output(path: Path, *, bader: bool = True) -> Output:
    """Read the output of a run.

    Parameters
    ----------
    path
        An OUTCAR or vasprun.xml (compressed or not), a .gpw file or text log of GPAW, or the folder
        of a run, a labelling job's folder included. In a folder OUTCAR comes before vasprun.xml,
        which has no moments, and a .gpw file before a log.
    bader
        Whether to analyse the densities beside it.

    Returns
    -------
    Output
        The last geometry, with what was found there.

    Raises
    ------
    InputError
        If nothing there is such an output, or it is empty, truncated or of a run that has not
        ended.
    """
    file = path
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what is wrong is told below
            plugin, file = _find(path)
            return _whole(plugin.read_output(file, bader=bader))
    except AlChargeError:
        raise
    except Exception as error:  # parsers raise whatever their format breaks
        summary = " ".join(f"{type(error).__name__}: {error}".split())[:120]
        raise InputError(
            f"it is truncated, damaged or no output of {_engines()} ({summary})", where=str(file)
        ) from error


def _whole(output: Output) -> Output:
    """Return an output, unless it has other than one finite number where there must be one."""
    where, n_atoms = str(output.source), len(output.atoms)
    refuse_impossible(output.atoms.cell.array, output.atoms.positions, where)
    if not all(0 < number < len(chemical_symbols) for number in output.atoms.numbers):
        raise InputError("it has atoms of unknown elements", where=where)
    if output.energy is not None and not np.isfinite(output.energy):
        raise InputError(f"its energy is {output.energy}", where=where)
    if output.moments is not None and (
        output.moments.shape != (n_atoms,) or not np.isfinite(output.moments).all()
    ):
        raise InputError(
            f"it is damaged: {np.isfinite(output.moments).sum()} readable moments for "
            f"{n_atoms} atoms",
            where=where,
        )
    return output


def requested_species(
    output: Output, windows: Windows, charges: Mapping[str, int] | None = None
) -> tuple[tuple[str, ...], Windows]:
    """Return a species token for every atom, and windows of those that moments identify.

    Parameters
    ----------
    output
        The run.
    windows
        By which moments are read; elements that are not in the cell do no harm.
    charges
        Charges in e of elements that have one only, instead of the common ones.

    Returns
    -------
    species : tuple of str
        Of an element with windows any of its states; the audit finds which.
    windows : Windows
        Without the elements whose charge was given or that are not in the cell.
    """
    symbols = output.atoms.get_chemical_symbols()
    fixed = fixed_charges(symbols, windows.elements, charges)
    kept = {
        species: window
        for species, window in windows.ranges.items()
        if element_of(species) in symbols and element_of(species) not in fixed
    }
    any_state = {element_of(species): species for species in kept}
    species = tuple(any_state.get(s) or token(s, fixed[s]) for s in symbols)
    return species, Windows(kept, windows.charges)


def windows_from_end_members(
    outputs: Sequence[Output], defaults: Windows, charges: Mapping[str, int] | None = None
) -> Windows:
    """Calibrate windows on outputs in which all sites of the redox element are in one state.

    Which state follows from neutrality.

    Parameters
    ----------
    outputs
        With the same engine and settings as what is audited.
    defaults
        Windows of states that they do not show.
    charges
        As for `requested_species`.

    Returns
    -------
    Windows
        Calibrated where the outputs show a state, else the defaults.

    Raises
    ------
    InputError
        If one of them has no moments, or more than one redox element, or its sites cannot all be in
        one state.
    """
    moments: dict[str, list[float]] = {}
    net: dict[str, list[float]] = {}
    for output in outputs:
        species, sites = _only_state(output, defaults, charges or {})
        assert output.moments is not None
        moments.setdefault(species, []).extend(output.moments[sites].tolist())
        if output.bader is not None:
            net.setdefault(species, []).extend(output.bader.net[sites].tolist())
    return calibrate(moments, defaults, charges=net)


def _only_state(
    output: Output, windows: Windows, charges: Mapping[str, int]
) -> tuple[str, list[int]]:
    """Return the state that every site of the redox element is in, and these sites.

    Of high and low spin it is the one whose spin-only moment is nearer to theirs.
    """
    symbols = output.atoms.get_chemical_symbols()
    charges = {symbol: charge for symbol, charge in charges.items() if symbol in symbols}
    elements = {s for s in symbols if s in windows.elements} | set(redox_elements(symbols))
    elements -= charges.keys()
    if len(elements) != 1:
        raise InputError(
            f"an end member has one redox element, this has {len(elements)}",
            where=str(output.source),
            remedy="give the charges of the others (--charge), or windows (--window)",
        )
    (element,) = elements
    fixed = fixed_charges(symbols, elements, charges)
    sites = [i for i, symbol in enumerate(symbols) if symbol == element]
    total = -sum(fixed[symbol] for symbol in symbols if symbol != element)
    if total % len(sites):
        raise InputError(
            f"it is not an end member: neutrality gives its {len(sites)} {element} {total:+d} e",
            where=str(output.source),
        )
    charge = total // len(sites)
    if output.moments is None:
        raise InputError(output.no_moments, where=str(output.source))
    mean = float(np.abs(output.moments[sites]).mean())
    spins = [
        token(element, charge, unpaired_of(element, charge, spin, element))
        for spin in ("high", "low")
    ]
    return min(spins, key=lambda species: abs(unpaired_electrons(species) - mean)), sites


def audit_output(output: Output, species: Sequence[str], windows: Windows) -> Audit:
    """Determine the charge state of every atom of an output.

    See `al_charge.crystal.valence.audit`. Without moments every site that has windows is ambiguous.

    Parameters
    ----------
    output
        The run.
    species
        One species token for each atom, as `requested_species` gives them.
    windows
        By which moments are read.

    Returns
    -------
    Audit
        The charge state of every atom, or that it is ambiguous.
    """
    moments = np.full(len(species), np.nan) if output.moments is None else output.moments
    return audit(moments, species, windows, None if output.bader is None else output.bader.net)


def _find(path: Path) -> tuple[LabelerPlugin, Path]:
    """Return the file that is read, and the plug-in of its engine."""
    is_file = path.is_file()
    if not is_file and not path.is_dir():
        raise InputError("no such file or folder", where=str(path))
    for place in [path] if is_file else _folders(path):
        for plugin in reversed(list(LABELERS)):  # VASP before GPAW
            if (file := plugin.find_output(place)) is not None:
                _refuse_empty(file)
                return plugin, file
    if is_file:
        _refuse_empty(path)
        raise InputError(
            "it is not an output that al-charge reads",
            where=str(path),
            remedy=f"give an output of {_engines(files=True)}, or its folder",
        )
    raise InputError(f"it holds no output of {_engines(files=True)}", where=str(path))


def _refuse_empty(file: Path) -> None:
    if file.stat().st_size == 0:
        raise InputError("it has zero bytes", where=str(file), remedy="run the calculation again")


def _engines(*, files: bool = False) -> str:
    """Return the engines whose outputs are read, in words."""
    return " or ".join(
        f"{plugin.title} ({plugin.output_files})" if files else plugin.title
        for plugin in LABELERS
        if plugin.output_files
    )


def _folders(path: Path) -> list[Path]:
    """Return the folder, the later tries of a labelling job in it, and their newest stages."""
    tries = sorted(path.glob("try-*"), reverse=True)
    stages: list[Path] = []
    for folder in tries or [path]:
        inner = [child for child in folder.iterdir() if child.is_dir()]
        stages += [folder, *sorted(inner, key=lambda child: child.stat().st_mtime, reverse=True)]
    return [path, *stages]
