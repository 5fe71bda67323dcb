"""What documents accept, and what they refuse."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from al_charge.store.documents import (
    DOCUMENTS,
    TRANSITIONS,
    CampaignDoc,
    CampaignState,
    CandidateDoc,
    LabelDoc,
    ModelDoc,
)
from al_charge.store.fields import plain, uri_has_password
from al_charge.store.schema import validator_of


def test_numpy_arrays_and_fractions_become_plain_data(
    make_candidate: Callable[..., CandidateDoc],
) -> None:
    stored = make_candidate("a", energy=np.float32(1.5)).to_mongo()
    assert stored["_id"] == "olivine/0/a"
    assert stored["composition"] == "1/4"
    assert stored["colours"] == [1, 2]
    assert stored["geometry"]["species"] == ["Na+", "Fe2+"]
    assert (type(stored["energy"]), stored["energy"]) == (float, 1.5)


def test_plain_reaches_into_nested_data() -> None:
    data = {1: (np.arange(2), {"x": Fraction(2, 3)}), "b": np.bool_(True)}
    assert plain(data) == {"1": [[0, 1], {"x": "2/3"}], "b": True}


@pytest.mark.parametrize("energy", [float("nan"), float("inf")])
def test_an_energy_that_is_no_number_is_refused(
    make_candidate: Callable[..., CandidateDoc], energy: float
) -> None:
    with pytest.raises(ValidationError, match="finite"):
        make_candidate("a", energy=energy)


def test_a_diverged_training_is_refused(make_model: Callable[..., ModelDoc]) -> None:
    with pytest.raises(ValidationError, match="finite"):
        make_model(history=[{"loss": float("nan")}])


def test_unknown_fields_are_refused(make_label: Callable[..., LabelDoc]) -> None:
    with pytest.raises(ValidationError, match="Extra inputs"):
        make_label("k", enegry=1.0)


def test_a_campaign_never_holds_a_password(make_campaign: Callable[..., CampaignDoc]) -> None:
    spec = {"database": {"uri": ["mongodb://ada:secret@host/db"]}}
    with pytest.raises(ValidationError, match="may not carry the password"):
        make_campaign(spec=spec)
    assert make_campaign(spec={"database": {"uri": "mongodb://ada@host:27017/db"}}).name


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("mongodb://u:p@h", True),
        ("see mongodb+srv://u:p%40@h/x?y=z", True),
        ("mongodb://h:27017/x", False),
        ("mongodb://u@h:27017", False),
    ],
)
def test_passwords_in_uris_are_seen(text: str, expected: bool) -> None:
    assert uri_has_password(text) is expected


def test_every_state_can_be_repeated_and_converged_is_final() -> None:
    assert set(TRANSITIONS) == set(CampaignState)
    assert all(state in after for state, after in TRANSITIONS.items())
    assert TRANSITIONS[CampaignState.CONVERGED] == {CampaignState.CONVERGED}


def test_validators_know_every_field_and_allow_no_other() -> None:
    for document in DOCUMENTS:
        schema: dict[str, Any] = validator_of(document)["$jsonSchema"]
        computed = document.model_computed_fields
        assert set(schema["required"]) == {"_id", "checksums", *document.model_fields, *computed}
        assert schema["additionalProperties"] is False
