"""``import al_charge``: light, lazy, typed, and what its documentation says runs."""

from __future__ import annotations

import contextlib
import doctest
import inspect
import io
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import al_charge as ac
from al_charge.cli.main import main
from al_charge.loop.spec import load_spec
from al_charge.loop.submit import submit
from al_charge.potentials.model_file import write_model
from al_charge.potentials.painn import PainnSettings
from al_charge.store.connection import connect
from al_charge.store.mongo import Store
from al_charge.testing.potentials import untrained

ROOT = Path(__file__).parents[2]
NAMES = [name for name in ac.__all__ if not name.startswith("_")]


def test_nothing_heavy_is_imported() -> None:
    heavy = ("torch", "ase", "numpy", "pymatgen", "pymongo", "fireworks", "pydantic", "rich")
    code = f"import sys, al_charge; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"


def test_every_name_is_there_and_documented() -> None:
    assert set(dir(ac)) == set(ac.__all__)
    assert re.fullmatch(r"\d+\.\d+\.\d+", ac.__version__)
    for name in NAMES:
        documented = inspect.getdoc(getattr(ac, name))
        assert documented, name
        if name not in ("AlChargeError", "Campaign", "InputError"):
            assert f"``ac.{name}``" in str(ac.__doc__)
    with pytest.raises(AttributeError, match="no attribute 'opne'"):
        ac.opne  # noqa: B018 - the look-up is the test
    assert (ROOT / "al_charge" / "py.typed").exists()


def test_the_script_of_the_documentation_runs(
    ended: str, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On another campaign and another output, which the page leaves to the reader."""
    (script,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "python.md").read_text(), re.S)
    lines = [line for line in script.splitlines() if line]
    assert len(lines) <= 12
    assert [line for line in lines if "import" in line] == ["import al_charge as ac"]
    assert '"demo-1"' in script and '"OUTCAR"' in script
    monkeypatch.chdir(output.parent)
    script = script.replace('"demo-1"', f'"{ended}"').replace('"OUTCAR"', '"gpaw.txt"')
    script = script.replace("vertices[2]", "vertices[-1]")
    told = io.StringIO()
    with contextlib.redirect_stdout(told):
        exec(compile(script, "docs/python.md", "exec"), {})
    text = told.getvalue()
    assert "hull, labeler: Born" in text and "V against Na metal" in text
    assert re.search(r"^-?\d+\.\d+ \d+\.\d+ (True|False)$", text, re.M)
    assert "1 Fe3+, 1 Fe2+; neutral" in text


def run_commands(page: str, campaign: str = "") -> str:
    """Run what a page types after a prompt, in the working folder; return the page."""
    text = (ROOT / "docs" / page).read_text()
    commands = re.findall(r"^    \$ al-charge (.+)$", text, re.M)
    assert len(commands) >= 4
    for command in commands:
        with pytest.raises(SystemExit) as ended:
            main(shlex.split(command.replace("demo-1", campaign)))
        assert not ended.value.code, command
    return text


def test_the_tutorial_runs(ended: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All but the demo itself, on another campaign."""
    monkeypatch.chdir(tmp_path)
    page = run_commands("tutorial.md", ended)
    assert "Fe" in (tmp_path / "gs.cif").read_text()
    assert (tmp_path / "report.html").stat().st_size > 1_000_000
    (script,) = re.findall(r"```python\n(.*?)```", page, re.S)
    exec(compile(script.replace("demo-1", ended), "docs/tutorial.md", "exec"), {})


def test_the_page_about_your_own_material_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (ROOT / "docs" / "material.md").read_text()
    blocks = re.findall(r"```(?:text|yaml)\n(.*?)```", page, re.S)
    names = ("limno2.cif", "limno2.yaml", "potential.yaml", "rehearsal.yaml")
    for name, text in zip(names, blocks, strict=True):
        short = text.replace("epochs: 60", "epochs: 1").replace(", prior: chgnet}", "}")
        (tmp_path / name).write_text(short)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    run_commands("material.md")
    out = " ".join(capsys.readouterr().out.split())
    shown = page.partition("$ al-charge check limno2.yaml\n")[2].partition("\n\n")[0]
    assert " ".join(shown.split()) in out
    assert "rehearsal: energies are those of the potential manganese.safetensors" in out


@pytest.fixture
def workplace(ended: str, output: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files that the examples read; it is the working folder."""
    folder = output.parent
    (folder / "workflows").symlink_to(ROOT / "workflows")
    for ending in ("extxyz", "json"):
        labels = ROOT / "examples" / "data" / f"nafepo4_gpaw.{ending}"
        (folder / f"labels.{ending}").symlink_to(labels)
    (folder / "painn.yaml").write_text(
        "potential: {kind: painn, cutoff: 4 A, channels: 4, radial: 4, pair_cutoff: 0 A}\n"
        "training: {epochs: 1}\n"
    )
    settings = PainnSettings(cutoff="4 A", channels=4, radial=4, pair_cutoff="0 A")
    write_model(folder / "model.safetensors", [untrained(settings)])
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.parametrize(
    "name", [name for name in NAMES if name not in ("AlChargeError", "InputError")]
)
def test_examples_in_docstrings_run(name: str, ended: str, workplace: Path) -> None:
    """Of the campaign that this room's tests have, for the demo's."""
    if name == "train":
        (workplace / "model.safetensors").unlink()
    if name == "hull":  # the second campaign has no label yet
        store = Store(connect(None))
        spec = load_spec(ROOT / "workflows" / "nafepo4_born_small.yaml")
        submit(store, spec.model_copy(update={"name": "maricite"}))
        store.close()
    (test,) = doctest.DocTestFinder(recurse=False).find(getattr(ac, name), name)
    assert test.examples and not any("SKIP" in example.source for example in test.examples)
    for example in test.examples:
        example.source = example.source.replace('"demo-1"', f'"{ended}"')
    told = io.StringIO()
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    runner.run(test, out=told.write)
    assert runner.failures == 0, told.getvalue()
