"""Trained models in the database: configuration in a document, safetensors in GridFS."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import bson
from pymongo.database import Database

from al_charge.errors import AlChargeError
from al_charge.store.base import Stored, StorePart, read_file
from al_charge.store.campaigns import Campaigns
from al_charge.store.documents import ModelDoc, ReferenceDoc


class Models(StorePart):
    """The models of a store."""

    def put(self, doc: ModelDoc, weights: bytes, predictions: Mapping[str, float]) -> bool:
        """Store a model.

        Parameters
        ----------
        doc
            The model; the store fills in its files.
        weights
            The content of a safetensors file.
        predictions
            Its energies of labels, eV per cell by the label's key.

        Returns
        -------
        bool
            False, changing nothing, if its id is there already.
        """
        if self.has(doc.campaign, doc.round, doc.member):
            return False
        weights_id, of_weights = self._put_file("weights", weights, doc.doc_id)
        predictions_id, of_predictions = self._put_file(
            "weights", bson.encode(predictions), f"{doc.doc_id}/predictions"
        )
        files = {
            "weights_file": weights_id,
            "sha256": hashlib.sha256(weights).hexdigest(),
            "predictions_file": predictions_id,
        }
        checksums = {"weights": of_weights, "predictions": of_predictions}
        return self._insert_once(doc.model_copy(update=files), checksums)

    def has(self, campaign: str, round: int, member: int) -> bool:
        """Tell whether a member of a round's committee was trained.

        Parameters
        ----------
        campaign
            Name of the campaign.
        round
            Number of the round.
        member
            Number of the member, from 0.

        Returns
        -------
        bool
            Whether it is stored.
        """
        doc_id = ModelDoc.id_of(campaign, round, member)
        return self._collection(ModelDoc).find_one({"_id": doc_id}, {"_id": 1}) is not None

    def get(self, campaign: str, round: int, member: int) -> tuple[ModelDoc, bytes] | None:
        """Return a model and the content of its safetensors file.

        Parameters
        ----------
        campaign
            Name of the campaign.
        round
            Number of the round.
        member
            Number of the member, from 0.

        Returns
        -------
        tuple or None
            Document and bytes; None if it was not trained.

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
                remedy="'al-charge doctor --deep' names the cure",
            )
        return doc, weights

    def predictions(self, model: ModelDoc) -> dict[str, float]:
        """Return the energies that a model predicted for labels when it was stored.

        Parameters
        ----------
        model
            The model.

        Returns
        -------
        dict
            eV per cell by the label's key; empty for a model of an earlier version.

        Raises
        ------
        AlChargeError
            If the file with them is missing in GridFS.
        """
        if model.predictions_file is None:
            return {}
        content = read_file(self._weights, model.predictions_file, f"model '{model.doc_id}'")
        return dict(bson.decode(content))

    def all(self, campaign: str, round: int | None = None) -> list[ModelDoc]:
        """Return the models of a campaign, or of one round, without their weights.

        Parameters
        ----------
        campaign
            Name of the campaign.
        round
            Number of the round; None for all rounds.

        Returns
        -------
        list of ModelDoc
            By round and member.
        """
        query: Stored = {"campaign": campaign} | ({} if round is None else {"round": round})
        return self._find(ModelDoc, query, "round", "member")


class References(StorePart):
    """The metals that energies refer to.

    Parameters
    ----------
    database
        Database of the store.
    campaigns
        Campaigns of the same store.
    """

    def __init__(self, database: Database[Stored], campaigns: Campaigns) -> None:
        super().__init__(database)
        self._campaigns = campaigns

    def put(self, doc: ReferenceDoc) -> bool:
        """Store the energy of a metal.

        Parameters
        ----------
        doc
            The metal.

        Returns
        -------
        bool
            False, changing nothing, if it is there already.
        """
        return self._insert_once(doc)

    def get(self, campaign: str, settings_hash: str, ion: str) -> ReferenceDoc | None:
        """Return the metal that a campaign's energies refer to.

        It is shared by every campaign with the same settings.

        Parameters
        ----------
        campaign
            Name of the campaign.
        settings_hash
            Hash of the labeler's settings as they are now.
        ion
            Symbol of the working ion.

        Returns
        -------
        ReferenceDoc or None
            None if there is none yet.

        Raises
        ------
        InputError
            If the campaign was submitted with other settings.
        """
        self._campaigns.check_settings(campaign, settings_hash)
        return self._get(ReferenceDoc, ReferenceDoc.id_of(settings_hash, ion))
