"""A campaign as its tasks see it: the specification, the host, the labeler and the store."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from ase import Atoms
from pymatgen.core.composition import Composition
from pymatgen.core.structure import Structure

from al_charge.crystal.configuration import Configuration
from al_charge.crystal.host import Host, read_structure
from al_charge.crystal.species import token
from al_charge.errors import InputError
from al_charge.labelers import make_labeler
from al_charge.labelers.protocol import Labeler, settings_hash
from al_charge.loop.spec import CampaignSpec
from al_charge.store.documents import CampaignDoc, CandidateDoc, Geometry
from al_charge.store.mongo import Store


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
    """

    spec: CampaignSpec
    structure: Structure
    store: Store

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
        return bool(self.labeler.settings().get("relax", False))

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
        """Energy of the working-ion metal in eV/atom, computed once per labeler settings."""
        ion = self.spec.host.working_ion
        known = self.store.reference(self.settings_hash, ion)
        if known is None:
            self.store.put_reference(self.settings_hash, ion, self.labeler.metal_energy(ion))
            known = self.store.reference(self.settings_hash, ion)
        assert known is not None
        return known


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
    campaign = spec.model_dump(mode="json", exclude={"database"}, round_trip=True)
    # The structure is stored itself; where its file lay does not make another campaign.
    campaign["host"]["structure"] = spec.host.structure.name
    labeler = make_labeler(spec.labeler)
    labeler.check(_possible_species(host), spec.host.working_ion)
    return CampaignDoc(
        name=spec.name,
        spec={
            "campaign": campaign,
            "structure": structure.as_dict(),
        },
        host_fingerprint=host.fingerprint,
        settings_hash=settings_hash(labeler),
    )


def _possible_species(host: Host) -> list[str]:
    """Return every species that a configuration of the host can contain."""
    charges = {host.working_ion: (host.working_ion_charge,), **host.redox}
    charges |= {element: (charge,) for element, charge in host.fixed.items()}
    return sorted(token(el, charge) for el, states in charges.items() for charge in states)


def open_campaign(store: Store, name: str) -> Campaign:
    """Load a campaign from the database.

    Raises
    ------
    InputError
        If there is no campaign of that name.
    """
    document = store.campaign(name)
    return Campaign(
        spec=spec_of(document),
        structure=Structure.from_dict(document.spec["structure"]),
        store=store,
    )


def spec_of(document: CampaignDoc) -> CampaignSpec:
    """Return the specification that a campaign document holds."""
    return CampaignSpec.model_validate(document.spec["campaign"])


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


def label_key(campaign: Campaign, candidate: CandidateDoc) -> str:
    """Return the identity of a label: configuration, settings and, for a static one, geometry.

    A labeler that relaxes answers for the configuration, wherever it started from.
    """
    parts: list[Any] = [candidate.config_hash, campaign.settings_hash]
    if not campaign.relaxes:
        parts.append(np.round(candidate.geometry.positions, 5).tolist())
        parts.append(np.round(candidate.geometry.cell, 5).tolist())
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:24]


def configuration_of(colours: list[int]) -> Configuration:
    """Return the configuration with these colours."""
    return Configuration(tuple(colours))
