"""Convergence: what must hold, what holds now, and for how many rounds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from al_charge.loop.spec import ConvergenceSettings
from al_charge.store.documents import Criterion, Vertex

LARGEST_CHANCE = 0.05
"""Probability that something without a label lies below the hull, under which it is settled."""


@dataclass(frozen=True)
class HullState:
    """What a round's assessment knows about the hull.

    Attributes
    ----------
    vertices
        Composition and configuration hash of every vertex, by composition.
    shift
        Largest movement of the hull since the round before, eV per formula unit; None in the
        first round.
    unlabelled_vertices
        Vertex compositions whose predicted ground state has no label.
    p_below_hull
        Probability that anything without a label lies below the hull by more than its tolerance;
        None before there are predictions.
    gained
        Whether the round has brought a usable label.
    asked
        Whether the round has requested one.
    """

    vertices: Sequence[Vertex]
    shift: float | None = None
    unlabelled_vertices: Sequence[str] | None = None
    p_below_hull: float | None = None
    gained: bool = True
    asked: bool = True

    @property
    def settled(self) -> bool:
        """Whether hardly anything is likely to lie below the hull."""
        return self.p_below_hull is not None and self.p_below_hull < LARGEST_CHANCE

    @property
    def tested(self) -> bool:
        """Whether it means something that the hull is the same: labels could have changed it.

        Where nothing is worth a label and there is nothing to test, none needs to be made.
        """
        return self.gained or (not self.asked and self.settled)


def criteria(
    now: HullState, before: HullState | None, settings: ConvergenceSettings
) -> list[Criterion]:
    """Return the four criteria after one round.

    Parameters
    ----------
    now
        The hull after the round.
    before
        The hull after the round before; None in the first round.
    settings
        Limits of the campaign.

    Returns
    -------
    list of Criterion
        Whether each is met, with the value that decides it.
    """
    compositions = [x for x, _ in now.vertices]
    same = before is not None and compositions == [x for x, _ in before.vertices]
    shift = "first round" if now.shift is None else f"{1000 * now.shift:.2f} meV/f.u."
    missing = now.unlabelled_vertices
    untested = "" if now.tested else "no new usable label; "
    return [
        Criterion(
            name="the vertices did not change",
            met=same and now.tested,
            value=f"{untested}x = {', '.join(compositions)}",
        ),
        Criterion(
            name="the hull moved by less than its tolerance",
            met=now.shift is not None and now.shift < settings.hull_tolerance and now.tested,
            value=f"{untested}{shift}, limit {1000 * settings.hull_tolerance:g}",
        ),
        Criterion(
            name="the predicted ground state of every vertex is labelled",
            met=missing is not None and not missing,
            value="no predictions yet"
            if missing is None
            else (f"not at x = {', '.join(missing)}" if missing else "all labelled"),
        ),
        Criterion(
            name="no unlabelled configuration is likely to lie below the hull",
            met=now.settled,
            value="no predictions yet"
            if now.p_below_hull is None
            else f"probability {100 * now.p_below_hull:.1f} %, limit {100 * LARGEST_CHANCE:g} %",
        ),
    ]


def rounds_held(history: Sequence[Sequence[Criterion]]) -> int:
    """Return for how many rounds, up to the last, every criterion has held in a row.

    Parameters
    ----------
    history
        Criteria of each round, oldest first.

    Returns
    -------
    int
        Number of rounds.
    """
    held = 0
    for round_criteria in reversed(history):
        if not all(criterion.met for criterion in round_criteria):
            break
        held += 1
    return held
