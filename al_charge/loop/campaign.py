"""A campaign as its tasks see it: the specification, the host, the labeler and the store."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from ase import Atoms
from pydantic import BaseModel
from pymatgen.core.composition import Composition
from pymatgen.core.structure import Structure

from al_charge.acquisition.plugin import ACQUISITIONS
from al_charge.crystal.configuration import Configuration
from al_charge.crystal.host import Host
from al_charge.crystal.interpolation import interpolated_host, match_empty
from al_charge.crystal.parent import read_structure
from al_charge.errors import AlChargeError, InputError, NotInstalledError
from al_charge.labelers import make_labeler
from al_charge.labelers.plugin import LABELERS
from al_charge.labelers.protocol import Labeler, Relax, settings_hash
from al_charge.loop.spec import PLUGIN_SECTIONS, CampaignSpec, plugins_of
from al_charge.potentials.plugin import POTENTIALS
from al_charge.search.plugin import SEARCHES
from al_charge.store.documents import CampaignDoc, CandidateDoc, Geometry
from al_charge.store.mongo import Store

STATIC_REACH = 0.2
"""angstrom that ions move in a relaxation from one static label to the next."""


@dataclass(frozen=True, eq=False)
class Campaign:
    """Everything that a task of one campaign needs.

    Attributes
    ----------
    spec
        The campaign file, checked. Its database field is empty: the store is already connected.
    structure
        The parent structure that the host was built from.
    store
        Where every product is kept.
    empty
        The same crystal without working ions, from which and from ``structure`` the first
        geometries are interpolated; None where they all start from ``structure``.
    """

    spec: CampaignSpec
    structure: Structure
    store: Store
    empty: Structure | None = None

    @property
    def name(self) -> str:
        """The campaign's key in the database."""
        return self.spec.name

    @cached_property
    def host(self) -> Host:
        """The host supercell."""
        return Host.build(self.spec.host, self.structure)

    @cached_property
    def labeler(self) -> Labeler:
        """The engine that makes this campaign's labels."""
        return make_labeler(self.spec.labeler)

    @cached_property
    def settings_hash(self) -> str:
        """Identity of the labeler's settings."""
        return settings_hash(self.labeler)

    @cached_property
    def relaxes(self) -> bool:
        """Whether the labeler relaxes what it is given, so that a label is of a configuration."""
        return self.labeler.relax is not Relax.NONE

    @cached_property
    def relaxes_cells(self) -> bool:
        """Whether committees relax the cell with the ions."""
        wanted = self.spec.relaxation.cell
        return self.labeler.gives_stress if wanted is None else wanted

    @cached_property
    def relaxation_reach(self) -> float:
        """How far, in angstrom, a committee may move ions from a known geometry.

        Few labels, each of one geometry, say little about what lies farther away.
        """
        wanted = self.spec.relaxation.reach
        if wanted is not None:
            return wanted
        return float("inf") if self.relaxes else STATIC_REACH

    def start_host(self, n_ions: int) -> Host:
        """Return the host with the cell and the sites that a composition starts from."""
        if self._matched_empty is None:
            return self.host
        return interpolated_host(self.host, self.structure, self._matched_empty, n_ions)

    @cached_property
    def _matched_empty(self) -> Structure | None:
        if self.empty is None:
            return None
        return match_empty(self.structure, self.empty, self.spec.host.working_ion)

    @cached_property
    def framework(self) -> str:
        """Formula of one formula unit without the working ion, e.g. ``FePO4``."""
        composition = Composition(self.host.structure.composition)
        rest = {
            element: amount / self.host.formula_units
            for element, amount in composition.items()
            if element.symbol != self.spec.host.working_ion
        }
        return Composition(rest).formula.replace(" ", "")

    def rng(self, *words: int | str) -> np.random.Generator:
        """Return the random generator of one task: the same whenever the task is run."""
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


def new_document(spec: CampaignSpec) -> CampaignDoc:
    """Return the document of a new campaign, its host checked.

    Raises
    ------
    InputError
        If the host, the labeler or the potential cannot work with this specification.
    """
    structure = read_structure(spec.host.structure)
    host = Host.build(spec.host, structure)
    if len(host.ion_counts) < 2:
        raise InputError(
            "this host has a single composition, so it has no hull",
            where="host",
            remedy="give the redox elements oxidation states that let the ion in and out",
        )
    # Where it is kept and what its jobs ask for do not make another campaign.
    given, everything = (
        spec.model_dump(
            mode="json",
            exclude={"database", "resources"},
            round_trip=True,
            exclude_unset=exclude_unset,
        )
        for exclude_unset in (True, False)
    )
    contents = {
        "campaign": given,
        "defaults": _difference(everything, given),
        "structure": structure.as_dict(),
    }
    # The structure is stored itself; where its file lay does not make another campaign.
    given["host"]["structure"] = spec.host.structure.name
    if spec.host.empty_structure is not None:
        given["host"]["empty_structure"] = spec.host.empty_structure.name
        empty = read_structure(spec.host.empty_structure, "host.empty_structure")
        match_empty(structure, empty, spec.host.working_ion)
        contents["empty_structure"] = empty.as_dict()
    labeler = make_labeler(spec.labeler)
    if spec.relaxation.cell and not labeler.gives_stress:
        raise InputError(
            f"no cell can be relaxed: '{spec.labeler.kind}' with these settings gives no stress",
            where="relaxation.cell",
            remedy="leave it out, or choose a mode of the labeler that gives one",
        )
    if spec.convergence.verify and labeler.relax is not Relax.NONE:
        raise InputError(
            "the labeler relaxes every label, so there is nothing to verify",
            where="convergence.verify",
            remedy="leave it out, or ask for static labels with 'relax: none'",
        )
    SEARCHES.of(spec.search).check(host, spec.search)
    ACQUISITIONS.of(spec.acquisition).check(host, spec.acquisition)
    # The last, because what is not installed here may be elsewhere; all else is valid then.
    POTENTIALS.of(spec.potential).check(host, spec.potential)
    LABELERS.of(spec.labeler).check(host, spec.labeler)
    return CampaignDoc(
        name=spec.name,
        spec=contents,
        host_fingerprint=host.fingerprint,
        settings_hash=settings_hash(labeler),
    )


