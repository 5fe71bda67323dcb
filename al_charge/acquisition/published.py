"""Rules that others have published, on the same candidates and the same posterior.

They take no account of costs, and always pick as many as they may.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from al_charge.acquisition.hull import least
from al_charge.acquisition.outlook import Outlook, lower_hulls
from al_charge.acquisition.plugin import (
    AcquisitionPlugin,
    AcquisitionSettings,
    Array,
    Choice,
    Selection,
    hull_height,
)

QUANTILES = 64
"""Values of a label that expected areas are averaged over."""


class HullAreaSettings(AcquisitionSettings):
    """Nothing beside what every rule has."""

    kind: Literal["hull-area"] = "hull-area"


class HullAreaPlugin(AcquisitionPlugin):
    """Expected growth of the area under the hull.

    D. Wen, V. Tucker, M. S. Titus, npj Comput. Mater. (2024), doi:10.1038/s41524-024-01391-7:
    EI-hull-area. Labels that are
    picked or pending are taken to be as predicted, so that others count what they add to these.
    """

    kind = "hull-area"
    title = "expected hull area (Wen 2024)"
    summary = "the largest expected growth of the area between the hull and the end members"
    settings = HullAreaSettings
    labels_per_composition = (2.0, 6.0)

    @override
    def select(
        self, choice: Choice, settings: Any, rng: np.random.Generator
    ) -> Sequence[Selection]:
        """Return the candidates to label; no choice is random."""
        from scipy.stats import norm  # slow to import, and checking a file needs none of it

        if not choice.candidates:
            return []
        fractions = sorted({*(one.x for one in choice.candidates), *(x for x, _ in choice.hull)})
        x = np.array([float(one) for one in fractions])
        number = {one: place for place, one in enumerate(fractions)}
        place = np.array([number[one.x] for one in choice.candidates])
        quantiles = norm.ppf((np.arange(QUANTILES) + 0.5) / QUANTILES)
        labels = choice.mean[:, None] + choice.spread[:, None] * quantiles
        height = hull_height(choice.hull, fractions)
        free = _free(choice)
        for i in np.flatnonzero(~free):
            height = _with(x, height, place[i], choice.mean[i])
        picked: list[Selection] = []
        while len(picked) < choice.count and free.any():
            lowest = np.tile(height, (len(place), QUANTILES, 1))
            rows = np.arange(len(place))
            lowest[rows, :, place] = np.minimum(lowest[rows, :, place], labels)
            grown = np.trapezoid(height - lower_hulls(x, lowest).mean(axis=1), x, axis=1)
            best = int(np.argmax(np.where(free, grown, -np.inf)))
            area = float(grown[best])
            reason = f"adds {1e3 * area:.2f} meV to the hull's area, {choice.odds(best)}"
            picked.append(Selection(choice.candidates[best].key, area, reason))
            height = _with(x, height, place[best], choice.mean[best])
            free[best] = False
        return picked


class HullInformationSettings(AcquisitionSettings):
    """Nothing beside what every rule has."""

    kind: Literal["hull-information"] = "hull-information"


class HullInformationPlugin(AcquisitionPlugin):
    """Expected information about the hull.

    A. Novick, D. Cai, Q. Nguyen, R. Garnett, R. Adams, E. Toberer, Mater. Horiz. (2024),
    doi:10.1039/d4mh00432a: convex hull-aware active learning. As there, the entropy of the hull is
    the sum of those of its energies at each composition. They are taken as normally distributed,
    and no narrower than the tolerance.
    """

    kind = "hull-information"
    title = "information about the hull (CAL, Novick 2024)"
    summary = "the largest expected information about the energies of the hull"
    settings = HullInformationSettings
    labels_per_composition = (2.0, 6.0)

    @override
    def select(
        self, choice: Choice, settings: Any, rng: np.random.Generator
    ) -> Sequence[Selection]:
        """Return the candidates to label; those far above the hull are passed over."""
        if not choice.candidates:
            return []
        outlook = Outlook(choice, rng)
        outlook.cost[:] = 1.0

        def entropy(_: Array, hulls: Array) -> float:
            variance = hulls.var(axis=1) + max(choice.tolerance, 1e-6) ** 2
            return float(0.5 * np.log(variance).sum(axis=1).mean())

        picked: list[Selection] = []
        while len(picked) < choice.count and outlook.free.any():
            now = entropy(outlook.height, outlook.hulls())
            chosen, after = least(outlook, entropy, now)
            index = int(outlook.which[chosen])
            reason = f"tells {now - after:.2f} nats of the hull, {choice.odds(index)}"
            picked.append(Selection(choice.candidates[index].key, now - after, reason))
            outlook.label(chosen)
        return picked


class LowestEnergySettings(AcquisitionSettings):
    """Nothing beside what every rule has."""

    kind: Literal["lowest-energy"] = "lowest-energy"


class LowestEnergyPlugin(AcquisitionPlugin):
    """The lowest mean above the labelled hull: pure exploitation, the usual rule by hand."""

    kind = "lowest-energy"
    title = "lowest energy"
    summary = "the lowest predicted energy above the labelled hull"
    settings = LowestEnergySettings
    labels_per_composition = (2.0, 6.0)

    @override
    def select(
        self, choice: Choice, settings: Any, rng: np.random.Generator
    ) -> Sequence[Selection]:
        """Return the candidates to label; no choice is random."""
        return _highest(choice, choice.height - choice.mean, "lowest energy, ")


class LargestSpreadSettings(AcquisitionSettings):
    """Nothing beside what every rule has."""

    kind: Literal["largest-spread"] = "largest-spread"


class LargestSpreadPlugin(AcquisitionPlugin):
    """The largest spread of predictions.

    Y. Zhang et al., Comput. Phys. Commun. 253, 107206 (2020): DP-GEN labels where a committee
    disagrees. Theirs is the spread of forces, within bounds; here it is that of the energy.
    """

    kind = "largest-spread"
    title = "largest spread (as DP-GEN)"
    summary = "the largest standard deviation of the predicted energy"
    settings = LargestSpreadSettings

    @override
    def select(
        self, choice: Choice, settings: Any, rng: np.random.Generator
    ) -> Sequence[Selection]:
        """Return the candidates to label; no choice is random."""
        return _highest(choice, choice.spread, "largest spread, ")


class LcmdSettings(AcquisitionSettings):
    """Nothing beside what every rule has."""

    kind: Literal["lcmd"] = "lcmd"


class LcmdPlugin(AcquisitionPlugin):
    """Largest cluster, maximum distance.

    D. Holzmueller, V. Zaverkin, J. Kaestner, I. Steinwart, J. Mach. Learn. Res. 24, 164 (2023); the
    rule of autocPaiNN. Each candidate belongs to the nearest of what is labelled, pending or
    picked; of the cluster with the largest sum of squared distances the farthest is picked.
    Distances are those of the features that `Choice` has.
    """

    kind = "lcmd"
    title = "largest cluster, maximum distance (as autocPaiNN)"
    summary = "what is least like all labels, from the largest cluster of features"
    settings = LcmdSettings

    @override
    def select(
        self, choice: Choice, settings: Any, rng: np.random.Generator
    ) -> Sequence[Selection]:
        """Return the candidates to label; no choice is random."""
        free = _free(choice)
        if not free.any():
            return []
        features = np.array([one.features for one in choice.candidates], dtype=float)
        centres = [one.features for one in choice.labelled]
        centres += [features[i] for i in np.flatnonzero(~free)]
        square = np.full(len(features), np.inf)
        cluster = np.zeros(len(features), dtype=np.int64)
        for number, centre in enumerate(centres):
            square, cluster = _nearer(features, centre, number, square, cluster)
        picked: list[Selection] = []
        while len(picked) < choice.count and free.any():
            if centres:
                sizes = np.bincount(cluster[free], square[free])
                members = free & (cluster == sizes.argmax())
                best = int(np.argmax(np.where(members, square, -1.0)))
                distance = float(np.sqrt(square[best]))
            else:
                best, distance = int(np.flatnonzero(free)[0]), 0.0
            reason = f"{distance:.2f} from what is like it, {choice.odds(best)}"
            picked.append(Selection(choice.candidates[best].key, distance, reason))
            free[best] = False
            square, cluster = _nearer(features, features[best], len(centres), square, cluster)
            centres.append(features[best])
        return picked


class RandomSettings(AcquisitionSettings):
    """Nothing beside what every rule has."""

    kind: Literal["random"] = "random"


class RandomPlugin(AcquisitionPlugin):
    """Any candidates, all equally likely."""

    kind = "random"
    title = "random"
    summary = "any candidates, to compare with"
    settings = RandomSettings

    @override
    def select(
        self, choice: Choice, settings: Any, rng: np.random.Generator
    ) -> Sequence[Selection]:
        """Return the candidates to label."""
        return _highest(choice, rng.random(len(choice.candidates)), "at random, ")


def _free(choice: Choice) -> NDArray[np.bool_]:
    return np.array([one.key not in choice.pending for one in choice.candidates], dtype=bool)


def _highest(choice: Choice, scores: Array, why: str) -> list[Selection]:
    """Return the free candidates with the highest scores."""
    free = _free(choice)
    order = [int(i) for i in np.argsort(-scores, kind="stable") if free[i]]
    return [
        Selection(choice.candidates[i].key, float(scores[i]), why + choice.odds(i))
        for i in order[: choice.count]
    ]


def _with(x: Array, height: Array, place: int, label: float) -> Array:
    """Return a hull with one more label."""
    lower = height.copy()
    lower[place] = min(lower[place], label)
    return lower_hulls(x, lower)


def _nearer(
    features: Array, centre: Array, number: int, square: Array, cluster: NDArray[np.int64]
) -> tuple[Array, NDArray[np.int64]]:
    """Return squared distances to the nearest centre, and its number, with one more centre."""
    found = ((features - centre) ** 2).sum(axis=1)
    closer = found < square
    return np.where(closer, found, square), np.where(closer, number, cluster)
