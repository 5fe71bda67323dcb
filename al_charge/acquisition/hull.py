"""The hull rule: the labels that take most off the uncertainty of the hull, for their cost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
from pydantic import Field
from typing_extensions import override

from al_charge.acquisition.outlook import Outlook
from al_charge.acquisition.plugin import (
    AcquisitionPlugin,
    AcquisitionSettings,
    Array,
    Choice,
    Selection,
)

TRIED = 24
"""Labels that are tried out for every pick: those of the largest expected depth below the hull for
their cost."""
WORTH_WAITING = 0.3
"""What takes off less than this share of what the first pick does is left to a later round, which
knows more; unless anything is likely to lie below the hull, or this is less certain than it is
deep."""


class HullSettings(AcquisitionSettings):
    """When a round has enough labels."""

    kind: Literal["hull"] = "hull"
    enough: float = Field(
        default=0.01,
        ge=0,
        lt=1,
        description="stop selecting once the probability that anything else lies below the hull "
        "by more than its tolerance is less than this",
    )


class HullPlugin(AcquisitionPlugin):
    """The labels that take most off the hull's uncertainty for their cost."""

    kind = "hull"
    title = "uncertainty of the hull"
    summary = "what takes most off the uncertainty of the hull for its cost; fewer where few matter"
    settings = HullSettings
    labels_per_composition = (2.0, 7.0)

    @override
    def select(
        self, choice: Choice, settings: Any, rng: np.random.Generator
    ) -> Sequence[Selection]:
        """Return the candidates to label.

        They are picked one by one. The hull's uncertainty is the root mean square distance between
        the hull of labels and hulls that are drawn from the joint posterior. For every promising
        candidate a dozen outcomes of its label are tried, and the pick is the one after which the
        uncertainty is expected to be least, per cost. Later picks count only what the earlier ones
        and pending labels do not take already, outcome by outcome.

        There are none if nothing is likely to lie below the hull, and else at least one. They end
        when the rest hardly matters: see ``enough`` and `WORTH_WAITING`. Nothing waits while it is
        more likely than not that anything lies below the hull, or while this is less certain than
        it is deep, so that predictions do not tell what matters. Then the round is filled with
        what is expected to lie deepest below the hull, per cost.
        """
        if not choice.candidates:
            return []
        outlook = Outlook(choice, rng)
        depth = -min((energy for _, energy in choice.hull), default=0.0)
        picked: list[Selection] = []
        first = 0.0
        while len(picked) < choice.count and outlook.free.any():
            anything = outlook.below(choice.tolerance).any(axis=2).mean()
            if anything < settings.enough:
                break
            now = uncertainty(outlook.x, outlook.height, outlook.hulls())
            chosen, after = least(outlook, lambda *known: uncertainty(outlook.x, *known), now)
            worth = (now - after) / outlook.cost[chosen]
            reason = (
                f"takes {1e3 * (now - after):.1f} of {1e3 * now:.1f} meV/f.u. off the hull's "
                "uncertainty"
            )
            if picked and worth < WORTH_WAITING * first:
                if now < depth and anything <= 0.5:
                    break
                expected = promise(outlook)
                chosen = int(expected.argmax())
                worth = expected[chosen]
                deep = 1e3 * worth * outlook.cost[chosen]
                reason = f"expected {deep:.1f} meV/f.u. below the hull"
            first = first or worth
            index = int(outlook.which[chosen])
            told = f"{reason}, {choice.odds(index)}"
            picked.append(Selection(choice.candidates[index].key, float(worth), told))
            outlook.label(chosen)
        return picked


def uncertainty(x: Array, height: Array, hulls: Array) -> float:
    """Return how far the hull of labels is from the true one.

    Parameters
    ----------
    x
        Compositions, ascending, shape (n_x,).
    height
        The hull of labels in each world, shape (n_worlds, n_x).
    hulls
        Hulls that are possible there, shape (n_worlds, n_draws, n_x).

    Returns
    -------
    float
        Root mean square over draws and compositions, mean over worlds; unit of the hulls.
    """
    steps = np.diff(x)
    widths = np.append(steps, 0.0) + np.append(0.0, steps) if len(steps) else np.ones(1)
    square = (height[:, None] - hulls) ** 2 @ (widths / widths.sum())
    return float(np.sqrt(square.mean(axis=1)).mean())


def promise(outlook: Outlook) -> Array:
    """Return how deep below the hull of labels candidates are expected to lie, for their cost.

    Parameters
    ----------
    outlook
        Candidates and worlds.

    Returns
    -------
    ndarray, shape (n,)
        eV per formula unit; -1 for what has a label, or has one under way.
    """
    found: Array = np.where(outlook.free, outlook.improvement() / outlook.cost, -1.0)
    return found


def least(
    outlook: Outlook, measure: Callable[[Array, Array], float], now: float
) -> tuple[int, float]:
    """Return the candidate whose label leaves least of something, for its cost.

    Parameters
    ----------
    outlook
        Candidates and worlds.
    measure
        What is to be small, of a hull of labels and possible hulls; see `Outlook.after`.
    now
        Its value without another label.

    Returns
    -------
    tuple of int and float
        The candidate, as `Outlook` counts, and what its label is expected to leave.
    """
    ranked = np.argsort(-promise(outlook), kind="stable")[:TRIED]
    tried = [int(i) for i in ranked if outlook.free[i]]
    left = {i: measure(*outlook.after(i)) for i in tried}
    chosen = max(tried, key=lambda i: (now - left[i]) / outlook.cost[i])
    return chosen, left[chosen]
