"""Files that run code when a careless program reads them, and names that lead out of a folder."""

from __future__ import annotations

import json
import os
import pickle
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from al_charge.cli.main import COMMANDS
from al_charge.errors import AlChargeError, InputError
from al_charge.labelers.vasp.outputs import archived_frames
from al_charge.loop.spec import parse_spec
from al_charge.store.documents import CampaignState

HOSTS = Path(__file__).parents[2] / "workflows" / "hosts"
Run = Callable[..., tuple[int, str, str]]


class Bomb:
    """Makes a file where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


@pytest.fixture
def bomb(tmp_path: Path) -> Path:
    """Return a folder that is there as soon as something was unpickled."""
    return tmp_path / "went-off"


def spec(**fields: Any) -> dict[str, Any]:
    """Return a campaign file."""
    known: dict[str, Any] = {
        "name": "hostile",
        "host": {
            "structure": str(HOSTS / "NaFePO4.cif"),
            "working_ion": "Na",
            "redox": {"Fe": [2, 3]},
            "fixed": {"P": 5, "O": -2},
        },
        "labeler": {"kind": "born"},
        "potential": {"kind": "painn"},
    }
    return known | fields


def refused(run: Run, *arguments: str) -> str:
    """Check that a command refuses its input in one line, and return it."""
    code, _, err = run(*arguments)
    assert code == 2, (arguments, err)
    assert err.count("\n") == 1 and "Traceback" not in err
    return err


@pytest.mark.parametrize(
    "name", ["x.traj", "x.xyz", "x.npz", "POSCAR", "x.cif", "x.json", "x.db", "OUTCAR", "x.gpw"]
)
def test_pickles_by_any_name_are_not_read(run: Run, tmp_path: Path, bomb: Path, name: str) -> None:
    file = tmp_path / name
    for content in (
        pickle.dumps(Bomb(bomb)),
        b"PickleTrajectory" + pickle.dumps(Bomb(bomb)),
    ):
        file.write_bytes(content)
        refused(run, "label", str(file), "--engine", "born")
        refused(run, "audit", str(file))
        refused(run, "predict", str(file), "--model", str(file))
        refused(run, "evaluate", str(file), "--data", str(file))
    assert not bomb.exists()


def test_pickled_arrays_are_not_read(run: Run, tmp_path: Path, bomb: Path) -> None:
    file = tmp_path / "density.npz"
    array = np.empty(1, dtype=object)
    array[0] = Bomb(bomb)
    np.savez(file, density=array, coarse=array)
    from ase import Atoms

    from al_charge.labelers.bader import from_gpaw

    with pytest.raises(AlChargeError):
        from_gpaw(file, Atoms("Na", cell=[3, 3, 3], pbc=True))
    assert not bomb.exists()


def test_documents_that_name_code_are_no_structures(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "named_by_a_file.py").write_text("raise SystemExit('it was imported')")
    monkeypatch.syspath_prepend(str(tmp_path))
    lattice = {"matrix": [[4, 0, 0], [0, 4, 0], [0, 0, 4]]}
    site = {
        "species": [{"element": "Na", "occu": 1}],
        "abc": [0, 0, 0],
        "properties": {"x": {"@module": "named_by_a_file", "@class": "X"}},
    }
    document = {"lattice": lattice, "sites": [site]}
    for name in ("host.json", "host.mson.gz", "host.yaml", "HOST.JSON"):
        (tmp_path / name).write_text(json.dumps(document))
        host = spec()["host"] | {"structure": name}
        file = tmp_path / "campaign.yaml"
        file.write_text(yaml.safe_dump(spec(host=host)))
        assert "document of pymatgen" in refused(run, "check", str(file))


def test_yaml_makes_no_objects(run: Run, tmp_path: Path, bomb: Path) -> None:
    file = tmp_path / "campaign.yaml"
    for tag in (
        f"!!python/object/apply:os.mkdir ['{bomb}']",
        f"!!python/object/new:os.mkdir ['{bomb}']",
        "!!python/name:os.system",
        "!!python/module:os",
    ):
        file.write_text(f"name: {tag}\n")
        refused(run, "check", str(file))
        refused(run, "campaign", "submit", str(file))
    assert not bomb.exists()


@pytest.mark.parametrize(
    "name",
    [
        "../x",
        "..",
        ".",
        "/etc/x",
        "a/b",
        "a\\b",
        "a\0b",
        "a\nb",
        "",
        "x" * 65,
        "-x",
        "~x",
        "$x",
        "a b",
    ],
)
def test_names_of_campaigns_are_no_paths(name: str) -> None:
    with pytest.raises(InputError, match="name"):
        parse_spec(spec(name=name), source=HOSTS)


@pytest.mark.parametrize("name", ["../x", "..", ".", "", "/etc", "a/b", "a/", "a\0b"])
def test_names_in_the_database_are_no_paths(name: str) -> None:
    from al_charge.fw.tasks import files_of

    assert files_of(Path("runs"), "olivine.2") == Path("runs/olivine.2")
    with pytest.raises(AlChargeError, match="not a campaign's name"):
        files_of(Path("runs"), name)


@pytest.mark.parametrize(
    "target",
    ["../../x", "/proc/version", "a\0b", "x" * 5000, "..", "loop"],
)
def test_structures_by_strange_paths_are_refused(run: Run, tmp_path: Path, target: str) -> None:
    (tmp_path / "loop").symlink_to("loop")
    file = tmp_path / "campaign.yaml"
    host = spec()["host"] | {"structure": target}
    file.write_text(json.dumps(spec(host=host)))
    refused(run, "check", str(file))


@pytest.mark.parametrize("name", ["x" * 300, "../" * 2000 + "x"])
@pytest.mark.parametrize("command", sorted({"check", "label", "audit"} & set(COMMANDS)))
def test_strange_file_names_are_refused(run: Run, command: str, name: str) -> None:
    options = ["--engine", "born"] if command == "label" else []
    refused(run, command, name, *options)


def test_archives_of_custodian_stay_in_their_folder(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "vasprun.xml").write_text("<modeling/>")
    job = tmp_path / "job"
    job.mkdir()
    before = sorted(tmp_path.rglob("*"))
    for number, name in enumerate(
        ["../../x/vasprun.xml", str(outside / "vasprun.xml"), "vasprun.xml"], start=1
    ):
        with tarfile.open(job / f"error.{number}.tar.gz", "w:gz") as packed:
            member = tarfile.TarInfo(name)
            if name == "vasprun.xml":
                member.type, member.linkname = tarfile.SYMTYPE, str(outside / "vasprun.xml")
            packed.addfile(member)
    assert archived_frames(job) == []
    added = set(tmp_path.rglob("*")) - set(before)
    assert {path.name for path in added} == {f"error.{n}.tar.gz" for n in (1, 2, 3)}


def test_words_of_the_database_are_no_markup(run: Run, labelled: Any) -> None:
    reason = "see [/tmp/x] and [bold]this"
    labelled.store.campaigns.set_state("labelled", CampaignState.FAILED, reason)
    for command in ("list",), ("status", "labelled"):
        code, out, err = run("campaign", *command)
        assert code == 0, err
        assert "[/tmp/x]" in out and "[bold]" in out
