"""Documents of trained models, and of the metal that energies refer to."""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar

from pydantic import Field

from al_charge.store.fields import Document, Mapping, Number, now
from al_charge.store.label_documents import ImportedDoc


class ModelDoc(Document):
    """One trained member of a committee.

    Attributes
    ----------
    config
        Settings that build the model for the weights.
    weights_file, sha256
        The safetensors bytes in GridFS and their checksum; filled in by the store.
    predictions_file
        Its energies of the labels of its round, in GridFS; filled in by the store. None in
        documents of earlier versions.
    history
        One entry per epoch; none if the model was taken over from the round before.
    held_out
        Residual of the last frame of each held-out group, eV/atom.
    start
        Identity of the model that training started from, or ``fresh`` for weights as the settings
        say; the model that it is a copy of, if it was taken over. Empty in documents of earlier
        versions.
    """

    collection: ClassVar[str] = "models"

    campaign: str
    round: int = Field(ge=0)
    member: int = Field(ge=0)
    config: Mapping
    metrics: dict[str, Number] = Field(default_factory=dict)
    history: list[dict[str, Number]] = Field(default_factory=list)
    held_out: dict[str, Number] = Field(default_factory=dict)
    start: str = ""
    created: datetime = Field(default_factory=now)
    weights_file: str = ""
    sha256: str = ""
    predictions_file: str | None = None

    @staticmethod
    def id_of(campaign: str, round: int, member: int) -> str:
        """Return the identity of a model.

        Parameters
        ----------
        campaign
            Name of the campaign.
        round
            Number of the round.
        member
            Number of the member in the committee, from 0.

        Returns
        -------
        str
            The value of ``_id``.
        """
        return f"{campaign}/{round}/{member}"

    @property
    def doc_id(self) -> str:
        """Campaign, round and member."""
        return self.id_of(self.campaign, self.round, self.member)


class ReferenceDoc(Document):
    """Energy of the working-ion metal under one labeler's settings.

    What earlier versions did not record is None, or empty.

    Attributes
    ----------
    energy
        eV/atom.
    settings
        The labeler's physical settings, whose hash is ``settings_hash``.
    engine
        Name and version of the code.
    wall_time
        s.
    directory
        Folder of the engine's files, on the machine that ran it.
    imported
        Where it came from if `al-charge labels import` has read it; None if it was made here.
    """

    collection: ClassVar[str] = "references"

    settings_hash: str
    ion: str
    energy: Number
    settings: Mapping
    engine: str
    wall_time: Number | None
    directory: str
    imported: ImportedDoc | None = None
    created: datetime = Field(default_factory=now)

    @staticmethod
    def id_of(settings_hash: str, ion: str) -> str:
        """Return the identity of a reference.

        Parameters
        ----------
        settings_hash
            Hash of the labeler's settings.
        ion
            Symbol of the working ion.

        Returns
        -------
        str
            The value of ``_id``.
        """
        return f"{settings_hash}/{ion}"

    @property
    def doc_id(self) -> str:
        """Settings and ion."""
        return self.id_of(self.settings_hash, self.ion)
