"""Conditions on labels: what they hold for, against Python's own reading, and what is refused."""

from __future__ import annotations

import random
import re
from typing import Any

import pytest

from al_charge.errors import InputError
from al_charge.loop.conditions import Kind, read_condition

FIELDS = {
    "x": Kind.NUMBER,
    "energy": Kind.NUMBER,
    "above_hull": Kind.NUMBER,
    "round": Kind.NUMBER,
    "label": Kind.ID,
    "engine": Kind.TEXT,
    "refused": Kind.FLAG,
}
LABEL: dict[str, Any] = {
    "x": 0.5,
    "energy": -44.5,
    "above_hull": None,
    "round": 3,
    "label": "62143e5a3ee0",
    "engine": "GPAW 26.7.0",
    "refused": False,
    "Fe2+": 2,
    "Fe3+": 2,
}


def holds(text: str, **changes: Any) -> bool:
    condition = read_condition(text, FIELDS, str)
    values = {name: (lambda one, name=name: one[name]) for name in condition.fields}
    return condition.test(values)(LABEL | changes)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x = 1/2 and Fe2+ >= 2", True),
        ("x=0.5 and Fe2+>2", False),
        ("x == 1/2", True),
        ("x != 1/2", False),
        ("Fe2+ < Fe3+", None),
        ("energy < -44.4 and energy > -44.6", True),
        ("round = 2 or round = 3", True),
        ("round <= 2 or round > 3", False),
        # As in Python: 'not' before 'and', 'and' before 'or'.
        ("round = 3 or round = 3 and x = 0", True),
        ("(round = 3 or round = 3) and x = 0", False),
        ("not refused and x = 1/2", True),
        ("not (refused or x = 1/2)", False),
        ("refused", False),
        ("label = 6214", True),
        ("label != 6214", False),
        ("label = 6215", False),
        ("label = '62143e5a3ee0'", True),
        ("engine = 'GPAW 26.7.0'", True),
        ("engine = GPAW", False),
        # What is not known is neither above nor below.
        ("above_hull >= 0", False),
        ("above_hull < 0", False),
        ("above_hull != 0", False),
    ],
)
def test_what_holds(text: str, expected: bool | None) -> None:
    if expected is None:
        with pytest.raises(InputError, match="'Fe3\\+' is not a number"):
            holds(text)
    else:
        assert holds(text) is expected


def test_random_conditions_hold_where_python_says_so() -> None:
    rng = random.Random(1)

    def term(depth: int) -> str:
        kind = rng.random()
        if depth and kind < 0.3:
            return f"({either(depth - 1)})"
        if depth and kind < 0.5:
            return f"not {term(depth - 1)}"
        if kind < 0.6:
            return "refused"
        sign = rng.choice(["<", "<=", ">", ">=", "==", "!="])
        return f"{rng.choice(['round', 'energy'])} {sign} {rng.randint(-2, 2)}"

    def either(depth: int) -> str:
        parts = [term(depth) for _ in range(rng.randint(1, 3))]
        return "".join(f"{p} {rng.choice(['and', 'or'])} " for p in parts[:-1]) + parts[-1]

    seen = set()
    for _ in range(300):
        text = either(3)
        values = {
            "round": rng.randint(-2, 2),
            "energy": rng.uniform(-2, 2),
            "refused": rng.random() < 0.5,
        }
        expected = bool(eval(text, {"__builtins__": {}}, values))
        assert holds(text, **values) is expected, (text, values)
        seen.add(expected)
    assert seen == {True, False}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "it ends too early"),
        ("ronud = 2", "labels have no field 'ronud'; did you mean 'round'"),
        ("x", "'x' is not compared with anything"),
        ("x =", "not followed by a value"),
        ("x = half", "'half' is not a number; write, for example, 1/2"),
        ("x = 1/0", "is not a number"),
        ("x = 1/2 Fe2+ = 1", "'Fe2+ = 1' is unexpected"),
        ("(x = 1/2", "a parenthesis is not closed"),
        ("x = 1/2)", "')' is unexpected"),
        ("refused = true", "'refused' has no value"),
        ("engine < b", "'engine' is not a number"),
        ("x = 1 and", "it ends too early"),
        ("not " * 60 + "refused", "nested too deeply"),
        ("__import__('os')", "labels have no field '__import__'"),
    ],
)
def test_what_is_refused_in_one_line(text: str, message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)) as refused:
        read_condition(text, FIELDS, str)
    assert "\n" not in str(refused.value)


def test_it_tells_which_fields_it_looks_at() -> None:
    assert read_condition("x = 1 or not Fe2+ > 1", FIELDS, str).fields == {"x", "Fe2+"}
