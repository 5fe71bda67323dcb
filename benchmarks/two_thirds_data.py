"""What the arms of the proof at x = 2/3 see of a campaign's labels: all of it, or no charge states.

A blind user knows ions and elements. So a blind arm has hosts in which only the ions are told apart
(`IonHost`): its seeds, the features of its surrogate and its Ewald energies are those of ions in a
uniform background, labels reach it without charge states, and several labels on the same ions are
one order to it, of which the lowest counts.
"""

from __future__ import annotations

import contextlib
import itertools
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import cast

import ase.io
import numpy as np
import superstructure
from ase import Atoms
from numpy.typing import NDArray
from typing_extensions import override

from al_charge.crystal.configuration import (
    Configuration,
    composition,
    from_atoms,
    match_sites,
    set_species,
    species_of,
)
from al_charge.crystal.host import Host
from al_charge.crystal.host_spec import SupercellsSpec
from al_charge.crystal.identity import identity, written_in
from al_charge.crystal.supercells import Supercells, hosts_of
from al_charge.errors import AlChargeError, InputError
from al_charge.loop.campaign import Campaign
from al_charge.potentials.data.dataset import Reading, read_dataset
from al_charge.potentials.data.frames import TrainingFrame
from al_charge.surrogate.surrogate import Observation

LARGEST_STRAIN = 0.15
"""Of a label's cell against that of its host; cells of another shape differ by more."""


@dataclass(frozen=True, eq=False)
class IonHost(Host):
    """A host of which only the ions are told apart.

    Redox sites are fixed in one state, and a uniform background makes every cell neutral. Among
    configurations of one composition Ewald energies then differ by what the ions do to each other.

    Attributes
    ----------
    units
        Formula units in the supercell.
    """

    units: int = 1

    @classmethod
    def of(cls, host: Host) -> IonHost:
        """Return the ions of a host."""
        fixed = list(host.states)
        for site in host.redox_sites:
            fixed[site] = (fixed[site][-1],)
        given = {one.name: getattr(host, one.name) for one in fields(host)}
        return cls(**given | {"states": tuple(fixed), "units": host.formula_units})

    @property
    @override
    def formula_units(self) -> int:
        return self.units

    @override
    def redox_charge(self, n_ions: int) -> int:
        return 0


@dataclass(frozen=True)
class Known:
    """The labels of one order.

    Attributes
    ----------
    order
        Its identity in the infinite crystal; of a blind arm, that of its ions.
    host, config
        Its cell, and how it is written there: atoms of all structures follow the sites of the host.
    x
        Working ions per formula unit.
    energy
        Of the lowest frame, eV per formula unit.
    relaxed
        The geometry of that frame, with species.
    frames
        All of them.
    """

    order: str
    host: Host
    config: Configuration
    x: Fraction
    energy: float
    relaxed: Atoms
    frames: list[TrainingFrame]


@dataclass(frozen=True)
class Labelled:
    """One labelled geometry: its cell, its configuration there, and its frame by sites."""

    host: Host
    config: Configuration
    frame: TrainingFrame


def read_labels(campaign: Campaign, path: Path) -> list[Labelled]:
    """Return the usable labels of a file, in its order.

    A label is in that of the campaign's cells whose shape it has.
    """
    images = {image.positions.tobytes(): image for image in ase.io.iread(path)}
    found = []
    for number, frame in enumerate(read_dataset(path, Reading()).frames):
        image = images[frame.atoms.positions.tobytes()]
        if "host_site" in image.arrays:
            frame.atoms.set_array("host_site", image.arrays["host_site"])
        host, config = placed(campaign, frame.atoms, f"{path}, frame {number} of those used")
        found.append(Labelled(host, config, _by_site(host, frame)))
    return found


def orders_of(labels: Sequence[Labelled]) -> list[Known]:
    """Return labels order by order, those of lowest energy first."""
    groups: dict[str, list[Labelled]] = defaultdict(list)
    for one in labels:
        groups[identity(one.host, one.config)].append(one)
    known = []
    for order, members in groups.items():
        lowest = min(members, key=lambda one: one.frame.energy / one.host.formula_units)
        known.append(
            Known(
                order=order,
                host=lowest.host,
                config=lowest.config,
                x=composition(lowest.host, lowest.config),
                energy=lowest.frame.energy / lowest.host.formula_units,
                relaxed=lowest.frame.atoms,
                frames=[replace(one.frame, group=order) for one in members],
            )
        )
    return sorted(known, key=lambda one: one.energy)


def placed(campaign: Campaign, atoms: Atoms, where: str) -> tuple[Host, Configuration]:
    """Return the cell whose shape a structure has, and its configuration there.

    The campaign's cells come first, then that of the known superstructure and all others up to
    three olivine cells: labels of a campaign in one cell are compared with those in another.

    Raises
    ------
    InputError
        If it is in none of them.
    """
    for host in itertools.chain(campaign.cells.hosts, _others(campaign)):
        if len(host.redox_sites) != np.isin(atoms.symbols, host.redox_elements).sum():
            continue
        if np.abs(strain(host, atoms.cell.array)).max() < LARGEST_STRAIN:
            with contextlib.suppress(AlChargeError):
                return host, from_atoms(host, atoms)
    raise InputError(
        "it is in no cell of the campaign's host",
        where=where,
        remedy="take the campaign file that the labels were made with",
    )


