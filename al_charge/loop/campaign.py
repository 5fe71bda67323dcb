"""A campaign as its tasks see it: the specification, the host, the labeler and the store."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache, cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import ArrayLike
from pymatgen.core.structure import Structure

from al_charge.crystal.host import Host
from al_charge.crystal.host_spec import HostSpec
from al_charge.crystal.interpolation import interpolated_host, match_empty
from al_charge.crystal.parent import number_of_cells
from al_charge.crystal.roles import mobile_sites
from al_charge.crystal.species import tokens_of
from al_charge.crystal.supercells import hosts_of
from al_charge.errors import AlChargeError
from al_charge.labelers import make_labeler
from al_charge.labelers.plugin import EngineSettings
from al_charge.labelers.protocol import Labeler, Relax, settings_hash
from al_charge.loop.cells import Cells
from al_charge.loop.known_labels import KnownLabels
from al_charge.loop.spec import CampaignSpec
from al_charge.loop.stored_spec import spec_of, structure_of
from al_charge.loop.submit import labeler_of
from al_charge.store.documents import CampaignDoc, CandidateDoc, Geometry
from al_charge.store.embedded import default_home
from al_charge.store.mongo import Store

KEY_DIGITS = 5
"""Decimals of angstrom that tell the geometries of two static labels apart."""

LARGEST_DISPLACEMENT = 0.2
"""angstrom that a committee moves ions from one static label to the next, unless a file says so."""


@dataclass(frozen=True)
class _Parent:
    """What supercells are made from, and all of it in one string."""

    told: str
    spec: HostSpec = field(compare=False)
    structure: Structure = field(compare=False)


@lru_cache(maxsize=8)
def _cells_of(parent: _Parent) -> Cells:
    """Return the supercells of a campaign: the same objects for every task of a worker.

    What is found of a host, such as its symmetry and its clusters, is kept with it.
    """
    return Cells(hosts_of(parent.spec, parent.structure).hosts)


@dataclass(frozen=True, eq=False)
class Campaign:
    """Everything that a task of one campaign needs.

    Attributes
    ----------
    spec
        What its file said, without the database, which ``store`` is connected to.
    structure
        Parent structure that the host is built from.
    store
        Where every product is kept.
    empty
        The same crystal without working ions, or with those that cannot leave, if first geometries
        are interpolated between the two; None if they all start from ``structure``.
    stored_hash
        The hash of the labeler's settings that the campaign was stored with; empty if it was not.
    spins
        Species that ions are instead of those of the file, by species token: only where a campaign
        is looked at in other spin states.
    labeler_file
        Id in the database of the file that the labeler reads; empty if it reads none.
    """

    spec: CampaignSpec
    structure: Structure
    store: Store
    empty: Structure | None = None
    stored_hash: str = ""
    spins: Mapping[str, str] = field(default_factory=dict)
    labeler_file: str = ""

    @property
    def name(self) -> str:
        """Name of the campaign, its key in the database."""
        return self.spec.name

    @cached_property
    def cells(self) -> Cells:
        """The supercells whose configurations are searched."""
        parent = json.dumps([self.spec.host.model_dump(mode="json"), self.structure.as_dict()])
        cells = _cells_of(_Parent(parent, self.spec.host, self.structure))
        return cells.with_spins(self.spins) if self.spins else cells

    @cached_property
    def known_labels(self) -> KnownLabels:
        """Its labels, for those who ask again and again."""
        return KnownLabels(self.store, self.name, self.cells)

    @property
    def host(self) -> Host:
        """The first of them that has both ends of x; species and formula are the same in all."""
        return self.cells.widest

    @cached_property
    def labeler(self) -> Labeler:
        """The engine that makes this campaign's labels."""
        spec = self.spec
        if self.labeler_file:
            labeler = spec.labeler.reading_from(self._file_on_this_machine)
            spec = spec.model_copy(update={"labeler": labeler})
        return labeler_of(spec)

    def bring_file(self) -> None:
        """Copy the file that the labeler reads, if any, from the database to this machine.

        Raises
        ------
        AlChargeError
            If it is missing in the database.
        """
        if self.labeler_file:
            where = f"campaign '{self.name}'"
            self.store.files.copy_to(self._file_on_this_machine, self.labeler_file, where)

    @property
    def _file_on_this_machine(self) -> Path:
        return default_home() / "files" / self.labeler_file

    @cached_property
    def settings_hash(self) -> str:
        """Identity of the labeler's settings."""
        return settings_hash(self._hashed_labeler)

    @property
    def physical_settings(self) -> dict[str, Any]:
        """Every setting of the labeler that energies depend on; its hash is ``settings_hash``."""
        return self._hashed_labeler.settings()

    @cached_property
    def _hashed_labeler(self) -> Labeler:
        """The labeler, with settings of absent elements too if the stored hash counts them."""
        whole = make_labeler(self.spec.labeler)
        return whole if settings_hash(whole) == self.stored_hash else self.labeler

    @cached_property
    def static_labels(self) -> bool:
        """Whether labels are single points; a relaxed one is valid for its configuration."""
        return self.labeler.relax is Relax.NONE

    @cached_property
    def committee_relaxes_cells(self) -> bool:
        """Whether committees relax the cell with the ions."""
        given = self.spec.relaxation.cell
        return self.labeler.gives_stress if given is None else given

    @cached_property
    def largest_displacement(self) -> float:
        """How far, in angstrom, a committee may move ions from a known geometry.

        A few static labels say little about geometries farther away.
        """
        given = self.spec.relaxation.reach
        if given is not None:
            return given
        return LARGEST_DISPLACEMENT if self.static_labels else float("inf")

    def in_state(self, labeler: EngineSettings, spins: Mapping[str, str]) -> Campaign:
        """Return the campaign in another electronic state: what it makes then are other labels.

        Parameters
        ----------
        labeler
            The labeler's settings for its magnetic order.
        spins
            The species that ions are instead, by species token.

        Returns
        -------
        Campaign
            Of the same name and store; not in the database.
        """
        spec = self.spec.model_copy(update={"labeler": labeler})
        other = replace(self, spec=spec, spins=spins, stored_hash="")
        vars(other)["cells"] = self._cells_in(tuple(sorted(spins.items())))
        return other

    @cached_property
    def _cells_in(self) -> Callable[[tuple[tuple[str, str], ...]], Cells]:
        """The supercells in other spin states, each made once: their symmetry takes a while."""

        @cache
        def cells(spins: tuple[tuple[str, str], ...]) -> Cells:
            return self.cells.with_spins(dict(spins)) if spins else self.cells

        return cells

    def start_host(self, host: Host, n_ions: int) -> Host:
        """Return a host with the cell and positions that a composition starts from.

        Parameters
        ----------
        host
            One of the campaign's supercells.
        n_ions
            Working ions in it.

        Returns
        -------
        Host
            Interpolated if the file gives the structure without ions.
        """
        if self._matched_empty is None:
            return host
        matched, kept = self._matched_empty, self._kept_ions
        return interpolated_host(host, self.structure, matched, n_ions, kept)

    @cached_property
    def _matched_empty(self) -> Structure | None:
        if self.empty is None:
            return None
        host = self.spec.host
        mobile = mobile_sites(host, self.structure)
        return match_empty(self.structure, self.empty, host.working_ion, mobile, self._kept_ions)

    @property
    def _kept_ions(self) -> int:
        """Working ions in the emptied cell that could leave."""
        if self.empty is None:
            return 0
        symbols = [site.specie.symbol for site in self.empty]
        return symbols.count(self.spec.host.working_ion) - self.host.inert_ions // number_of_cells(
            self.host.supercell
        )

    @cached_property
    def framework(self) -> str:
        """Formula of one formula unit without the working ion, e.g. ``FePO4``."""
        return self.host.framework

    def rng(self, *words: int | str) -> np.random.Generator:
        """Return the random generator of a task, the same whenever the task is run.

        Parameters
        ----------
        *words
            What the task is, such as ``"train", 0``.

        Returns
        -------
        Generator
            Seeded with the campaign's seed and these words.
        """
        text = ":".join(map(str, (self.spec.seed, *words)))
        return np.random.default_rng(int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]))

    @cached_property
    def metal_energy(self) -> float:
        """Energy of the working-ion metal in eV/atom with the labeler's settings.

        Raises
        ------
        AlChargeError
            If it was not computed yet.
        """
        ion = self.spec.host.working_ion
        known = self.store.references.get(self.name, self.settings_hash, ion)
        if known is None:
            raise AlChargeError(
                f"the energy of {ion} metal is not known yet with these settings",
                where=self.name,
                remedy=f"run 'al-charge campaign resume {self.name}'",
            )
        return known.energy


