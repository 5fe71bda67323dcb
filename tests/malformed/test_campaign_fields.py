"""Each field of a campaign file in turn with what it may not hold, found from the schema itself."""

from __future__ import annotations

import copy
import types
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import pytest
import yaml
from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel, BeforeValidator
from pydantic.fields import FieldInfo

from al_charge.loop.spec import CampaignSpec

HOST = (Path(__file__).parents[2] / "workflows" / "hosts" / "NaFePO4.cif").read_bytes()
SMALLEST: dict[str, Any] = {
    "name": "wrong",
    "host": {
        "structure": "host.cif",
        "working_ion": "Na",
        "redox": {"Fe": [2, 3]},
        "fixed": {"P": 5, "O": -2},
    },
    "labeler": {"kind": "born"},
    "potential": {"kind": "painn"},
}
UNITS = ("eV", "eV/A", "A", "s")
ALWAYS: tuple[Any, ...] = ([[]], {"deeper": {"still": 1}}, "\x00", "!" * 5000)
"""What no field holds, whatever its type, but for text that is free."""
Steps = tuple[str, ...]


def fields(model: type[BaseModel], steps: Steps = (), kind: str = "") -> Iterator[Any]:
    """Yield the place, the kinds of the unions above, and the description of every field."""
    for name, info in model.model_fields.items():
        place = (*steps, name)
        yield place, kind, info
        for inner in submodels(info.annotation):
            tag = getattr(inner.model_fields.get("kind"), "default", "")
            yield from fields(inner, place, str(getattr(tag, "value", tag)))


def submodels(annotation: Any) -> list[type[BaseModel]]:
    found = [annotation, *get_args(annotation)]
    return [each for each in found if isinstance(each, type) and issubclass(each, BaseModel)]


FIELDS = list(fields(CampaignSpec))


def alternatives(annotation: Any, metadata: list[Any]) -> list[tuple[Any, list[Any]]]:
    """Return the types that a field may have, each with its limits."""
    if hasattr(annotation, "__metadata__"):
        return alternatives(annotation.__origin__, [*annotation.__metadata__, *metadata])
    if get_origin(annotation) in (Union, types.UnionType):
        return [each for a in get_args(annotation) for each in alternatives(a, metadata)]
    return [(annotation, metadata)]


def unit_of(metadata: list[Any]) -> str:
    """Return the unit that a field is written with; empty for one without."""
    for reader in (each for each in metadata if isinstance(each, BeforeValidator)):
        for unit in UNITS:
            try:
                reader.func(f"1 {unit}")  # type: ignore[call-arg]
            except ValueError:
                continue
            return unit
    return ""


def beyond(metadata: list[Any], step: float) -> list[float]:
    """Return the numbers next to the limits, on their wrong side."""
    found: list[float] = []
    for limit in metadata:
        for inner in [limit, *getattr(limit, "metadata", ())]:
            found += [inner.ge - step] if isinstance(inner, Ge) else []
            found += [inner.gt] if isinstance(inner, Gt) else []
            found += [inner.le + step] if isinstance(inner, Le) else []
            found += [inner.lt] if isinstance(inner, Lt) else []
    return found


def wrong_values(info: FieldInfo) -> list[Any]:
    """Return what a field may not hold by its type and its limits."""
    allowed = alternatives(info.annotation, list(info.metadata))
    values = [] if type(None) in [kind for kind, _ in allowed] else [None]
    kinds = [(kind, limits) for kind, limits in allowed if kind is not type(None)]
    if len(kinds) != 1:  # a union of models, told apart by 'kind'
        return [*values, *ALWAYS, 1, True, "born", [], {}, {"kind": "none"}, {"kind": None}]
    ((kind, limits),) = kinds
    return values + list(_wrong(kind, limits))


def _wrong(kind: Any, limits: list[Any]) -> Iterator[Any]:
    if unit := unit_of(limits):
        yield from (*ALWAYS, 5, 1.5, True, "5", "", "much", f"nan {unit}", f"1e999 {unit}")
        yield from (f"5 {unit}s/parsec", f"1,5 {unit}", f"{unit} 5", f"5 {unit} {unit}")
        yield from (f"5 {other}" for other in UNITS if other != unit)
        yield from (f"{value} {unit}" for value in beyond(limits, 1e-3))
    elif kind in (int, float):
        yield from (*ALWAYS, "many", "", "5 A", True, False, float("nan"), "nan", "1e999")
        yield from (float("inf"), float("-inf"), 10**400, [1], {"a": 1})
        yield from (1.5,) if kind is int else ()
        yield from beyond(limits, 1 if kind is int else 1e-3)
    elif kind is bool:
        yield from (*ALWAYS, "maybe", "", 2, -1, 0.5, float("nan"), [True])
    elif get_origin(kind) is Literal or (isinstance(kind, type) and issubclass(kind, Enum)):
        yield from (*ALWAYS, "unheard-of", "", -77, True, 0.5, ["none"])
    elif kind in (str, Path):
        yield from (ALWAYS[0], ALWAYS[1], 5, 1.5, True, ["text"], {"text": 1})
    elif get_origin(kind) is tuple:
        inner = get_args(kind)[0]
        yield from (*ALWAYS, 5, True, "1", {"a": 1}, [[1, 1, 1]], ["a", "b", "c"], [None] * 3)
        yield from ([], [1], [1] * 4, [True] * 3, [1.5, 1, 1], [float("nan")] * 3, [10**30] * 3)
        yield from ([0, 0, 0], [-1, 1, 1]) if inner is not float else ()
    elif get_origin(kind) is dict:
        yield from (ALWAYS[0], ALWAYS[1], 5, True, "Fe", [], ["Fe"], {"Fe": None}, {"Fe": {}})
        yield from ({1: 2}, {None: 1}, {True: 1}, {"": [None]}, {"\x00": [[[]]]})
    else:
        yield from (*ALWAYS, 5, True, "text", [], ["text"], {"unheard_of": 1})


def with_value(place: Steps, kind: str, value: Any) -> dict[str, Any]:
    """Return the smallest campaign with one field put in."""
    document = copy.deepcopy(SMALLEST)
    part = document
    for step in place[:-1]:
        part = part.setdefault(step, {})
    if kind and place[-1] != "kind":
        part["kind"] = kind
    if place[0] == "database" and len(place) > 1:
        part["uri"] = "mongodb://localhost"
    part[place[-1]] = value
    return document


@pytest.mark.parametrize("section", sorted(CampaignSpec.model_fields))
def test_what_a_field_may_not_hold(section: str, sweep: Any) -> None:
    (sweep.folder / "host.cif").write_bytes(HOST)
    cases = [
        (
            f"{'.'.join(place)} ({kind}) = {value!r:.80}",
            yaml.safe_dump(with_value(place, kind, value)),
        )
        for place, kind, info in FIELDS
        if place[0] == section
        for value in wrong_values(info)
    ]
    number = sweep.each(
        cases, "c.yaml", "check", "c.yaml", names=("c.yaml: ", "c.yaml, line", f"{section}.")
    )
    assert number > 5
