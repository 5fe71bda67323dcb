"""YAML without its traps: repeated fields, infinite numbers, aliases that expand without end."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import yaml

from al_charge.errors import InputError

LARGEST_INTEGER = 2**53
"""Larger integers are no quantity of a campaign, and JSON does not keep them."""
LONGEST_INTEGER = 100
"""Most characters of an integer; PyYAML's time for numbers to base 60 grows with their square."""
LARGEST_FILE = 1_000_000
"""Most characters of a file, its aliases expanded; a campaign has a few thousand."""
DEEPEST = 50
"""Most brackets inside each other; PyYAML's time grows with their square."""


class _Refusal(yaml.MarkedYAMLError):
    """Valid YAML that is refused."""


class _Loader(yaml.SafeLoader):
    """A loader of plain data."""

    def fetch_flow_collection_start(self, token: Any) -> None:
        """Begin a list or mapping in brackets; refuse one that is inside too many others."""
        if self.flow_level >= DEEPEST:
            problem = f"more than {DEEPEST} brackets are nested"
            raise _Refusal(problem=problem, problem_mark=self.get_mark())
        super().fetch_flow_collection_start(token)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        """Return a mapping; refuse keys that are written twice."""
        seen = set()
        for key, _ in getattr(node, "value", ()):
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if (key.tag, key.value) in seen:
                    problem = f"the field '{key.value}' is given twice; keep one"
                    raise _Refusal(problem=problem, problem_mark=key.start_mark)
                seen.add((key.tag, key.value))
        return dict(super().construct_mapping(node, deep))

    def number(self, node: Any) -> float:
        """Return a number; refuse infinite and huge ones."""
        whole = node.tag.endswith(":int")
        try:
            if whole and len(node.value) > LONGEST_INTEGER:
                raise ValueError
            value = self.construct_yaml_int(node) if whole else self.construct_yaml_float(node)
        except ValueError:
            value = math.inf  # Python reads no integer of thousands of digits either
        if (whole and abs(value) > LARGEST_INTEGER) or not math.isfinite(value):
            problem = f"'{node.value[:20]}' is not a finite number up to 2^53"
            raise _Refusal(problem=problem, problem_mark=node.start_mark)
        return value

    def no_plain_data(self, node: Any) -> None:
        """Refuse types that a campaign has no use for: dates, binary data, sets, ordered pairs."""
        problem = f"YAML reads this as a {node.tag.rpartition(':')[2]}; write text in quotes"
        raise _Refusal(problem=problem, problem_mark=node.start_mark)

    def get_single_node(self) -> Any:
        """Return the root node; refuse aliases that make it endless or far too large."""
        node = super().get_single_node()
        if node is not None:
            _written_out(node, {})
        return node


def _written_out(node: Any, sizes: dict[int, int]) -> int:
    """Return the number of characters of a node with all its aliases expanded."""
    if isinstance(node, yaml.ScalarNode):
        return 1 + len(node.value)
    if id(node) not in sizes:
        sizes[id(node)] = LARGEST_FILE  # for one that is inside itself
        parts = node.value if isinstance(node, yaml.SequenceNode) else chain(*node.value)
        sizes[id(node)] = 1 + sum(_written_out(part, sizes) for part in parts)
    if sizes[id(node)] >= LARGEST_FILE:
        problem = "its aliases (*) expand without end, or to far too much text"
        raise _Refusal(problem=problem, problem_mark=node.start_mark)
    return sizes[id(node)]


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.number)
_Loader.add_constructor("tag:yaml.org,2002:float", _Loader.number)
for _kind in ("binary", "omap", "pairs", "set", "timestamp"):
    _Loader.add_constructor(f"tag:yaml.org,2002:{_kind}", _Loader.no_plain_data)


def read_mapping(path: Path, remedy: str = "start from 'al-charge init'") -> dict[Any, Any]:
    """Return the fields of a YAML file.

    Parameters
    ----------
    path
        The file.
    remedy
        What to do about a file without fields, for the message.

    Returns
    -------
    dict
        Plain data: mappings, lists, text, finite numbers, true, false and null.

    Raises
    ------
    InputError
        If it cannot be read, is not YAML, or has no fields.
    """
    try:
        # The loader is a SafeLoader: it makes plain data only.
        with path.open(encoding="utf-8-sig") as file:
            text = file.read(LARGEST_FILE + 1)
        if len(text) > LARGEST_FILE:
            raise InputError(f"it has more than {LARGEST_FILE} characters", where=str(path))
        document = yaml.load(text, _Loader)
    except OSError as error:
        raise InputError(
            f"cannot read it: {error.strerror}", where=str(path), remedy="check the path"
        ) from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"{path}, line {mark.line + 1}" if mark is not None else str(path)
        if isinstance(error, _Refusal):
            raise InputError(str(error.problem), where=where) from error
        raise InputError(
            f"it is not YAML: {error.problem}", where=where, remedy="check its indentation"
        ) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())[:160]
        raise InputError(f"it is not YAML: {reason}", where=str(path)) from error
    if not isinstance(document, dict):
        raise InputError("it has no fields", where=str(path), remedy=remedy)
    return document


def refuse_false_numbers(given: Any, taken: Any, source: str, *steps: str) -> None:
    """Refuse values that a model has wrongly taken for numbers.

    pydantic takes ``true`` for 1, and the text ``1e999``, which YAML does not read as a float, for
    infinity.

    Parameters
    ----------
    given
        Content of a file.
    taken
        What a model made of it.
    source
        The file, for the message.
    *steps
        Path of the field in the file, for the message.

    Raises
    ------
    InputError
        With the first such field.
    """
    if isinstance(given, Mapping):
        for name, value in given.items():
            inner = taken.get(name) if isinstance(taken, Mapping) else getattr(taken, name, None)
            refuse_false_numbers(value, inner, source, *steps, str(name))
    elif isinstance(given, list) and isinstance(taken, Sequence):
        for place, (value, inner) in enumerate(zip(given, taken, strict=False)):
            refuse_false_numbers(value, inner, source, *steps, str(place))
    elif isinstance(taken, int | float) and not isinstance(taken, bool):
        where = f"{source}: {'.'.join(steps)}"
        if isinstance(given, bool):
            raise InputError("true and false are not numbers", where=where, remedy="write a number")
        if not abs(taken) <= LARGEST_INTEGER:
            raise InputError(f"'{given}' is not a finite number up to 2^53", where=where)
