"""The sentences of a report say what is known, and what is not."""

from __future__ import annotations

from typing import Any

import pytest

from al_charge.report.campaign_report.answer import (
    certainty_sentence,
    meaning_of,
    percent,
    question,
    random_sentence,
    vertices_sentence,
)
from al_charge.report.campaign_report.random_choice import RandomChoice
from al_charge.report.documents import hull_document
from al_charge.store.documents import CampaignState
from al_charge.thermo.hull import Hull


def document(hull: Hull, **changes: Any) -> dict[str, Any]:
    return hull_document(hull, campaign="demo", labeler="born") | changes


def test_vertices_between_the_end_members_are_told(hull: Hull) -> None:
    told = vertices_sentence(document(hull))
    assert told == (
        "Between the end members 1 composition is stable: "
        "x = 3/4 (\N{MINUS SIGN}95.0 meV per formula unit)."
    )
    vertices = document(hull)["vertices"]
    assert "No intermediate" in vertices_sentence({"vertices": [vertices[0], vertices[-1]]})
    assert "2 compositions are stable" in vertices_sentence({"vertices": [*vertices, vertices[1]]})


def test_certainty_is_told_with_its_source(hull: Hull) -> None:
    assert "is not known" in certainty_sentence(document(hull))
    ranked = certainty_sentence(document(hull, p_below_hull=0.034, exhaustive=True))
    assert "is estimated at 3.4 %." in ranked and "sample" not in ranked
    sampled = certainty_sentence(document(hull, p_below_hull=0.034, exhaustive=False))
    assert "judging by a sample of the configurations" in sampled


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0.0, "0 %"),
        (0.0004, "< 0.1 %"),
        (0.034, "3.4 %"),
        (0.1, "10 %"),
        (0.995, "100 %"),
        (1, "100 %"),
    ],
)
def test_shares_are_in_per_cent(share: float, text: str) -> None:
    assert percent(share) == text


def test_random_choice_is_told_with_its_assumption() -> None:
    found = RandomChoice(872, 2, 2, 584.0, 198, 852)
    told = random_sentence(found, 0.5, 33)
    for part in (
        "584 labels on average until both vertices have one (198 to 852 in 90 %",
        "about 292 core hours at the cost of this campaign's labels",
        "this campaign used 33",
        "without replacement from 872 distinct ones",
        "The 2 end members with a single configuration come first",
    ):
        assert part in told
    assert "core hours" not in random_sentence(found, None, 33)
    assert "not estimated" in random_sentence(None, 0.5, 33)


def test_every_state_has_a_meaning() -> None:
    assert len({meaning_of(state.value) for state in CampaignState}) == len(CampaignState)
    for state in (CampaignState.RUNNING, CampaignState.PAUSED):
        assert "may change" in meaning_of(state.value)
    assert "NaxFePO4 from x = 1 to x = 3" in question("NaxFePO4", "1", "3", "Na")
