"""Validators and indexes of the database, derived from the documents."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from pymongo import ASCENDING, IndexModel
from pymongo.database import Database
from pymongo.errors import CollectionInvalid, OperationFailure

from al_charge.store.checksums import FIELD, OWN
from al_charge.store.documents import DOCUMENTS, Document

NAMESPACE_EXISTS = 48
FILES = ("weights", "frames")
"""Collections of GridFS."""
WORKERS_KEPT_SECONDS = 7 * 24 * 3600
"""Seconds after which a worker that has not been seen is removed."""

_BSON_TYPES: dict[str, list[str]] = {
    "integer": ["int", "long"],
    "number": ["double", "int", "long"],
    "string": ["string"],
    "boolean": ["bool"],
    "null": ["null"],
    "object": ["object"],
    "array": ["array"],
}
_KEPT = ("minimum", "minLength", "enum")

_INDEXES: dict[str, list[IndexModel]] = {
    "rounds": [IndexModel([("campaign", ASCENDING), ("number", ASCENDING)], unique=True)],
    "candidates": [
        IndexModel([("campaign", ASCENDING), ("round", ASCENDING), ("composition", ASCENDING)])
    ],
    "proposals": [IndexModel([("campaign", ASCENDING), ("round", ASCENDING)])],
    "labels": [
        IndexModel([("host_fingerprint", ASCENDING), ("settings_hash", ASCENDING)]),
        IndexModel([("config_hash", ASCENDING)]),
        IndexModel([("composition", ASCENDING)]),
        IndexModel([("refusal", ASCENDING)]),
        IndexModel([("delocalised", ASCENDING)]),
    ],
    "label_uses": [
        IndexModel([("campaign", ASCENDING), ("key", ASCENDING)], unique=True),
        IndexModel([("key", ASCENDING)]),
    ],
    "attempts": [
        IndexModel([("campaign", ASCENDING), ("round", ASCENDING)]),
        IndexModel([("key", ASCENDING)]),
    ],
    "ledger": [
        IndexModel([("campaign", ASCENDING), ("ended", ASCENDING)]),
        IndexModel([("worker", ASCENDING)]),
    ],
    "failures": [IndexModel([("campaign", ASCENDING)])],
    "models": [IndexModel([("campaign", ASCENDING), ("round", ASCENDING)])],
}
_TASK_INDEXES: dict[str, list[IndexModel]] = {
    "fireworks": [
        IndexModel([("fw_id", ASCENDING)], unique=True),
        # Looked up twice for every Firework that runs.
        IndexModel([("launches", ASCENDING)]),
        IndexModel([("spec.campaign", ASCENDING), ("state", ASCENDING)]),
    ],
    "workflows": [
        IndexModel([("nodes", ASCENDING)]),
        IndexModel([("metadata.campaign", ASCENDING), ("metadata.round", ASCENDING)]),
    ],
    "launches": [
        IndexModel([("launch_id", ASCENDING)], unique=True),
        IndexModel([("fw_id", ASCENDING)]),
    ],
    "workers": [IndexModel([("seen", ASCENDING)], expireAfterSeconds=WORKERS_KEPT_SECONDS)],
}

ASIDE = "damaged"
"""Collection of damaged documents that were put aside, each as the bytes of its BSON."""

COLLECTIONS = frozenset(
    {
        *(document.collection for document in DOCUMENTS),
        *(f"{name}.{part}" for name in FILES for part in ("files", "chunks")),
        *_TASK_INDEXES,
        "fw_id_assigner",
        "claims",
        "schema",
        ASIDE,
    }
)
"""All that a database of al-charge has, FireWorks' own included."""


