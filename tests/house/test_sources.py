"""What the sources may not do: unpickle, make objects from YAML, evaluate text, use a shell."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
SOURCES = sorted([*(ROOT / "al_charge").rglob("*.py"), *(ROOT / "benchmarks").rglob("*.py")])
UNPICKLERS = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
NEVER = {
    "all_gather_object",
    "broadcast_object_list",
    "exec",
    "eval",
    "execfile",
    "full_load",
    "loadfn",
    "popen",
    "read_pickle",
    "scatter_object_list",
    "system",
    "unpack_archive",
    "unsafe_load",
    "MontyDecoder",
    "FullLoader",
    "UnsafeLoader",
}
"""Names that are called or used nowhere: they run what they read, or hand it to a shell."""
AMONG_THEMSELVES = {"al_charge.potentials.training.distributed": "broadcast_object_list"}
"""The processes of one training, which have one user and one start, pickle for each other."""


def problems(tree: ast.Module, module: str = "") -> Iterator[str]:
    """Say what in a module would run code that comes from a file or a database."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.partition(".")[0] in UNPICKLERS:
                    yield f"{node.lineno}: imports {alias.name}"
        elif isinstance(node, ast.ImportFrom):
            if (node.module or "").partition(".")[0] in UNPICKLERS:
                yield f"{node.lineno}: imports {node.module}"
            for alias in node.names:
                if alias.name in NEVER or alias.name in UNPICKLERS:
                    yield f"{node.lineno}: imports {alias.name}"
        elif isinstance(node, ast.Call):
            yield from _of_call(node, module)


def _of_call(node: ast.Call, module: str) -> Iterator[str]:
    name = ast.unparse(node.func)
    last = name.rpartition(".")[2]
    given = {word.arg: ast.unparse(word.value) for word in node.keywords}
    # `model.eval()` switches dropout off; the built-in function has no dot.
    allowed = AMONG_THEMSELVES.get(module) == last or (last == "eval" and "." in name)
    if last in NEVER and not allowed:
        yield f"{node.lineno}: {name}()"
    if name == "torch.load" and given.get("weights_only") != "True":
        yield f"{node.lineno}: torch.load() without weights_only=True"
    if (
        name.startswith("torch.")
        and last == "load"
        and name in ("torch.jit.load", "torch.hub.load")
    ):
        yield f"{node.lineno}: {name}()"
    if name in ("np.load", "numpy.load") and given.get("allow_pickle") != "False":
        yield f"{node.lineno}: {name}() without allow_pickle=False"
    if name.startswith("yaml.load") and not _is_safe(node, given, module):
        yield f"{node.lineno}: {name}() with a loader that makes objects"
    if last in ("extract", "extractall") and given.get("filter") != "'data'":
        yield f"{node.lineno}: {name}() without filter='data'"
    if given.get("shell") not in (None, "False"):
        yield f"{node.lineno}: {name}() through a shell"


def _is_safe(node: ast.Call, given: dict[str | None, str], module: str) -> bool:
    loader = given.get("Loader") or (ast.unparse(node.args[1]) if len(node.args) > 1 else "")
    if loader in ("yaml.SafeLoader", "yaml.CSafeLoader"):
        return True
    found = getattr(importlib.import_module(module), loader, None) if module else None
    return isinstance(found, type) and issubclass(found, yaml.SafeLoader)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_is_unpickled_or_evaluated(path: Path) -> None:
    module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    assert list(problems(ast.parse(path.read_text(encoding="utf-8")), module)) == []


@pytest.mark.parametrize(
    "text",
    [
        "import pickle",
        "from joblib import load",
        "import os\nos.system('x')",
        "torch.load(file)",
        "torch.load(file, weights_only=False)",
        "np.load(file)",
        "yaml.load(text, yaml.Loader)",
        "yaml.load(text)",
        "yaml.unsafe_load(text)",
        "eval(text)",
        "archive.extractall(folder)",
        "subprocess.run(text, shell=True)",
        "from monty.json import MontyDecoder",
    ],
)
def test_the_search_finds_what_it_should(text: str) -> None:
    assert list(problems(ast.parse(text)))
