"""Archives, models, JSON and databases that would fill the memory, or take hours."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import sqlite3
import struct
import zipfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from pymatgen.core import Lattice, Structure
from safetensors.torch import save

from al_charge.crystal import bounded
from al_charge.crystal.bounded import limited
from al_charge.errors import AlChargeError, InputError
from al_charge.potentials import model_file
from al_charge.potentials.model_file import read_members, write_model
from al_charge.potentials.painn import PainnPlugin, PainnSettings
from al_charge.potentials.potential import Potential
from al_charge.report.experiment import read_measured
from al_charge.report.exported import Exported, _check_frames
from al_charge.report.foreign.find import _read, find_runs
from al_charge.store.backup.restore import restore
from al_charge.testing.potentials import untrained

from .test_odd_files import MB, bomb, frugal, xyz

DEEP = "[" * 900_000
ENTRY = {"name": "labels", "indexes": [], "documents": 1, "size": 5, "sha256": "0" * 64}
EMPTY = b"\x05\0\0\0\0"


class Untouched:
    """A database that nobody may look at: what is refused is refused before."""

    def with_options(self, **_: Any) -> Untouched:
        return self


def archive(
    manifest: str | None = None,
    stream: bytes = EMPTY,
    how: int = zipfile.ZIP_DEFLATED,
    **entry: Any,
) -> bytes:
    """Return an archive with one collection."""
    time = datetime(2026, 1, 1, tzinfo=UTC).isoformat()
    told: dict[str, Any] = {
        "format": 1, "database": "a", "schema_version": 1, "al_charge": "0", "mongodb": "0",
        "started": time, "finished": time, "collections": [ENTRY | entry],
    }  # fmt: skip
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", how) as made:
        made.writestr("manifest.json", json.dumps(told) if manifest is None else manifest)
        made.writestr("0000.bson", stream)
    return file.getvalue()


def many_members(number: int) -> bytes:
    """Return a zip archive whose list of members is long, all of them one place."""
    head = archive()
    end = head.rindex(b"PK\x05\x06")
    start = struct.unpack("<L", head[end + 16 : end + 20])[0]
    entry = head[start : head.index(b"PK\x01\x02", start + 4)]
    listing = entry * number
    tail = struct.pack(
        "<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, number, number, len(listing), start
    )
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, start + len(listing), 1)
    last = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 65535, 65535, 2**32 - 1, 2**32 - 1, 0)
    return head[:start] + listing + tail + locator + last


def nested_bson(depth: int) -> bytes:
    """Return a document of documents of documents."""
    heads = (struct.pack("<L", 5 + 8 * (depth - i)) + b"\x03a\0" for i in range(depth))
    return b"".join(heads) + EMPTY + bytes(depth)


def packed_by_lzma(dictionary: int) -> bytes:
    """Return an archive whose stream declares how much memory it takes to unpack."""
    content = archive(stream=b"x" * 1000, how=zipfile.ZIP_LZMA)
    # Version, size of the properties, and the properties: one byte and the dictionary's size.
    place = content.index(b"0000.bson") + len(b"0000.bson") + 5
    return content[:place] + struct.pack("<L", dictionary) + content[place + 4 :]


ARCHIVES: dict[str, Callable[[], bytes]] = {
    "a million members": lambda: many_members(10**6),
    "a bomb of documents": lambda: archive(stream=EMPTY * (8 * MB), documents=10**9, size=10**9),
    "a deep document": lambda: archive(stream=nested_bson(900_000), size=20 * MB),
    "a document of 2 GB": lambda: archive(stream=struct.pack("<l", 2**31 - 1), size=2**31),
    "4 GB to unpack": lambda: packed_by_lzma(2**32 - 1),
    "bzip2": lambda: archive(how=zipfile.ZIP_BZIP2),
    "a deep manifest": lambda: archive(DEEP),
    "a long manifest": lambda: archive('{"a": "' + "x" * 64 * MB + '"}'),
    "2e5 collections": lambda: archive('{"collections": [' + "{}," * 200_000 + "{}]}"),
    "a million keys of an index": lambda: archive(
        indexes=[{"name": "a", "key": [["a", 1]] * 10**6}]
    ),
    "a number of many digits": lambda: archive('{"format": ' + "9" * 900_000 + "}"),
    "documents of 1e300": lambda: archive(documents=1e300),
    "a pickle": lambda: pickle.dumps({"format": 1}),
    "cut off": lambda: archive(stream=bytes(range(256)) * 1000)[:-60],
}


@pytest.mark.parametrize("what", ARCHIVES)
def test_archives(what: str, tmp_path: Path) -> None:
    file = tmp_path / "backup.zip"
    file.write_bytes(ARCHIVES[what]())

    def nothing(*_: Any) -> None:
        """Neither shown nor asked."""

    database: Any = Untouched()
    with frugal(), pytest.raises(InputError) as refused:
        restore(database, file, nothing, nothing)
    _one_line(refused.value, "backup.zip")


def model(changes: dict[str, Any] | str, **tensors: torch.Tensor) -> bytes:
    """Return a model file whose metadata or tensors are changed; members share the changes."""
    config, weights = untrained(PainnSettings(channels=4)).state()
    facts = changes if isinstance(changes, str) else json.dumps(config | changes)
    return save(weights | tensors, metadata={"al_charge": facts})


def declared(shape: list[int]) -> bytes:
    """Return a model file with one tensor of no bytes, and a shape as given."""
    entry = {"dtype": "F32", "shape": shape, "data_offsets": [0, 0]}
    head = json.dumps({"references": entry, "__metadata__": {"al_charge": '{"settings": {}}'}})
    return struct.pack("<Q", len(head)) + head.encode()


def packed_pickle() -> bytes:
    """Return what `torch.save` makes of 64 MB of zeros, packed."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("archive/data.pkl", pickle.dumps({}))
        with made.open("archive/data/0", "w") as stream:
            for _ in range(16):
                stream.write(bytes(4 * MB))
    return file.getvalue()


