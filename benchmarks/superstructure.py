"""The known superstructure of Na2/3FePO4, built from what is published of it.

    python benchmarks/superstructure.py workflows/nafepo4_two_thirds.yaml FOLDER

Written are ``superstructure.extxyz`` and ``zigzag.extxyz``, starts for a relaxation: sites between
both end members, Fe-O shells that fit the charge order, species in the array ``requested_species``,
as `al-charge label` reads them.

*Published.* Saracibar et al. (Phys. Chem. Chem. Phys. 18, 13045, 2016, abstract): the DFT ground
states at x = 2/3 and 5/6 "align vacancies diagonally within the ab plane, coupled to a Fe2+/Fe3+
alignment"; diffraction shows reflections of a superstructure. Of Boucher et al. (J. Am. Chem. Soc.,
2014), who solved it, no more was at hand than the title, which speaks of a pseudo-uniform order in
two dimensions. Neither text nor coordinates of either were: compare with them before you publish.

*Inferred.* Axes are those of Pnma (a = 10.4, b = 6.2, c = 4.9 angstrom). One sodium in three is
missing, so the diagonals are every third line along [110] through sodium sites: sites with 2(y - x)
a multiple of three, x and y in units of a and b. Seen along c these lines are evenly spaced. The
smallest cell with this order has the vectors a + b, 3b and c: three primitive cells, oblique, so
that 1x3x1 does not hold it. The order keeps the group P2_1/c of the sodium sites, of which P2_1/n
is another choice of axes. Three charge orders keep it too, each with Fe3+ in every third such line.
Taken is the one on the lines of the vacancies, 0.8 eV per formula unit below both others in Ewald
energy, and the lowest of all charge orders on these ions.

*Zigzag* is the nearest that 1x3x1 holds, and what is meant if the diagonals of the publication are
those of one such cell: the lines turn back at every second chain along a. It is another order, by
0.05 eV per formula unit higher in Ewald energy; its charge order is the lowest on its ions.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import cast

import ase.io
import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from al_charge.crystal.configuration import (
    Configuration,
    configuration,
    ion_count,
    to_atoms,
)
from al_charge.crystal.enumeration import distinct_occupations
from al_charge.crystal.host import VACANCY, Host
from al_charge.crystal.host_spec import HostSpec
from al_charge.crystal.identity import identity, written_in
from al_charge.crystal.parent import Matrix, matrix_of, read_structure
from al_charge.crystal.prepare import parent_structure
from al_charge.crystal.shells import SHELL_DISTORTION, distort_shells
from al_charge.crystal.supercells import host_of_cell, primitive_parent
from al_charge.crystal.symmetry import permutations
from al_charge.errors import InputError
from al_charge.loop.campaign import Campaign
from al_charge.loop.spec import load_spec
from al_charge.search.seeds import ewald_energies
from al_charge.store.mongo import Store

CELL: Matrix = ((1, 1, 0), (0, 3, 0), (0, 0, 1))
"""Its smallest cell, in units of the olivine cell."""
STRAIGHT: Matrix = ((1, 0, 0), (0, 3, 0), (0, 0, 1))
"""1x3x1."""
NEAR = 0.25
"""How far from a line Fe lies on it, in spacings of lines through sodium: they are 0.06 off."""


def open_campaign(path: Path) -> Campaign:
    """Return what a campaign file says, without a database."""
    spec = load_spec(path)
    empty = spec.host.empty_structure
    return Campaign(
        spec=spec,
        structure=parent_structure(spec.host),
        store=cast(Store, None),
        empty=None if empty is None else read_structure(empty),
    )


def host_of(spec: HostSpec, cell: Matrix = CELL) -> Host:
    """Return a host in a cell, in units of the parent's primitive cell."""
    return host_of_cell(spec, primitive_parent(spec, parent_structure(spec)).structure, cell)


