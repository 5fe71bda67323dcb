"""Tasks of VASP in a store of jobflow that is a MongoDB; it is only read."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from al_charge.errors import InputError
from al_charge.labelers.vasp.foreign import read_task
from al_charge.report.foreign.find import Found, reason_of_refusal
from al_charge.store.addresses import SELECTION_TIMEOUT, complete_uri, limits, split_uri
from al_charge.store.credentials import find_credentials, tls_options
from al_charge.store.outages import reason_of
from al_charge.store.settings import settings_of

if TYPE_CHECKING:
    from pymongo.collection import Collection as MongoCollection

AT_ONCE = 8
"""Documents that the server sends together; one may have megabytes."""
SCHEMES = ("mongodb://", "mongodb+srv://")
_TASK = "output.calcs_reversed.0"
_LARGEST_FILE = 2**20
"""Bytes of a file that describes a store."""
_READ: dict[str, Any] = {
    "uuid": 1,
    "index": 1,
    "output.calcs_reversed": {"$slice": ["$output.calcs_reversed", 1]},
}
_KEPT = dict.fromkeys(
    (
        "vasp_version",
        "has_vasp_completed",
        "input.incar",
        "input.kpoints",
        "input.parameters",
        "input.potcar_spec",
        "input.hubbards",
        "output.ionic_steps",
        "output.outcar.magnetization",
    ),
    1,
)


@dataclass(frozen=True)
class JobflowStore:
    """A collection of a MongoDB in which jobflow keeps outputs.

    Attributes
    ----------
    address
        What is told of it: server, database and collection, without a login.
    uri
        Of the server, or its host; with the login, so never shown.
    database, collection
        Their names.
    options
        Of the client.
    """

    address: str
    uri: str = field(repr=False)
    database: str
    collection: str
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @contextmanager
    def opened(self) -> Iterator[MongoCollection[dict[str, Any]]]:
        """Connect to it.

        Yields
        ------
        Collection
            Closed in the end.

        Raises
        ------
        InputError
            If the server does not answer, or refuses.
        """
        from pymongo import MongoClient
        from pymongo.errors import ConfigurationError, PyMongoError

        patience = {"serverSelectionTimeoutMS": round(1000 * SELECTION_TIMEOUT)}
        try:
            client = MongoClient[dict[str, Any]](
                self.uri, **{**limits(self.uri), **patience, **self.options}
            )
        except (ConfigurationError, TypeError, ValueError) as error:
            raise InputError("its address or options are not valid", where=self.address) from error
        with client:
            try:
                yield client[self.database][self.collection]
            except PyMongoError as error:
                raise InputError(reason_of(error), where=self.address) from error


def is_jobflow(path: str) -> bool:
    """Tell whether a path of an import names a store of jobflow.

    Parameters
    ----------
    path
        ``mongodb://HOST/DATABASE.COLLECTION``, or a YAML file.

    Returns
    -------
    bool
        Whether it does.
    """
    if path.startswith(SCHEMES):
        parts = split_uri(path)
        return parts is not None and "." in parts.path
    return path.endswith((".yaml", ".yml"))


def store_at(path: str) -> JobflowStore:
    """Return the store that a path names.

    Parameters
    ----------
    path
        ``mongodb://HOST/DATABASE.COLLECTION``, whose login is found as that of any database; or a
        YAML file: jobflow's configuration, with its JOB_STORE, or a store's own file.

    Returns
    -------
    JobflowStore
        It has not been opened.

    Raises
    ------
    InputError
        If the file describes no store in a MongoDB.
    """
    if path.startswith(SCHEMES):
        return _of_address(path)
    return _of_file(Path(path))


def _of_address(path: str) -> JobflowStore:
    settings = settings_of(path, "import")
    database, _, collection = settings.parts.path.partition(".")
    parts = replace(settings.parts, path=database)
    uri = complete_uri(parts, database, find_credentials(settings), tls_options(settings))
    return JobflowStore(path, uri, database, collection)


def _of_file(file: Path) -> JobflowStore:
    content: Any = _mapping(file)
    store = content.get("JOB_STORE") or content.get("jobstore") or content
    if isinstance(store, str):
        return _of_file(Path(store).expanduser())
    docs: dict[str, Any] = {}
    if isinstance(store, dict) and isinstance(found := store.get("docs_store", store), dict):
        docs = found
    kind = docs.get("type") or docs.get("@class")
    if kind not in ("MongoStore", "MongoURIStore"):
        raise InputError(
            f"its docs_store is a {kind}" if kind else "it describes no store of jobflow",
            where=str(file),
            remedy="give a file with JOB_STORE in a MongoStore; of a JSONStore give its JSON file",
        )
    if docs.get("ssh_tunnel"):
        raise InputError(
            "its store is behind an ssh tunnel",
            where=str(file),
            remedy="open the tunnel, and give mongodb://localhost:PORT/DATABASE.COLLECTION",
        )
    server = docs.get("uri") or docs.get("host") or "localhost"
    parts = split_uri(str(server))
    database = docs.get("database") or (parts.path if parts is not None else "")
    if not database or not docs.get("collection_name"):
        raise InputError("its docs_store names no database or collection", where=str(file))
    options = dict(docs.get("mongoclient_kwargs") or {})
    if parts is None:
        options |= {"port": docs.get("port", 27017)}
    if docs.get("username") and not docs.get("uri"):
        options |= {
            "username": docs["username"],
            "password": docs.get("password", ""),
            "authSource": docs.get("auth_source") or database,
        }
    shown = f"{file}, {database}.{docs['collection_name']}"
    return JobflowStore(shown, str(server), str(database), str(docs["collection_name"]), options)


def _mapping(file: Path) -> dict[str, Any]:
    """Read a YAML file; it may hold a password, so that no message shows its text."""
    try:
        if file.stat().st_size > _LARGEST_FILE:
            raise InputError("it is too large to describe a store", where=str(file))
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"it cannot be read: {error.strerror}", where=str(file)) from error
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise InputError("it is not a YAML file", where=str(file)) from error
    return content if isinstance(content, dict) else {}


def stored_tasks(
    store: JobflowStore, elements: Collection[str], working_ion: str
) -> Iterator[Found]:
    """Read the tasks of VASP in a store that a campaign may use, one at a time.

    Parameters
    ----------
    store
        The store.
    elements
        Of the campaign's host; tasks of other elements are not sent.
    working_ion
        Which of them may be missing.

    Yields
    ------
    Found
        In the order of their ids.

    Raises
    ------
    InputError
        If the store does not answer, or has no such task.
    """
    systems = ["-".join(sorted(some)) for some in ({*elements}, {*elements} - {working_ion})]
    ours = {_TASK: {"$exists": True}, "output.chemsys": {"$in": [*systems, None]}}
    pipeline: list[dict[str, Any]] = [
        {"$match": ours},
        {"$sort": {"_id": 1}},
        {"$project": _READ},
        {"$project": {"uuid": 1, "index": 1, "output.calcs_reversed": _KEPT}},
    ]
    number = 0
    with store.opened() as collection:
        for document in collection.aggregate(pipeline, batchSize=AT_ONCE):
            number += 1
            yield _found(document, store.address)
        if not number and collection.find_one({_TASK: {"$exists": True}}, {"_id": 1}) is None:
            raise InputError("there is no task of VASP in it", where=store.address)
    if not number:
        raise InputError(
            f"there is no task of VASP of {' or '.join(systems)} in it", where=store.address
        )


def _found(document: Mapping[str, Any], address: str) -> Found:
    import bson

    name = f"{document.get('uuid', document['_id'])} {document.get('index', '')}".strip()
    source = f"{address}, {name}"
    digest = hashlib.sha256(bson.encode(document["output"])).hexdigest()
    try:
        return Found(source, read_task(document["output"], source), "", source, digest)
    except InputError as error:
        return Found(source, None, reason_of_refusal(error), source, digest)
