"""A measured voltage curve: what is read, and how it compares with the computed one."""

from __future__ import annotations

from pathlib import Path

import pytest

from al_charge.errors import InputError
from al_charge.report.documents import measured_document
from al_charge.report.experiment import read_measured
from al_charge.thermo.voltage import VoltageProfile

CAPACITY = 154.0


def write(folder: Path, text: str) -> Path:
    path = folder / "cell.csv"
    path.write_text(text)
    return path


def test_capacities_count_from_the_charged_end(profile: VoltageProfile, tmp_path: Path) -> None:
    lines = "# C/20\nCapacity, Voltage\n0, 3.2\n77, 2.9\n154, 2.4\n"
    by_capacity = read_measured(write(tmp_path, lines), profile, CAPACITY)
    assert by_capacity.points == ((0.0, 3.2), (0.5, 2.9), (1.0, 2.4))
    by_x = read_measured(write(tmp_path, "x,voltage\n1,2.4\n0,3.2\n0.5,2.9\n"), profile, CAPACITY)
    assert by_x == by_capacity


def test_the_mean_is_that_of_the_area(profile: VoltageProfile, tmp_path: Path) -> None:
    measured = read_measured(write(tmp_path, "x,voltage\n0,4\n0.5,2\n1,1\n"), profile, CAPACITY)
    assert measured.mean(0.0, 1.0) == pytest.approx((3.0 + 1.5) / 2)
    assert measured.mean(0.25, 0.75) == pytest.approx((2.5 + 1.75) / 2)
    assert measured.mean(0.0, 1.1) is None
    told = measured_document(measured, profile)
    assert told["mean_difference"] == pytest.approx(profile.mean - 2.25)
    step = profile.steps[0]  # to x = 3/4
    mean = (0.5 * 3.0 + 0.25 * 1.75) / 0.75
    assert told["steps"][0]["mean_voltage"] == pytest.approx(mean)
    assert told["steps"][0]["mean_difference"] == pytest.approx(step.voltage - mean)
    short = read_measured(write(tmp_path, "x,voltage\n0,4\n0.8,2\n"), profile, CAPACITY)
    told = measured_document(short, profile)
    assert told["mean_voltage"] is None and told["steps"][1]["mean_difference"] is None
    assert told["steps"][0]["mean_voltage"] is not None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x,volts\n0,1\n1,1\n", "did you mean 'voltage'"),
        ("", "no columns 'x'"),
        ("x,voltage\n0,3\n", "fewer than two points"),
        ("x,voltage\n0,3\n1,high\n", "row 3: not a number"),
        ("x,voltage\n0,3\n1\n", "row 3: not a number"),
        ("x,voltage\n0,3\n1,nan\n", "row 3: not a finite number"),
        ("x,voltage\n0," + "3" * 2**18 + "\n", "it is not a table: field larger than"),
    ],
)
def test_what_is_refused(text: str, message: str, profile: VoltageProfile, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        read_measured(write(tmp_path, text), profile, CAPACITY)