def _others(campaign: Campaign) -> Iterator[Host]:
    yield _own_cell(campaign)
    yield from _small_cells(campaign)


@lru_cache(maxsize=4)
def _own_cell(campaign: Campaign) -> Host:
    return superstructure.host_of(campaign.spec.host)


@lru_cache(maxsize=4)
def _small_cells(campaign: Campaign) -> tuple[Host, ...]:
    changes = {"supercell": None, "supercells": SupercellsSpec(up_to=3)}
    return hosts_of(campaign.spec.host.model_copy(update=changes), campaign.structure).hosts


def _by_site(host: Host, frame: TrainingFrame) -> TrainingFrame:
    """Return a frame whose atoms follow the sites of a host."""
    known = frame.atoms.arrays.get("host_site")
    order = np.argsort(match_sites(host, frame.atoms) if known is None else known)
    arrays = {
        name: None if (values := getattr(frame, name)) is None else values[order]
        for name in ("forces", "moments", "charges")
    }
    return replace(frame, atoms=frame.atoms[order], **arrays)


def strain(host: Host, cell: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how a cell differs from a host's, shape (3, 3)."""
    return np.linalg.solve(host.structure.lattice.matrix, cell) - np.eye(3)


@dataclass(frozen=True, eq=False)
class View:
    """What an arm sees.

    Attributes
    ----------
    campaign
        Where cells, sites and settings come from.
    labels
        What it is trained on, by order as it tells them apart.
    cells
        The supercells that it searches.
    """

    campaign: Campaign
    labels: list[Known]
    cells: Supercells

    @classmethod
    def of(cls, campaign: Campaign, labels: Sequence[Labelled], *, charge_aware: bool) -> View:
        """Return what a charge-aware or a blind arm sees of labels."""
        if charge_aware:
            return cls(campaign, orders_of(labels), campaign.cells)
        cells = Supercells(tuple(IonHost.of(host) for host in campaign.cells.hosts))
        blinded = []
        for one in labels:
            host = _ion_host(campaign, cells, one.host)
            config = ions_of(host, one.config)
            blinded.append(Labelled(host, config, _blinded(host, config, one.frame)))
        return cls(campaign, orders_of(blinded), cells)

    @property
    def charge_aware(self) -> bool:
        """Whether charge states are seen."""
        return self.cells is self.campaign.cells

    @property
    def frames(self) -> list[TrainingFrame]:
        """What a potential is trained on."""
        return [frame for one in self.labels for frame in one.frames]

    def seen(self, host: Host, config: Configuration) -> tuple[Host, Configuration]:
        """Return a configuration as this arm sees it."""
        if self.charge_aware:
            return host, config
        ions = _ion_host(self.campaign, self.cells, host)
        return ions, ions_of(ions, config)

    def start(self, host: Host, config: Configuration) -> Atoms:
        """Return where a relaxation starts, strained as labels of its composition are in the mean.

        As in a campaign; a blind user has no shells to fit to charge states.
        """
        shells = self.charge_aware and self.campaign.static_labels
        atoms = superstructure.start(self.campaign, host, config, shells=False)
        x = composition(host, config)
        strains = [strain(k.host, k.relaxed.cell.array) for k in self.labels if k.x == x]
        if strains:
            cell = host.structure.lattice.matrix @ (np.eye(3) + np.mean(strains, axis=0))
            atoms.set_cell(cell, scale_atoms=True)
        return distorted(atoms) if shells else atoms

    def observations(self) -> list[Observation]:
        """Return the labels as a surrogate sees them."""
        return [Observation(*self.home(k), k.energy) for k in self.labels]

    def home(self, known: Known) -> tuple[Host, Configuration]:
        """Return a labelled order in the first of the arm's cells that holds it, or in its own."""
        for host in self.cells.hosts:
            found = written_in(host, known.host, known.config)
            if found is not None:
                return host, found
        return known.host, known.config


def distorted(atoms: Atoms) -> Atoms:
    """Return atoms with Fe-O shells that fit their charge states."""
    from al_charge.crystal.shells import SHELL_DISTORTION, distort_shells

    return distort_shells(atoms, SHELL_DISTORTION)


def _ion_host(campaign: Campaign, cells: Supercells, host: Host) -> IonHost:
    """Return the ions of a cell: that of a blind arm's cells, where it is one of the campaign's."""
    same = [one.fingerprint for one in campaign.cells.hosts]
    if host.fingerprint in same:
        return cast(IonHost, cells.hosts[same.index(host.fingerprint)])
    return IonHost.of(host)


def ions_of(host: Host, config: Configuration) -> Configuration:
    """Return the ions of a configuration, whose charge states are left out."""
    return Configuration(config.occupation[: len(host.ion_sites)])


def _blinded(host: Host, config: Configuration, frame: TrainingFrame) -> TrainingFrame:
    """Return a frame without its charge states: all sites of an element have the same species."""
    atoms = cast(Atoms, frame.atoms.copy())
    set_species(atoms, list(species_of(host, config).values()))
    return replace(frame, atoms=atoms)
