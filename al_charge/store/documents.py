"""What is kept in the database: one pydantic model per kind of document.

Numbers are in the package's units (eV, angstrom, seconds); arrays are nested lists, and NumPy
arrays are taken wherever such a list is asked for. NaN and infinity are refused.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any, ClassVar

from pydantic import Field, field_validator

from al_charge.store.fields import (
    SCHEMA_VERSION,
    Composition,
    Document,
    Integers,
    Mapping,
    Number,
    Part,
    Tokens,
    Vectors,
    all_strings,
    now,
    uri_has_password,
)
from al_charge.store.label_documents import (
    AttemptDoc,
    FailureDoc,
    FrameDoc,
    LabelDoc,
    LabelUseDoc,
    StartDoc,
)
from al_charge.store.model_documents import ModelDoc, ReferenceDoc

__all__ = [
    "DOCUMENTS",
    "SCHEMA_VERSION",
    "TRANSITIONS",
    "AttemptDoc",
    "CampaignDoc",
    "CampaignState",
    "CandidateDoc",
    "Document",
    "FailureDoc",
    "FrameDoc",
    "Geometry",
    "LabelDoc",
    "LabelUseDoc",
    "ModelDoc",
    "ProposalDoc",
    "ReferenceDoc",
    "RoundDoc",
    "StartDoc",
]


class CampaignState(StrEnum):
    """Where a campaign stands; ``exhausted`` is out of rounds or labels without convergence."""

    RUNNING = "running"
    PAUSED = "paused"
    CONVERGED = "converged"
    EXHAUSTED = "exhausted"
    FAILED = "failed"


TRANSITIONS: dict[CampaignState, frozenset[CampaignState]] = {
    CampaignState.RUNNING: frozenset(CampaignState),
    CampaignState.PAUSED: frozenset(CampaignState),
    CampaignState.EXHAUSTED: frozenset({CampaignState.RUNNING, CampaignState.EXHAUSTED}),
    CampaignState.FAILED: frozenset({CampaignState.RUNNING, CampaignState.FAILED}),
    CampaignState.CONVERGED: frozenset({CampaignState.CONVERGED}),
}
"""The states that may follow each state."""


class CampaignDoc(Document):
    """One campaign: what was asked for and where it stands.

    Attributes
    ----------
    spec
        The validated campaign file; never with credentials.
    """

    collection: ClassVar[str] = "campaigns"

    name: str = Field(min_length=1)
    spec: Mapping
    host_fingerprint: str
    settings_hash: str
    state: CampaignState = CampaignState.RUNNING
    reason: str = ""
    created: datetime = Field(default_factory=now)

    @field_validator("spec")
    @classmethod
    def _no_credentials(cls, spec: dict[str, Any]) -> dict[str, Any]:
        if any(uri_has_password(text) for text in all_strings(spec)):
            raise ValueError("a campaign may not carry the password of a database")
        return spec

    @property
    def doc_id(self) -> str:
        """The campaign's name."""
        return self.name


class RoundDoc(Document):
    """One pass through the loop.

    Attributes
    ----------
    selected
        Ids of the candidates to label, in order; None until they are selected.
    reasons
        Why each of them was selected.
    assessment
        What the assess task found; None until the round is closed.
    stage_seconds
        Wall time of each stage, s.
    progress
        How far a running task has come, done and total by the task's name; for people to look at.
    """

    collection: ClassVar[str] = "rounds"

    campaign: str
    number: int = Field(ge=0)
    selected: list[str] | None = None
    reasons: list[str] = Field(default_factory=list)
    assessment: Mapping | None = None
    stage_seconds: dict[str, Number] = Field(default_factory=dict)
    progress: dict[str, list[int]] = Field(default_factory=dict)
    created: datetime = Field(default_factory=now)
    closed: datetime | None = None

    @staticmethod
    def id_of(campaign: str, number: int) -> str:
        """Return the identity of a round."""
        return f"{campaign}/{number}"

    @property
    def doc_id(self) -> str:
        """Campaign and number."""
        return self.id_of(self.campaign, self.number)


class Geometry(Part):
    """Atoms: numbers (n_atoms), positions (n_atoms, 3) and cell (3, 3) in angstrom.

    Attributes
    ----------
    species
        Species token of every atom.
    host_site
        Index of the host's site of every atom.
    """

    numbers: Integers
    positions: Vectors
    cell: Vectors
    species: Tokens
    host_site: Integers


class CandidateDoc(Document):
    """A configuration proposed in a round.

    Attributes
    ----------
    geometry
        Relaxed by the committee, or the host's own where there is no committee yet.
    energy, spread
        eV per cell, of the committee; None where there is none.
    drifted
        Atoms of the geometry whose charge state the committee's own moments or charges there
        disagree with; None where it cannot tell.
    origin
        How it was found, e.g. ``enumerated`` or ``crossover``.
    """

    collection: ClassVar[str] = "candidates"

    campaign: str
    round: int = Field(ge=0)
    n_ions: int = Field(ge=0)
    composition: Composition
    config_hash: str
    colours: Integers
    geometry: Geometry
    energy: Number | None = None
    spread: Number | None = None
    drifted: Integers | None = None
    origin: str

    @property
    def doc_id(self) -> str:
        """Campaign, round and canonical hash."""
        return f"{self.campaign}/{self.round}/{self.config_hash}"


class ProposalDoc(Document):
    """Says that one composition of one round was proposed in full; written after its candidates."""

    collection: ClassVar[str] = "proposals"

    campaign: str
    round: int = Field(ge=0)
    n_ions: int = Field(ge=0)
    candidates: list[str]
    statistics: Mapping = Field(default_factory=dict)
    created: datetime = Field(default_factory=now)

    @staticmethod
    def id_of(campaign: str, round: int, n_ions: int) -> str:
        """Return the identity of a proposal."""
        return f"{campaign}/{round}/{n_ions}"

    @property
    def doc_id(self) -> str:
        """Campaign, round and number of ions."""
        return self.id_of(self.campaign, self.round, self.n_ions)


DOCUMENTS: tuple[type[Document], ...] = (
    CampaignDoc,
    RoundDoc,
    CandidateDoc,
    ProposalDoc,
    LabelDoc,
    LabelUseDoc,
    AttemptDoc,
    FailureDoc,
    ModelDoc,
    ReferenceDoc,
)
"""Every kind of document that has a collection."""