def open_campaign(store: Store, name: str, document: CampaignDoc | None = None) -> Campaign:
    """Load a campaign from the database.

    Parameters
    ----------
    store
        The database.
    name
        Name of the campaign.
    document
        What is stored of it; None to read it.

    Returns
    -------
    Campaign
        The campaign.

    Raises
    ------
    InputError
        If there is no campaign of that name, it needs a plug-in that this machine lacks, or what is
        stored of it is not valid.
    """
    document = document or store.campaigns.get(name)
    structure = structure_of(document, "structure")
    assert structure is not None
    return Campaign(
        spec=spec_of(document),
        structure=structure,
        store=store,
        empty=structure_of(document, "empty_structure"),
        stored_hash=document.settings_hash,
        labeler_file=document.spec.get("labeler_file", ""),
    )


def geometry_of(atoms: Atoms) -> Geometry:
    """Return the geometry to store for a structure.

    Parameters
    ----------
    atoms
        Structure with arrays ``species`` and ``host_site``.

    Returns
    -------
    Geometry
        Its geometry and species, angstrom.
    """
    return Geometry(
        numbers=atoms.numbers.tolist(),
        positions=atoms.positions.tolist(),
        cell=atoms.cell.array.tolist(),
        species=tokens_of(atoms),
        host_site=atoms.arrays["host_site"].tolist(),
    )


