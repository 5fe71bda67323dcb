"""Plug-ins of potentials: what each declares, and all that are installed."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from al_charge.crystal.host import Host
from al_charge.plugins import Plugin, Plugins, PluginSettings
from al_charge.units import Length

if TYPE_CHECKING:
    from collections.abc import Iterable

    from al_charge.potentials.networks.architecture import Architecture


LARGEST_PAIR_CUTOFF = 20.0
"""angstrom"""


class NetworkSettings(PluginSettings):
    """Settings that every potential has."""

    charge_aware: bool = Field(
        default=True,
        description="whether each charge state is a species of its own; false knows elements only",
    )
    cutoff: Length = Field(
        default=5.0,
        gt=1.0,
        le=12.0,
        description="cutoff radius of one interaction layer, e.g. '5 A'",
    )
    pair_cutoff: Length = Field(
        default=8.0,
        ge=0.0,
        le=LARGEST_PAIR_CUTOFF,
        description="cutoff radius of the pair terms that are fitted before the network, "
        "'0 A' for none",
    )
    pair_intervals: int = Field(
        default=24, ge=4, le=200, description="intervals of a pair term's spline"
    )
    prior: Literal["none", "chgnet"] = Field(
        default="none",
        description="pretrained universal potential whose difference from the labels is learned",
    )


class PotentialPlugin(Plugin):
    """A network that is trained on labels."""

    settings: ClassVar[type[NetworkSettings]]

    @abstractmethod
    def architecture(self) -> type[Architecture]:
        """Return the class of the network, importing it only now, and the packages it is made of.

        Returns
        -------
        type of Architecture
            See `al_charge.potentials.networks.architecture.Architecture`.
        """

    def reads_moments(self, settings: Any) -> bool:
        """Tell whether the network has site moments as an input.

        Such a potential learns from labels whose charge states are ambiguous, too.

        Parameters
        ----------
        settings
            Of this plug-in's own model.

        Returns
        -------
        bool
            False unless a plug-in says otherwise.
        """
        return False

    def reads_positions(self, settings: Any) -> bool:
        """Tell whether energies depend on positions and cells beside the edges of the graph.

        Parameters
        ----------
        settings
            Of this plug-in's own model.

        Returns
        -------
        bool
            False unless a plug-in says otherwise.
        """
        return False

    def start(self, settings: Any, species: Iterable[str]) -> Any:
        """Return the potential that training starts from, where the settings name one.

        Parameters
        ----------
        settings
            Of this plug-in's own model.
        species
            Tokens that it must know.

        Returns
        -------
        al_charge.potentials.potential.Potential or None
            None for fresh weights. Its type is not imported, as potentials import this module.

        Raises
        ------
        InputError
            If it does not know one of them, or has another shape than the settings say.
        """
        return None

    def check(self, host: Host, settings: Any) -> None:
        """Refuse what could not be trained, before anything is paid for.

        Parameters
        ----------
        host
            Of the campaign.
        settings
            Of this plug-in's own model.

        Raises
        ------
        InputError
            If the settings cannot serve the host, or name a file that is not there.
        NotInstalledError
            If a package is not installed on this machine.
        """


POTENTIALS: Plugins[PotentialPlugin] = Plugins("al_charge.potentials", PotentialPlugin, "potential")
"""All potentials that are installed."""
