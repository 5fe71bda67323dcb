"""Finished labels on disk, until the database has them."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from pydantic import ValidationError

from al_charge.store.documents import SCHEMA_VERSION, LabelDoc
from al_charge.store.labels import Labels


class Spool:
    """A folder of finished labels that wait for the database.

    Parameters
    ----------
    folder
        One for each campaign; made when the first label is written.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def deliver(self, labels: Labels, label: LabelDoc) -> bool:
        """Store a label that is kept on disk until that is done.

        Parameters
        ----------
        labels
            Labels of the store.
        label
            The label.

        Returns
        -------
        bool
            False if a label with its key was there already.
        """
        path = self._folder / f"{label.key}.json"
        # A full disk does not keep a label from the database.
        with contextlib.suppress(OSError):
            self._write(path, label)
        stored = labels.put(label)
        path.unlink(missing_ok=True)
        return stored

    def deliver_all(self, labels: Labels) -> int:
        """Store every label that waits.

        Parameters
        ----------
        labels
            Labels of the store.

        Returns
        -------
        int
            How many files there were.
        """
        waiting = sorted(self._folder.glob("*.json"))
        for path in waiting:
            if (label := self._read(path)) is not None:
                labels.put(label)
                path.unlink(missing_ok=True)
        return len(waiting)

    def _write(self, path: Path, label: LabelDoc) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        draft = path.with_suffix(f".{os.getpid()}.new")
        try:
            with draft.open("w", encoding="utf-8") as file:
                file.write(label.model_dump_json())
                file.flush()
                os.fsync(file.fileno())
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)

    @staticmethod
    def _read(path: Path) -> LabelDoc | None:
        """Return a label, None where another process has just delivered it.

        One that cannot be read is put aside: whatever made it is run or read again.
        """
        try:
            found = LabelDoc.model_validate_json(path.read_bytes())
            # It may have waited here while the database was migrated.
            return found.model_copy(update={"schema_version": SCHEMA_VERSION})
        except FileNotFoundError:
            return None
        except ValidationError:
            path.replace(path.with_suffix(".unreadable"))
            return None
