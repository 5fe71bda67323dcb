"""Bad input is refused with one line and exit code 2, before anything is written."""

from __future__ import annotations

import copy
import json
import re
import shutil
from collections import Counter
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import yaml
from ase.io import read as ase_read
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from al_charge.cli.main import main
from al_charge.crystal.configuration import from_atoms
from al_charge.crystal.host import Host
from al_charge.crystal.structure_file import load_structure
from al_charge.crystal.symmetry import canonical_hash
from al_charge.loop.campaign import Campaign
from al_charge.loop.spec import parse_spec

CASES = Path(__file__).parents[1] / "cases" / "hosts"
WORKFLOWS = Path(__file__).parents[2] / "workflows"
GOOD: dict[str, Any] = yaml.safe_load((WORKFLOWS / "nafepo4_born.yaml").read_text())
GOOD["host"]["structure"] = str(WORKFLOWS / "hosts" / "NaFePO4.cif")


def run(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    captured = capsys.readouterr()
    return int(exit_.value.code or 0), captured.out, captured.err


def check(document: Any, folder: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    file = folder / "campaign.yaml"
    file.write_text(yaml.safe_dump(document), encoding="utf-8")
    return run(["check", str(file)], capsys)


def check_json(
    document: Any, folder: Path, capsys: pytest.CaptureFixture[str]
) -> tuple[int, str, str]:
    file = folder / "campaign.yaml"
    file.write_text(yaml.safe_dump(document), encoding="utf-8")
    return run(["check", str(file), "--json"], capsys)


def changed(path: str, value: Any) -> dict[str, Any]:
    """Return the good campaign with one field changed, or added."""
    document = copy.deepcopy(GOOD)
    *steps, last = path.split(".")
    part = document
    for step in steps:
        part = part.setdefault(step, {})
    part[last] = value
    return document


def test_shipped_campaign_files_are_right(capsys: pytest.CaptureFixture[str]) -> None:
    files = sorted(WORKFLOWS.glob("*.yaml"))
    assert len(files) >= 2
    for file in files:
        code, out, err = run(["check", str(file)], capsys)
        assert (code, err) == (0, ""), file
        assert "is valid" in out


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("labler", {"kind": "born"}, ["labler", "did you mean 'labeler'?"]),
        ("convergence.hull_tolerence", "1 meV", ["did you mean 'hull_tolerance'?"]),
        (
            "convergence.hull_tolerance",
            "1 mEV",
            ["convergence.hull_tolerance", "did you mean 'meV'"],
        ),
        ("convergence.hull_tolerance", 0.001, ["convergence.hull_tolerance", "unit"]),
        ("host.supercells", {"up_to": 2}, ["host", "'supercell' or 'supercells', not both"]),
        ("host.supercells", {"upto": 2}, ["host.supercells.up_to", "this field is required"]),
        ("host.supercells", {"up_to": 0}, ["host.supercells.up_to", "greater than or equal to 1"]),
        ("potential.kind", "pain", ["potential", "did you mean 'painn'?"]),
        ("potential.chanels", 3, ["potential.chanels", "did you mean 'channels'?"]),
        ("labeler.kind", "vsap", ["labeler", "unknown kind 'vsap'"]),
        ("host.working_ion", "Li", ["host.working_ion", "no Li"]),
        ("host.working_ion", "Nax", ["host.working_ion", "'Nax' is not an element"]),
        ("host.redox", {"Fe": [4, 5]}, ["host.redox", "neutral"]),
        ("host.redox", {"Fe": [2]}, ["host.redox", "at least two"]),
        ("host.fixed", {"O": -2}, ["host.fixed", "P has no oxidation state"]),
        ("host.structure", "nowhere.cif", ["host.structure", "no structure file"]),
        ("host.supercell", [0, 1, 1], ["host.supercell"]),
        ("convergence.max_labels", 3, ["first_round"]),
        ("host.supercell", [[1, 0, 0], [0, "x", 0], [0, 0, 1]], ["host.supercell.1.1: "]),
        ("host.supercell", [1, 1, 1.5], ["host.supercell.2: "]),
        ("host.supercell", [[0, 1, 0], [1, 0, 0], [0, 0, 1]], ["exchange two rows"]),
        ("host.formula", "FePO5", ["host.formula", "without Na the structure is FePO4"]),
        ("host.formula", "FePOx", ["host.formula", "not a formula", "Na3V2(PO4)3"]),
        ("host.formula", 4, ["host.formula", "in quotes"]),
        ("host.compositions", {"from": 0, "to": 2}, ["host.compositions", "x = 2", "7/8, 1"]),
        (
            "host.compositions",
            {"from": 0, "to": "x"},
            ["host.compositions.to", "like 1, 0.5 or 1/3"],
        ),
        (
            "host.compositions",
            {"from": 0, "to": True},
            ["host.compositions.to", "not a composition"],
        ),
        ("host.compositions", {"from": 0}, ["host.compositions", "{from: 1, to: 3}"]),
        ("host.compositions", [0, 1], ["host.compositions", "{from: 1, to: 3}"]),
        ("name", "a/b", ["name"]),
        ("name", "a.yaml", ["name", "campaign file"]),
        ("name", 5, ["name", "in quotes"]),
        ("host.working_ion", False, ["host.working_ion", "in quotes", "'No'"]),
        ("host.fixed", {False: 3, "O": -2}, ["host.fixed", "in quotes"]),
        ("host.redox", {"Fe": [2, 300]}, ["host.redox.Fe.1", "less than or equal to 9"]),
        ("host.redox", {"Fe": 2}, ["host.redox.Fe", "a list"]),
        ("host.redox", {"Fe": [2, 4]}, ["labeler", "no parameters for Fe4+"]),
        ("host.supercell", [1000, 1000, 1000], ["host.supercell", "at most 1000"]),
        ("labeler", "born", ["labeler", "kind: ..."]),
        ("labeler", {"kind": "gpaw", "kpoints": [0, 1, 1]}, ["labeler.kpoints.0"]),
        ("potential", {"kind": "mace", "foundation": "none.pt"}, ["foundation", "none.pt"]),
        ("training.epochs", 10**25, ["line", "not a finite number up to 2^53"]),
        ("training.learning_rate", float("inf"), ["line", "'.inf'"]),
        ("acquisition.diversity", float("nan"), ["line", "'.nan'"]),
        ("seed", -1, ["seed"]),
        ("database", {"uri": "mongodb://user:secret@host"}, ["database", "password"]),
    ],
)
def test_each_mistake_is_named_in_one_line(
    path: str,
    value: Any,
    words: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, out, err = check(changed(path, value), tmp_path, capsys)
    assert code == 2
    assert out == ""
    assert err.count("\n") == 1
    for word in words:
        assert word in err
    assert "secret" not in err


def test_a_file_without_a_potential_is_told_what_to_write(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document = changed("seed", 1)
    del document["potential"]
    code, _, err = check(document, tmp_path, capsys)
    assert (code, err.count("\n")) == (2, 1)
    assert "potential: this field is required; write 'potential: {kind: ...}' with one of" in err
    assert "painn" in err


def test_no_quantity_is_broken_on_a_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "campaign.yaml").write_text(yaml.safe_dump(GOOD), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    _, whole, _ = run(["check", "campaign.yaml"], capsys)
    assert "x = 7/8" in whole and max(map(len, whole.splitlines())) > 80
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    for width in (38, 40, 43):
        monkeypatch.setenv("COLUMNS", str(width))
        _, wrapped, _ = run(["check", "campaign.yaml"], capsys)
        assert " ".join(wrapped.split()) == " ".join(whole.split())
        assert wrapped.count("x = ") == whole.count("x = ")
        assert max(map(len, wrapped.splitlines())) <= width


def test_missing_file_and_no_yaml(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(["check", str(tmp_path / "none.yaml")], capsys)
    assert (code, err.count("\n")) == (2, 1)
    broken = tmp_path / "broken.yaml"
    broken.write_text("name: [unclosed", encoding="utf-8")
    code, _, err = run(["check", str(broken)], capsys)
    assert (code, err.count("\n")) == (2, 1)
    assert "broken.yaml" in err


@pytest.mark.parametrize("added", ["seed: 5", "training: {epochs: 1}", "x: {deep: 1, deep: 2}"])
def test_a_field_given_twice_is_refused(
    added: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "campaign.yaml"
    text = yaml.safe_dump(GOOD) + added
    file.write_text(text, encoding="utf-8")
    code, out, err = run(["check", str(file)], capsys)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "is given twice" in err
    assert f"line {len(text.splitlines())}:" in err


def test_paths_are_relative_to_the_campaign_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = {"kind": "mace", "foundation": "models/small.pt"}
    database = {"uri": "mongodb://localhost", "credentials_file": "login.json"}
    document = GOOD | {"potential": part, "database": database}
    monkeypatch.chdir(tmp_path)
    spec = parse_spec(document, source=Path("campaign.yaml"))
    assert getattr(spec.potential, "foundation") == tmp_path / "models" / "small.pt"  # noqa: B009
    assert spec.database is not None
    assert spec.database.credentials_file == tmp_path / "login.json"


def test_unknown_command_and_option(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(["hul"], capsys)
    assert code == 2
    assert "did you mean 'hull'?" in err
    code, _, err = run(["check", "--jsn", "x"], capsys)
    assert (code, err.count("\n")) == (2, 1)


def test_enumerate_counts_without_listing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = str(WORKFLOWS / "nafepo4_born.yaml")
    code, out, _ = run(["enumerate", file, "--count", "--json"], capsys)
    counts = yaml.safe_load(out)
    assert code == 0
    assert counts["distinct"] == 874
    assert counts["by_composition"]["0"] == 1
    assert counts["by_composition"]["1/2"] == 344
    code, _, err = run(["enumerate", file, "--x", "1/3"], capsys)
    assert (code, err.count("\n")) == (2, 1)
    assert "1/8" in err


def test_check_says_what_the_file_means(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for case in (Path(__file__).parents[1] / "cases" / "hosts").iterdir():
        (tmp_path / case.name).write_bytes(case.read_bytes())
    code, out, _ = run(["check", str(tmp_path / "licoo2.yaml"), "--json"], capsys)
    document = yaml.safe_load(out)
    assert code == 0
    expected = {
        "ok": True,
        "name": "licoo2",
        "formula": "LiCoO2",
        "x": {"from": "0", "to": "1", "step": "1/12"},
        "distinct": 20729,
        "space_group": "R-3m",
        "operations": 144,
        "atoms_per_label": 48,
        "working_ion_charge": 1,
        "warnings": [],
    }
    assert {key: document[key] for key in expected} == expected
    assert sum(document["compositions"].values()) == 20729
    _, out, _ = run(["check", str(tmp_path / "mgmn2o4.yaml"), "--json"], capsys)
    document = yaml.safe_load(out)
    assert (document["distinct"], document["working_ion_charge"]) == (10514, 2)
    assert document["space_group"] == "Fd-3m"
    assert (document["formula"], document["x"]["to"]) == ("Mg1/2MnO2", "1/2")

    noisy = tmp_path / "lifepo4_noise.yaml"
    _, out, _ = run(["check", str(noisy)], capsys)
    assert "space group P1; symmetry operations: 1; atoms per label: 28" in out
    (warning,) = [line for line in out.splitlines() if line.startswith("warning: ")]
    assert "Pnma with 8" in warning and "'symmetrize: 0.01 A'" in warning
    noisy.write_text(noisy.read_text().replace("host: {", "host: {symmetrize: 0.01 A, "))
    _, out, _ = run(["check", str(noisy)], capsys)
    assert "16 distinct" in out and "space group Pnma" in out and "warning" not in out

    unusual = tmp_path / "mgmn2o4.yaml"
    unusual.write_text(unusual.read_text().replace("host: {", "host: {working_ion_charge: 1, "))
    _, out, _ = run(["check", str(unusual)], capsys)
    assert "4222 distinct" in out
    assert "warning: host.working_ion_charge: Mg+ is unusual; leave it out for Mg2+" in out


@pytest.mark.parametrize(
    ("acquisition", "labeler", "supercell", "said"),
    [
        # Nine compositions, 874 configurations; 2 to 7 labels for each composition.
        ({"first_round": 5}, {"kind": "born"}, [1, 2, 1], (18, 63)),
        ({"first_round": 20}, {"kind": "born"}, [1, 2, 1], (20, 63)),
        ({"kind": "weighted", "first_round": 20}, {"kind": "born"}, [1, 2, 1], (20, 70)),
        ({"first_round": 5}, {"kind": "born", "relax": "none"}, [1, 2, 1], (18, 70)),
        # Sixteen configurations at five compositions, each labelled once unless it is static.
        ({"first_round": 5}, {"kind": "born"}, [1, 1, 1], (10, 16)),
        ({"first_round": 20}, {"kind": "born", "relax": "none"}, [1, 1, 1], (20, 50)),
        ({"kind": "random", "first_round": 5}, {"kind": "born"}, [1, 1, 1], None),
    ],
)
def test_check_tells_how_many_labels_to_expect(
    acquisition: dict[str, Any],
    labeler: dict[str, Any],
    supercell: list[int],
    said: tuple[int, int] | None,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    document = changed("host.supercell", supercell)
    document |= {"acquisition": acquisition, "labeler": labeler}
    document["convergence"] = {"max_labels": 70}
    code, out, err = check(document, tmp_path, capsys)
    assert (code, err) == (0, "")
    if said is None:
        assert "labels: at most 70; how many this rule needs has not been measured\n" in out
    else:
        assert f"labels: {said[0]} to {said[1]} expected, at most 70; in benchmarks" in out
    assert "cost: not known before the first label\n" in out


def test_check_tells_what_labels_cost_that_were_made_alike(
    labelled: Campaign,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of six labels, all of one price, one was relaxed and the others are single points."""
    costs = {"exact": (7200.0, 4), "whole": (3600.0, 2), "other": (None, 2)}
    for key, (seconds, cores) in costs.items():
        told = {"$set": {"wall_time": seconds, "cores": cores}}
        labelled.store.database["labels"].update_one({"_id": key}, told)
    of_another_engine = {"$set": {"settings_hash": "another"}}
    labelled.store.database["labels"].update_one({"_id": "changed"}, of_another_engine)
    document = changed("host.supercell", [1, 1, 1]) | {"name": "next"}
    document["acquisition"] = {"first_round": 5}

    def found(relax: str, **host: Any) -> dict[str, Any]:
        given = document | {"labeler": {"kind": "born", "relax": relax}}
        given["host"] = document["host"] | host
        if "supercells" in host:
            del given["host"]["supercell"]
        code, out, _ = check_json(given, tmp_path, capsys)
        assert code == 0
        return dict(json.loads(out)["expected"])

    mean = (8.0 + 2.0 + 181.5 / 3600) / 3  # exact, whole with all its ions, and blurred
    single = found("none")
    assert single["core_hours_per_label"] == pytest.approx({"from": mean, "to": mean})
    assert single["core_hours"] == pytest.approx({"from": 10 * mean, "to": 50 * mean})
    assert (single["priced"], single["unknown"]) == (3, "")
    relaxed = found("cell")
    assert relaxed["core_hours_per_label"]["to"] == pytest.approx(181.5 / 3600)
    assert (relaxed["priced"], relaxed["labels"]["to"]) == (1, 16)
    larger = found("cell", supercell=[1, 2, 1])
    assert (larger["core_hours"], larger["priced"]) == (None, 0)
    # No label is known of the larger of two cells.
    both = found("none", supercells={"up_to": 2})
    assert (both["core_hours"], both["priced"]) == (None, 0)
    _, out, _ = check(document, tmp_path, capsys)
    assert (
        "cost: 30.2 to 48.4 core minutes, at 3.02 core minutes a label, as 1 label of these "
        "settings and this size in the database took\n"
    ) in out
    monkeypatch.setattr("al_charge.store.addresses.SELECTION_TIMEOUT", 0.2)
    document["database"] = {"uri": "mongodb://127.0.0.1:9/none"}
    _, out, _ = check(document, tmp_path, capsys)
    assert "cost: not known before the first label: database mongodb://127.0.0.1:9" in out


def test_enumerate_refuses_millions_unless_limited(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "campaign.yaml"
    file.write_text(yaml.safe_dump(changed("host.supercell", [2, 2, 2])))
    code, out, _ = run(["enumerate", str(file), "--count", "--json"], capsys)
    number = yaml.safe_load(out)["distinct"]
    assert code == 0 and number > 10**6
    folder = tmp_path / "structures"
    for arguments in (["-o", str(folder)], ["--json"]):
        code, out, err = run(["enumerate", str(file), *arguments], capsys)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert str(number) in err and "--limit" in err
    assert not folder.exists()
    arguments = ["enumerate", str(file), "-o", str(folder), "--limit", "101", "--json"]
    code, out, _ = run(arguments, capsys)
    document = yaml.safe_load(out)
    assert (code, document["listed"], len(list(folder.iterdir()))) == (0, 101, 101)
    spread = Counter(one["x"] for one in document["configurations"])
    # One configuration at either end; the others are spread over 31 compositions.
    assert spread["0"] == spread["1"] == 1
    assert {number for x, number in spread.items() if x not in ("0", "1")} == {3, 4}
    code, _, err = run(arguments, capsys)
    assert code == 2 and "not empty" in err


@pytest.mark.parametrize("kind", ["cif", "poscar", "extxyz"])
def test_enumerate_writes_structures_with_their_states(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], olivine: Host
) -> None:
    file = str(tmp_path / "campaign.yaml")
    Path(file).write_text(yaml.safe_dump(changed("host.supercell", [1, 1, 1])))
    folder = tmp_path / "structures"
    code, out, _ = run(["enumerate", file, "-o", str(folder), "--format", kind, "--json"], capsys)
    document = yaml.safe_load(out)
    assert code == 0
    assert document["distinct"] == document["listed"] == 16
    assert {one["file"] for one in document["configurations"]} == {
        path.name for path in folder.iterdir()
    }
    for one in document["configurations"]:
        path = folder / one["file"]
        given = []
        if kind == "poscar":  # programs ignore what is behind the coordinates
            lines = path.read_text().splitlines()
            given = [line.split()[3] for line in lines[8:]]
        atoms, _ = load_structure(path, given)
        assert canonical_hash(olivine, from_atoms(olivine, atoms)) == one["hash"]
        if kind == "extxyz":
            written = ase_read(path)
            assert written.info["config_hash"] == one["hash"]
            moments = {"Fe2+": 4.0, "Fe3+": 5.0}
            assert written.get_initial_magnetic_moments().tolist() == [
                moments.get(token, 0.0) for token in written.arrays["requested_species"]
            ]
        if kind == "poscar":
            runs = [word.split("*") for word in lines[0].partition("MAGMOM = ")[2].split()]
            total = sum(int(number) * float(moment) for number, moment in runs)
            assert total == 4 * given.count("Fe2+") + 5 * given.count("Fe3+")


def _paths(document: Any, prefix: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    found = [prefix] if prefix else []
    if isinstance(document, dict):
        for key, value in document.items():
            found += _paths(value, (*prefix, key))
    return found


values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=12),
    st.lists(st.integers(-5, 5), max_size=4),
    st.dictionaries(st.text(max_size=6), st.integers(-9, 9), max_size=3),
)


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(path=st.sampled_from(_paths(GOOD)), value=values, drop=st.booleans())
def test_any_malformed_file_is_accepted_or_refused_in_one_line(
    path: tuple[str, ...],
    value: Any,
    drop: bool,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    document = copy.deepcopy(GOOD)
    part = document
    for step in path[:-1]:
        part = part[step]
    if drop:
        del part[path[-1]]
    else:
        part[path[-1]] = value
    code, out, err = check(document, tmp_path, capsys)
    assert code in (0, 2)
    assert "Traceback" not in err
    assert "fault of al-charge" not in err
    if code == 2:
        assert (out, err.count("\n")) == ("", 1)
    assert [file.name for file in tmp_path.iterdir()] == ["campaign.yaml"]


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(content=st.binary(max_size=200))
def test_any_bytes_are_refused_in_one_line(
    content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "campaign.yaml"
    file.write_bytes(content)
    code, out, err = run(["check", str(file)], capsys)
    assert (code, out, err.count("\n")) == (2, "", 1)


@pytest.mark.parametrize(
    ("name", "states", "moments"),
    [
        (
            "licoo2",
            {"Co3+": ("low", 0), "Co4+": ("low", 1)},
            {"0": 12, "1/2": 6, "1": 0},
        ),
        (
            "nmc333",
            {
                "Co3+": ("low", 0),
                "Co4+": ("low", 1),
                "Mn4+": ("", 3),
                "Ni2+": ("", 2),
                "Ni3+": ("low", 1),
                "Ni4+": ("low", 0),
            },
            # Discharged 3 Ni2+, 3 Co3+ and 3 Mn4+; charged, 3 Ni4+, 3 Co4+ and 3 Mn4+.
            {"0": 12, "3/2": 15},
        ),
        (
            "lini05mn15o4",
            {"Mn4+": ("", 3), "Ni2+": ("", 2), "Ni3+": ("low", 1), "Ni4+": ("low", 0)},
            {"0": 36, "2": 44},
        ),
    ],
)
def test_check_prints_spin_states_and_total_moments(
    name: str,
    states: dict[str, tuple[str, int]],
    moments: dict[str, int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, out, err = run(["check", str(CASES / f"{name}.yaml"), "--json"], capsys)
    found = json.loads(out)
    assert code == 0, err
    assert {one["species"]: (one["spin"], one["unpaired"]) for one in found["states"]} == states
    assert {x: found["total_moment"][x] for x in moments} == moments
    for one in found["states"]:
        assert one["window"] == "calibrated from the end member" or len(one["window"]) == 2
    assert set(found["hubbard_u"]) == {one["species"][:2] for one in found["states"]}


@pytest.mark.parametrize(
    ("labeler", "u", "warned"),
    [
        ({"kind": "vasp"}, {"Fe": 5.3}, False),
        ({"kind": "gpaw"}, {"Fe": 5.3}, False),
        ({"kind": "gpaw", "hubbard_u": {"Fe": "4 eV", "Mn": "3 eV"}}, {"Fe": 4.0}, False),
        ({"kind": "gpaw", "hubbard_u": {}}, {}, True),
        ({"kind": "vasp", "hubbard_u": {"Mn": "3.9 eV"}}, {}, True),
        ({"kind": "born"}, {}, False),
    ],
)
def test_check_prints_the_u_of_each_element(
    labeler: dict[str, Any],
    u: dict[str, float],
    warned: bool,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    document = changed("labeler", labeler)
    code, out, err = check(document, tmp_path, capsys)
    assert code == 0, err
    line = ", ".join(f"{element} {value:g} eV" for element, value in u.items()) or "none"
    assert (f"\nU: {line}\n" in out) is (labeler["kind"] != "born")
    assert ("warning: labeler.hubbard_u: Fe without U in an oxide" in out) is warned
    _, out, _ = run(["check", str(tmp_path / "campaign.yaml"), "--json"], capsys)
    found = json.loads(out)
    assert found["hubbard_u"] == u
    assert any(one.startswith("labeler.hubbard_u: Fe") for one in found["warnings"]) is warned


def test_check_says_which_sites_exclude_each_other(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = CASES / "nacoo2_p2_both_sites.yaml"
    code, out, err = run(["check", str(file)], capsys)
    assert code == 0, err
    lines = " ".join(out.split())
    assert "24 pairs of Na sites, 1.64 A apart, are never occupied at once" in lines
    _, out, _ = run(["check", str(file), "--json"], capsys)
    found = json.loads(out)
    assert (found["compositions"]["1"], found["compositions"]["3/4"]) == (3, 89)
    assert found["exclusions"]["removed"] == 8601
    unlimited = tmp_path / file.name
    unlimited.write_text(
        file.read_text()
        .replace("host: {", "host: {min_distance: 0 A, ")
        .replace("structure: ", f"structure: {CASES}/")
    )
    _, out, _ = run(["check", str(unlimited), "--json"], capsys)
    assert json.loads(out)["distinct"] == found["distinct"] + 8601
    assert json.loads(out)["exclusions"] is None
    _, counted, _ = run(["enumerate", str(file), "--count", "--json"], capsys)
    assert json.loads(counted)["by_composition"] == found["compositions"]


@pytest.mark.parametrize(
    ("labeler", "warned"),
    [
        ({"kind": "vasp"}, ""),
        ({"kind": "vasp", "hubbard_u": {"Mn": "4.5 eV"}}, "U = 4.5 instead of 3.9 eV on Mn"),
        ({"kind": "vasp", "incar": {"GGA": "PS"}}, "PBEsol instead of PBE"),
        (
            {
                "kind": "vasp",
                "hubbard_u": {"Mn": "4.5 eV"},
                "moment_windows": {"Mn2+": [4.4, 4.8], "Mn3+": [3.6, 4.1]},
            },
            "",
        ),
    ],
)
def test_check_tells_windows_of_another_u(
    labeler: dict[str, Any], warned: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No end member of LixMn2O4 has Mn2+ or Mn3+ alone, so their windows are the default ones."""
    document = yaml.safe_load((CASES / "limn2o4_average_state.yaml").read_text())
    document["host"] |= {"structure": str(CASES / document["host"]["structure"])}
    document["host"]["redox"] = {"Mn": [2, 3, 4]}
    code, out, err = check(document | {"labeler": labeler}, tmp_path, capsys)
    assert code == 0, err
    lines = [line for line in out.splitlines() if "labeler.moment_windows" in line]
    assert [warned in line for line in lines] == [True] * bool(warned)
    of_pbe = "warning: labeler.hubbard_u: the default is that of PBE; give one"
    assert (of_pbe in out) is ("incar" in labeler)


def test_check_prints_the_k_point_grid(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One that a spacing gives, and a warning where it is not the same for both structures."""
    document = changed("labeler", {"kind": "gpaw"})
    document["host"]["empty_structure"] = str(WORKFLOWS / "hosts" / "FePO4.cif")
    code, out, err = check(document, tmp_path, capsys)
    assert code == 0, err
    # The largest of 2 pi / (10.41 x 3), 2 pi / (12.45 x 2) and 2 pi / (4.95 x 5).
    assert "\nk-points: 3 x 2 x 5, at most 0.254/A apart\n" in out and "spacing" not in out
    document["labeler"]["kpoint_spacing"] = 0.31
    _, out, _ = check(document, tmp_path, capsys)
    assert "\nk-points: 2 x 2 x 5, at most " in out
    assert "differ, 2x2x5 and 3x2x5; write 'kpoints: [3, 2, 5]' for one at every x" in out
    document["labeler"]["kpoints"] = [2, 2, 5]
    _, out, _ = check(document, tmp_path, capsys)
    assert "\nk-points: 2 x 2 x 5, " in out and "spacing" not in out


def test_check_tells_the_range_of_a_moment_that_states_leave_open(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Where half of the charge is out, Ni3+ alone has less than Ni2+ and Ni4+ in some mixtures."""
    _, out, _ = run(["check", str(CASES / "lini05mn15o4.yaml"), "--json"], capsys)
    found = json.loads(out)["total_moment"]
    # Four Ni: all 3+ have 4 unpaired electrons, and so have two 2+ with two 4+.
    assert found["1"] == 36 + 4
    _, out, _ = run(["check", str(CASES / "nmc333.yaml"), "--json"], capsys)
    # One electron out: of one Ni (2 to 1), or of one Co (0 to 1).
    assert json.loads(out)["total_moment"]["4/3"] == [14, 16]


@pytest.mark.parametrize(
    ("name", "formula", "to", "distinct", "unit_without", "to_without"),
    [
        ("mgmn2o4", "MgMn2O4", "1", 10514, "redox site (Mn)", "1/2"),
        ("limn2o4_average_state", "LiMn2O4", "1", 4222, "redox site (Mn)", "1/2"),
        ("lini05mn15o4", "LiNi0.5Mn1.5O4", "1", 183, "redox site (Ni)", "2"),
        ("nmc333", "LiNi1/3Mn1/3Co1/3O2", "1", 3388, "redox site (Co, Ni)", "3/2"),
        ("nmc333", "LiNi0.333Mn0.333Co0.333O2", "1", 3388, "redox site (Co, Ni)", "3/2"),
    ],
)
def test_x_is_per_formula_unit_where_the_file_gives_one(
    name: str,
    formula: str,
    to: str,
    distinct: int,
    unit_without: str,
    to_without: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shutil.copytree(CASES, tmp_path, dirs_exist_ok=True)
    file = tmp_path / f"{name}.yaml"
    ways = [(unit_without, to_without), (formula, to)]
    for way, (unit, highest) in enumerate(ways):
        if way:
            file.write_text(file.read_text().replace("host: {", f"host: {{formula: {formula}, "))
        code, out, err = run(["check", str(file), "--json"], capsys)
        found = json.loads(out)
        assert (code, err, found["distinct"]) == (0, "", distinct)
        steps = len(found["compositions"]) - 1
        step = str(Fraction(highest) / steps)
        assert found["x"] == {"from": "0", "to": highest, "step": step}
        assert found["total_moment"].keys() == found["compositions"].keys()
        if way and name == "nmc333":
            assert found["total_moment"]["1"] == 15
        _, out, _ = run(["check", str(file)], capsys)
        assert f"x = 0 to {highest} {found['x_means'].split()[5]} per {unit}, in steps of" in out
        assert (f"write 'formula: {'MgMn2O4' if name == 'mgmn2o4' else 'Li'}" in out) == (not way)
        _, out, _ = run(["enumerate", str(file), "--count"], capsys)
        assert f"per {unit}" in " ".join(out.split())
        _, out, _ = run(["enumerate", str(file), "--count", "--json"], capsys)
        counted = json.loads(out)
        assert counted["distinct"] == distinct
        assert counted["by_composition"] == found["compositions"]


def test_check_tells_the_window_of_compositions(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(["check", str(CASES / "na3v2po43.yaml"), "--json"], capsys)
    found = json.loads(out)
    assert (code, err, found["formula"]) == (0, "", "Na3V2(PO4)3")
    assert found["x"] == {"from": "1", "to": "3", "step": "1/2"}
    assert list(found["compositions"]) == ["1", "3/2", "2", "5/2", "3"]
    # Four V: V4+ with one electron each at x = 1, V3+ with two at x = 3; so have V3+ and V5+.
    assert (found["total_moment"]["1"], found["total_moment"]["3"]) == (4, 8)
    assert found["atoms_per_label"] == 6 + 4 + 6 + 24
    _, out, _ = run(["check", str(CASES / "na3v2po43.yaml")], capsys)
    assert "x = 1 to 3 Na+ per Na3V2(PO4)3, in steps of 1/2\n" in out


def test_ions_that_the_charges_do_not_let_out_need_no_window(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """V4+ alone already leaves one sodium, which the emptied structure may have."""
    shutil.copytree(CASES, tmp_path, dirs_exist_ok=True)
    file = tmp_path / "na3v2po43.yaml"
    text = file.read_text().replace("  compositions: {from: 1, to: 3}\n", "")
    text = re.sub(r", moment_windows: \{.*\}\}", "}", text)
    file.write_text(text.replace("[2, 3, 4, 5]", "[3, 4]"))
    code, out, err = run(["check", str(file), "--json"], capsys)
    assert (code, err) == (0, "")
    assert json.loads(out)["x"] == {"from": "1", "to": "3", "step": "1/2"}
    file.write_text(file.read_text().replace("POSCAR_nav2po43", "POSCAR_na3v2po43"))
    code, out, err = run(["check", str(file)], capsys)
    assert (code, out) == (2, "")
    assert "host.empty_structure: it contains 8 Na; give the host without Na, or with 2," in err


def test_a_window_without_the_end_member_that_calibrates_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """CoO2 shows what Co4+ is like; between x = 1/2 and 1 nothing does."""
    shutil.copytree(CASES, tmp_path, dirs_exist_ok=True)
    file = tmp_path / "licoo2.yaml"
    assert run(["check", str(file)], capsys)[0] == 0
    text = file.read_text()
    file.write_text(text.replace("host: {", "host: {compositions: {from: 1/2, to: 1}, "))
    code, out, err = run(["check", str(file)], capsys)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "labeler.moment_windows: no moment window for Co4+,spin=1" in err


def test_a_state_that_nothing_tells_is_refused_before_anything_is_paid(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document = changed("host.redox", {"Fe": [2, "3 low", 3]})
    document["labeler"] = {"kind": "gpaw"}
    code, out, err = check(document, tmp_path, capsys)
    assert (code, out) == (2, "")
    assert "labeler.moment_windows: no moment window for Fe3+,spin=1" in err


def test_check_prints_the_windows_of_the_user_before_those_that_are_calibrated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document = changed("labeler", {"kind": "gpaw", "moment_windows": {"Fe3+": [4.0, 4.4]}})
    path = tmp_path / "campaign.yaml"
    path.write_text(yaml.safe_dump(document))
    _, out, _ = run(["check", str(path), "--json"], capsys)
    found = {state["species"]: state["window"] for state in json.loads(out)["states"]}
    assert found == {"Fe2+": "calibrated from the end member", "Fe3+": [4.0, 4.4]}


@pytest.mark.parametrize(
    ("name", "lines", "found"),
    [
        (
            "prussian_white",
            ["x = 1 to 2 Na+ per Na2Fe2(CN)6", "FeC: Fe2+ low spin on 4 sites"],
            {"sites": {"FeC": "Fe2+ low spin on 4 sites"}, "distinct": 16, "structure": []},
        ),
        (
            "alluaudite",
            [
                "x = 3/4 to 5/2 Na+ per Na2.5Fe1.75(SO4)3, in steps of 1/4",
                "partly occupied Na sites are filled in the parent: 4 Na2 (0.75), 4 Na3 (0.75)",
                "ordered in the supercell by Ewald energy: Fe1 (Fe0.875); the lowest of 8 ",
            ],
            {"sites": {}, "distinct": 92378, "atoms_per_label": 77},
        ),
        (
            "nmc333_mixed",
            ["ordered in the supercell by Ewald energy: Ni1/Mn1/Co1 (Co0.3333 Mn0.3333 Ni0.3333)"],
            {"atoms_per_label": 36},
        ),
    ],
)
def test_check_says_what_sites_are_and_what_becomes_of_disorder(
    name: str, lines: list[str], found: dict[str, object], capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = run(["check", str(CASES / f"{name}.yaml")], capsys)
    assert code == 0 and all(line in out.replace("\n", " ") for line in lines)
    _, out, _ = run(["check", str(CASES / f"{name}.yaml"), "--json"], capsys)
    document = json.loads(out)
    assert {key: document[key] for key in found} == found


def test_check_names_no_disordered_site_without_saying_what_to_write(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(CASES, tmp_path, dirs_exist_ok=True)
    file = tmp_path / "alluaudite.yaml"
    file.write_text(file.read_text().replace(", order: ewald", ""))
    code, out, err = run(["check", str(file)], capsys)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "Fe1 (Fe0.875); write 'order: ewald' under 'host'" in err


def several(**host: Any) -> dict[str, Any]:
    """Return the good campaign with all supercells up to two primitive cells."""
    document = copy.deepcopy(GOOD)
    del document["host"]["supercell"]
    document["host"] |= {"supercells": {"up_to": 2}} | host
    return document


def test_check_counts_in_each_of_several_supercells_and_over_all(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = check(several(), tmp_path, capsys)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    # Eight shapes; what fits the small cell is counted there alone.
    assert "6078 distinct configurations at 9 compositions" in lines[0]
    assert lines[1] == "x = 0 to 1 Na+ per redox site (Fe); NaFePO4 at x = 1"
    assert "atoms per label: 56" in lines[2]
    assert lines[3] == "8 supercells, in units of the primitive cell's vectors:"
    assert lines[4] == (
        "  [1, 0, 0], [0, 1, 0], [0, 0, 1]: 28 atoms, 16 distinct configurations, "
        "16 in no smaller one"
    )
    doubled = "  [1, 0, 0], [0, 2, 0], [0, 0, 1]: 56 atoms, 874 distinct configurations, 858 in"
    assert sum(line.startswith(doubled) for line in lines) == 1
    assert "warning" not in out

    (tmp_path / "campaign.yaml").write_text(yaml.safe_dump(several()))
    document = json.loads(run(["check", str(tmp_path / "campaign.yaml"), "--json"], capsys)[1])
    assert sum(document["compositions"].values()) == document["distinct"] == 6078
    assert [one["primitive_cells"] for one in document["supercells"]] == [1] + 7 * [2]
    assert sum(one["in_no_smaller"] for one in document["supercells"]) == 6078
    assert document["x"] == {"from": "0", "to": "1", "step": "1/8"}
    assert document["left_out"] == []


def test_a_window_counts_for_all_supercells_together(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    window = several(compositions={"from": "1/8", "to": "1/4"})
    code, out, _ = check(window, tmp_path, capsys)
    assert code == 0 and "at 2 compositions" in out
    # The small cell has the upper end alone: one Na among 24 other atoms.
    assert "[0, 0, 1]: 25 atoms, 2 distinct configurations, 2 in no smaller one" in out
    code, _, err = check(several(compositions={"from": "1/16", "to": 1}), tmp_path, capsys)
    assert code == 2 and "the supercell has no composition x = 1/16" in err


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"order": "ewald"}, "'order' needs one 'supercell'"),
        ({"empty_structure": "FePO4.cif"}, "'empty_structure' needs one 'supercell'"),
        ({"supercells": {"up_to": 1}, "min_distance": "9 A"}, "no supercell can be a host"),
    ],
)
def test_what_several_supercells_cannot_have(
    changes: dict[str, Any], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = check(several(**changes), tmp_path, capsys)
    assert code == 2 and words in err and err.count("\n") == 1
