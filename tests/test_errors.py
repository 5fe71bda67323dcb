"""Errors: one line, what, where and what to do."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from al_charge.errors import AlChargeError, InputError, did_you_mean


@pytest.mark.parametrize(
    ("where", "remedy", "line"),
    [
        ("", "", "it is wrong"),
        ("host.supercell", "", "host.supercell: it is wrong"),
        ("", "mend it", "it is wrong; mend it"),
        ("host.supercell", "mend it", "host.supercell: it is wrong; mend it"),
    ],
)
def test_the_line_says_what_where_and_what_to_do(where: str, remedy: str, line: str) -> None:
    assert str(AlChargeError("it is wrong", where=where, remedy=remedy)) == line


@given(st.text(), st.text(), st.text())
def test_it_is_always_one_line(what: str, where: str, remedy: str) -> None:
    assert len(str(AlChargeError(what, where=where, remedy=remedy)).splitlines()) <= 1


def test_refused_input_is_an_error_with_its_own_exit_code() -> None:
    assert issubclass(InputError, AlChargeError)
    assert (AlChargeError.exit_code, InputError.exit_code) == (1, 2)


@pytest.mark.parametrize("kind", [AlChargeError, InputError])
def test_errors_come_back_whole_from_another_process(kind: type[AlChargeError]) -> None:
    error = kind("it is wrong", where="label 7", remedy="look at its log")
    back = pickle.loads(pickle.dumps(error))
    assert type(back) is kind
    assert str(back) == "label 7: it is wrong; look at its log"
    assert (back.what, back.where, back.remedy) == (error.what, error.where, error.remedy)


@pytest.mark.parametrize(
    ("name", "known", "remedy"),
    [
        ("gpav", ["born", "gpaw"], "did you mean 'gpaw'?"),
        ("ev", ["eV", "meV"], "did you mean 'eV'?"),
        ("MACE", ["painn", "mace"], "did you mean 'mace'?"),
        ("quux", ["gpaw", "born"], "choose one of: born, gpaw"),
        ("quux", (), ""),
    ],
)
def test_the_nearest_known_word_is_offered(name: str, known: list[str], remedy: str) -> None:
    assert did_you_mean(name, known) == remedy


@given(st.sampled_from(["charge_aware", "cutoff", "hull_tolerance"]), st.data())
def test_one_missing_letter_is_recognised(word: str, data: st.DataObject) -> None:
    dropped = data.draw(st.integers(0, len(word) - 1))
    typo = word[:dropped] + word[dropped + 1 :]
    known = ["charge_aware", "cutoff", "hull_tolerance"]
    assert did_you_mean(typo, known) == f"did you mean '{word}'?"
