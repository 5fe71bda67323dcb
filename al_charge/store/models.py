"""Trained models in the database: configuration in a document, safetensors in GridFS."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import bson
import numpy as np
from bson.objectid import ObjectId
from numpy.typing import NDArray

from al_charge.errors import AlChargeError
from al_charge.store.base import Stored, read_file
from al_charge.store.campaigns import Campaigns
from al_charge.store.documents import ModelDoc, ReferenceDoc, RoundDoc

PREDICTIONS = "predictions_file"
"""In a round's assessment: the file in GridFS with what its committee says of every label."""

MODEL_FILES = ("weights_file", "predictions_file")
"""Fields of a model that name files in GridFS."""


class Models(Campaigns):
    """The models of a store, and the metals that energies refer to."""

    def put_model(self, doc: ModelDoc, weights: bytes, predictions: Mapping[str, float]) -> bool:
        """Store a model; return False, changing nothing, if its id is there already.

        Parameters
        ----------
        weights
            The content of a safetensors file.
        predictions
            What it says of labels: eV per cell by key.
        """
        if self.has_model(doc.campaign, doc.round, doc.member):
            return False
        file_id = self._weights.put(weights, filename=doc.doc_id)
        said_id = self._weights.put(bson.encode(predictions), filename=f"{doc.doc_id}/predictions")
        files = {
            "weights_file": str(file_id),
            "sha256": hashlib.sha256(weights).hexdigest(),
            "predictions_file": str(said_id),
        }
        if self._insert_once(doc.model_copy(update=files)):
            return True
        self._weights.delete(file_id)
        self._weights.delete(said_id)
        return False

    def has_model(self, campaign: str, round: int, member: int) -> bool:
        """Tell whether a member of a round's committee was trained."""
        doc_id = ModelDoc.id_of(campaign, round, member)
        return self._collection(ModelDoc).find_one({"_id": doc_id}, {"_id": 1}) is not None

    def model(self, campaign: str, round: int, member: int) -> tuple[ModelDoc, bytes] | None:
        """Return a model and the content of its safetensors file, or None.

        Raises
        ------
        AlChargeError
            If the stored bytes are not those that were put.
        """
        doc = self._get(ModelDoc, ModelDoc.id_of(campaign, round, member))
        if doc is None:
            return None
        where = f"model '{doc.doc_id}'"
        weights = read_file(self._weights, doc.weights_file, where)
        if hashlib.sha256(weights).hexdigest() != doc.sha256:
            raise AlChargeError(
                "its weights do not match their checksum",
                where=where,
                remedy="restore the database from a backup",
            )
        return doc, weights

    def predictions_of(self, model: ModelDoc) -> dict[str, float]:
        """Return what a model said of labels when it was stored: eV per cell by key.

        Nothing is known of models of earlier versions.
        """
        if model.predictions_file is None:
            return {}
        said = read_file(self._weights, model.predictions_file, f"model '{model.doc_id}'")
        return dict(bson.decode(said))

    def models(self, campaign: str, round: int | None = None) -> list[ModelDoc]:
        """Return the models of a campaign, or of one round, without their weights."""
        query: Stored = {"campaign": campaign} | ({} if round is None else {"round": round})
        return self._find(ModelDoc, query, "round", "member")

    def record_predictions(
        self,
        campaign: str,
        number: int,
        assessment: dict[str, Any],
        keys: Sequence[str],
        energies: NDArray[np.float64],
    ) -> dict[str, Any]:
        """Store what a round's assessment found and what its committee says of every label.

        The predictions go to GridFS: they are as many as there are labels. Nothing changes if the
        round is assessed already.

        Parameters
        ----------
        keys
            Of the labels.
        energies
            eV per formula unit, shape (n_members, n_labels).

        Returns
        -------
        dict
            The stored assessment: the first writer's.
        """
        content = bson.encode({"keys": list(keys), "energies": energies.astype("<f8").tobytes()})
        name = f"{RoundDoc.id_of(campaign, number)}/predictions"
        file_id = self._weights.put(content, filename=name)
        named = assessment | {PREDICTIONS: str(file_id)}
        stored = self.record_assessment(campaign, number, named)
        if stored.get(PREDICTIONS) != str(file_id):
            self._weights.delete(file_id)
        return stored

    def predictions(self, record: RoundDoc) -> tuple[list[str], NDArray[np.float64]]:
        """Return label keys and what an assessed round's committee says of these labels.

        Returns
        -------
        keys : list of str
        energies : ndarray, shape (n_members, n_labels)
            eV per formula unit.
        """
        found = record.assessment or {}
        if PREDICTIONS in found:
            file = bson.decode(read_file(self._weights, found[PREDICTIONS], record.doc_id))
            return file["keys"], np.frombuffer(file["energies"], "<f8").reshape(
                -1, len(file["keys"])
            )
        return found["label_keys"], np.array(found["member_energies"])  # of an earlier version

    def put_reference(self, doc: ReferenceDoc) -> bool:
        """Store the energy of a metal; return False, changing nothing, if it is there already."""
        return self._insert_once(doc)

    def reference(self, campaign: str, settings_hash: str, ion: str) -> ReferenceDoc | None:
        """Return the metal that a campaign's energies refer to, or None if there is none yet.

        It is shared by every campaign with the same settings.

        Parameters
        ----------
        settings_hash
            Of the labeler as it is now.

        Raises
        ------
        InputError
            If the campaign was submitted with other settings.
        """
        self.check_settings(campaign, settings_hash)
        return self._get(ReferenceDoc, ReferenceDoc.id_of(settings_hash, ion))

    def _unused_weights(self) -> list[ObjectId]:
        files = dict.fromkeys(MODEL_FILES, 1)
        models = self._collection(ModelDoc).find({}, files)
        used = {model[name] for model in models for name in MODEL_FILES}
        used |= set(self._collection(RoundDoc).distinct(f"assessment.{PREDICTIONS}"))
        return [f._id for f in self._weights.find() if str(f._id) not in used]
