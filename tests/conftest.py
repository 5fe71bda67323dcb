"""Hosts that several rooms are tested on, and a real MongoDB."""

from __future__ import annotations

import contextlib
import gc
import importlib
import io
import multiprocessing
import os
import shutil
import subprocess
import sys
import uuid
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zlib import crc32

import pytest
from pymatgen.core.lattice import Lattice
from pymatgen.core.structure import Structure
from pymongo import MongoClient
from pymongo.database import Database

# A failed assertion of a contract tells its values, like one of a test module.
pytest.register_assert_rewrite("al_charge.testing")

import al_charge.fw  # noqa: E402, F401  # FireWorks reads its configuration once, so before it
from al_charge.crystal.host import Host  # noqa: E402
from al_charge.crystal.host_spec import HostSpec  # noqa: E402
from al_charge.stopping import TOLD_TO_END  # noqa: E402
from al_charge.store.documents import Assessment  # noqa: E402
from al_charge.store.embedded import HOME_ENV, USERNAME, EmbeddedServer  # noqa: E402
from al_charge.store.migrations import SCHEMA  # noqa: E402
from al_charge.store.mongo import Store  # noqa: E402
from al_charge.store.schema import create_task_indexes  # noqa: E402

if TYPE_CHECKING:
    from fireworks import LaunchPad

RUNNING_HOME = os.environ.get("AL_CHARGE_TEST_HOME")
"""Home whose MongoDB runs already, for one test session at a time; it is left running, without the
databases and users of earlier sessions."""
STARTS_MONGOD = {"mongodb_client", "server", "new_server"}
FIRST = ("test_slurm.py",)
"""Files to begin with: it waits most of its time."""
OLIVINE = Path(__file__).parents[1] / "workflows" / "hosts" / "NaFePO4.cif"


gc.disable()  # until `pytest_collection_finish`: imports leave next to no garbage


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes(config: pytest.Config) -> None:
    """In a new clone, let two processes compile what each of the others would compile as well."""
    tests = Path(__file__).parent
    if [*tests.glob("*/__pycache__/test_*")] or sys.dont_write_bytecode:
        return
    rooms = sorted({*tests.iterdir()} - {Path(__file__), tests / "__pycache__"})
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-n0"]
    halves = [
        subprocess.Popen([*command, *half], cwd=config.rootpath, stdout=subprocess.DEVNULL)
        for half in (rooms[::2], rooms[1::2])
    ]
    for half in halves:
        half.wait()


