"""Migrations to schema versions 2, 3 and 4.

Version 2: labels and references say more about how they were made. A labeler's ``relax`` in a
campaign is a word instead of yes or no. How the analytic model relaxed is no longer among the
settings that its energies depend on, so their hash is another. Versions 3 and 4 only add fields.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from pymongo.collection import Collection
from pymongo.database import Database

from al_charge.store.documents import DOCUMENTS, ReferenceDoc
from al_charge.store.schema import create_collections

Stored = dict[str, Any]

ADDED: dict[int, dict[str, Stored]] = {
    3: {"candidates": {"drifted": None}, "models": {"start": ""}},
    4: {"models": {"predictions_file": None}},
}
"""New fields by version and collection, with their values where they were not recorded."""

_OLD = {"schema_version": 1}
_RELAX = "spec.campaign.labeler.relax"


def to_version_2(database: Database[Stored]) -> None:
    """Add fields to labels and references, from what the old fields hold; safe to repeat.

    Parameters
    ----------
    database
        Of version 1.
    """
    # Code of version 1 can no longer write then. Documents are valid after the last step only.
    create_collections(database)
    labels, references = database["labels"], database["references"]
    for label in list(labels.find(_OLD, {"frames": 0})):
        _set(labels, {"_id": label["_id"]} | _OLD, _of_label(label))
    for reference in list(references.find(_OLD)):
        twin = labels.find_one({"settings_hash": reference["settings_hash"]}, {"frames": 0}) or {}
        _set(references, {"_id": reference["_id"]} | _OLD, _of_reference(twin))
    _rename_settings(database)
    for relaxed, now in ((True, "cell"), (False, "none")):
        _set(database["campaigns"], {_RELAX: relaxed}, {_RELAX: now})
    _add_fields(database, 2)


def to_version_3(database: Database[Stored]) -> None:
    """Add drifted sites to candidates, and to models where their training began; safe to repeat.

    Parameters
    ----------
    database
        Of version 2.
    """
    create_collections(database)
    _add_fields(database, 3)


def to_version_4(database: Database[Stored]) -> None:
    """Add the file with its predictions to each model; safe to repeat.

    Parameters
    ----------
    database
        Of version 3.
    """
    create_collections(database)
    _add_fields(database, 4)


def _add_fields(database: Database[Stored], version: int) -> None:
    """Bring what the steps before have left at the version before to a version."""
    for document in DOCUMENTS:
        fields = ADDED.get(version, {}).get(document.collection, {})
        changes = {name: {"$ifNull": [f"${name}", missing]} for name, missing in fields.items()}
        database[document.collection].update_many(
            {"schema_version": version - 1},
            [{"$set": {"schema_version": version, **changes}}],
            bypass_document_validation=True,
        )


def _set(collection: Collection[Stored], query: Stored, fields: Stored) -> None:
    collection.update_many(query, {"$set": fields}, bypass_document_validation=True)


def _rename_settings(database: Database[Stored]) -> None:
    """Give labels of the analytic model, their metals and campaigns the hash of today's settings.

    Labels keep their keys. They come last, since after a kill they show what is left to do.
    """
    labels, references = database["labels"], database["references"]
    counted = {"settings.engine": "born", "settings.relax": {"$exists": True}}
    for old in labels.distinct("settings_hash", counted):
        label = labels.find_one({"settings_hash": old} | counted, {"settings": 1}) or {}
        kept = {k: v for k, v in label["settings"].items() if k not in ("relax", "fmax")}
        new = hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:16]
        renamed = {"settings": kept, "settings_hash": new}
        _set(database["campaigns"], {"settings_hash": old}, {"settings_hash": new})
        for reference in list(references.find({"settings_hash": old})):
            doc_id = ReferenceDoc.id_of(new, reference["ion"])
            references.replace_one(
                {"_id": doc_id},
                reference | renamed | {"_id": doc_id},
                upsert=True,
                bypass_document_validation=True,
            )
            references.delete_one({"_id": reference["_id"]})
        _set(labels, {"settings_hash": old}, renamed)


def _of_label(label: Stored) -> Stored:
    details = label["details"]
    return {
        "schema_version": 2,
        "sites": label["resolved"] or [],
        "audit": details.get("resolution", ""),
        "windows": {},
        "bader_centres": {},
        # A labeler that relaxed moved ions and cell, and had that among its settings.
        "relax": "cell" if label["settings"].get("relax") else "none",
        "bader": None,
        "bader_electrons": None,
        "bader_refused": "",
        "unusable": "",
        "datasets": details.get("datasets", {}),
        "attempts": [],
        "cores": None,
        "directory": details.get("directory", ""),
    }


def _of_reference(label: Stored) -> Stored:
    """Return what a label with the same settings says about a reference."""
    return {
        "schema_version": 2,
        "settings": label.get("settings", {}),
        "engine": label.get("engine", ""),
        "wall_time": None,
        "directory": "",
    }
