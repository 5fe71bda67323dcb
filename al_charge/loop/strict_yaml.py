"""YAML without its traps: no field given twice, no infinite or unbounded number."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import yaml

from al_charge.errors import InputError

LARGEST_INTEGER = 2**53
"""Larger ones are no quantity of a campaign, and do not survive JSON."""


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
        if not math.isfinite(value) or (whole and abs(value) > LARGEST_INTEGER):
            problem = f"'{node.value[:20]}' is no number of ordinary size"
            raise _Refusal(problem=problem, problem_mark=node.start_mark)
        return value


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.number)
_Loader.add_constructor("tag:yaml.org,2002:float", _Loader.number)


def read_mapping(path: Path) -> dict[Any, Any]:
    """Return the fields of a YAML file.

    Raises
    ------
    InputError
        If it cannot be read, is no YAML, or holds no fields.
    """
    try:
        # The loader is a SafeLoader: it makes plain data only.
        document = yaml.load(path.read_text(encoding="utf-8-sig"), _Loader)
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
        raise InputError(
            "it holds no campaign", where=str(path), remedy="start from 'al-charge init'"
        )
    return document