def lines(host: Host) -> NDArray[np.float64]:
    """Return how far each site lies from a line of vacancies, in spacings, shape (n_sites,).

    From -1.5 to 1.5. Sodium lies at whole numbers.
    """
    places = host.structure.frac_coords @ np.array(matrix_of(host.supercell))
    offset = places - places[host.ion_sites[0]]
    across = 2 * (offset[:, 1] - offset[:, 0])
    return across - 3 * np.round(across / 3)


def superstructure(host: Host) -> Configuration:
    """Return the superstructure in a cell that holds it.

    Raises
    ------
    InputError
        If the cell does not hold it.
    """
    periods = np.array(matrix_of(host.supercell))
    if np.any((periods[:, 1] - periods[:, 0]) * 2 % 3):
        raise InputError("the supercell does not hold the superstructure", where="host.supercell")
    near = np.abs(lines(host)) < NEAR
    ions = np.where(near[host.ion_sites], VACANCY, host.working_ion_charge)
    return configuration(host, [*ions, *np.where(near[host.redox_sites], 3, 2)])


def zigzag(host: Host) -> Configuration:
    """Return the order of 1x3x1 that is nearest to the superstructure, in canonical form."""
    places = host.structure.frac_coords[host.ion_sites] @ np.array(matrix_of(host.supercell))
    x, y, _ = np.round(2 * (places - places[0])).astype(int).T
    state = np.where((y - x % 2) % 3 == 0, VACANCY, host.working_ion_charge)
    images = state[permutations(host)[:, : len(state)]]
    return lowest_ewald(host, Configuration(min(map(tuple, images.tolist()))))


def lowest_ewald(host: Host, ions: Configuration) -> Configuration:
    """Return the charge order of lowest Ewald energy on given ions, in canonical form."""
    number = len(host.ion_sites)
    n_ions = host.inert_ions + sum(state > 0 for state in ions.occupation)
    rows = distinct_occupations(host, n_ions)
    rows = rows[(rows[:, :number] == np.array(ions.occupation)).all(axis=1)]
    configs = [Configuration(tuple(row)) for row in rows.tolist()]
    return configs[int(np.argmin(np.round(ewald_energies(host, configs), 6)))]


def home(campaign: Campaign) -> tuple[Host, Configuration]:
    """Return the superstructure in the first of a campaign's cells that holds it, or its own."""
    own = host_of(campaign.spec.host)
    config = superstructure(own)
    for host in campaign.cells.hosts:
        found = written_in(host, own, config)
        if found is not None:
            return host, found
    return own, config


def start(campaign: Campaign, host: Host, config: Configuration, *, shells: bool = True) -> Atoms:
    """Return where a relaxation starts: sites of the composition, with shells that fit if asked."""
    atoms = to_atoms(campaign.start_host(host, ion_count(host, config)), config)
    return distort_shells(atoms, SHELL_DISTORTION) if shells else atoms


def written(atoms: Atoms) -> Atoms:
    """Return atoms as they are written to a file that `al-charge label` reads."""
    plain = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True)
    plain.set_array("host_site", atoms.arrays["host_site"])
    plain.set_array("requested_species", atoms.arrays["species"])
    return plain


def main() -> None:
    """Write the starts, and say what they are."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("campaign", type=Path, help="campaign file of olivine NaxFePO4")
    parser.add_argument("folder", type=Path, help="for the files")
    options = parser.parse_args()
    campaign = open_campaign(options.campaign)
    straight = host_of(campaign.spec.host, STRAIGHT)
    orders = {"superstructure": home(campaign), "zigzag": (straight, zigzag(straight))}
    options.folder.mkdir(parents=True, exist_ok=True)
    for name, (host, config) in orders.items():
        path = options.folder / f"{name}.extxyz"
        ase.io.write(path, written(start(campaign, host, config)), format="extxyz")
        print(f"{path}: {len(host.structure)} sites in the host, order {identity(host, config)}")


if __name__ == "__main__":
    main()
