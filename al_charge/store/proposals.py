"""Candidates in the database, and the marker that says a proposal is complete."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pymongo.errors import BulkWriteError

from al_charge.store.base import StorePart, portions
from al_charge.store.documents import CandidateDoc, ProposalDoc, Statistics

DUPLICATE_KEY = 11000


class Proposals(StorePart):
    """The proposals of a store: the candidates of one composition of one round.

    A proposal exists from the moment its marker is written, last of all. Candidates that no marker
    names are what a killed task left: `Candidates` never returns them with a round's.
    """

    def put(
        self,
        campaign: str,
        round: int,
        n_ions: int,
        candidates: Sequence[CandidateDoc],
        statistics: Statistics | None = None,
        *,
        cell: int = 0,
    ) -> bool:
        """Store every candidate of one composition of one round.

        Nothing is deleted before the marker is written, so two tasks that do the same work at the
        same time cannot delete each other's candidates.

        Parameters
        ----------
        campaign
            Name of the campaign.
        round
            Number of the round.
        n_ions
            Working ions in the first cell that has the composition.
        candidates
            All of them, of all cells, in order.
        statistics
            What finding them took; None where no committee has relaxed them.
        cell
            That cell.

        Returns
        -------
        bool
            False, changing nothing, if the proposal is there already.

        Raises
        ------
        ValueError
            If a candidate belongs to another proposal.
        """
        compositions = {candidate.composition for candidate in candidates}
        for candidate in candidates:
            elsewhere = (candidate.campaign, candidate.round) != (campaign, round)
            other = candidate.cell == cell and candidate.n_ions != n_ions
            if elsewhere or other or len(compositions) > 1:
                raise ValueError(f"candidate {candidate.doc_id} belongs to another proposal")
        if self.has(campaign, round, n_ions, cell):
            return False
        self._insert_missing(candidates)
        ids = list(dict.fromkeys(candidate.doc_id for candidate in candidates))
        marker = ProposalDoc(
            campaign=campaign,
            round=round,
            cell=cell,
            n_ions=n_ions,
            candidates=ids,
            statistics=statistics or Statistics(),
        )
        if not self._insert_once(marker):
            return False
        where = {"campaign": campaign, "round": round, "composition": {"$in": [*compositions]}}
        self._collection(CandidateDoc).delete_many({**where, "_id": {"$nin": ids}})
        return True

    def has(self, campaign: str, round: int, n_ions: int, cell: int = 0) -> bool:
        """Tell whether one composition of one round was proposed in full.

        Parameters
        ----------
        campaign
            Name of the campaign.
        round
            Number of the round.
        n_ions
            Working ions in the first cell that has the composition.
        cell
            That cell.

        Returns
        -------
        bool
            Whether its marker is there.
        """
        doc_id = ProposalDoc.id_of(campaign, round, n_ions, cell)
        return self._collection(ProposalDoc).find_one({"_id": doc_id}, {"_id": 1}) is not None

    def all(self, campaign: str, round: int) -> list[ProposalDoc]:
        """Return the markers of a round.

        Parameters
        ----------
        campaign
            Name of the campaign.
        round
            Number of the round.

        Returns
        -------
        list of ProposalDoc
            By cell, then by number of ions.
        """
        return self._find(ProposalDoc, {"campaign": campaign, "round": round}, "cell", "n_ions")

    def _insert_missing(self, candidates: Sequence[CandidateDoc]) -> None:
        if not candidates:
            return
        try:
            self._collection(CandidateDoc).insert_many(
                (doc.to_mongo() for doc in candidates), ordered=False
            )
        except BulkWriteError as error:
            # An earlier run, or another one at this moment, has written the rest.
            if any(e["code"] != DUPLICATE_KEY for e in error.details["writeErrors"]):
                raise


class Candidates(StorePart):
    """The candidates of a store; `Proposals` writes them."""

    def all(self, campaign: str, round: int, composition: str | None = None) -> list[CandidateDoc]:
        """Return the candidates of a round, composition by composition, as they were proposed.

        Parameters
        ----------
        campaign
            Name of the campaign.
        round
            Number of the round.
        composition
            Only those of this one, an exact fraction; None for all.

        Returns
        -------
        list of CandidateDoc
            Those of compositions that were proposed in full.
        """
        query = {"campaign": campaign, "round": round}
        markers = self._find(ProposalDoc, query, "cell", "n_ions")
        if composition is not None:
            query["composition"] = composition
        found = {doc.doc_id: doc for doc in self._find(CandidateDoc, query)}
        ids = [doc_id for marker in markers for doc_id in marker.candidates]
        return [found[doc_id] for doc_id in ids if doc_id in found]

    def get(self, doc_id: str) -> CandidateDoc | None:
        """Return one candidate.

        Parameters
        ----------
        doc_id
            Id of the candidate.

        Returns
        -------
        CandidateDoc or None
            None if there is none of this id.
        """
        return self._get(CandidateDoc, doc_id)

    def stream(self, ids: Sequence[str]) -> Iterator[CandidateDoc]:
        """Yield the candidates with some ids.

        Parameters
        ----------
        ids
            Ids of the candidates; those that are missing are skipped.

        Yields
        ------
        CandidateDoc
            In any order.
        """
        for some in portions(ids):
            for stored in self._collection(CandidateDoc).find({"_id": {"$in": some}}):
                yield CandidateDoc.from_mongo(stored)
