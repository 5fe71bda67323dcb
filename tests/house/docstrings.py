"""Check that the docstrings of public functions and methods are complete.

    .venv/bin/python tests/house/docstrings.py [FILE OR FOLDER ...]

pydoclint compares each docstring with its signature and body. It reads what is public: private
names, click commands (their docstrings are help texts), contract tests and methods marked
``@override`` (documented where they are declared) are left out. Missing docstrings are ruff's.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from pydoclint.visitor import Visitor

ROOT = Path(__file__).parents[2]
NOT_PUBLIC = re.compile(r".*\.(command|group)\(.*|(typing_extensions\.)?override")
"""Decorators of functions that are left out."""
Function = ast.FunctionDef | ast.AsyncFunctionDef


class _Public(ast.NodeTransformer):
    """Remove from a module what is not public, and what is inside functions."""

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST | None:
        return None if node.name.startswith("_") else self.generic_visit(node)

    def visit_FunctionDef(self, node: Function) -> ast.AST | None:
        cached = [ast.unparse(one).endswith("cached_property") for one in node.decorator_list]
        if any(cached):  # a property like any other
            node.decorator_list = [ast.Name("property")]
        private = node.name.startswith(("_", "test_")) and node.name != "__init__"
        left_out = any(NOT_PUBLIC.fullmatch(ast.unparse(one)) for one in node.decorator_list)
        node.body = [one for one in node.body if not isinstance(one, Function)]
        return None if private or left_out else self.generic_visit(node)

    visit_AsyncFunctionDef = visit_FunctionDef  # noqa: N815

    def visit_Raise(self, node: ast.Raise) -> ast.stmt:
        """Leave out ``raise`` alone: it names no exception."""
        return node if node.exc else ast.Pass()


def faults(source: str) -> list[tuple[int, str]]:
    """Return the line and the message of each incomplete docstring of a module."""
    visitor = Visitor(
        argTypeHintsInDocstring=False,
        skipCheckingShortDocstrings=False,
        checkReturnTypes=False,
        checkYieldTypes=False,
        checkClassAttributes=False,
    )
    visitor.visit(_Public().visit(ast.parse(source)))
    return [
        (found.line, f"{found.fullErrorCode} {re.sub(r' [(]Or could be .*?[)][.]', '', found.msg)}")
        for found in visitor.violations
        if not _is_complete(found.code, found.msg)
    ]


def _is_complete(code: int, message: str) -> bool:
    """Tell whether a finding is none here.

    A docstring may also name exceptions of the functions called. An exception that the body does
    not raise by its class's name (``raise failure``) cannot be compared.
    """
    if code != 503:
        return code in (101, 102, 105, 502)  # 103 and 104 say the same in more detail
    documented, raised = (
        set(ast.literal_eval(names)) for names in re.findall(r": (\[[^]]*\])\.", message)
    )
    return {name for name in raised if re.match("[A-Z][A-Z]*[a-z]", name)} <= documented


def modules(*paths: str) -> Iterator[Path]:
    """Yield the modules in the given files and folders, or all of al_charge."""
    for path in map(Path, paths or [ROOT / "al_charge"]):
        yield from sorted(path.rglob("*.py")) if path.is_dir() else [path]


def main(*paths: str) -> int:
    """Print the faults of files and folders, and return the exit code."""
    found = [
        f"{file}:{line}: {message}"
        for file in modules(*paths)
        for line, message in faults(file.read_text(encoding="utf-8"))
    ]
    sys.stdout.writelines(f"{line}\n" for line in found)
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
