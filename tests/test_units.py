"""Quantities with units: what is read, what is refused, and what is written back."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from al_charge.units import Energy, Force, Length, Quantity, Time, parse_quantity

UNITS = [
    ("energy", "eV", 1.0),
    ("energy", "meV", 1e-3),
    ("force", "eV/A", 1.0),
    ("force", "meV/A", 1e-3),
    ("length", "A", 1.0),
    ("length", "nm", 10.0),
    ("memory", "GB", 1.0),
    ("memory", "MB", 1e-3),
    ("memory", "TB", 1e3),
    ("time", "s", 1.0),
    ("time", "min", 60.0),
    ("time", "h", 3600.0),
    ("time", "d", 86400.0),
]
numbers = st.floats(-1e12, 1e12)


class Settings(BaseModel):
    """Settings as a campaign file has them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    tolerance: Energy = Field(default=0.001, gt=0)
    fmax: Force = 0.01
    cutoff: Length = 4.5
    limit: Time = 60.0


@pytest.mark.parametrize(("dimension", "unit", "factor"), UNITS)
def test_every_unit_is_converted(dimension: str, unit: str, factor: float) -> None:
    assert parse_quantity(f"2.5 {unit}", dimension) == pytest.approx(2.5 * factor, rel=1e-15)


@given(numbers, st.sampled_from(UNITS), st.sampled_from(["", " ", "  "]))
def test_any_number_is_read(number: float, unit: tuple[str, str, float], space: str) -> None:
    dimension, symbol, factor = unit
    assert parse_quantity(f"{number!r}{space}{symbol}", dimension) == number * factor


@pytest.mark.parametrize("text", ["1. eV", "+1 eV", "1e0 eV", "  1 eV ", "1000 meV", "10E-1 eV"])
def test_ways_to_write_one(text: str) -> None:
    assert parse_quantity(text, "energy") == pytest.approx(1.0)


@pytest.mark.parametrize(
    "value",
    [
        *(1, 1.0, True, None, b"1 eV", ["1 eV"], {"value": 1}),
        *("", "1", "0.1", "10", "eV", "one eV", "nan eV", "inf eV", "1 eV eV"),
        *("1_0 eV", "1,5 eV", "0x1 eV", "\u0661 eV"),
    ],
)
def test_what_is_no_quantity_is_refused_with_an_example(value: Any) -> None:
    with pytest.raises(
        ValueError, match="is not a valid energy; write it with its unit, like '1 eV'"
    ):
        parse_quantity(value, "energy")


@pytest.mark.parametrize(
    ("text", "dimension", "message"),
    [
        ("1 ev", "energy", "'ev' is not a unit of energy; did you mean 'eV'?"),
        ("1 eV", "force", "'eV' is not a unit of force; did you mean 'eV/A'?"),
        ("1 nm", "time", "'nm' is not a unit of time; choose one of: d, h, min, s"),
        ("1 kg", "length", "'kg' is not a unit of length; choose one of: A, nm"),
        ("1e400 eV", "energy", "'1e400 eV' is too large"),
        ("1e308 nm", "length", "'1e308 nm' is too large"),
    ],
)
def test_a_wrong_unit_is_named(text: str, dimension: str, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse_quantity(text, dimension)
    assert message in str(caught.value)


@given(st.one_of(st.text(), st.integers(), st.floats(), st.none(), st.binary()))
def test_anything_else_is_a_value_error_or_a_finite_number(value: Any) -> None:
    try:
        result = parse_quantity(value, "time")
    except ValueError as error:
        assert str(error)
    else:
        assert math.isfinite(result)


def test_a_converted_quantity_passes_unchanged() -> None:
    assert parse_quantity(Quantity(0.25), "energy") == 0.25


def test_settings_hold_plain_numbers_in_the_packages_units() -> None:
    settings = Settings.model_validate(
        {"tolerance": "2 meV", "fmax": "20 meV/A", "cutoff": "0.5 nm", "limit": "2 min"}
    )
    assert settings.model_dump() == pytest.approx(
        {"tolerance": 0.002, "fmax": 0.02, "cutoff": 5.0, "limit": 120.0}
    )
    assert settings.limit * 2 == 240.0


def test_defaults_are_numbers_and_are_written_with_their_unit() -> None:
    assert Settings().model_dump(mode="json") == {
        "tolerance": "0.001 eV",
        "fmax": "0.01 eV/A",
        "cutoff": "4.5 A",
        "limit": "60.0 s",
    }


@given(st.floats(1e-12, 1e9), numbers, numbers, numbers)
def test_settings_survive_being_written_and_read(
    tolerance: float, fmax: float, cutoff: float, limit: float
) -> None:
    settings = Settings.model_validate(
        {
            "tolerance": f"{tolerance!r} eV",
            "fmax": f"{fmax!r} meV/A",
            "cutoff": f"{cutoff!r} nm",
            "limit": f"{limit!r} h",
        }
    )
    assert Settings.model_validate_json(settings.model_dump_json()) == settings
    assert Settings.model_validate(settings.model_dump(mode="json")) == settings


@pytest.mark.parametrize("value", ["0 eV", "-1 meV", "0.1", 0.1, "1 s"])
def test_settings_refuse_what_is_out_of_range_or_without_unit(value: Any) -> None:
    with pytest.raises(ValidationError) as caught:
        Settings.model_validate({"tolerance": value})
    assert [error["loc"] for error in caught.value.errors()] == [("tolerance",)]