def atoms_of(geometry: Geometry) -> Atoms:
    """Return the structure of a stored geometry.

    Parameters
    ----------
    geometry
        The geometry, angstrom.

    Returns
    -------
    Atoms
        With arrays ``species`` and ``host_site`` and initial moments.
    """
    from al_charge.crystal.configuration import set_species

    atoms = Atoms(geometry.numbers, geometry.positions, cell=geometry.cell, pbc=True)
    atoms.set_array("host_site", np.array(geometry.host_site))
    set_species(atoms, list(geometry.species))
    return atoms


def label_key(campaign: Campaign, candidate: CandidateDoc, relax: Relax | None = None) -> str:
    """Return the key of the label that a candidate would get.

    It stands for the configuration, the settings of the labeler and what it may move. A static
    label is valid for one geometry, which is part of its key; a relaxed one is valid for the
    configuration, wherever the relaxation started, and its key holds the force limit instead.

    Parameters
    ----------
    campaign
        The campaign.
    candidate
        Candidate to label.
    relax
        What the labeler may move; None for the campaign's own choice.

    Returns
    -------
    str
        24 hexadecimal digits.
    """
    relax = relax or campaign.labeler.relax
    how: list[Any]
    if relax is Relax.NONE:
        how = rounded_geometry(candidate.geometry.positions, candidate.geometry.cell)
    else:
        how = [relax.value, float(campaign.spec.labeler.fmax)]
    return key_of(candidate.config_hash, campaign.settings_hash, how)


def rounded_geometry(positions: ArrayLike, cell: ArrayLike) -> list[Any]:
    """Return what the key of a static label holds of its geometry.

    Parameters
    ----------
    positions
        angstrom, shape (n_atoms, 3).
    cell
        angstrom, shape (3, 3).

    Returns
    -------
    list
        Both, rounded to `KEY_DIGITS`.
    """
    return [np.round(np.asarray(array), KEY_DIGITS).tolist() for array in (positions, cell)]


def key_of(config_hash: str, settings_hash: str, how: list[Any]) -> str:
    """Return the key of a label; see `label_key`.

    Parameters
    ----------
    config_hash
        Of the configuration that is requested.
    settings_hash
        Of the labeler's settings.
    how
        What `rounded_geometry` returns for a static label; for another what moves, and the force
        limit in eV/angstrom.

    Returns
    -------
    str
        24 hexadecimal digits.
    """
    parts = [config_hash, settings_hash, *how]
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:24]
