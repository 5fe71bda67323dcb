"""The check of docstrings finds what is missing, and leaves alone what is not public."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

CHECK = runpy.run_path(str(Path(__file__).with_name("docstrings.py")))
COMPLETE = '''
def energy(atoms: Atoms, cutoff: float):
    """Return the energy.

    Parameters
    ----------
    atoms
        A cell.
    cutoff
        Interaction range, angstrom.

    Returns
    -------
    float
        Energy of the cell, eV.

    Raises
    ------
    InputError
        If the cell is empty.
    UnfinishedError
        If the process was told to end.
    """
    if not atoms:
        raise InputError("empty")
    return float(cutoff)
'''
SECTION = {
    "Parameters": ("    cutoff\n        Interaction range, angstrom.\n", "DOC103"),
    "Returns": ("    Returns\n    -------\n    float\n        Energy of the cell, eV.\n", "DOC201"),
    "Raises": ("    InputError\n        If the cell is empty.\n", "DOC503"),
    "order": ("(atoms: Atoms, cutoff: float)", "DOC104"),
}
REPLACED = {"order": "(cutoff: float, atoms: Atoms)"}
ONE_LINE = '"""Do it."""'


def codes(source: str) -> list[str]:
    return [message.split()[0] for _, message in CHECK["faults"](source)]


def test_a_complete_docstring_passes() -> None:
    assert codes(COMPLETE) == []


@pytest.mark.parametrize("part", SECTION)
def test_a_missing_part_is_found(part: str) -> None:
    text, code = SECTION[part]
    source = COMPLETE.replace(text, REPLACED.get(part, ""))
    assert source != COMPLETE
    assert codes(source) == [code]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (f"def f(x: int):\n    {ONE_LINE}\n    return x", ["DOC201", "DOC103"]),
        (f"def f():\n    {ONE_LINE}\n    for x in 'ab':\n        yield x", ["DOC402"]),
        (f"def f():\n    {ONE_LINE}\n    raise InputError", ["DOC501", "DOC503"]),
        (f"def f():\n    {ONE_LINE}\n    try: pass\n    except BaseException: raise", []),
        (f"class A:\n    {ONE_LINE}\n    def __init__(self, x: int): pass", ["DOC103"]),
        (f"class A:\n    {ONE_LINE}\n    def f(self, x: int):\n        {ONE_LINE}", ["DOC103"]),
        (f"class A:\n    @property\n    def f(self):\n        {ONE_LINE}\n        return 1", []),
        (f"def _f(x: int):\n    {ONE_LINE}\n    return x", []),
        (f"class _A:\n    def f(self, x: int):\n        {ONE_LINE}\n        return x", []),
        (f"def f():\n    {ONE_LINE}\n    def g(x: int):\n        {ONE_LINE}\n    g(1)", []),
        (f"@click.command('f')\ndef f(x: int):\n    {ONE_LINE}", []),
        (f"@group.command('f')\n@option('-x')\ndef f(x: int):\n    {ONE_LINE}", []),
        (f"class A:\n    @override\n    def f(self, x: int):\n        {ONE_LINE}", []),
        (f"class A:\n    def test_f(self, x: int):\n        {ONE_LINE}", []),
    ],
)
def test_what_is_public_is_checked(source: str, expected: list[str]) -> None:
    assert sorted(codes(source)) == sorted(expected)


def test_all_modules_are_checked_or_those_that_are_named() -> None:
    room = CHECK["ROOT"] / "al_charge" / "crystal"
    assert set(CHECK["modules"]()) == set((CHECK["ROOT"] / "al_charge").rglob("*.py"))
    assert set(CHECK["modules"](room)) == set(room.rglob("*.py"))
    assert list(CHECK["modules"](room / "host.py")) == [room / "host.py"]