MACE = {"kind": "mace", "channels": 4, "layers": 12, "max_ell": 4, "max_l": 3, "correlation": 4}
MODELS: dict[str, Callable[[], bytes]] = {
    "1024 channels": lambda: model({"settings": {"kind": "painn", "channels": 1024}}),
    "MACE at its largest": lambda: model({"settings": MACE}),
    "a million species": lambda: model({"tokens": ["Fe3+"] * 10**6}),
    "pairs at 1e9 A": lambda: model({"pair_cutoff": 1e9}),
    "nested": lambda: model(DEEP),
    "a number of many digits": lambda: model('{"version": ' + "9" * 900_000 + "}"),
    "300,000 members": lambda: model('{"members": [' + "{}," * 300_000 + "{}]}"),
    "20,000 members with no weights": lambda: model(
        {"members": [{"version": 1, "settings": {"kind": "painn"}, "tokens": []}] * 20_000}
    ),
    "10,000 members and tensors": lambda: model(
        {"members": [{"settings": {"kind": "painn"}}] * 10_000},
        **{f"{i}.a": torch.zeros(1) for i in range(10_000)},
    ),
    "a shape of 1e18 without bytes": lambda: declared([10**9, 10**9]),
    "a shape of 1e12 and none": lambda: declared([10**12, 0]),
    "a header of 1e18 bytes": lambda: struct.pack("<Q", 10**18) + b"{",
    "a deep pickle": lambda: b"\x80\x04" + b"(" * 10**6 + b".",
    "a bomb": packed_pickle,
}