@cache
def validator_of(document: type[Document]) -> dict[str, Any]:
    """Return the validator of a kind of document, made once: pydantic takes its time.

    Parameters
    ----------
    document
        The kind of document.

    Returns
    -------
    dict
        ``$jsonSchema`` that the documents of its collection must satisfy; not to be changed.
    """
    described = document.model_json_schema(mode="serialization")
    schema = _convert(described, described.get("$defs", {}))
    schema["properties"] = {
        "_id": {"bsonType": "string"},
        **schema["properties"],
        FIELD: {"bsonType": "object", "required": [OWN]},
    }
    required = (*document.model_fields, *document.model_computed_fields)
    schema["required"] = ["_id", *required, FIELD]
    return {"$jsonSchema": schema}


def _convert(schema: Mapping[str, Any], parts: Mapping[str, Any]) -> dict[str, Any]:
    """Turn the JSON schema of a field into the dialect of MongoDB."""
    if "$ref" in schema:
        return _convert(parts[schema["$ref"].rsplit("/", 1)[1]], parts)
    if "anyOf" in schema:
        return {"anyOf": [_convert(choice, parts) for choice in schema["anyOf"]]}
    if schema.get("format") == "date-time":
        return {"bsonType": "date"}
    result: dict[str, Any] = {name: schema[name] for name in _KEPT if name in schema}
    if "type" in schema:
        result["bsonType"] = _BSON_TYPES[schema["type"]]
    if "items" in schema:
        result["items"] = _convert(schema["items"], parts)
    if "properties" in schema:
        fields = schema["properties"]
        result["properties"] = {name: _convert(fields[name], parts) for name in fields}
        if "required" in schema:  # MongoDB takes no empty list
            result["required"] = schema["required"]
        result["additionalProperties"] = False
    return result


def create_collections(database: Database[dict[str, Any]]) -> None:
    """Create every collection with its validator and indexes.

    It may be repeated, and several processes may do it at once.

    Parameters
    ----------
    database
        The database.
    """
    for document in DOCUMENTS:
        name, validator = document.collection, validator_of(document)
        try:
            database.create_collection(name, validator=validator, validationLevel="strict")
        except (CollectionInvalid, OperationFailure) as error:
            if isinstance(error, OperationFailure) and error.code != NAMESPACE_EXISTS:
                raise
    renew_validators(database)
    create_missing_indexes(database)
    create_file_indexes(database)


def renew_validators(database: Database[dict[str, Any]]) -> int:
    """Replace the validators of al-charge's documents that are not those of this version.

    A database of the present schema may have been made when documents had fewer optional fields.

    Parameters
    ----------
    database
        The database; nothing is written if they are all the same.

    Returns
    -------
    int
        How many were others.
    """
    others = [
        (document.collection, validator)
        for document in DOCUMENTS
        if database[document.collection].options().get("validator")
        != (validator := validator_of(document))
    ]
    for name, validator in others:
        database.command("collMod", name, validator=validator, validationLevel="strict")
    return len(others)


def create_missing_indexes(database: Database[dict[str, Any]]) -> int:
    """Create the indexes of al-charge's documents that are not there, while others work.

    A database of the present schema may have been made when there were fewer of them.

    Parameters
    ----------
    database
        The database; nothing is written if it has them all.

    Returns
    -------
    int
        How many were missing.
    """
    made = 0
    for name, wanted in _INDEXES.items():
        known = database[name].index_information()
        missing = [one for one in wanted if one.document["name"] not in known]
        if missing:
            database[name].create_indexes(missing)
        made += len(missing)
    return made


def create_file_indexes(database: Database[dict[str, Any]]) -> None:
    """Create the indexes of GridFS, which otherwise the first file's writer would have to create.

    A worker does not have that right.

    Parameters
    ----------
    database
        The database.
    """
    for name in FILES:
        database[name]["files"].create_index([("filename", ASCENDING), ("uploadDate", ASCENDING)])
        chunks = [("files_id", ASCENDING), ("n", ASCENDING)]
        database[name]["chunks"].create_index(chunks, unique=True)


def create_task_indexes(database: Database[dict[str, Any]]) -> None:
    """Create the indexes of FireWorks' collections and of the workers; safe to repeat.

    Parameters
    ----------
    database
        The database.
    """
    for name, indexes in _TASK_INDEXES.items():
        database[name].create_indexes(indexes)
