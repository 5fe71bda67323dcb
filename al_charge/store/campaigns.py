"""Campaigns in the database."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from al_charge.errors import InputError, did_you_mean
from al_charge.store.base import Stored, StorePart, read_file
from al_charge.store.documents import (
    TRANSITIONS,
    CampaignDoc,
    CampaignState,
    LabelDoc,
    ReferenceDoc,
)
from al_charge.store.fields import plain


class Campaigns(StorePart):
    """The campaigns of a store."""

    def add(self, doc: CampaignDoc) -> bool:
        """Store a campaign.

        Parameters
        ----------
        doc
            The campaign.

        Returns
        -------
        bool
            False, changing nothing, if there is one of its name.
        """
        files = {}
        if (file_id := doc.spec.get("labeler_file")) is not None:
            content = read_file(self._weights, file_id, f"campaign '{doc.name}'")
            files["labeler"] = self._checksum_of_file("weights", file_id, content)
        return self._insert_once(doc, files)

    def get(self, name: str) -> CampaignDoc:
        """Return a campaign.

        Parameters
        ----------
        name
            Name of the campaign.

        Returns
        -------
        CampaignDoc
            Its document.

        Raises
        ------
        InputError
            If there is none of this name.
        """
        found = self._get(CampaignDoc, name)
        if found is None:
            known = self.names()
            remedy = did_you_mean(name, known) if known else "submit it first"
            raise InputError("there is no such campaign", where=f"campaign '{name}'", remedy=remedy)
        return found

    def names(self) -> list[str]:
        """Return the names of all campaigns.

        Returns
        -------
        list of str
            Sorted.
        """
        return sorted(self._collection(CampaignDoc).distinct("_id"))

    def state(self, name: str) -> CampaignState:
        """Return the state of a campaign.

        Parameters
        ----------
        name
            Name of the campaign.

        Returns
        -------
        CampaignState
            Its state.

        Raises
        ------
        InputError
            If there is none of this name.
        """
        return CampaignState(self._campaign_field(name, "state"))

    def _campaign_field(self, name: str, field: str) -> Any:
        """Return one field of a campaign; its document also holds whole structures."""
        found = self._collection(CampaignDoc).find_one({"_id": name}, {field: 1})
        return getattr(self.get(name), field) if found is None else found[field]

    def all(self) -> list[CampaignDoc]:
        """Return every campaign.

        Returns
        -------
        list of CampaignDoc
            Oldest first.
        """
        return self._find(CampaignDoc, {}, "created", "name")

    def check_settings(
        self, name: str, settings_hash: str, settings: Mapping[str, Any] | None = None
    ) -> None:
        """Refuse a labeler whose settings are not those that a campaign was submitted with.

        Energies from different settings are not comparable.

        Parameters
        ----------
        name
            Name of the campaign.
        settings_hash
            Hash of the labeler's settings as they are now.
        settings
            The labeler's physical settings, to name those that differ; None to name none.

        Raises
        ------
        InputError
            If the hash differs, or there is no such campaign.
        """
        stored = self._campaign_field(name, "settings_hash")
        if stored == settings_hash:
            return
        before = self._settings_behind(stored) if settings is not None else {}
        changes = difference(before, settings or {}) if before else []
        raise InputError(
            "the labeler's settings are no longer those of its labels"
            + (f": {'; '.join(changes)}" if changes else ""),
            where=f"campaign '{name}'",
            remedy="go back to them, or submit the campaign under another name",
        )

    def _settings_behind(self, settings_hash: str) -> dict[str, Any]:
        """Return the settings with a hash, as a label or reference holds them; empty if none."""
        for document in (LabelDoc, ReferenceDoc):
            query = {"settings_hash": settings_hash}
            found = self._collection(document).find_one(query, {"settings": 1})
            if found is not None and found["settings"]:
                return dict(found["settings"])
        return {}

    def set_state(self, name: str, state: CampaignState, reason: str = "") -> None:
        """Move a campaign to another state.

        Parameters
        ----------
        name
            Name of the campaign.
        state
            The new state.
        reason
            Why, in one line; may be empty.

        Raises
        ------
        InputError
            If that state may not follow the present one, or there is no such campaign.
        """

        def change(stored: Stored) -> Stored:
            if state not in TRANSITIONS[CampaignState(stored["state"])]:
                raise InputError(
                    f"a campaign that is {stored['state']} cannot become {state}",
                    where=f"campaign '{name}'",
                )
            return {"state": state, "reason": reason}

        if self._change(CampaignDoc, name, change) is None:
            self.get(name)


def difference(before: Mapping[str, Any], after: Mapping[str, Any], where: str = "") -> list[str]:
    """Return which settings differ, nested ones by their dotted name.

    Parameters
    ----------
    before
        Settings of before.
    after
        Settings of now.
    where
        What stands before each name, such as ``hubbard_u.``.

    Returns
    -------
    list of str
        One line for each that differs, sorted by name.
    """
    changes = []
    for name in sorted(before.keys() | after.keys()):
        old, new = plain(before.get(name)), plain(after.get(name))
        if isinstance(old, dict) and isinstance(new, dict):
            changes += difference(old, new, f"{where}{name}.")
        elif old != new:
            changes.append(f"{where}{name} was {old}, is {new}")
    return changes
