"""Tasks that jobflow keeps in a MongoDB become labels like the folders that they came from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pymongo.database import Database

from al_charge.api.imports import import_into
from al_charge.crystal.configuration import to_atoms
from al_charge.crystal.enumeration import enumerate_distinct
from al_charge.errors import InputError
from al_charge.labelers.vasp.foreign import read_folder
from al_charge.report.foreign.jobflow_store import is_jobflow, store_at
from al_charge.store.embedded import EmbeddedServer
from al_charge.store.mongo import Store

pytestmark = [pytest.mark.mongod, pytest.mark.filterwarnings("ignore::Warning")]


@pytest.fixture
def store(database: Database[dict[str, Any]]) -> Store:
    """Where labels are imported to."""
    return Store(database)


@pytest.fixture
def uri(empty_database: Database[dict[str, Any]], private_home: Path) -> str:
    """Of the database that jobflow keeps its outputs in, password included."""
    return EmbeddedServer(private_home).start().uri(empty_database.name)


@pytest.fixture
def keep(uri: str, tmp_path: Path) -> Iterator[Callable[..., None]]:
    """Return what runs a job of jobflow, whose output jobflow itself stores."""
    from jobflow import JobStore, job, run_locally
    from maggma.stores import MongoStore

    jobs = JobStore(MongoStore(None, "outputs", uri=uri))

    def run(output: dict[str, Any]) -> None:
        one = job(lambda: output)()
        done = run_locally(one, store=jobs, root_dir=tmp_path, log=False, ensure_success=True)
        assert one.uuid in done

    yield run
    if (collection := jobs.docs_store._coll) is not None:
        collection.database.client.close()  # maggma leaves it open


@pytest.fixture
def folders(
    campaign_of: Any,
    compute: Any,
    store: Store,
    keep: Callable[..., None],
    task_document: Callable[[Path], Any],
    recorded_nickel_oxide: Path,
    tmp_path: Path,
) -> Path:
    """Runs of olivine, one by PBEsol, whose tasks are in the store beside what is none of ours."""
    host, root = campaign_of(store).host, tmp_path / "runs"
    for number, (n_ions, changed) in enumerate([(0, {}), (4, {}), (2, {"incar": {"GGA": "PS"}})]):
        atoms = to_atoms(host, enumerate_distinct(host, n_ions)[0])
        run = compute(atoms, root / str(number), -178.3 - 4.3 * n_ions, **changed)
        keep(task_document(run))
    keep(task_document(recorded_nickel_oxide))
    keep({"energy": -1.0, "chemsys": "Fe-Na-O-P"})
    return root


def written(folder: Path, content: Any) -> str:
    file = folder / "jobflow.yaml"
    file.write_text(yaml.safe_dump(content))
    return str(file)


def contents(database: Database[dict[str, Any]]) -> Any:
    return {name: list(database[name].find()) for name in database.list_collection_names()}


def test_tasks_of_a_store_are_the_runs_of_their_folders(
    folders: Path,
    store: Store,
    uri: str,
    empty_database: Database[dict[str, Any]],
    tmp_path: Path,
) -> None:
    before = contents(empty_database)
    docs = {"type": "MongoStore", "database": None, "collection_name": "outputs", "uri": uri}
    file = written(tmp_path, {"JOB_STORE": {"docs_store": docs, "additional_stores": {}}})
    found = import_into(store, file, "olivine")
    assert len(found.document["runs"]) == 3
    assert len(found.imported) == 2
    assert [*found.left_out.values()] == ["GGA is PS instead of PE"]
    label = store.labels.get(found.imported[0])
    assert label is not None and label.imported is not None
    ids = {
        f"jobflow.yaml, {empty_database.name}.outputs, {one['uuid']} 1" for one in before["outputs"]
    }
    assert label.imported.file in ids
    assert len(label.imported.sha256) == 64
    again = import_into(store, folders, "olivine")
    assert (again.imported, set(again.known)) == ((), set(found.imported))
    assert again.document["kept"] == {}
    assert contents(empty_database) == before  # it was only read
    # A trajectory in another store, and a document that does not tell what it is of.
    outputs = empty_database["outputs"]
    (first, second, *_) = outputs.find({"output.calcs_reversed": {"$exists": True}}, sort=["_id"])
    aside = {"@class": "Trajectory", "blob_uuid": "1", "store": "data"}
    path = "output.calcs_reversed.0.output.ionic_steps"
    change = {"$set": {path: aside}, "$unset": {"output.chemsys": 1}}
    outputs.update_one({"_id": first["_id"]}, change)
    outputs.delete_one({"_id": second["_id"]})
    damaged, other = import_into(store, file, "olivine").left_out.values()
    assert damaged.startswith("its ionic steps are stored elsewhere (store_trajectory")
    assert other == "GGA is PS instead of PE"


def test_where_a_store_is_told(
    keep: Callable[..., None],
    uri: str,
    empty_database: Database[dict[str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As jobflow's own settings allow it, or in one address."""
    keep({"energy": -1.0})
    name = empty_database.name
    login, _, server = uri.removeprefix("mongodb://").partition("@")
    host = server.partition("/")[0]
    username, password = login.split(":")
    plain = {"database": name, "collection_name": "outputs"}
    apart = {"host": f"mongodb://{host}", "username": username, "password": password}
    apart |= {"auth_source": "admin"}
    file = written(tmp_path, {"docs_store": {"type": "MongoStore", **plain, **apart}})
    pointer = tmp_path / "config.yaml"
    pointer.write_text(f"JOB_STORE: {file}\n")
    dumped = tmp_path / "dumped.yaml"
    full = {"@module": "maggma.stores.mongolike", "@class": "MongoStore", **plain, "host": uri}
    dumped.write_text(yaml.safe_dump({"@class": "JobStore", "docs_store": full}))
    by_uri = tmp_path / "uri.yaml"
    docs = {"type": "MongoURIStore", "collection_name": "outputs", "uri": uri}
    by_uri.write_text(yaml.safe_dump({"jobstore": {"docs_store": docs}}))
    monkeypatch.setenv("AL_CHARGE_DATABASE_USER", username)
    monkeypatch.setenv("AL_CHARGE_DATABASE_PASSWORD", password)
    address = f"mongodb://{host}/{name}.outputs?authSource=admin"
    for told in (file, str(pointer), str(dumped), str(by_uri), address):
        assert is_jobflow(told)
        store = store_at(told)
        with store.opened() as collection:
            assert collection.count_documents({}) == 1, told
        assert password not in repr(store)
    monkeypatch.setenv("AL_CHARGE_DATABASE_PASSWORD", "wrong")
    with pytest.raises(InputError, match="Authentication failed"), store_at(address).opened() as it:
        it.find_one()


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ("{", "it is not a YAML file"),
        ("- 1", "it describes no store of jobflow"),
        ("JOB_STORE: none.yaml", "it cannot be read"),
        ("docs_store: {type: JSONStore, paths: a.json}", "its docs_store is a JSONStore"),
        ("docs_store: {type: MongoStore, ssh_tunnel: {a: 1}}", "behind an ssh tunnel"),
        ("docs_store: {type: MongoStore, database: a}", "names no database or collection"),
        ("docs_store: {type: MongoStore, collection_name: a}", "names no database or collection"),
        (
            "docs_store: {type: MongoURIStore, uri: 'mongodb://u:secret@h', collection_name: a}",
            "names no database or collection",
        ),
        (
            "docs_store: {type: MongoStore, database: a, collection_name: b, "
            "mongoclient_kwargs: {connectTimeoutMS: secret}}",
            "its address or options are not valid",
        ),
        (
            "docs_store: {type: MongoStore, uri: 'mongodb://u:secret@127.0.0.1:9/a', "
            "collection_name: b}",
            "no MongoDB answers there",
        ),
    ],
)
def test_what_is_no_store_is_refused(
    content: str,
    what: str,
    campaign_of: Any,
    store: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    campaign_of(store)
    monkeypatch.setattr("al_charge.report.foreign.jobflow_store.SELECTION_TIMEOUT", 0.2)
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "jobflow.yaml"
    file.write_text(content)
    with pytest.raises(InputError) as error:
        import_into(store, file, "olivine")
    assert what in str(error.value)
    assert "secret" not in str(error.value)


def test_a_store_without_our_tasks_is_refused(
    campaign_of: Any,
    store: Store,
    uri: str,
    keep: Callable[..., None],
    task_document: Callable[[Path], Any],
    recorded_nickel_oxide: Path,
    tmp_path: Path,
) -> None:
    campaign_of(store)
    docs = {"type": "MongoStore", "database": None, "collection_name": "outputs", "uri": uri}
    file = written(tmp_path, {"docs_store": docs})
    keep({"energy": -1.0})
    with pytest.raises(InputError, match="there is no task of VASP in it"):
        import_into(store, file, "olivine")
    keep(task_document(recorded_nickel_oxide))
    with pytest.raises(InputError, match="no task of VASP of Fe-Na-O-P or Fe-O-P in it"):
        import_into(store, file, "olivine")
    assert read_folder(recorded_nickel_oxide).symbols  # a run that would be one of another host


def test_addresses_of_stores() -> None:
    assert is_jobflow("mongodb://host:27017/jobflow.outputs?tls=true")
    assert not is_jobflow("mongodb://host.org:27017/al_charge")
    assert is_jobflow("there/jobflow.yaml")
    assert not is_jobflow("labels.extxyz")
    told = store_at("mongodb://jobflow.outputs/jobflow.outputs")
    assert (told.database, told.collection) == ("jobflow", "outputs")
    assert "jobflow.outputs/jobflow?" in told.uri
