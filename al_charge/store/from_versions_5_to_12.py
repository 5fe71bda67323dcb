"""Migrations to schema versions 6 to 13, which add fields and change none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pymongo.database import Database

from al_charge.store.documents import (
    DOCUMENTS,
    CandidateDoc,
    LabelDoc,
    LabelUseDoc,
    ProposalDoc,
    ReferenceDoc,
    RoundDoc,
)
from al_charge.store.schema import create_collections


def to_version_6(database: Database[dict[str, Any]]) -> None:
    """Say of labels, their uses and metals that they were not imported; safe to repeat.

    Parameters
    ----------
    database
        Of version 5; whatever it holds was made with it.
    """
    fields: dict[str, dict[str, Any]] = {
        LabelDoc.collection: {"imported": None},
        LabelUseDoc.collection: {"adopted": False},
        ReferenceDoc.collection: {"imported": None},
    }
    _add(database, fields, to=6)


def to_version_7(database: Database[dict[str, Any]]) -> None:
    """Say of labels that their charge is not delocalised; safe to repeat.

    What was ambiguous stays so: whether every try ended alike was not stored.

    Parameters
    ----------
    database
        Of version 6.
    """
    _add(database, {LabelDoc.collection: {"delocalised": False}}, to=7)


def to_version_8(database: Database[dict[str, Any]]) -> None:
    """Add the probability of anything below the hull to assessments; safe to repeat.

    It stays unknown in those that were made without it.

    Parameters
    ----------
    database
        Of version 7.
    """
    create_collections(database)
    database[RoundDoc.collection].update_many(
        {"schema_version": 7, "assessment": {"$ne": None}},
        {"$set": {"assessment.p_below_hull": None}},
        bypass_document_validation=True,
    )
    _add(database, {}, to=8)


def to_version_9(database: Database[dict[str, Any]]) -> None:
    """Add what a search has ranked and may have missed to proposals; safe to repeat.

    It stays unknown in those that were made without it.

    Parameters
    ----------
    database
        Of version 8.
    """
    unknown = dict.fromkeys(("screened", "gap", "gap_deviation", "p_missed"))
    new = {f"statistics.{name}": value for name, value in unknown.items()}
    _add(database, {ProposalDoc.collection: new}, to=9)


def to_version_10(database: Database[dict[str, Any]]) -> None:
    """Add the identity of the infinite crystal to candidates and labels; safe to repeat.

    It stays empty in those that were made without it: their configuration tells it.

    Parameters
    ----------
    database
        Of version 9.
    """
    empty = {"identity": ""}
    _add(database, {CandidateDoc.collection: empty, LabelDoc.collection: empty}, to=10)


def to_version_11(database: Database[dict[str, Any]]) -> None:
    """Allow what assessments say by composition, and campaigns that are sampled; safe to repeat.

    Parameters
    ----------
    database
        Of version 10; what earlier assessments did not find stays unknown.
    """
    _add(database, {}, to=11)


def to_version_12(database: Database[dict[str, Any]]) -> None:
    """Say of candidates and proposals that they are of the first supercell; safe to repeat.

    Parameters
    ----------
    database
        Of version 11, whose campaigns had one each.
    """
    first = {"cell": 0}
    _add(database, {CandidateDoc.collection: first, ProposalDoc.collection: first}, to=12)


def to_version_13(database: Database[dict[str, Any]]) -> None:
    """Add the ledger; safe to repeat.

    Parameters
    ----------
    database
        Of version 12; what was used before is not known.
    """
    _add(database, {}, to=13)


def _add(
    database: Database[dict[str, Any]], fields: Mapping[str, Mapping[str, Any]], *, to: int
) -> None:
    """Add fields to the documents of each collection, which then have the next version."""
    create_collections(database)
    for document in DOCUMENTS:
        new = {"schema_version": to, **fields.get(document.collection, {})}
        database[document.collection].update_many(
            {"schema_version": to - 1}, {"$set": new}, bypass_document_validation=True
        )
