"""Conditions on labels as people write them: ``x = 1/2 and Fe2+ >= 4``.

A condition is a comparison of a field with a value, or several of them with ``and``, ``or``,
``not`` and parentheses. It is read once; nothing of it is run as code.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from functools import reduce
from typing import Any

from al_charge.errors import InputError, did_you_mean

Values = Mapping[str, Callable[[Any], Any]]
"""What returns a field of a label, by the field's name; None where it is not known."""
Test = Callable[[Any], bool]
_Part = Callable[[Values], Test]

_BLANK = re.compile(r"\s*")
_SPECIES = re.compile(r"[A-Z][a-z]?\d*[+-](?:(?:,| +)(?:spin=\d+|low|high|intermediate))?")
_WORD = re.compile(r"[A-Za-z_]\w*")
_OPERATOR = re.compile(r"<=|>=|!=|==|=|<|>")
_VALUE = re.compile(r"\"[^\"]*\"|'[^']*'|[^\s()]+")
_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "=": operator.eq,
    "==": operator.eq,
    "!=": operator.ne,
}
_DEEPEST = 50
"""Levels of parentheses and ``not``."""


class Kind(StrEnum):
    """What a field holds."""

    NUMBER = "number"
    TEXT = "text"
    ID = "id"
    """A hash, which its first characters stand for."""
    FLAG = "flag"
    """True or false; it stands alone."""


@dataclass(frozen=True)
class Condition:
    """A condition that was read.

    Attributes
    ----------
    text
        As it was written.
    fields
        Names of the fields that it looks at.
    test
        Given what returns the fields of a label, returns what says whether it holds for one.
        Numbers are compared as floats; no comparison with what is not known holds.
    """

    text: str
    fields: frozenset[str]
    test: _Part


def read_condition(
    text: str, fields: Mapping[str, Kind], species: Callable[[str], str]
) -> Condition:
    """Read a condition.

    Parameters
    ----------
    text
        Such as ``x = 1/2 and (Fe2+ >= 4 or not delocalised)``.
    fields
        Kinds of the known fields by name; numbers of ions of a species are numbers besides.
    species
        Returns the field of a species that is written in a condition, or raises InputError.

    Returns
    -------
    Condition
        The condition.

    Raises
    ------
    InputError
        If it cannot be read, or names what is not a field.
    """
    reader = _Reader(text, fields, species)
    test = reader.either(0)
    if reader.rest():
        raise reader.error(f"'{reader.rest()}' is unexpected", "write 'and' or 'or' between two")
    return Condition(text, frozenset(reader.used), test)


class _Reader:
    """Reads a condition from left to right; each method reads one kind of part."""

    def __init__(
        self, text: str, fields: Mapping[str, Kind], species: Callable[[str], str]
    ) -> None:
        self.used: set[str] = set()
        self._text, self._place = text, 0
        self._fields, self._species = fields, species

    def rest(self) -> str:
        """Return what is not read yet."""
        return self._text[self._place :].strip()

    def error(self, what: str, remedy: str = "") -> InputError:
        """Return an error that names the condition."""
        return InputError(what, where=f"condition '{self._text}'", remedy=remedy)

    def either(self, depth: int) -> _Part:
        """Read terms with ``or`` between them."""
        return self._joined("or", _or, lambda: self._joined("and", _and, lambda: self._term(depth)))

    def _joined(
        self, word: str, join: Callable[[Test, Test], Test], part: Callable[[], _Part]
    ) -> _Part:
        parts = [part()]
        while self._take(_WORD, word):
            parts.append(part())
        return lambda values: reduce(join, [one(values) for one in parts])

    def _term(self, depth: int) -> _Part:
        if depth > _DEEPEST:
            raise self.error("it is nested too deeply")
        if self._take(_WORD, "not"):
            inner = self._term(depth + 1)
            return lambda values: _not(inner(values))
        if self._take(re.compile(r"\(")):
            inner = self.either(depth + 1)
            if not self._take(re.compile(r"\)")):
                raise self.error("a parenthesis is not closed")
            return inner
        return self._comparison()

    def _comparison(self) -> _Part:
        name, kind = self._field()
        self.used.add(name)
        sign = self._take(_OPERATOR)
        if kind is Kind.FLAG:
            if sign:
                raise self.error(f"'{name}' has no value", f"write '{name}', or 'not {name}'")
            return lambda values: values[name]
        if not sign:
            raise self.error(
                f"'{name}' is not compared with anything", f"write, for example, '{name} = ...'"
            )
        if kind is not Kind.NUMBER and sign not in ("=", "==", "!="):
            raise self.error(f"'{name}' is not a number", "compare it with = or !=")
        given = self._take(_VALUE).strip("\"'")
        if not given:
            raise self.error(f"'{name} {sign}' is not followed by a value")
        compare = _OPERATORS[sign]
        if kind is Kind.ID:
            return lambda values: _compared(
                lambda one: values[name](one).startswith(given), compare, True
            )
        value: Any = self._number(given) if kind is Kind.NUMBER else given
        return lambda values: _compared(values[name], compare, value)

    def _field(self) -> tuple[str, Kind]:
        written = self._take(_SPECIES)
        if written:
            return self._species(written), Kind.NUMBER
        name = self._take(_WORD)
        if not name:
            found = f"'{self.rest()}' is not a field" if self.rest() else "it ends too early"
            raise self.error(found, "write, for example, 'x = 1/2 and Fe2+ >= 4'")
        if name not in self._fields:
            raise self.error(f"labels have no field '{name}'", did_you_mean(name, self._fields))
        return name, self._fields[name]

    def _number(self, text: str) -> float:
        try:
            return float(Fraction(text))
        except (ValueError, ArithmeticError) as error:
            raise self.error(
                f"'{text}' is not a number", "write, for example, 1/2 or -0.02"
            ) from error

    def _take(self, pattern: re.Pattern[str], only: str | None = None) -> str:
        """Read what matches, if anything does; return it."""
        blank = _BLANK.match(self._text, self._place)
        assert blank is not None
        found = pattern.match(self._text, blank.end())
        if found is None or (only is not None and found[0].lower() != only):
            return ""
        self._place = found.end()
        return found[0]


# What is asked of each of many labels: no more than a call for each comparison that decides.


def _and(first: Test, second: Test) -> Test:
    return lambda one: first(one) and second(one)


def _or(first: Test, second: Test) -> Test:
    return lambda one: first(one) or second(one)


def _not(inner: Test) -> Test:
    return lambda one: not inner(one)


def _compared(value: Callable[[Any], Any], compare: Callable[[Any, Any], bool], given: Any) -> Test:
    def test(one: Any) -> bool:
        found = value(one)
        return found is not None and compare(found, given)

    return test
