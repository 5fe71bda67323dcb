"""The supercells of a campaign: which one candidates and labels are in, and where they belong."""

from __future__ import annotations

from functools import cached_property, lru_cache

from al_charge.crystal.configuration import Configuration
from al_charge.crystal.host import Host
from al_charge.crystal.supercells import Supercells
from al_charge.crystal.symmetry import hash_of_canonical
from al_charge.errors import AlChargeError
from al_charge.store.documents import CandidateDoc, LabelDoc
from al_charge.store.labels import LabelSummary

Made = CandidateDoc | LabelDoc | LabelSummary


class Cells(Supercells):
    """The supercells of a campaign."""

    @property
    def ends(self) -> tuple[str, str]:
        """The lowest and the highest composition, exact fractions."""
        some = list(self.compositions)
        return str(some[0]), str(some[-1])

    def of(self, one: Made) -> Host:
        """Return the supercell that a candidate or a label is in.

        Parameters
        ----------
        one
            A candidate; or a label, or its summary.

        Returns
        -------
        Host
            One of ``hosts``.

        Raises
        ------
        AlChargeError
            If a label is in none of several.
        """
        if isinstance(one, CandidateDoc):
            return self.hosts[one.cell]
        if len(self.hosts) == 1:
            return self.hosts[0]
        host = self._by_fingerprint.get(one.host_fingerprint)
        if host is None:
            raise AlChargeError(
                f"it is in none of its campaign's supercells: {one.host_fingerprint}",
                where=f"label '{one.key}'",
                remedy="restore the database from a backup",
            )
        return host

    def energy_of(self, label: LabelDoc | LabelSummary) -> float:
        """Return the energy of a label.

        Parameters
        ----------
        label
            The label, or its summary.

        Returns
        -------
        float
            eV per formula unit.
        """
        return label.energy / self.of(label).formula_units

    def home_of(self, one: Made) -> tuple[Host, Configuration]:
        """Return a configuration in the supercell that it belongs to.

        Candidates that a search has found are there; an engine may find an order that a smaller
        supercell holds.

        Parameters
        ----------
        one
            A candidate; or a label, or its summary.

        Returns
        -------
        Host
            The first supercell that holds it.
        Configuration
            In canonical form.
        """
        host, config = self.of(one), configuration_of(one.colours)
        return (host, config) if len(self.hosts) == 1 else _home(self, host, config)

    def order_of(self, one: Made) -> str:
        """Return what names the order of a candidate or a label in its campaign.

        Parameters
        ----------
        one
            A candidate; or a label, or its summary.

        Returns
        -------
        str
            Hash of the configuration in the supercell that it belongs to: the same for one order,
            whatever supercells it was labelled in.
        """
        return one.config_hash if len(self.hosts) == 1 else hash_of_canonical(*self.home_of(one))

    @cached_property
    def _by_fingerprint(self) -> dict[str, Host]:
        return {host.fingerprint: host for host in self.hosts}


@lru_cache(maxsize=4096)
def _home(cells: Cells, host: Host, config: Configuration) -> tuple[Host, Configuration]:
    return cells.home(host, config)


def configuration_of(occupation: list[int]) -> Configuration:
    """Return the configuration with this occupation.

    Parameters
    ----------
    occupation
        State of every site, as stored in ``colours``.

    Returns
    -------
    Configuration
        The configuration.
    """
    return Configuration(tuple(occupation))