def open_campaign(store: Store, name: str) -> Campaign:
    """Load a campaign from the database.

    Raises
    ------
    InputError
        If there is no campaign of that name.
    """
    document = store.campaigns.get(name)
    structure = _structure(document, "structure")
    assert structure is not None
    return Campaign(
        spec=spec_of(document),
        structure=structure,
        store=store,
        empty=_structure(document, "empty_structure"),
    )


def _structure(document: CampaignDoc, name: str) -> Structure | None:
    """Return a structure of a campaign, None if it has none of that name."""
    stored = document.spec.get(name)
    return None if stored is None else Structure.from_dict(stored)


def spec_of(document: CampaignDoc) -> CampaignSpec:
    """Return the specification of a stored campaign.

    Parameters
    ----------
    document
        Of the campaign.

    Returns
    -------
    CampaignSpec
        What its file said, and for the rest the defaults that were in effect when it was submitted.

    Raises
    ------
    NotInstalledError
        If the campaign uses a plug-in that this machine lacks.
    """
    content = _union(document.spec["campaign"], document.spec["defaults"])
    for section in PLUGIN_SECTIONS:
        plugins = plugins_of(section)
        kind = content.get(section, {}).get("kind") or plugins.default
        if kind not in plugins.kinds:
            broken = plugins.found[kind].broken if kind in plugins.found else ""
            raise NotInstalledError(
                f"it needs the {plugins.noun} '{kind}', which "
                + (f"does not load: {broken}" if broken else "is not installed on this machine"),
                where=f"campaign '{document.name}'",
                remedy="install the package that has it; 'al-charge plugins' lists what there is",
            )
    return CampaignSpec.model_validate(content)


def is_same(one: CampaignDoc, other: CampaignDoc) -> bool:
    """Return whether two documents mean the same campaign.

    Their structures must be equal, and each must have what the other's file said. What neither file
    said is not compared: defaults may have changed since one of them was stored.

    Parameters
    ----------
    one, other
        Documents of campaigns.

    Returns
    -------
    bool
        Whether a file that makes the one may be submitted as the other again.
    """
    for name in ("structure", "empty_structure"):
        if _structure(one, name) != _structure(other, name):
            return False
    first, second = spec_of(one), spec_of(other)
    return _has(second, first, one.spec["campaign"]) and _has(first, second, other.spec["campaign"])


def _has(settings: BaseModel, others: BaseModel, given: Mapping[str, Any]) -> bool:
    """Return whether settings have the values of some fields that others were given."""
    for name, stored in given.items():
        value, wanted = getattr(settings, name), getattr(others, name)
        if isinstance(wanted, BaseModel) and type(value) is type(wanted):
            if not _has(value, wanted, stored):
                return False
        elif value != wanted:
            return False
    return True


def _difference(everything: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of nested settings that were not given, with their values."""
    left: dict[str, Any] = {}
    for name, value in everything.items():
        if name not in given:
            left[name] = value
        elif isinstance(value, dict) and (inner := _difference(value, given[name])):
            left[name] = inner
    return left


def _union(given: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested settings that were given, and the defaults of the others."""
    united = dict(defaults)
    for name, value in given.items():
        inner = defaults.get(name)
        united[name] = _union(value, inner) if isinstance(inner, dict) else value
    return united


def geometry_of(atoms: Atoms) -> Geometry:
    """Return the storable geometry of Atoms with species."""
    return Geometry(
        numbers=atoms.numbers.tolist(),
        positions=atoms.positions.tolist(),
        cell=atoms.cell.array.tolist(),
        species=[str(token) for token in atoms.arrays["species"]],
        host_site=atoms.arrays["host_site"].tolist(),
    )


def atoms_of(geometry: Geometry) -> Atoms:
    """Return the Atoms of a stored geometry, with species and initial moments."""
    from al_charge.crystal.configuration import set_species

    atoms = Atoms(geometry.numbers, geometry.positions, cell=geometry.cell, pbc=True)
    atoms.set_array("host_site", np.array(geometry.host_site))
    set_species(atoms, list(geometry.species))
    return atoms


def label_key(campaign: Campaign, candidate: CandidateDoc, relax: Relax | None = None) -> str:
    """Return the identity of a label: configuration, settings, and what was moved.

    A static label answers for one geometry, which is part of its identity; a relaxed one answers
    for the configuration, wherever it started from, as far as its forces were brought down.

    Parameters
    ----------
    relax
        What the labeler may move; None for the campaign's own choice.
    """
    relax = relax or campaign.labeler.relax
    parts: list[Any] = [candidate.config_hash, campaign.settings_hash]
    if relax is Relax.NONE:
        parts.append(np.round(candidate.geometry.positions, 5).tolist())
        parts.append(np.round(candidate.geometry.cell, 5).tolist())
    else:
        parts += [relax.value, float(campaign.spec.labeler.fmax)]
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:24]


def configuration_of(occupation: list[int]) -> Configuration:
    """Return the configuration with this occupation."""
    return Configuration(tuple(occupation))
