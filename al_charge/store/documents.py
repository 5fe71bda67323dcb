"""What is kept in the database: one pydantic model per kind of document.

Numbers are in the package's units (eV, angstrom, seconds); arrays are nested lists, and NumPy
arrays are accepted in their place. NaN and infinite values are refused.
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
    ImportedDoc,
    LabelDoc,
    LabelUseDoc,
    Refusal,
    StartDoc,
)
from al_charge.store.model_documents import ModelDoc, ReferenceDoc
from al_charge.store.round_documents import (
    NORMAL_95,
    Assessment,
    Calibration,
    Coverage,
    Criterion,
    FailedRelaxation,
    Forecast,
    PredictedLabel,
    Prospective,
    Request,
    RoundDoc,
    Shares,
    Verification,
    Vertex,
    VoltageForecast,
    WeighedPredictions,
)

__all__ = [
    "DOCUMENTS",
    "NORMAL_95",
    "SCHEMA_VERSION",
    "TRANSITIONS",
    "Assessment",
    "AttemptDoc",
    "Calibration",
    "CampaignDoc",
    "CampaignState",
    "CandidateDoc",
    "Coverage",
    "Criterion",
    "Document",
    "EntryDoc",
    "FailedRelaxation",
    "FailureDoc",
    "Forecast",
    "FrameDoc",
    "Geometry",
    "ImportedDoc",
    "LabelDoc",
    "LabelUseDoc",
    "ModelDoc",
    "PredictedLabel",
    "ProposalDoc",
    "Prospective",
    "ReferenceDoc",
    "Refusal",
    "Request",
    "RoundDoc",
    "Shares",
    "StartDoc",
    "Statistics",
    "Verification",
    "Vertex",
    "VoltageForecast",
    "WeighedPredictions",
]


class CampaignState(StrEnum):
    """Where a campaign stands.

    ``exhausted`` is out of rounds or labels without convergence; ``sampled`` has met every
    criterion, but configurations that no one has ranked may lie below the hull.
    """

    RUNNING = "running"
    PAUSED = "paused"
    CONVERGED = "converged"
    SAMPLED = "sampled"
    EXHAUSTED = "exhausted"
    FAILED = "failed"


TRANSITIONS: dict[CampaignState, frozenset[CampaignState]] = {
    CampaignState.RUNNING: frozenset(CampaignState),
    CampaignState.PAUSED: frozenset(CampaignState),
    CampaignState.SAMPLED: frozenset({CampaignState.RUNNING, CampaignState.SAMPLED}),
    CampaignState.EXHAUSTED: frozenset({CampaignState.RUNNING, CampaignState.EXHAUSTED}),
    CampaignState.FAILED: frozenset({CampaignState.RUNNING, CampaignState.FAILED}),
    CampaignState.CONVERGED: frozenset({CampaignState.CONVERGED}),
}
"""The states that may follow each state."""


class CampaignDoc(Document):
    """One campaign: what its file said, and its state.

    Attributes
    ----------
    spec
        ``campaign``, the validated fields of the campaign file; ``defaults``, the values of the
        fields that the file left out; ``structure`` and perhaps ``empty_structure``, the crystals.
        Never credentials.
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
    cell
        Number of its supercell among the campaign's, from 0.
    config_hash
        The configuration in its supercell.
    identity
        The configuration as an infinite crystal; empty in documents of earlier versions.
    geometry
        Relaxed by the committee, or the host's own if there is no committee yet.
    energy, spread
        The committee's, in eV per cell; None without a committee.
    drifted
        Atoms whose charge state disagrees with the committee's own moments or charges; None if the
        committee predicts neither.
    origin
        How it was found, e.g. ``enumerated`` or ``crossover``.
    """

    collection: ClassVar[str] = "candidates"

    campaign: str
    round: int = Field(ge=0)
    cell: int = Field(default=0, ge=0)
    n_ions: int = Field(ge=0)
    composition: Composition
    config_hash: str
    identity: str = ""
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


class Statistics(Part):
    """Statistics of proposing the candidates of one composition.

    Numbers that an earlier version did not count, or a round without a committee lacks, are 0 or
    None.

    Attributes
    ----------
    evaluated
        Configurations that the committee relaxed.
    steps
        Steps of all these relaxations together.
    unconverged
        Relaxations that ended before the forces were small.
    unfinished
        Hashes of the configurations whose relaxations these were; earlier versions kept none.
    candidates
        Candidates that were proposed.
    compared
        Candidates whose charge order the committee could check.
    flagged
        Candidates whose charge order the committee disagrees with.
    screened
        Fraction of the distinct configurations that were ranked by a prediction, or have an energy.
    gap
        Lowest prediction for configurations without a known energy, relative to the lowest known
        energy, eV per formula unit.
    gap_deviation
        Its standard deviation, eV per formula unit.
    p_missed
        Probability that any ranked configuration lies below the lowest known energy.
    """

    evaluated: int = 0
    steps: int = 0
    unconverged: int = 0
    unfinished: list[str] = Field(default_factory=list)
    candidates: int = 0
    compared: int = 0
    flagged: int = 0
    screened: Number | None = None
    gap: Number | None = None
    gap_deviation: Number | None = None
    p_missed: Number | None = None


class ProposalDoc(Document):
    """Marks that one composition of a round was proposed completely; written after its candidates.

    Attributes
    ----------
    cell, n_ions
        The first of the campaign's supercells that has the composition, from 0, and the working
        ions in it.
    candidates
        Ids of the candidates, of all supercells, in order.
    """

    collection: ClassVar[str] = "proposals"

    campaign: str
    round: int = Field(ge=0)
    cell: int = Field(default=0, ge=0)
    n_ions: int = Field(ge=0)
    candidates: list[str]
    statistics: Statistics = Field(default_factory=Statistics)
    created: datetime = Field(default_factory=now)

    @staticmethod
    def id_of(campaign: str, round: int, n_ions: int, cell: int = 0) -> str:
        """Return the identity of a proposal.

        Parameters
        ----------
        campaign
            Name of the campaign.
        round
            Number of the round.
        n_ions
            Working ions in the cell.
        cell
            The cell.

        Returns
        -------
        str
            The value of ``_id``.
        """
        # Campaigns of one cell have the ids that they always had.
        return f"{campaign}/{round}/{f'{cell}-' if cell else ''}{n_ions}"

    @property
    def doc_id(self) -> str:
        """Campaign, round, cell and number of ions."""
        return self.id_of(self.campaign, self.round, self.n_ions, self.cell)


class EntryDoc(Document):
    """An entry of the ledger: the time of a worker, or of one run of a task.

    Attributes
    ----------
    round, task
        Those of the run, such as ``label 3``; None and empty for a worker, whose time includes its
        tasks.
    worker, host
        Name of the process, and its machine.
    job
        The queue's job, such as ``slurm 4711``; empty without a queue.
    nodes, cores
        Nodes, and cores on all of them.
    started, seen, ended
        By the clock of the machine; ``ended`` is None until it has ended.
    outcome
        ``done``, ``failed``, ``interrupted`` from outside, ``crashed`` with its process, or
        ``lost`` and closed by another process; None until it has ended.
    """

    collection: ClassVar[str] = "ledger"

    entry: str
    campaign: str
    round: int | None = Field(default=None, ge=0)
    task: str = ""
    worker: str
    host: str
    job: str = ""
    nodes: int = Field(ge=1)
    cores: int = Field(ge=1)
    started: datetime
    seen: datetime
    ended: datetime | None = None
    outcome: str | None = None
    reason: str = ""

    @property
    def doc_id(self) -> str:
        """A random id."""
        return self.entry


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
    EntryDoc,
)
"""Every kind of document that has a collection."""
