"""What a campaign was asked and what it answers, in sentences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from al_charge.report.campaign_report.random_choice import RandomChoice
from al_charge.report.progress import core_time
from al_charge.store.documents import CampaignState

MEANING = {
    CampaignState.CONVERGED: "The search is complete: its criteria of convergence are met.",
    CampaignState.SAMPLED: "Every criterion of convergence is met, but only a sample of the "
    "configurations was ranked: one that was never considered may lie below the hull.",
    CampaignState.EXHAUSTED: "The budget was spent before the criteria of convergence were met: "
    "this is the best hull so far, not a converged one.",
    CampaignState.RUNNING: "The campaign is still running: everything here may change.",
    CampaignState.PAUSED: "The campaign is paused: everything here may change when it continues.",
    CampaignState.FAILED: "The campaign stopped because of an error; below is what it had found.",
}
"""What the state of a campaign means for its hull."""


def meaning_of(state: str) -> str:
    """Return what a state means for what the campaign found.

    Parameters
    ----------
    state
        As ``al-charge campaign status`` names it.

    Returns
    -------
    str
        A sentence.
    """
    return MEANING[CampaignState(state)]


def question(formula: str, first: str, last: str, working_ion: str) -> str:
    """Return what was asked.

    Parameters
    ----------
    formula
        Of the host.
    first
        Lowest x of the window of compositions.
    last
        Highest x.
    working_ion
        Its element.

    Returns
    -------
    str
        A sentence.
    """
    return (
        f"Which {working_ion} and charge orderings are stable in {formula} from x = {first} to "
        f"x = {last} at 0 K, and what voltage follows?"
    )


def vertices_sentence(hull: Mapping[str, Any]) -> str:
    """Return which compositions are stable.

    Parameters
    ----------
    hull
        ``al-charge hull --json``.

    Returns
    -------
    str
        A sentence.
    """
    inner = hull["vertices"][1:-1]
    if not inner:
        return "No intermediate composition is stable: the two end members coexist in between."
    energies = [minus(f"{1e3 * one['formation_energy']:.1f}") for one in inner]
    each = ", ".join(
        f"x = {one['x']} ({energy} meV per formula unit)"
        for one, energy in zip(inner, energies, strict=True)
    )
    are = "composition is" if len(inner) == 1 else "compositions are"
    return f"Between the end members {len(inner)} {are} stable: {each}."


def certainty_sentence(hull: Mapping[str, Any]) -> str:
    """Return how likely something lies below the hull.

    Parameters
    ----------
    hull
        ``al-charge hull --json``.

    Returns
    -------
    str
        A sentence; says so where it is not known.
    """
    chance = hull["p_below_hull"]
    if chance is None:
        return "The probability of a lower hull is not known: nothing was predicted."
    source = "" if hull["exhaustive"] else ", judging by a sample of the configurations"
    return (
        "The probability that an unlabelled configuration lies below this hull by more than the "
        f"tolerance is estimated at {percent(chance)}{source}."
    )


def random_sentence(found: RandomChoice | None, per_label: float | None, labels: int) -> str:
    """Return what random choice would have cost for the same vertices.

    Parameters
    ----------
    found
        The estimate; None where there is none.
    per_label
        Core hours of labelling jobs for each label; None if not known.
    labels
        Labels of the campaign.

    Returns
    -------
    str
        Sentences, the assumption among them.
    """
    if found is None:
        return (
            "What random choice would have cost is not estimated: besides end members with a "
            "single configuration there is no vertex to be drawn."
        )
    hours = ""
    if per_label is not None:
        cost = core_time(found.labels * per_label)
        hours = f", about {cost} at the cost of this campaign's labels"
    every = {1: "the vertex has", 2: "both vertices have"}.get(
        found.vertices, f"all {found.vertices} vertices have"
    )
    given = (
        f" The {found.given} end members with a single configuration come first, and are counted."
        if found.given
        else ""
    )
    return (
        f"Random choice would have needed {found.labels:.0f} labels on average until "
        f"{every} one ({found.low} to {found.high} in 90 % of all random orders){hours}; this "
        f"campaign used {labels}. "
        "This assumes that the vertices found are the true ones, that configurations are drawn "
        f"uniformly and without replacement from {found.configurations} distinct ones, and that "
        f"each label is made once and is usable.{given} Random choice would not know when to stop."
    )


def percent(share: float) -> str:
    """Return a probability for people.

    Parameters
    ----------
    share
        From 0 to 1.

    Returns
    -------
    str
        In per cent.
    """
    if 0 < share < 0.001:
        return "< 0.1 %"
    return f"{100 * share:.1f} %" if 0 < share < 0.1 else f"{100 * share:.0f} %"


def minus(text: str) -> str:
    """Return a number with a real minus sign.

    Parameters
    ----------
    text
        A formatted number.

    Returns
    -------
    str
        The same, for people.
    """
    return text.replace("-", "\N{MINUS SIGN}")
