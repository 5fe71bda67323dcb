"""All distinct supercells of a parent up to a size, each a host."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from typing import Self

from pymatgen.core.structure import Structure

from al_charge.crystal.configuration import Configuration
from al_charge.crystal.enumeration import count_new
from al_charge.crystal.host import Host
from al_charge.crystal.host_spec import HostSpec
from al_charge.crystal.identity import written_in
from al_charge.crystal.parent import LARGEST_SUPERCELL, Matrix, matrix_of
from al_charge.crystal.parent_crystal import PrimitiveCell, primitive_cell
from al_charge.crystal.roles import states_of_sites
from al_charge.crystal.space_group import STATES
from al_charge.crystal.superlattices import compact, distinct_superlattices
from al_charge.crystal.symmetry import canonical
from al_charge.errors import InputError


@dataclass(frozen=True, eq=False)
class Supercells:
    """The supercells of a parent that can be hosts.

    A configuration that several hold belongs to the first of them.

    Attributes
    ----------
    hosts
        The smallest first.
    left_out
        Supercells that cannot be, in units of the primitive cell, each with the reason.
    """

    hosts: tuple[Host, ...]
    left_out: tuple[tuple[Matrix, str], ...] = ()

    @cached_property
    def widest(self) -> Host:
        """The first of those with the widest range of x."""

        def width(host: Host) -> Fraction:
            return host.composition(host.ion_counts[-1]) - host.composition(host.ion_counts[0])

        return max(self.hosts, key=width)

    @cached_property
    def compositions(self) -> dict[Fraction, tuple[int, int]]:
        """The first cell that has each composition, by its place, and the working ions in it.

        Ascending.
        """
        found: dict[Fraction, tuple[int, int]] = {}
        for cell, host in enumerate(self.hosts):
            for n_ions in host.ion_counts:
                found.setdefault(host.composition(n_ions), (cell, n_ions))
        return dict(sorted(found.items()))

    def smaller(self, cell: int) -> tuple[Host, ...]:
        """Return the cells before one: what they hold does not belong to it.

        Parameters
        ----------
        cell
            Place of the cell.

        Returns
        -------
        tuple of Host
            In order.
        """
        return self.hosts[:cell]

    @cached_property
    def numbers(self) -> list[dict[Fraction, int]]:
        """How many distinct configurations belong to each cell, by composition."""
        return [count_new(host, self.smaller(cell)) for cell, host in enumerate(self.hosts)]

    def home(self, host: Host, config: Configuration) -> tuple[Host, Configuration]:
        """Return the cell that a configuration belongs to, and how it is written there.

        Parameters
        ----------
        host
            The cell that it is written in.
        config
            A configuration.

        Returns
        -------
        Host
            The first cell that holds it.
        Configuration
            In canonical form.
        """
        for other in self.hosts[: self.hosts.index(host)]:
            written = written_in(other, host, config)
            if written is not None:
                return other, written
        return host, canonical(host, config)

    def with_spins(self, spins: Mapping[str, str]) -> Self:
        """Return the supercells with ions in other spin states; see `Host.with_spins`.

        Parameters
        ----------
        spins
            The species that an ion is instead, by its species token.

        Returns
        -------
        Self
            In the same order.
        """
        return replace(self, hosts=tuple(host.with_spins(spins) for host in self.hosts))


def hosts_of(spec: HostSpec, structure: Structure) -> Supercells:
    """Build the hosts of a specification: of its one supercell, or of all up to a size.

    Parameters
    ----------
    spec
        The specification of a host in a campaign file.
    structure
        The parent cell, as `parent_structure` returns it.

    Returns
    -------
    Supercells
        Of all up to a size, each shape once: none is another one turned or mirrored by an operation
        of the parent. Their vectors are the shortest ones, in units of those of the primitive cell.

    Raises
    ------
    InputError
        If the largest would be too large, none can be a host, the window of compositions has ends
        that no supercell has, or for any reason of `Host.build`.
    """
    if spec.supercells is None:
        return Supercells((Host.build(spec, structure),))
    largest = spec.supercells.up_to
    primitive = primitive_parent(spec, structure)
    if len(primitive.structure) * largest > LARGEST_SUPERCELL:
        raise InputError(
            f"the largest supercells would have {len(primitive.structure) * largest} sites",
            where="host.supercells.up_to",
            remedy=f"choose at most {LARGEST_SUPERCELL // len(primitive.structure)}",
        )
    rotations, *_ = primitive.operations
    hosts: list[Host] = []
    left_out: list[tuple[Matrix, str]] = []
    for index in range(1, largest + 1):
        for form in distinct_superlattices(index, rotations):
            matrix = compact(form, primitive.structure.lattice.matrix)
            try:
                hosts.append(host_of_cell(spec, primitive.structure, matrix))
            except InputError as error:
                left_out.append((matrix, error.what))
    if not hosts:
        raise InputError(
            f"no supercell can be a host: {left_out[0][1]}",
            where="host.supercells.up_to",
            remedy="choose a larger one",
        )
    possible = sorted({host.composition(n) for host in hosts for n in host.ion_counts})
    window = spec.window(possible)
    hosts = [replace(host, window=window) for host in hosts]
    outside = "it has no composition in the window"
    left_out += [(matrix_of(host.supercell), outside) for host in hosts if not host.ion_counts]
    return Supercells(tuple(host for host in hosts if host.ion_counts), tuple(left_out))


def primitive_parent(spec: HostSpec, structure: Structure) -> PrimitiveCell:
    """Return the primitive cell of a parent.

    Parameters
    ----------
    spec
        The specification of a host in a campaign file.
    structure
        The parent cell, as `parent_structure` returns it.

    Returns
    -------
    PrimitiveCell
        Sites with different states are no translations of each other.

    Raises
    ------
    InputError
        For any reason of `states_of_sites`.
    """
    structure = structure.copy()
    spec.check_elements({site.specie.symbol for site in structure})
    structure.remove_oxidation_states()
    states, _ = states_of_sites(spec, structure)
    structure.add_site_property(STATES, list(map(str, states)))
    return primitive_cell(structure)


def host_of_cell(spec: HostSpec, primitive: Structure, supercell: Matrix) -> Host:
    """Build the host of one of the supercells that a specification asks for.

    Parameters
    ----------
    spec
        The specification of a host in a campaign file.
    primitive
        The structure of `primitive_parent`.
    supercell
        In units of its vectors.

    Returns
    -------
    Host
        Without a window of compositions.

    Raises
    ------
    InputError
        For any reason of `Host.build`.
    """
    changes = {"supercell": supercell, "supercells": None, "compositions": None}
    return Host.build(spec.model_copy(update=changes), primitive)
