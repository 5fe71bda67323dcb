"""Comparing what is stored with the checksums that it was written with."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from bson.codec_options import CodecOptions
from bson.errors import InvalidId
from bson.objectid import ObjectId
from bson.raw_bson import RawBSONDocument
from pymongo.collection import Collection

from al_charge.store.base import Stored, StorePart, portions
from al_charge.store.checksums import FIELD, decoded, fault_of, file_checksum, id_of
from al_charge.store.documents import (
    DOCUMENTS,
    CampaignDoc,
    Document,
    LabelDoc,
    LabelUseDoc,
    ReferenceDoc,
)
from al_charge.store.fields import now
from al_charge.store.files import NAMED_FILES, NamedFile
from al_charge.store.schema import ASIDE

_RAW: CodecOptions[RawBSONDocument] = CodecOptions(document_class=RawBSONDocument)


@dataclass(frozen=True, slots=True)
class Damage:
    """A document, or a file of it, that is not what was written.

    Attributes
    ----------
    document
        Kind of document.
    doc_id
        Its ``_id``, as far as it can be read.
    content
        What the damaged file holds; empty if it is the document itself.
    what
        What is wrong.
    """

    document: type[Document]
    doc_id: str
    content: str
    what: str

    @property
    def kind(self) -> str:
        """What the document is, in one word or two."""
        return self.document.collection.removesuffix("s").replace("_", " ")


class Integrity(StorePart):
    """The checksums of a store."""

    def damaged(
        self, campaign: str | None = None, *, sample: int | None = None
    ) -> Iterator[Damage]:
        """Find documents and files that are not what was written.

        Files that are missing or incomplete are not among them: `Files.damaged` finds those.

        Parameters
        ----------
        campaign
            Only what belongs to this campaign, and the labels that it uses; None for all.
        sample
            How many documents of each kind are looked at, at random; None for all of them.

        Yields
        ------
        Damage
            By kind of document.
        """
        for document in DOCUMENTS:
            seen = set()
            for query in self._queries(document, campaign):
                for raw in self._read(self._collection(document), query, sample):
                    if raw not in seen:
                        yield from self._faults(document, raw)
                    if sample is not None:
                        seen.add(raw)  # a random sample may hold a document twice

    def put_aside(self, damage: Damage) -> None:
        """Move a damaged document to the collection `ASIDE`, as it is; only an admin may.

        Parameters
        ----------
        damage
            What was found.
        """
        collection = self._collection(damage.document)
        query = {"_id": damage.doc_id}
        for raw in self._read(collection, query):
            self.database[ASIDE].insert_one(
                {"collection": collection.name, "put_aside": now(), "bson": raw}
            )
        collection.delete_one(query)

    def _queries(self, document: type[Document], campaign: str | None) -> Iterator[Stored]:
        """Yield queries that together find what belongs to a campaign."""
        if campaign is None:
            yield {}
        elif document is CampaignDoc:
            yield {"_id": campaign}
        elif document is LabelDoc:
            used = self._collection(LabelUseDoc).distinct("key", {"campaign": campaign})
            yield from ({"_id": {"$in": keys}} for keys in portions(used))
        elif document is ReferenceDoc:
            owner = self._collection(CampaignDoc).find_one({"_id": campaign}, {"settings_hash": 1})
            yield {"settings_hash": (owner or {}).get("settings_hash")}
        else:
            yield {"campaign": campaign}

    @staticmethod
    def _read(
        collection: Collection[Stored], query: Stored, sample: int | None = None
    ) -> Iterator[bytes]:
        raw: Collection[RawBSONDocument] = collection.with_options(codec_options=_RAW)
        if sample is None:
            yield from (bytes(one.raw) for one in raw.find(query))
        else:
            pipeline = [{"$match": query}, {"$sample": {"size": sample}}]
            yield from (bytes(one.raw) for one in raw.aggregate(pipeline))

    def _faults(self, document: type[Document], raw: bytes) -> Iterator[Damage]:
        doc_id = str(id_of(raw))
        if what := fault_of(document.collection, raw):
            yield Damage(document, doc_id, "", what)
        try:
            stored = decoded(raw)
        except ValueError:
            return
        for named in NAMED_FILES:
            if named.document is document:
                what = self._fault_of_file(named, stored)
                if what:
                    yield Damage(document, doc_id, named.content, what)

    def _fault_of_file(self, named: NamedFile, stored: Stored) -> str:
        """Return what is wrong with a file that a document names, if it is there."""
        try:
            query = {"_id": ObjectId(str(named.in_document(stored)))}
        except InvalidId:
            return ""  # it names none
        checksums = stored.get(FIELD)
        expected = checksums.get(named.content) if isinstance(checksums, dict) else None
        files, chunks = (self.database[f"{named.bucket}.{name}"] for name in ("files", "chunks"))
        try:
            entries = [decoded(raw) for raw in self._read(files, query)]
            if not entries:
                return ""
            found = file_checksum(entries[0], self._pieces(chunks, query["_id"]))
        except ValueError as error:
            return str(error)
        if expected is None:
            return "it has no checksum"
        return "" if found == expected else "it is not what was written: its checksum differs"

    def _pieces(self, chunks: Collection[Stored], file_id: ObjectId) -> Iterator[bytes]:
        raw: Any = chunks.with_options(codec_options=_RAW)
        for number, one in enumerate(raw.find({"files_id": file_id}, sort=["n"])):
            piece = decoded(bytes(one.raw))
            data = piece.get("data")
            expected = {"_id": piece["_id"], "files_id": file_id, "n": number, "data": data}
            if piece != expected or type(data) is not bytes or type(piece["n"]) is not int:
                raise ValueError(f"its piece {number} is damaged or missing")
            yield data