def pytest_collection_finish() -> None:
    """Spare Python from looking through all modules and tests again and again for garbage."""
    gc.freeze()
    gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests whose fixtures start a MongoDB, and begin with files of slow tests.

    Files are dealt out to processes in this order, so that no long one is left for the end. Else it
    is haphazard, so that tests that wait run beside others that compute.
    """
    for item in items:
        if STARTS_MONGOD & set(getattr(item, "fixturenames", [])):
            item.add_marker("mongod")
    here = Path(__file__).parent
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    place = {path: crc32(str(path.relative_to(here)).encode()) for path in {i.path for i in items}}
    items.sort(key=lambda i: (i.path.name not in FIRST, i.path not in slow, place[i.path]))


@pytest.fixture(autouse=True)
def not_told_to_end() -> Iterator[None]:
    """Forget the signals that a test has sent to itself."""
    yield
    TOLD_TO_END.clear()


def olivine_spec(supercell: tuple[int, int, int] = (1, 1, 1)) -> HostSpec:
    """Return the specification of olivine NaxFePO4."""
    return HostSpec(
        structure=OLIVINE,
        working_ion="Na",
        redox={"Fe": (2, 3)},
        fixed={"P": 5, "O": -2},
        supercell=supercell,
    )


@pytest.fixture(scope="session")
def olivine() -> Host:
    """Olivine NaxFePO4, 28 sites, 4 of them Fe."""
    return Host.from_spec(olivine_spec())


@pytest.fixture(scope="session")
def olivine_doubled() -> Host:
    """Olivine NaxFePO4 on the 1x2x1 supercell, 8 Fe."""
    return Host.from_spec(olivine_spec((1, 2, 1)))


@pytest.fixture(scope="session")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Host:
    """Olivine with half of the Fe replaced by Mn, which may be Mn2+, Mn3+ or Mn4+."""
    structure = Structure.from_file(OLIVINE)
    iron = [i for i, site in enumerate(structure) if site.specie.symbol == "Fe"]
    for i in iron[:2]:
        structure.replace(i, "Mn")
    path = tmp_path_factory.mktemp("mixed") / "POSCAR"
    structure.sort().to(filename=str(path))
    return Host.from_spec(
        HostSpec(
            structure=path,
            working_ion="Na",
            redox={"Fe": (2, 3), "Mn": (2, 3, 4)},
            fixed={"P": 5, "O": -2},
        )
    )


@pytest.fixture(scope="session")
def vanadium(tmp_path_factory: pytest.TempPathFactory) -> Host:
    """Tetragonal NaxVO2 on a 2x2x1 supercell with V3+, V4+ and V5+."""
    structure = Structure(
        Lattice.tetragonal(4.0, 4.4),
        ["Na", "V", "O", "O"],
        [[0, 0, 0], [0.5, 0.5, 0.5], [0, 0.5, 0.5], [0.5, 0, 0.5]],
    )
    path = tmp_path_factory.mktemp("vanadium") / "POSCAR"
    structure.to(filename=str(path))
    return Host.from_spec(
        HostSpec(
            structure=path,
            working_ion="Na",
            redox={"V": (3, 4, 5)},
            fixed={"O": -2},
            supercell=(2, 2, 1),
        )
    )


@pytest.fixture(scope="session")
def overlapping() -> Host:
    """P2-NaxCoO2 on a 2x1x1 supercell, 8 Na sites in pairs that exclude each other, 4 Co."""
    spec = HostSpec(
        structure=Path(__file__).parent / "cases" / "hosts" / "nacoo2_p2_both_sites.cif",
        working_ion="Na",
        redox={"Co": (3, 4)},
        fixed={"O": -2},
        supercell=(2, 1, 1),
    )
    return Host.from_spec(spec)


@pytest.fixture(
    scope="session", params=["olivine", "olivine_doubled", "mixed", "vanadium", "overlapping"]
)
def any_host(request: pytest.FixtureRequest) -> Host:
    """Each of the hosts in turn."""
    host: Host = request.getfixturevalue(request.param)
    return host


@pytest.fixture(scope="session", autouse=True)
def private_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Keep the user's own files, servers and credentials out of every test."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        for variable in [name for name in os.environ if name.startswith("AL_CHARGE_")]:
            patch.delenv(variable)
        patch.setenv(HOME_ENV, str(home))
        if RUNNING_HOME:
            (home / "mongodb").symlink_to(Path(RUNNING_HOME).resolve() / "mongodb")
        yield home
    if not RUNNING_HOME:
        EmbeddedServer(home).stop()
    shutil.rmtree(home)


@pytest.fixture(scope="session")
def mongodb_client(private_home: Path) -> Iterator[MongoClient[dict[str, Any]]]:
    """Connect to an embedded server that lives as long as the test session."""
    uri = EmbeddedServer(private_home).start().uri("admin")
    with MongoClient[dict[str, Any]](uri, tz_aware=True) as client:
        if RUNNING_HOME:
            _empty(client)
        yield client


def _empty(client: MongoClient[dict[str, Any]]) -> None:
    """Remove what an earlier session may have left when it was killed."""
    for name in set(client.list_database_names()) - {"admin", "config", "local"}:
        client.drop_database(name)
    for user in client["admin"].command("usersInfo", {"forAllDBs": True})["users"]:
        if user["user"] != USERNAME:
            client[user["db"]].command("dropUser", user["user"])
    for database in {role["db"] for role in client["admin"]["system.roles"].find()}:
        client[database].command("dropAllRolesFromDatabase")


@pytest.fixture
def empty_database(
    mongodb_client: MongoClient[dict[str, Any]],
) -> Iterator[Database[dict[str, Any]]]:
    """Give a test a new database, without a collection."""
    name = f"test_{uuid.uuid4().hex}"
    yield mongodb_client[name]
    mongodb_client.drop_database(name)


@pytest.fixture(scope="session")
def reset(
    mongodb_client: MongoClient[dict[str, Any]],
) -> Callable[[Database[dict[str, Any]]], bool]:
    """Return what empties a database, and tells whether it is as good as new then.

    MongoDB takes longer to create and drop collections and indexes than most tests take, and to be
    asked for each collection longer than to be asked once for all. A database whose collections or
    indexes have changed is dropped all the same.
    """
    new = mongodb_client[f"test_{uuid.uuid4().hex}"]
    Store(new).ensure_schema()
    create_task_indexes(new)
    wanted, schema = _layout(new), list(new[SCHEMA].find())
    names = sorted(set(wanted) - {SCHEMA})
    look = {
        name: [{"$limit": 1}, {"$project": {"_id": 0, "name": {"$literal": name}}}]
        for name in names
    }
    others = [{"$unionWith": {"coll": name, "pipeline": look[name]}} for name in names[1:]]
    filled = [*look[names[0]], *others]

    def empty(database: Database[dict[str, Any]]) -> bool:
        layout = _layout(database)
        for name in set(layout) - set(wanted):
            database.drop_collection(name)
            del layout[name]
        if layout != wanted or list(database[SCHEMA].find()) != schema:
            mongodb_client.drop_database(database)
            return False
        for found in database[names[0]].aggregate(filled):
            database[found["name"]].delete_many({})
        return True

    return empty


def _layout(database: Database[dict[str, Any]]) -> dict[str, Any]:
    """Return the options and indexes of every collection."""
    ours: list[dict[str, Any]] = [{"$listCatalog": {}}, {"$match": {"db": database.name}}]
    layout: dict[str, Any] = {}
    for one in database.client["admin"].aggregate(ours):
        options = {key: value for key, value in one["md"]["options"].items() if key != "uuid"}
        indexes = {index["spec"]["name"]: index["spec"] for index in one["md"]["indexes"]}
        layout[one["name"]] = (one["type"], options, indexes)
    return layout


@pytest.fixture(scope="session")
def spare_databases() -> list[str]:
    """Names of databases that have the schema and no document."""
    return []


@pytest.fixture
def prepared_database(
    mongodb_client: MongoClient[dict[str, Any]],
    reset: Callable[[Database[dict[str, Any]]], bool],
    spare_databases: list[str],
) -> Iterator[Database[dict[str, Any]]]:
    """Give each test a database of its own, with the schema and no document."""
    spare = spare_databases.pop() if spare_databases else ""
    name = spare or f"test_{uuid.uuid4().hex}"
    database = mongodb_client[name]
    if not spare:
        Store(database).ensure_schema()
        create_task_indexes(database)
    yield database
    if reset(database):
        spare_databases.append(name)


@pytest.fixture
def database(prepared_database: Database[dict[str, Any]]) -> Database[dict[str, Any]]:
    """Give each test a database of its own that is ready for use."""
    return prepared_database


@pytest.fixture(scope="session")
def make_assessment() -> Callable[..., Assessment]:
    """Return a maker of assessments that have found next to nothing."""

    def make(**fields: Any) -> Assessment:
        usual: dict[str, Any] = {"spread_scale": 1.0, "vertices": [], "labels": 0, "criteria": []}
        return Assessment(**(usual | fields))

    return make


@pytest.fixture(scope="session")
def launchpad_on() -> Callable[[Database[dict[str, Any]]], LaunchPad]:
    """Make a LaunchPad on a database."""
    from fireworks import LaunchPad

    from al_charge.fw.launchpad import initialise

    def make(database: Database[dict[str, Any]]) -> LaunchPad:
        launchpad = LaunchPad(
            host="mongodb://localhost:1/",
            name=database.name,
            uri_mode=True,
            strm_lvl="CRITICAL",
            mongoclient_kwargs={"connect": False},
        )
        for collection in ("fireworks", "launches", "offline_runs", "fw_id_assigner", "workflows"):
            setattr(launchpad, collection, database[collection])
        launchpad.db = database
        initialise(launchpad)
        return launchpad

    return make


@pytest.fixture(scope="session")
def run() -> Callable[..., tuple[int, str, str]]:
    """Run the command line in this process; return exit code, standard output and error."""
    from al_charge.cli.main import main

    def call(*arguments: str) -> tuple[int, str, str]:
        out, err = io.StringIO(), io.StringIO()
        with (
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            pytest.raises(SystemExit) as exit_,
        ):
            main(list(arguments))
        return int(exit_.value.code or 0), out.getvalue(), err.getvalue()

    return call


@pytest.fixture(scope="module")
def forked_gpaw() -> Iterator[Callable[..., None]]:
    """Have GPAW's jobs done by forks of this process, where it is imported once for all of them.

    The fixture is what starts processes otherwise. A fork knows no time limit, and must not fail.
    """
    from al_charge.labelers.dft import process

    job: Any = importlib.import_module("al_charge.labelers.gpaw.run")
    importlib.import_module("al_charge.labelers.gpaw.engine")
    usual = process.run

    def work(directory: Path) -> None:
        os.chdir(directory)
        with Path(process.LOG).open("wb") as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
        warnings.resetwarnings()  # they are errors in a test's process
        job.main()

    def start(command: Sequence[str], directory: Path, *limits: Any, **options: Any) -> None:
        if list(command[1:]) != ["-m", job.__name__]:
            return usual(command, directory, *limits, **options)
        fork = multiprocessing.get_context("fork").Process(target=work, args=(directory,))
        fork.start()
        fork.join()
        assert fork.exitcode == 0, (directory / process.LOG).read_text()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(process, "run", start)
        yield usual
