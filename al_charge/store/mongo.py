"""The store: everything a campaign keeps, in one MongoDB database."""

from __future__ import annotations

from pymongo.database import Database

from al_charge.store.attempts import Attempts, Failures
from al_charge.store.base import Stored, StorePart
from al_charge.store.campaigns import Campaigns
from al_charge.store.files import Files
from al_charge.store.integrity import Integrity
from al_charge.store.labels import Labels
from al_charge.store.ledger import Ledger
from al_charge.store.migrations import prepare
from al_charge.store.models import Models, References
from al_charge.store.proposals import Candidates, Proposals
from al_charge.store.rounds import Rounds


class Store(StorePart):
    """Everything that campaigns keep, one part for each kind of thing.

    Whatever is stored under a key is written once: a second write changes nothing, and returns
    False.
    Every write has reached the server's journal when its method returns.

    Parameters
    ----------
    database
        From :func:`al_charge.store.connection.connect`.

    Attributes
    ----------
    campaigns, rounds, proposals, candidates, models
        The parts about campaigns and what they compute.
    labels, references, attempts, failures
        Those about what engines make.
    files, ledger
        Files in GridFS, and what workers have used.
    integrity
        What compares all of them with their checksums.
    """

    def __init__(self, database: Database[Stored]) -> None:
        super().__init__(database)
        self.campaigns = Campaigns(database)
        self.rounds = Rounds(database)
        self.proposals = Proposals(database)
        self.candidates = Candidates(database)
        self.labels = Labels(database, self.campaigns)
        self.attempts = Attempts(database)
        self.failures = Failures(database, self.attempts)
        self.models = Models(database)
        self.references = References(database, self.campaigns)
        self.files = Files(database)
        self.ledger = Ledger(database)
        self.integrity = Integrity(database)

    def ensure_schema(self) -> None:
        """Make a new database ready.

        Raises
        ------
        InputError
            If the database is older or newer than this code, or half migrated or restored.
        """
        prepare(self.database)

    def close(self) -> None:
        """Close the connection."""
        self.database.client.close()
