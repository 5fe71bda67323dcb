"""Users and roles on a real server: each may do its work, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.database import Database
from pymongo.errors import OperationFailure

from al_charge.errors import InputError
from al_charge.store.addresses import Credentials, complete_uri, socket_uri_parts
from al_charge.store.connection import connect
from al_charge.store.documents import DOCUMENTS
from al_charge.store.embedded import EmbeddedServer
from al_charge.store.mongo import Store
from al_charge.store.roles import (
    WRITES,
    Role,
    granted,
    refresh_roles,
    refresh_used_roles,
    role_of,
)
from al_charge.store.schema import create_file_indexes
from al_charge.store.settings import DatabaseSettings
from al_charge.store.users import Users, add_first_admin, new_password, reserve_credentials_file

Connected = Database[dict[str, Any]]
PASSWORD = new_password()


@pytest.fixture
def users(database: Connected) -> Iterator[Users]:
    """Return the users of a database that is ready: one of every role."""
    Store(database).ensure_schema()
    refresh_roles(database)
    made = Users(database, database.name)
    for role in Role:
        made.add(str(role), role, PASSWORD)
    yield made
    database.command("dropAllUsersFromDatabase")
    database.command("dropAllRolesFromDatabase")


@pytest.fixture
def log_in(users: Users, private_home: Path) -> Iterator[Callable[[str], Connected]]:
    """Return a function that connects to the database as one of its users."""
    parts = socket_uri_parts(str(EmbeddedServer(private_home).start().address))
    settings = DatabaseSettings(uri=f"{parts.scheme}{parts.hosts}/{users.database.name}")
    opened: list[Connected] = []

    def connected(name: str, password: str = PASSWORD) -> Connected:
        opened.append(connect(settings, Credentials(name, password)))
        return opened[-1]

    yield connected
    for database in opened:
        database.client.close()


def refused(act: Callable[[], object]) -> None:
    """Check that the server does not allow something."""
    with pytest.raises(OperationFailure) as caught:
        act()
    assert caught.value.code == 13


def test_worker_writes_what_campaigns_do(
    log_in: Any, users: Users, make_label: Any, make_campaign: Any, make_model: Any
) -> None:
    worker = log_in("worker")
    store = Store(worker)
    store.ensure_schema()
    assert store.campaigns.add(make_campaign())
    assert store.labels.put(make_label("a"))
    assert not store.labels.put(make_label("a"))
    assert store.models.put(make_model(), b"weights", {})
    for name in set(WRITES) - {document.collection for document in DOCUMENTS}:
        worker[name].insert_one({"_id": "x"})
    for name in ("claims", "workers", "fireworks", "launches", "workflows"):
        worker[name].update_one({"_id": "x"}, {"$set": {"y": 1}})
        assert worker[name].delete_one({"_id": "x"}).deleted_count == 1


def test_worker_neither_drops_nor_redefines(
    log_in: Any, users: Users, make_label: Any, make_model: Any, database: Connected
) -> None:
    worker = log_in("worker")
    store = Store(worker)
    store.labels.put(make_label("a"))
    labels = worker["labels"]
    refused(labels.drop)
    refused(lambda: worker.client.drop_database(worker.name))
    refused(lambda: worker.command("collMod", "labels", validator={}))
    refused(lambda: labels.create_index("energy", expireAfterSeconds=0))
    refused(labels.drop_indexes)
    refused(lambda: labels.rename("other"))
    refused(lambda: labels.update_one({"_id": "a"}, {"$set": {"energy": 0.0}}))
    refused(lambda: labels.delete_many({}))
    store.models.put(make_model(), b"weights", {})
    for name in ("weights.chunks", "weights.files", "frames.chunks", "frames.files"):
        refused(lambda name=name: worker[name].update_one({}, {"$set": {"n": 1}}))  # type: ignore[misc]
        refused(lambda name=name: worker[name].delete_many({}))  # type: ignore[misc]
    refused(lambda: worker["candidates"].update_one({}, {"$set": {"energy": 1.0}}))
    refused(lambda: worker["damaged"].insert_one({}))
    refused(lambda: worker["schema"].update_one({"_id": "version"}, {"$set": {"version": 0}}))
    refused(lambda: worker["others"].insert_one({}))
    refused(lambda: worker.client["other"]["labels"].insert_one({}))
    refused(lambda: worker.client["other"]["labels"].find_one())
    refused(lambda: worker.command("createUser", "eve", pwd="x", roles=["dbOwner"]))
    refused(lambda: worker.command("grantRolesToUser", "worker", roles=["dbOwner"]))
    refused(lambda: worker.command("updateUser", "admin", pwd="x"))
    refused(lambda: worker.client["admin"].command("shutdown"))
    assert database["labels"].count_documents({}) == 1


def test_reader_reads_all_and_writes_nothing(
    log_in: Any, users: Users, make_label: Any, database: Connected
) -> None:
    Store(database).labels.put(make_label("a"))
    reader = log_in("reader")
    store = Store(reader)
    store.ensure_schema()
    found = store.labels.get("a")
    assert found is not None and len(found.frames) == 2
    for name in WRITES:
        refused(lambda name=name: reader[name].insert_one({}))  # type: ignore[misc]
        refused(lambda name=name: reader[name].delete_many({}))  # type: ignore[misc]
    refused(lambda: store.labels.put(make_label("b")))
    refused(reader["labels"].drop)
    refused(lambda: reader.client["other"]["labels"].find_one())


def test_admin_manages_its_own_database_only(log_in: Any, users: Users) -> None:
    admin = log_in("admin")
    mine = Users(admin, admin.name)
    mine.add("anna", Role.READER, PASSWORD)
    mine.set_password("anna", PASSWORD + "2")
    log_in("anna", PASSWORD + "2")
    with pytest.raises(InputError, match="refuses the user name or password"):
        log_in("anna")
    assert [(user.name, user.role) for user in mine.everyone()] == [
        ("admin", Role.ADMIN),
        ("anna", Role.READER),
        ("reader", Role.READER),
        ("worker", Role.WORKER),
    ]
    mine.remove("anna")
    with pytest.raises(InputError, match="no user 'worke'; did you mean 'worker'"):
        mine.remove("worke")
    with pytest.raises(InputError, match="logged in as"):
        mine.remove("admin")
    with pytest.raises(InputError, match="already"):
        mine.add("worker", Role.ADMIN, PASSWORD)
    Store(admin).ensure_schema()
    create_file_indexes(admin)
    refresh_roles(admin)
    admin["labels"].drop()
    refused(lambda: admin.client["admin"].command("usersInfo", 1))
    refused(lambda: admin.client["other"]["x"].insert_one({}))


def test_others_manage_no_users(log_in: Any) -> None:
    for name in ("worker", "reader"):
        theirs = log_in(name)
        with pytest.raises(InputError, match=r"may not manage users.*log in as an admin"):
            Users(theirs, theirs.name).add("eve", Role.ADMIN, PASSWORD)
        with pytest.raises(InputError, match="may not manage users"):
            Users(theirs, theirs.name).everyone()


def test_strangers_read_nothing(users: Users, private_home: Path) -> None:
    address = EmbeddedServer(private_home).start().address
    with MongoClient[dict[str, Any]](
        complete_uri(socket_uri_parts(str(address)), "", None)
    ) as client:
        database = client[users.database.name]
        refused(lambda: database["labels"].find_one())
        refused(lambda: database["labels"].insert_one({}))
        refused(database.list_collection_names)


def test_refreshed_roles_hold_at_once(log_in: Any, users: Users, database: Connected) -> None:
    worker = log_in("worker")
    other = {"resource": {"db": database.name, "collection": "labels"}, "actions": ["remove"]}
    role = WRITES["claims"]
    lost = {"resource": {"db": database.name, "collection": "claims"}, "actions": list(role)}
    database.command("grantPrivilegesToRole", "worker", privileges=[other])
    database.command("revokePrivilegesFromRole", "worker", privileges=[lost])
    worker["labels"].delete_many({})
    refused(lambda: worker["claims"].insert_one({}))
    refresh_roles(log_in("admin"))
    worker["claims"].insert_one({})
    refused(lambda: worker["labels"].delete_many({}))


def test_roles_are_refreshed_where_they_are(log_in: Any, users: Users, database: Connected) -> None:
    lost = {"resource": {"db": database.name, "collection": "claims"}, "actions": ["insert"]}
    database.command("revokePrivilegesFromRole", "worker", privileges=[lost])
    refresh_used_roles(log_in("reader"))  # who may not: nothing happens
    refused(lambda: log_in("worker")["claims"].insert_one({}))
    refresh_used_roles(log_in("admin"))
    log_in("worker")["claims"].insert_one({})
    other = database.client[f"{database.name}_other"]
    refresh_used_roles(other)
    assert other.command("rolesInfo", 1)["roles"] == []


def test_launchpad_of_a_ready_database_needs_no_rights(
    log_in: Any, users: Users, launchpad_on: Any
) -> None:
    launchpad_on(users.database)
    for name in ("reader", "worker"):
        launchpad_on(log_in(name))


def test_a_file_for_credentials_is_new_in_a_folder_that_is_there(tmp_path: Path) -> None:
    path = tmp_path / "login.json"
    reserve_credentials_file(path)
    assert not path.exists()
    with pytest.raises(InputError, match=r"no such folder") as caught:
        reserve_credentials_file(tmp_path / "none" / "login.json")
    assert caught.value.where == str(tmp_path / "none")
    (tmp_path / "link.json").symlink_to(path)
    for taken in (tmp_path / "link.json", path):
        taken.touch()
        with pytest.raises(InputError, match=r"the file exists; name another one") as caught:
            reserve_credentials_file(taken)
        assert caught.value.where == str(taken)


@pytest.mark.parametrize(
    ("roles", "role"),
    [
        ({"root": "admin"}, Role.ADMIN),
        ({"root": "mine"}, None),
        ({"dbOwner": "mine"}, Role.ADMIN),
        ({"dbOwner": "other"}, None),
        ({Role.WORKER.value: "mine", "read": "mine"}, Role.WORKER),
        ({"read": "mine"}, Role.READER),
        ({"read": "admin"}, None),
        ({}, None),
    ],
)
def test_roles_of_mongodb_that_make_up_ours(roles: dict[str, str], role: Role | None) -> None:
    assert role_of([{"role": name, "db": db} for name, db in roles.items()], "mine") is role


@pytest.mark.parametrize(
    ("role", "logins", "roles"),
    [
        (Role.READER, "admin", {"read": "mine"}),
        (Role.WORKER, "admin", {Role.WORKER.value: "mine"}),
        (Role.ADMIN, "mine", {"dbOwner": "mine"}),
        (Role.ADMIN, "admin", {"dbOwner": "mine", "userAdminAnyDatabase": "admin"}),
    ],
)
def test_what_a_role_is_granted(role: Role, logins: str, roles: dict[str, str]) -> None:
    assert granted(role, "mine", logins) == [{"role": n, "db": db} for n, db in roles.items()]


def test_the_first_admin_is_one_of_the_servers_own_database() -> None:
    settings = DatabaseSettings(uri="mongodb://h/x?authSource=mine")
    with pytest.raises(InputError, match=r"'admin'; add \?authSource=admin to the URI") as caught:
        add_first_admin(settings, Credentials("ada", PASSWORD))
    assert caught.value.where == "database mongodb://h/x?authSource=mine"
