"""Rounds in the database, and what their committees predict for every label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import bson
import numpy as np
from numpy.typing import NDArray

from al_charge.errors import AlChargeError
from al_charge.store.base import Stored, StorePart, read_file
from al_charge.store.documents import Assessment, RoundDoc
from al_charge.store.fields import now


class Rounds(StorePart):
    """The rounds of a store."""

    def add(self, doc: RoundDoc) -> bool:
        """Store a round.

        Parameters
        ----------
        doc
            The round.

        Returns
        -------
        bool
            False, changing nothing, if it is there already.
        """
        return self._insert_once(doc)

    def get(self, campaign: str, number: int) -> RoundDoc | None:
        """Return one round.

        Parameters
        ----------
        campaign
            Name of the campaign.
        number
            Number of the round.

        Returns
        -------
        RoundDoc or None
            None if there is none of this number.
        """
        return self._get(RoundDoc, RoundDoc.id_of(campaign, number))

    def all(self, campaign: str) -> list[RoundDoc]:
        """Return the rounds of a campaign.

        Parameters
        ----------
        campaign
            Name of the campaign.

        Returns
        -------
        list of RoundDoc
            By number.
        """
        return self._find(RoundDoc, {"campaign": campaign}, "number")

    def last(self, campaign: str, *, assessed: bool = False) -> RoundDoc | None:
        """Return the round with the highest number.

        Parameters
        ----------
        campaign
            Name of the campaign.
        assessed
            Only of those that have been assessed.

        Returns
        -------
        RoundDoc or None
            None if there is no such round yet.
        """
        query: Stored = {"campaign": campaign}
        if assessed:
            query["assessment"] = {"$ne": None}
        stored = self._collection(RoundDoc).find_one(query, sort=[("number", -1)])
        return None if stored is None else RoundDoc.from_mongo(stored)

    def record_selection(self, campaign: str, number: int, reasons: Mapping[str, str]) -> list[str]:
        """Store which candidates a round labels, unless that is stored.

        Parameters
        ----------
        campaign
            Name of the campaign.
        number
            Number of the round.
        reasons
            Why each candidate was selected, by its id, the most wanted first.

        Returns
        -------
        list of str
            The stored ids, in order: the first writer's.

        Raises
        ------
        AlChargeError
            If there is no such round.
        """
        fields = {"selected": list(reasons), "reasons": list(reasons.values())}
        stored = self._record_once(campaign, number, fields)
        return list(stored["selected"])

    def record_assessment(
        self,
        campaign: str,
        number: int,
        assessment: Assessment,
        keys: Sequence[str],
        energies: NDArray[np.float64],
        weighed: Mapping[str, tuple[float, float]] | None = None,
    ) -> Assessment:
        """Store what the assessment of a round found and close the round, unless that is done.

        The predictions go to GridFS: there is one for each label and member.

        Parameters
        ----------
        campaign
            Name of the campaign.
        number
            Number of the round.
        assessment
            What was found.
        keys
            Keys of the labels.
        energies
            What the round's committee predicts for them, eV per formula unit, shape
            (n_members, n_labels).
        weighed
            What `weighed` returns; None for nothing.

        Returns
        -------
        Assessment
            The stored assessment: the first writer's.

        Raises
        ------
        AlChargeError
            If there is no such round.
        """
        content = bson.encode(
            {
                "keys": list(keys),
                "energies": energies.astype("<f8").tobytes(),
                "weighed": {key: list(known) for key, known in (weighed or {}).items()},
            }
        )
        name = f"{RoundDoc.id_of(campaign, number)}/predictions"
        file_id, checksum = self._put_file("weights", content, name)
        found = assessment.model_copy(update={"predictions_file": file_id})
        fields = {"assessment": found.model_dump(), "closed": now()}
        stored = self._record_once(campaign, number, fields, {"predictions": checksum})
        return Assessment.model_validate(stored["assessment"])

    def predictions(self, record: RoundDoc) -> tuple[list[str], NDArray[np.float64]]:
        """Return what the committee of an assessed round predicts for the labels.

        Parameters
        ----------
        record
            The round.

        Returns
        -------
        keys : list of str
            Keys of the labels.
        energies : ndarray, shape (n_members, n_labels)
            eV per formula unit.

        Raises
        ------
        AlChargeError
            If the round is not assessed, or its file is missing.
        """
        file = self._predictions_file(record)
        return file["keys"], np.frombuffer(file["energies"], "<f8").reshape(-1, len(file["keys"]))

    def weighed(self, record: RoundDoc) -> dict[str, tuple[float, float]]:
        """Return what committee and surrogate together said of a round's candidates.

        Parameters
        ----------
        record
            The round.

        Returns
        -------
        dict
            Energy and standard deviation before the round's labels, eV per formula unit, by the
            hash of the configuration; empty for rounds that earlier versions have assessed.

        Raises
        ------
        AlChargeError
            If the round is not assessed, or its file is missing.
        """
        known = self._predictions_file(record).get("weighed", {})
        return {key: (energy, deviation) for key, (energy, deviation) in known.items()}

    def _predictions_file(self, record: RoundDoc) -> dict[str, Any]:
        if record.assessment is None:
            raise AlChargeError("the round is not assessed", where=record.doc_id)
        file_id = record.assessment.predictions_file
        return bson.decode(read_file(self._weights, file_id, f"round '{record.doc_id}'"))

    def add_seconds(self, campaign: str, number: int, stage: str, seconds: float) -> None:
        """Add to the wall time of a stage of a round.

        Parameters
        ----------
        campaign
            Name of the campaign.
        number
            Number of the round.
        stage
            Name of the stage, such as ``label``.
        seconds
            Time to add, s.

        Raises
        ------
        ValueError
            If the name is not an identifier.
        AlChargeError
            If there is no such round.
        """
        if not stage.isidentifier():
            raise ValueError(f"'{stage}' is not a valid name of a stage")

        def add(stored: Stored) -> Stored:
            before = stored["stage_seconds"]
            return {"stage_seconds": before | {stage: before.get(stage, 0.0) + float(seconds)}}

        if self._change(RoundDoc, RoundDoc.id_of(campaign, number), add) is None:
            raise self._no_round(campaign, number)

    def set_progress(self, campaign: str, number: int, task: str, done: int, total: int) -> None:
        """Record how far a task of a round has come.

        Parameters
        ----------
        campaign
            Name of the campaign.
        number
            Number of the round.
        task
            Name of the task, without dots and dollar signs.
        done
            Steps that are done.
        total
            All steps.
        """
        self._change(
            RoundDoc,
            RoundDoc.id_of(campaign, number),
            lambda stored: {"progress": stored["progress"] | {task: [int(done), int(total)]}},
        )

    def _record_once(
        self,
        campaign: str,
        number: int,
        fields: Stored,
        files: Mapping[str, str] | None = None,
    ) -> Stored:
        """Set fields of a round if the first of them is None; return the round as stored."""
        doc_id, first = RoundDoc.id_of(campaign, number), next(iter(fields))
        stored = self._change(
            RoundDoc, doc_id, lambda stored: fields if stored[first] is None else {}, files
        )
        if stored is None:
            raise self._no_round(campaign, number)
        return stored

    @staticmethod
    def _no_round(campaign: str, number: int) -> AlChargeError:
        return AlChargeError(f"there is no round {number}", where=f"campaign '{campaign}'")
