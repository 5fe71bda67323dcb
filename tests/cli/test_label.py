"""`al-charge label`: one structure through one engine, and how it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

from al_charge.cli.datafile import split_states
from al_charge.crystal.configuration import to_atoms, to_structure
from al_charge.crystal.enumeration import enumerate_distinct
from al_charge.crystal.host import Host

Run = Callable[..., tuple[int, str, str]]

WORKFLOWS = Path(__file__).parents[2] / "workflows"
END = str(WORKFLOWS / "hosts" / "NaFePO4.cif")


@pytest.fixture
def mixed_cif(olivine: Host, tmp_path: Path) -> str:
    """Olivine Na2Fe4(PO4)4 with its oxidation states."""
    path = tmp_path / "half.cif"
    to_structure(to_atoms(olivine, enumerate_distinct(olivine, 2)[0])).to(filename=str(path))
    return str(path)


def test_table_and_files(
    mixed_cif: str, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, _ = run("label", mixed_cif, "--engine", "born", "--relax", "none")
    assert code == 0
    folder = tmp_path / "half-born"
    assert str(folder) in out.replace("\n", "")
    assert "asked for" in out
    assert "charge states given in the file; found as requested" in out
    assert out.splitlines()[-1] == "2 Fe3+, 2 Fe2+; neutral"
    document = json.loads((folder / "label.json").read_text())
    assert (folder / "try-0" / "result.json").is_file()
    assert document["relax"] == "none"
    assert len(document["forces"]) == len(document["sites"]) == 26
    # Given again, it finds the result; another folder makes it again, all the same.
    again = json.loads(run("label", mixed_cif, "--engine", "born", "--relax", "none", "--json")[1])
    other = run(
        "label", mixed_cif, "--engine", "born", "--relax", "none", "--folder", "other", "--json"
    )
    assert again.keys() - document.keys() == {"schema", "time"}
    assert document.items() <= again.items()
    assert json.loads(other[1])["energy"] == document["energy"]
    assert (tmp_path / "other" / "label.json").is_file()


def test_an_engine_of_a_campaign_file(
    mixed_cif: str, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    campaign = str(WORKFLOWS / "nafepo4_born_small.yaml")
    code, out, _ = run("label", mixed_cif, "--settings", campaign, "--json")
    document = json.loads(out)
    assert (code, document["relax"]) == (0, "cell")
    assert document["largest_force"] < 0.01
    assert document["as_requested"] is True
    assert document["sites"][2]["asked_for"].startswith("Fe")
    section = tmp_path / "labeler.yaml"
    section.write_text(yaml.safe_dump({"kind": "born", "relax": "none"}))
    static = json.loads(run("label", mixed_cif, "--settings", str(section), "--json")[1])
    assert static["relax"] == "none"
    assert static["energy"] > document["energy"]


def test_charge_states_that_are_given_or_follow(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    static = ("--engine", "born", "--relax", "none", "--json")
    document = json.loads(run("label", END, *static)[1])
    assert document["states_from"] == "all alike, by neutrality"
    assert document["states"] == {"Fe2+": 4}
    given = json.loads(run("label", END, "--oxidation", "Fe2+, Na+", *static)[1])
    assert given["energy"] == document["energy"]
    assert given["states_from"] == "as given"


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        ((END,), "no engine is given; choose one of born, gpaw, model, vasp, or give a"),
        ((END, "--engine", "castep"), "unknown kind 'castep'"),
        (("missing.cif", "--engine", "born"), "missing.cif: no such file"),
        ((END, "--engine", "born", "--oxidation", "Fe3+"), "sum to +4 e"),
        ((END, "--engine", "born", "--oxidation", "Fe2+,Fe2+"), "2 charge states for 4 atoms"),
        ((END, "--engine", "born", "--oxidation", "Fe"), "'Fe' is not a charge state"),
        ((END, "--settings", "missing.yaml"), "missing.yaml"),
        (
            (END, "--engine", "gpaw", "--settings", str(WORKFLOWS / "nafepo4_born.yaml")),
            "its labeler is 'born', not 'gpaw'; leave --engine out",
        ),
    ],
)
def test_what_is_refused(
    arguments: tuple[str, ...],
    what: str,
    tmp_path: Path,
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = run("label", *arguments)
    assert (code, out) == (2, "")
    assert what in err
    assert list(tmp_path.iterdir()) == []


def test_settings_that_are_wrong(tmp_path: Path, run: Run) -> None:
    file = tmp_path / "labeler.yaml"
    for section, what in (
        ({"kind": "born", "fmax": "1 eV"}, "labeler.yaml: labeler.fmax"),
        ({"kind": "born", "colour": "red"}, "labeler.yaml: labeler.colour"),
        ({"labeler": {"kind": "castep"}}, "castep"),
        ({"labeler": "born"}, "labeler.yaml: labeler"),
    ):
        file.write_text(yaml.safe_dump(section))
        code, out, err = run("label", END, "--settings", str(file))
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert what in err


def test_states_that_a_file_does_not_tell(
    mixed_cif: str, olivine: Host, tmp_path: Path, run: Run
) -> None:
    bare = to_structure(to_atoms(olivine, enumerate_distinct(olivine, 2)[0]))
    bare.remove_oxidation_states()
    bare.to(filename=str(tmp_path / "bare.cif"))
    code, _, err = run("label", str(tmp_path / "bare.cif"), "--engine", "born")
    assert (code, err.count("\n")) == (2, 1)
    assert "does not say which charge states its 4 Fe have; give them with --oxidation" in err


def test_states_without_moment_windows_are_refused_in_one_cell(tmp_path: Path, run: Run) -> None:
    poscar = tmp_path / "POSCAR"
    places = ("0 0 0", "0.5 0.5 0.5", "0.5 0 0", "0 0.5 0", "0 0 0.5")
    poscar.write_text("Mn2O3\n1\n4 0 0\n0 4 0\n0 0 4\nMn O\n2 3\nDirect\n" + "\n".join(places))
    states = ("--oxidation", "Mn2+,Mn4+")
    code, _, err = run("label", str(poscar), "--engine", "gpaw", *states)
    assert (code, err.count("\n")) == (2, 1)
    assert "no moment window for Mn2+" in err


@pytest.mark.gpaw
@pytest.mark.skipif(find_spec("gpaw") is None, reason="GPAW is not installed")
def test_gpaw(tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two atoms and the smallest basis; then the audit of what the job has left."""
    monkeypatch.chdir(tmp_path)
    Path("MgO.vasp").write_text(
        "MgO\n1\n0 2.1 2.1\n2.1 0 2.1\n2.1 2.1 0\nMg O\n1 1\nDirect\n0 0 0\n0.5 0.5 0.5\n"
    )
    settings = {"kind": "gpaw", "mode": "lcao", "basis": "sz(dzp)", "grid_spacing": "0.3 A"}
    settings |= {"kpoints": [1, 1, 1]}
    Path("gpaw.yaml").write_text(yaml.safe_dump(settings))
    document = json.loads(run("label", "MgO.vasp", "--settings", "gpaw.yaml", "--json")[1])
    assert document["engine"].lower().startswith("gpaw")
    assert [site["state"] for site in document["sites"]] == ["Mg2+", "O2-"]
    assert document["charge"] == 0
    audited = json.loads(run("audit", "MgO-gpaw", "--json")[1])
    assert audited["energy"] == pytest.approx(document["energy"], abs=1e-5)
    for key in ("bader", "state"):
        assert [s[key] for s in audited["sites"]] == [s[key] for s in document["sites"]]
    assert audited["bader_refused"] == document["bader_refused"]


def test_a_job_that_fails_says_so_in_one_line(tmp_path: Path, run: Run) -> None:
    folder = tmp_path / "file"
    folder.mkdir()
    (folder / "try-0").touch()
    code, out, err = run("label", END, "--engine", "born", "--folder", str(folder))
    assert (code, out) == (1, "")
    assert err.count("al-charge: ") == 1
    assert "cannot write" in err.splitlines()[-1]


@pytest.mark.parametrize(
    ("option", "states"),
    [
        ("Co3+,spin=0", ("Co3+,spin=0",)),
        ("Co3+,spin=0, Co4+,spin=1 ,Li+", ("Co3+,spin=0", "Co4+,spin=1", "Li+")),
        ("Co3+ low,Co3+ high", ("Co3+ low", "Co3+ high")),
        ("Fe2+, ,Fe3+,", ("Fe2+", "Fe3+")),
    ],
)
def test_states_with_a_spin_stay_whole(option: str, states: tuple[str, ...]) -> None:
    assert split_states(option) == states
