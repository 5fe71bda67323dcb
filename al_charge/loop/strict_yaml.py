"""YAML without its traps: no field given twice, no number that is none, nothing that explodes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import yaml

from al_charge.errors import InputError

LARGEST_INTEGER = 2**53
"""Larger ones are no quantity of a campaign, and do not survive JSON."""
LARGEST_FILE = 1_000_000
"""Characters of a file, written out without aliases; a campaign has some thousand."""


class _Refusal(yaml.MarkedYAMLError):
    """Valid YAML that means nothing good."""


class _Loader(yaml.SafeLoader):
    """Reads plain data only."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        """Return a mapping whose every key was written once."""
        seen = set()
        for key, _ in getattr(node, "value", ()):
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if (key.tag, key.value) in seen:
                    problem = f"the field '{key.value}' is given twice; keep one"
                    raise _Refusal(problem=problem, problem_mark=key.start_mark)
                seen.add((key.tag, key.value))
        return dict(super().construct_mapping(node, deep))

    def number(self, node: Any) -> float:
        """Return a number, unless it is none that anyone could mean."""
        whole = node.tag.endswith(":int")
        try:
            value = self.construct_yaml_int(node) if whole else self.construct_yaml_float(node)
        except ValueError:
            value = math.inf  # Python reads no integer of thousands of digits
        if (whole and abs(value) > LARGEST_INTEGER) or not math.isfinite(value):
            problem = f"'{node.value[:20]}' is no number of ordinary size"
            raise _Refusal(problem=problem, problem_mark=node.start_mark)
        return value

    def no_plain_data(self, node: Any) -> None:
        """Refuse what a campaign has no use for: dates, bytes, sets and pairs in an order."""
        problem = f"YAML takes this for a {node.tag.rpartition(':')[2]}; write text in quotes"
        raise _Refusal(problem=problem, problem_mark=node.start_mark)

    def get_single_node(self) -> Any:
        """Return the document's node, unless its aliases make it endless or far too large."""
        node = super().get_single_node()
        if node is not None:
            _written_out(node, {})
        return node


def _written_out(node: Any, sizes: dict[int, int]) -> int:
    """Return how many characters a node has with every alias replaced by what it stands for."""
    if isinstance(node, yaml.ScalarNode):
        return 1 + len(node.value)
    if id(node) not in sizes:
        sizes[id(node)] = LARGEST_FILE  # for one that is inside itself
        parts = node.value if isinstance(node, yaml.SequenceNode) else chain(*node.value)
        sizes[id(node)] = 1 + sum(_written_out(part, sizes) for part in parts)
    if sizes[id(node)] >= LARGEST_FILE:
        problem = "its aliases (*) have no end, or stand for far too much"
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
    remedy
        What to do about a file without fields.

    Raises
    ------
    InputError
        If it cannot be read, is no YAML, or holds no fields.
    """
    try:
        # The loader is a SafeLoader: it makes plain data only.
        with path.open(encoding="utf-8-sig") as file:
            text = file.read(LARGEST_FILE + 1)
        if len(text) > LARGEST_FILE:
            raise InputError("it is too large", where=str(path))
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
            f"it is no YAML: {error.problem}", where=where, remedy="check its indentation"
        ) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())[:160]
        raise InputError(f"it is no YAML: {reason}", where=str(path)) from error
    if not isinstance(document, dict):
        raise InputError("it holds no fields", where=str(path), remedy=remedy)
    return document


def refuse_false_numbers(given: Any, taken: Any, source: str, *steps: str) -> None:
    """Refuse what became a number though nobody could have meant it as one.

    pydantic takes ``true`` for 1 and the text ``1e999``, which is no float of YAML, for infinity.

    Parameters
    ----------
    given
        What a file holds.
    taken
        What a model made of it.
    source, steps
        The file and the field in it, for errors.

    Raises
    ------
    InputError
        With the field that is wrong.
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
            raise InputError("true and false are no numbers", where=where, remedy="write a number")
        if not abs(taken) <= LARGEST_INTEGER:
            raise InputError(f"'{given}' is no number of ordinary size", where=where)
