"""What an acquisition rule is, and all rules that are installed."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from al_charge.crystal.host import Host
from al_charge.plugins import Plugin, Plugins, PluginSettings

Array = NDArray[np.float64]
Hull = Sequence[tuple[Fraction, float]]
"""Vertices of a lower hull: composition and formation energy in eV per formula unit."""


class AcquisitionSettings(PluginSettings):
    """What the settings of every rule have."""

    labels_per_round: int = Field(
        default=16, ge=1, description="labels requested in one round, at most"
    )
    first_round: int = Field(
        default=20, ge=2, description="labels before the first potential, spread over compositions"
    )


@dataclass(frozen=True, eq=False)
class Candidate:
    """A configuration that may be labelled.

    Attributes
    ----------
    key
        Identity: the canonical hash.
    x
        Composition, working ions per formula unit.
    features
        Descriptor that is equal for symmetry images, shape (n_features,); only distances matter.
    cost
        Relative cost of its label: the cube of its number of atoms, 1 for the largest cell.
    """

    key: str
    x: Fraction
    features: Array
    cost: float = 1.0


@dataclass(frozen=True, eq=False)
class Labelled:
    """A configuration that has a label.

    Attributes
    ----------
    key
        Identity of the label.
    x
        Composition, working ions per formula unit.
    energy
        Formation energy, eV per formula unit.
    features
        As in `Candidate`.
    """

    key: str
    x: Fraction
    energy: float
    features: Array


@dataclass(frozen=True, eq=False)
class Choice:
    """The candidates that a rule selects from, and what is known about them.

    Attributes
    ----------
    candidates
        Configurations without a label, each once.
    mean
        Their predicted formation energies, eV per formula unit, shape (n_candidates,).
    covariance
        Their joint covariance, (eV per formula unit)^2, shape (n_candidates, n_candidates); its
        diagonal is calibrated. Zero off the diagonal where only the spread of each is known.
    hull
        Vertices of the labelled hull.
    labelled
        The lowest label of each configuration.
    pending
        Keys of configurations whose labels are being made.
    count
        Largest number of labels wanted.
    tolerance
        What lies less than this below the hull counts as on it, eV per formula unit.
    """

    candidates: Sequence[Candidate]
    mean: Array
    covariance: Array
    hull: Hull
    labelled: Sequence[Labelled]
    pending: frozenset[str]
    count: int
    tolerance: float = 0.001

    @cached_property
    def height(self) -> Array:
        """The labelled hull at every candidate's composition, eV per formula unit.

        Without labels it is the line between the end members, at zero.
        """
        return hull_height(self.hull, [one.x for one in self.candidates])

    @cached_property
    def spread(self) -> Array:
        """Standard deviation of every candidate's energy, eV per formula unit."""
        found: Array = np.sqrt(np.maximum(np.diagonal(self.covariance), 0.0))
        return found

    def odds(self, index: int) -> str:
        """Say how likely a candidate lies below the labelled hull.

        Parameters
        ----------
        index
            The candidate's.

        Returns
        -------
        str
            Such as ``62 % chance below hull (-3 +- 9 meV/f.u.)``.
        """
        from scipy.stats import norm  # slow to import, and checking a file needs none of it

        above, spread = float(self.mean[index] - self.height[index]), float(self.spread[index])
        chance = norm.cdf(-above / spread) if spread > 0 else float(above < 0)
        return (
            f"{100 * chance:.0f} % chance below hull "
            f"({1e3 * above:+.0f} +- {1e3 * spread:.0f} meV/f.u.)"
        )


def hull_height(hull: Hull, x: Sequence[Fraction]) -> Array:
    """Return a hull's formation energy at some compositions.

    Parameters
    ----------
    hull
        Its vertices; if there are none, it is the line between the end members, at zero.
    x
        Compositions.

    Returns
    -------
    ndarray, shape (n_x,)
        eV per formula unit, linear between vertices.
    """
    vertices = sorted(hull) or [(Fraction(0), 0.0)]
    return np.interp(
        [float(one) for one in x], [float(v[0]) for v in vertices], [v[1] for v in vertices]
    )


@dataclass(frozen=True)
class Selection:
    """A candidate that was selected.

    Attributes
    ----------
    key
        Its identity.
    score
        The number it was selected by; higher is better.
    reason
        Why it was selected, in a few words for people.
    """

    key: str
    score: float
    reason: str


class AcquisitionPlugin(Plugin):
    """A rule that selects the candidates to label.

    Attributes
    ----------
    labels_per_composition
        Labels until a campaign stops over its number of compositions, smallest and largest as
        measured; `al-charge check` tells what to expect by it. None if it was not measured.
    """

    settings: ClassVar[type[AcquisitionSettings]]
    labels_per_composition: ClassVar[tuple[float, float] | None] = None

    @abstractmethod
    def select(
        self, choice: Choice, settings: Any, rng: np.random.Generator
    ) -> Sequence[Selection]:
        """Return the candidates to label, the most wanted first.

        Parameters
        ----------
        choice
            Candidates, their joint posterior and cost, and what is labelled.
        settings
            An instance of this plug-in's settings model.
        rng
            Source of all random choices, so that a repeated task selects the same.

        Returns
        -------
        sequence of Selection
            At most ``choice.count``, each candidate once, none that is pending.
        """

    def check(self, host: Host, settings: Any) -> None:
        """Refuse settings that do not suit a host, before anything is computed.

        Parameters
        ----------
        host
            The campaign's.
        settings
            An instance of this plug-in's settings model.

        Raises
        ------
        InputError
            If they do not suit it.
        """


ACQUISITIONS: Plugins[AcquisitionPlugin] = Plugins(
    "al_charge.acquisitions", AcquisitionPlugin, "acquisition rule", default="hull"
)
"""All acquisition rules that are installed."""
