"""The store: everything a campaign keeps, in one MongoDB database."""

from __future__ import annotations

from al_charge.store.campaigns import Campaigns
from al_charge.store.label_streams import LabelStreams
from al_charge.store.migrations import prepare
from al_charge.store.models import Models
from al_charge.store.proposals import Proposals


class Store(Proposals, LabelStreams, Models, Campaigns):
    """Everything that campaigns keep.

    Whatever is stored under a key is written once: a second writer changes nothing and is told so.
    Every write has reached the server's journal when its method returns.

    Parameters
    ----------
    database
        From :func:`al_charge.store.connection.connect`.
    """

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

    def remove_leftovers(self) -> int:
        """Delete files in GridFS that no document names; return how many.

        A killed task leaves such a file when it dies between the file and its document. Call this
        only while no worker runs: a running one is briefly between the two as well.
        """
        unused = [(self._weights, file_id) for file_id in self._unused_weights()]
        unused += [(self._frames, file_id) for file_id in self._unused_frames()]
        for files, file_id in unused:
            files.delete(file_id)
        return len(unused)
