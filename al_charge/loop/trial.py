"""Structures on which an engine's settings are tried, and their energies, each computed once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from fractions import Fraction
from itertools import product
from math import prod
from pathlib import Path

import numpy as np
from ase import Atoms

from al_charge.crystal.configuration import Configuration, set_site_kinds, to_atoms
from al_charge.crystal.host import Host
from al_charge.crystal.interpolation import interpolated_host, kept_ions, match_empty
from al_charge.crystal.prepare import parent_structure
from al_charge.crystal.roles import mobile_sites
from al_charge.crystal.shells import SHELL_DISTORTION, distort_shells
from al_charge.crystal.species import tokens_of
from al_charge.crystal.symmetry import canonical_hash
from al_charge.errors import AlChargeError, CrashedError, InputError, UnfinishedError
from al_charge.labelers import make_labeler
from al_charge.labelers.files import read_json, write_json
from al_charge.labelers.labelling import make_label
from al_charge.labelers.plugin import EngineSettings
from al_charge.labelers.protocol import Labeler, Relax
from al_charge.loop.spec import CampaignSpec
from al_charge.loop.submit import empty_structure
from al_charge.search.seeds import seeds

RESULTS = "results.json"
"""File with every energy, in the folder of the trials."""

STRUCTURES = ("first", "second", "least", "most")
"""Two configurations of one composition, and the end members."""

_REPEATS = sorted(product((1, 2), repeat=3), key=lambda repeats: (prod(repeats), repeats))
_SEED = 1
"""Of the sample of configurations where there are too many to list."""


@dataclass(frozen=True)
class Trial:
    """What settings are tried on.

    Attributes
    ----------
    host
        The host in the cell of the trials.
    x
        Composition of the two configurations; ``x_least`` and ``x_most`` those of the end members.
    atoms
        A structure for each of `STRUCTURES`.
    hashes
        Their configurations' hashes.
    """

    host: Host
    x: Fraction
    x_least: Fraction
    x_most: Fraction
    atoms: dict[str, Atoms]
    hashes: dict[str, str]


@dataclass(frozen=True)
class Energy:
    """What one calculation gave.

    Attributes
    ----------
    energy
        eV for the cell, of the metal for an atom; None where it cannot be compared.
    seconds
        Wall time of the engine.
    remark
        What is wrong with it; empty if nothing.
    """

    energy: float | None
    seconds: float
    remark: str = ""


def trial_structures(spec: CampaignSpec, *, own_cell: bool) -> Trial:
    """Choose two configurations of one composition, and the end members.

    Of each composition those with the lowest Ewald energies are taken, on the sites that a
    campaign's first labels have.

    Parameters
    ----------
    spec
        The campaign file.
    own_cell
        Whether the cell must be the campaign's own. Otherwise it is the smallest one that has two
        configurations of one composition.

    Returns
    -------
    Trial
        The same for the same file.

    Raises
    ------
    InputError
        If no composition between the end members has two configurations.
    """
    hosts = [spec.host]
    if not own_cell:
        smaller = [spec.host.model_copy(update={"supercell": repeats}) for repeats in _REPEATS]
        hosts = [*smaller, spec.host]
    structure = parent_structure(spec.host)
    own = Host.build(spec.host, structure)
    matched, kept = None, kept_ions(own)
    if (empty := empty_structure(spec.host, structure, own)) is not None:
        mobile = mobile_sites(spec.host, structure)
        matched = match_empty(structure, empty, own.working_ion, mobile, kept)
    for one in hosts:
        try:
            host = Host.build(one, structure)
        except InputError:  # a cell that the formula does not fit into
            continue
        if len(host.elements) > len(own.elements) or (found := _middle(host)) is None:
            continue
        n_ions, pair = found
        ends = host.ion_counts[0], host.ion_counts[-1]
        chosen = dict(
            zip(STRUCTURES, [*pair, *(_lowest(host, n, 1)[0] for n in ends)], strict=True)
        )
        counts = dict(zip(STRUCTURES, [n_ions, n_ions, *ends], strict=True))
        atoms = {}
        for name, config in chosen.items():
            of_composition = host
            if matched is not None:
                of_composition = interpolated_host(host, structure, matched, counts[name], kept)
            ideal = to_atoms(of_composition, config)
            set_site_kinds(host, ideal)
            atoms[name] = distort_shells(ideal, SHELL_DISTORTION)
        x, least, greatest = (host.composition(n) for n in (n_ions, *ends))
        hashes = {name: canonical_hash(host, config) for name, config in chosen.items()}
        return Trial(host, x, least, greatest, atoms, hashes)
    raise InputError(
        "no composition of this cell has two configurations whose energies could be compared",
        where="host.supercell",
        remedy="give a larger one",
    )


def _middle(host: Host) -> tuple[int, list[Configuration]] | None:
    """Return the composition nearest to the middle that has two configurations, and these."""
    least, most = host.ion_counts[0], host.ion_counts[-1]
    for n_ions in sorted(host.ion_counts[1:-1], key=lambda n: (abs(2 * n - least - most), n)):
        if len(pair := _lowest(host, n_ions, 2)) == 2:
            return n_ions, pair
    return None


def _lowest(host: Host, n_ions: int, count: int) -> list[Configuration]:
    # Of seeds, the first half has the lowest Ewald energies.
    return seeds(host, n_ions, 2 * count, np.random.default_rng(_SEED))[:count]


class Bench:
    """Where calculations are made, each once: a second call finds its energy.

    Parameters
    ----------
    folder
        For the engine's files and the energies. An interrupted calculation continues there.
    done
        Called after each calculation.

    Raises
    ------
    InputError
        If the folder holds something else.
    """

    def __init__(self, folder: Path, done: Callable[[], None]) -> None:
        self._folder = folder.absolute()
        self._done = done
        file = self._folder / RESULTS
        if self._folder.exists() and not file.exists() and any(self._folder.iterdir()):
            raise InputError(
                f"there is no {RESULTS} of an earlier 'al-charge converge' in it",
                where=str(folder),
                remedy="give a new folder with --folder",
            )
        self._known: dict[str, Energy] = {}
        if file.exists():
            try:
                self._known = {key: Energy(**found) for key, found in read_json(file).items()}
            except (CrashedError, TypeError) as error:
                raise InputError(
                    "it is damaged", where=str(file), remedy="remove the folder"
                ) from error

    def cell(self, settings: EngineSettings, atoms: Atoms) -> Energy:
        """Return the static energy of a structure.

        Parameters
        ----------
        settings
            Of the engine.
        atoms
            With species and initial moments.

        Returns
        -------
        Energy
            Of the whole cell.
        """
        geometry = [
            tokens_of(atoms),
            np.round(atoms.positions, 6).tolist(),
            np.round(atoms.cell.array, 6).tolist(),
        ]

        def compute(labeler: Labeler, folder: Path) -> Energy:
            result = make_label(labeler, atoms, folder, relax=Relax.NONE)
            reading = result.reading
            wrong = reading.unusable or ("" if reading.converged else "not converged")
            other = result.resolved is not None and result.resolved != result.species
            return Energy(
                None if wrong else reading.frames[-1].energy,
                reading.wall_time,
                wrong or ("other charge states than requested" if other else ""),
            )

        return self._once(settings, geometry, compute)

    def metal(self, settings: EngineSettings, ion: str) -> Energy:
        """Return the energy of the working-ion metal.

        Parameters
        ----------
        settings
            Of the engine.
        ion
            Element of the working ion.

        Returns
        -------
        Energy
            Of one atom.
        """
        return self._once(
            settings,
            ion,
            lambda labeler, folder: Energy(labeler.metal_energy(ion, folder), 0.0),
        )

    def _once(
        self,
        settings: EngineSettings,
        what: object,
        compute: Callable[[Labeler, Path], Energy],
    ) -> Energy:
        labeler = make_labeler(settings)
        text = json.dumps([labeler.settings(), what], sort_keys=True)
        key = hashlib.sha256(text.encode()).hexdigest()[:16]
        if key not in self._known:
            self._keep()
            try:
                found = compute(labeler, self._folder / key)
            except (InputError, UnfinishedError, CrashedError):
                raise  # no result of the calculation
            except AlChargeError as error:
                self._done()
                return Energy(None, 0.0, str(error))  # tried again by the next call
            self._known[key] = found
            self._keep()
        self._done()
        return self._known[key]

    def _keep(self) -> None:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"cannot write there: {error.strerror or error}", where=str(self._folder)
            ) from error
        write_json(self._folder / RESULTS, {key: asdict(e) for key, e in self._known.items()})
