"""From schema version 1 to 2: labels and references say more about how they were made.

A labeler's ``relax`` in a campaign is a word instead of yes or no. How the analytic model relaxed
is no longer among the settings that its energies depend on, which have another hash.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from pymongo.database import Database

from al_charge.store.added_fields import add_fields
from al_charge.store.documents import ReferenceDoc
from al_charge.store.schema import create_collections

Stored = dict[str, Any]

_OLD = {"schema_version": 1}
_RELAX = "spec.campaign.labeler.relax"


def to_version_2(database: Database[Stored]) -> None:
    """Add the new fields, with what the old ones tell and nothing guessed; safe to repeat."""
    # The validators of version 1 refuse the new fields; the present ones, which replace them, want
    # those of later versions at once.
    create_collections(database)
    labels, references = database["labels"], database["references"]
    for label in list(labels.find(_OLD, {"frames": 0})):
        labels.update_one({"_id": label["_id"]} | _OLD, {"$set": _of_label(label)})
    for reference in list(references.find(_OLD)):
        twin = labels.find_one({"settings_hash": reference["settings_hash"]}, {"frames": 0}) or {}
        references.update_one({"_id": reference["_id"]} | _OLD, {"$set": _of_reference(twin)})
    _rename_settings(database)
    for relaxed, now in ((True, "cell"), (False, "none")):
        database["campaigns"].update_many({_RELAX: relaxed}, {"$set": {_RELAX: now}})
    add_fields(database, 2)


def _rename_settings(database: Database[Stored]) -> None:
    """Give labels of the analytic model, their metals and campaigns the hash of today's settings.

    Labels keep their keys. They come last, since they tell what is left to do after a kill.
    """
    labels, references = database["labels"], database["references"]
    counted = {"settings.engine": "born", "settings.relax": {"$exists": True}}
    for old in labels.distinct("settings_hash", counted):
        label = labels.find_one({"settings_hash": old} | counted, {"settings": 1}) or {}
        kept = {k: v for k, v in label["settings"].items() if k not in ("relax", "fmax")}
        new = hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:16]
        renamed = {"settings": kept, "settings_hash": new}
        database["campaigns"].update_many({"settings_hash": old}, {"$set": {"settings_hash": new}})
        for reference in list(references.find({"settings_hash": old})):
            doc_id = ReferenceDoc.id_of(new, reference["ion"])
            references.replace_one(
                {"_id": doc_id}, reference | renamed | {"_id": doc_id}, upsert=True
            )
            references.delete_one({"_id": reference["_id"]})
        labels.update_many({"settings_hash": old}, {"$set": renamed})


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