@pytest.mark.parametrize("what", MODELS)
def test_models(what: str, tmp_path: Path) -> None:
    file = tmp_path / "m"
    file.write_bytes(MODELS[what]())
    with frugal(), pytest.raises(InputError) as refused:
        read_members(file)
    _one_line(refused.value, str(file))


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you"), "takes more memory"),
        (NotImplementedError("coefficients of that order"), "it is damaged"),
    ],
)
def test_a_network_that_cannot_be_built(
    error: Exception, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise error

    write_model(tmp_path / "m", [untrained(PainnSettings(channels=4))])
    monkeypatch.setattr(Potential, "from_state", fail)
    with pytest.raises(InputError, match=said):
        read_members(tmp_path / "m")


def test_packages_of_networks_are_no_part_of_a_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of MACE take 300 MB, which would count as the file's."""
    write_model(tmp_path / "m", [untrained(PainnSettings(channels=4))])
    under_way: list[Path] = []
    imported = []

    @contextmanager
    def limits(path: Path) -> Iterator[None]:
        under_way.append(path)
        with limited(path):
            yield
        under_way.pop()

    architecture = PainnPlugin.architecture

    def importing(plugin: PainnPlugin) -> Any:
        imported.append(not under_way)
        return architecture(plugin)

    monkeypatch.setattr(model_file, "limited", limits)
    monkeypatch.setattr(PainnPlugin, "architecture", importing)
    threads = torch.get_num_threads()
    read_members(tmp_path / "m")
    assert imported == [True, False]  # and once more when the network is built
    assert torch.get_num_threads() == threads


FCC = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
ROCK_SALT = Structure(
    Lattice.cubic(4.0), ["Na"] * 4 + ["Cl"] * 4, [*FCC, *(FCC + 0.5)], to_unit_cell=True
).as_dict()


def beside(**host: Any) -> str:
    """Return the JSON file of an export, which tells a host."""
    told = {"spec": {"working_ion": "Na", "redox": {}}, "structure": ROCK_SALT, "fingerprint": ""}
    found = {"settings_hash": "", "settings": {}, "campaign": "c", "host": told | host}
    return json.dumps(found | {"counts": {"labels": 1, "frames": 1}})


SAID = {
    "40,000 sites": "its host has 40000 sites, the largest have 1000",
    "100,000 faults": "of its values are not valid",
    "rows for ever": "it has a view, 'systems'",
}
"""What is found before it takes long."""
SPEC = {"structure": "a.cif", "working_ion": "Na", "fixed": {"Cl": -1}}
EXPORTS: dict[str, Callable[[], str]] = {
    "nested": lambda: DEEP,
    "100,000 faults": lambda: beside(spec={**SPEC, "redox": {"Fe": ["x"] * 100_000}}),
    "a supercell of 1e18": lambda: beside(
        spec={**SPEC, "redox": {"Na": [0, 1]}, "supercell": [10**6] * 3}
    ),
    "40,000 sites": lambda: beside(
        structure=ROCK_SALT | {"sites": ROCK_SALT["sites"] * 5000},
        spec=SPEC | {"redox": {"Na": [0, 1]}},
    ),
    "a lattice of 1e300": lambda: beside(
        structure=ROCK_SALT | {"lattice": {"matrix": [[1e300, 0, 0], [0, 1, 0], [0, 0, 1]]}}
    ),
    "a structure of words": lambda: beside(structure={"lattice": "x" * 10**6, "sites": "y"}),
    "a number of many digits": lambda: '{"settings_hash": ' + "9" * 900_000 + "}",
}


@pytest.mark.parametrize("what", EXPORTS)
def test_exports(what: str, tmp_path: Path) -> None:
    (tmp_path / "a.extxyz").write_text(xyz("2"))
    (tmp_path / "a.json").write_text(EXPORTS[what]())
    with frugal(), pytest.raises(InputError) as refused:
        Exported(tmp_path / "a.extxyz")
    _one_line(refused.value, "a.json")
    assert SAID.get(what, "") in str(refused.value)


def test_a_label_that_declares_two_billion_frames() -> None:
    atoms = Atoms("Na", info={"frame": 0})
    with frugal(), pytest.raises(InputError, match="1 of 2000000000 frames"):
        _check_frames([atoms], 2_000_000_000)


def database_of(script: str) -> Callable[[Path], None]:
    """Return what writes a database of SQLite."""

    def write(path: Path) -> None:
        with closing(sqlite3.connect(path)) as database:
            database.executescript(script)

    return write


def text_of(text: str) -> Callable[[Path], None]:
    """Return what writes a text, compressed if its name says so."""

    def write(path: Path) -> None:
        content = text.encode()
        path.write_bytes(bomb(gzip.compress, text, b"1,") if path.suffix == ".gz" else content)

    return write


FOR_EVER = "WITH RECURSIVE a(b) AS (SELECT 1 UNION ALL SELECT b FROM a) SELECT b AS id FROM a"
RUNS: dict[str, tuple[str, Callable[[Path], None]]] = {
    "nested": ("a.json", text_of(DEEP)),
    "nested just so": ("a.json", text_of('{"a":' * 900 + "1" + "}" * 900)),
    "nested lists": ("a.json", text_of("[" * 980 + "]" * 980)),
    "a bomb": ("a.json.gz", text_of("[1,")),
    "a million numbers": ("a.json", text_of("[" + "1," * 10**6 + "1]")),
    "no database": ("a.db", text_of("x" * MB)),
    "rows for ever": ("a.db", database_of(f"CREATE VIEW systems AS {FOR_EVER} WHERE b > 1")),
    "other tables": ("a.db", database_of("CREATE TABLE systems (id)")),
}


@pytest.mark.parametrize("what", RUNS)
def test_runs_of_other_programs(what: str, tmp_path: Path) -> None:
    name, write = RUNS[what]
    write(tmp_path / name)
    with frugal(), pytest.raises(InputError) as refused:
        find_runs(tmp_path / name)
    _one_line(refused.value, name)
    assert SAID.get(what, "") in str(refused.value)


def test_documents_of_other_programs(tmp_path: Path) -> None:
    """Each is told by itself, whatever is in it."""
    structures: list[Any] = [
        {},
        5,
        {"lattice": {"matrix": [[1e300] * 3] * 3}, "sites": []},
        {"lattice": {"a": 4}, "sites": [5]},
        {**ROCK_SALT, "sites": [{"species": [{"element": "Na", "occu": 1e999}], "abc": ["x"]}]},
    ]
    documents = [{"structure": one, "forces": [[0]], "energy": 1e999} for one in structures]
    (tmp_path / "a.json").write_text(json.dumps([*documents, {"calcs_reversed": [[5]]}]))
    with frugal():
        found = find_runs(tmp_path / "a.json")
    assert [one.run for one in found] == [None] * 6
    assert all(one.reason and len(one.reason) <= 160 for one in found)


def test_a_property_of_its_own_for_every_site(tmp_path: Path) -> None:
    site = {"species": [{"element": "Na", "occu": 1}]}
    sites = [
        {**site, "abc": [i / 12_000, 0.0, 0.0], "properties": {f"p{i}": 1.0}} for i in range(12_000)
    ]
    structure = {**ROCK_SALT, "sites": sites}
    document = {"structure": structure, "uncorrected_total_energy": -1.0, "force": [[0.0] * 3]}
    (tmp_path / "a.json").write_text(json.dumps(document))
    with frugal():
        (found,) = find_runs(tmp_path / "a.json")
    assert found.run is not None and len(found.run.symbols) == 12_000


def endless(*_: Any, **__: Any) -> None:
    while True:
        pass


def labels_of_export(file: Path) -> None:
    export = object.__new__(Exported)
    export.path = file
    export._by_label = lambda: iter([("k", [])])  # type: ignore[method-assign]
    list(export.labels())


def told_of_run(file: Path) -> None:
    raise InputError(_read("vasp", file).reason, where=str(file))


ENDS = SimpleNamespace(steps=[SimpleNamespace(x_from=0, x_to=1)])
READERS: dict[str, tuple[str, str, Callable[[Path], Any]]] = {
    "an export": ("report.exported._cells_of", "a.extxyz", Exported),
    "its labels": ("report.exported.Exported._label", "a.extxyz", labels_of_export),
    "JSON": ("report.foreign.find._documents", "a.json", find_runs),
    "a database": ("report.foreign.find.read_database", "a.db", find_runs),
    "frames": ("report.foreign.find.read_frames", "a.traj", find_runs),
    "a run": ("labelers.vasp.VaspPlugin.read_foreign", "OUTCAR", told_of_run),
    "a model": ("potentials.potential.Potential.from_state", "m", read_members),
    "what a model is": ("potentials.model_file.read_checkpoint", "m", read_members),
    "its settings": ("potentials.model_file.settings_of", "m", read_members),
    "a curve": ("report.experiment._points", "a.csv", lambda f: read_measured(f, ENDS, 1.0)),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("what", READERS)
def test_no_reader_goes_on_for_ever(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow, name, read = READERS[what]
    write_model(tmp_path / "m", [untrained(PainnSettings(channels=4))])
    for file, text in {
        "a.extxyz": xyz("2"),
        "a.json": beside(),
        "a.db": "",
        "a.traj": "",
        "OUTCAR": "",
        "a.csv": "",
    }.items():
        (tmp_path / file).write_text(text)
    monkeypatch.setattr(f"al_charge.{slow}", endless)
    monkeypatch.setattr(bounded, "SECONDS", 0.1)
    with frugal(), pytest.raises(InputError, match="reading it takes more time"):
        read(tmp_path / name)


def _one_line(error: AlChargeError, name: str) -> None:
    assert error.exit_code == 2
    assert name in str(error)
    assert "\n" not in str(error) and len(str(error)) < 600
