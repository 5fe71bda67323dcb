"""Campaigns and their rounds in the database."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from al_charge.errors import AlChargeError, InputError, did_you_mean
from al_charge.store.base import Collections, Stored
from al_charge.store.documents import (
    TRANSITIONS,
    CampaignDoc,
    CampaignState,
    LabelDoc,
    ReferenceDoc,
    RoundDoc,
)
from al_charge.store.fields import now, plain


class Campaigns(Collections):
    """The campaigns and rounds of a store."""

    def add_campaign(self, doc: CampaignDoc) -> bool:
        """Store a campaign.

        Returns
        -------
        bool
            False if the same campaign is already there.

        Raises
        ------
        InputError
            If another campaign has the name.
        """
        if self._insert_once(doc):
            return True
        there = self.campaign(doc.name)
        same = ("spec", "host_fingerprint", "settings_hash")
        if any(getattr(there, field) != getattr(doc, field) for field in same):
            raise InputError(
                "the name is taken by a campaign with other contents",
                where=f"campaign '{doc.name}'",
                remedy="choose another name, or restore the campaign file",
            )
        return False

    def campaign(self, name: str) -> CampaignDoc:
        """Return a campaign.

        Raises
        ------
        InputError
            If there is none of this name.
        """
        found = self._get(CampaignDoc, name)
        if found is None:
            known = [doc["_id"] for doc in self._collection(CampaignDoc).find({}, {"_id": 1})]
            remedy = did_you_mean(name, known) if known else "submit it first"
            raise InputError("there is no such campaign", where=f"campaign '{name}'", remedy=remedy)
        return found

    def campaign_state(self, name: str) -> CampaignState:
        """Return the state of a campaign.

        Raises
        ------
        InputError
            If there is none of this name.
        """
        return CampaignState(self._campaign_field(name, "state"))

    def _campaign_field(self, name: str, field: str) -> Any:
        """Return one field of a campaign; its document also holds whole structures."""
        found = self._collection(CampaignDoc).find_one({"_id": name}, {field: 1})
        return getattr(self.campaign(name), field) if found is None else found[field]

    def campaigns(self) -> list[CampaignDoc]:
        """Return every campaign, oldest first."""
        return self._find(CampaignDoc, {}, "created", "name")

    def check_settings(
        self, name: str, settings_hash: str, settings: Mapping[str, Any] | None = None
    ) -> None:
        """Refuse a labeler whose settings are not those that a campaign was submitted with.

        Energies from different settings stand on no common hull.

        Parameters
        ----------
        settings_hash
            Of the labeler as it is now.
        settings
            Its physical settings, for naming those that differ.

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

    def set_campaign_state(self, name: str, state: CampaignState, reason: str = "") -> None:
        """Move a campaign to another state.

        Raises
        ------
        InputError
            If that state may not follow the present one, or there is no such campaign.
        """
        allowed = [before for before, after in TRANSITIONS.items() if state in after]
        changed = self._collection(CampaignDoc).update_one(
            {"_id": name, "state": {"$in": allowed}}, {"$set": {"state": state, "reason": reason}}
        )
        if not changed.matched_count:
            present = self.campaign(name).state
            raise InputError(
                f"a campaign that is {present} cannot become {state}", where=f"campaign '{name}'"
            )

    def add_round(self, doc: RoundDoc) -> bool:
        """Store a round; return False if it is already there."""
        return self._insert_once(doc)

    def round(self, campaign: str, number: int) -> RoundDoc | None:
        """Return one round, or None."""
        return self._get(RoundDoc, RoundDoc.id_of(campaign, number))

    def rounds(self, campaign: str) -> list[RoundDoc]:
        """Return the rounds of a campaign in order."""
        return self._find(RoundDoc, {"campaign": campaign}, "number")

    def last_round(self, campaign: str) -> RoundDoc | None:
        """Return the round with the highest number, or None."""
        stored = self._collection(RoundDoc).find_one({"campaign": campaign}, sort=[("number", -1)])
        return None if stored is None else RoundDoc.from_mongo(stored)

    def record_selection(self, campaign: str, number: int, reasons: Mapping[str, str]) -> list[str]:
        """Store which candidates a round labels, unless that is stored.

        Parameters
        ----------
        reasons
            Why each candidate was selected, by its id, the most wanted first.

        Returns
        -------
        list of str
            The stored ids, in order: the first writer's.
        """
        fields = {"selected": list(reasons), "reasons": list(reasons.values())}
        stored = self._record_once(campaign, number, fields)
        return list(stored["selected"])

    def record_assessment(
        self, campaign: str, number: int, assessment: dict[str, Any]
    ) -> dict[str, Any]:
        """Store what a round's assessment found and close the round, unless that is done.

        Returns
        -------
        dict
            The stored assessment: the first writer's.
        """
        fields = {"assessment": plain(assessment), "closed": now()}
        return dict(self._record_once(campaign, number, fields)["assessment"])

    def add_stage_seconds(self, campaign: str, number: int, stage: str, seconds: float) -> None:
        """Add to the wall time of a stage of a round, in s."""
        if not stage.isidentifier():
            raise ValueError(f"'{stage}' is no name of a stage")
        changed = self._collection(RoundDoc).update_one(
            {"_id": RoundDoc.id_of(campaign, number)},
            {"$inc": {f"stage_seconds.{stage}": float(seconds)}},
        )
        if not changed.matched_count:
            raise self._no_round(campaign, number)

    def set_progress(self, campaign: str, number: int, task: str, done: int, total: int) -> None:
        """Say how far a task of a round has come; ``task`` may hold no dot or dollar sign."""
        self._collection(RoundDoc).update_one(
            {"_id": RoundDoc.id_of(campaign, number)},
            {"$set": {f"progress.{task}": [int(done), int(total)]}},
        )

    def _record_once(self, campaign: str, number: int, fields: Stored) -> Stored:
        """Set fields of a round if the first of them is None; return the round as stored."""
        doc_id, first = RoundDoc.id_of(campaign, number), next(iter(fields))
        collection = self._collection(RoundDoc)
        collection.update_one({"_id": doc_id, first: None}, {"$set": fields})
        stored = collection.find_one({"_id": doc_id})
        if stored is None:
            raise self._no_round(campaign, number)
        return stored

    @staticmethod
    def _no_round(campaign: str, number: int) -> AlChargeError:
        return AlChargeError(f"there is no round {number}", where=f"campaign '{campaign}'")


def difference(before: Mapping[str, Any], after: Mapping[str, Any], where: str = "") -> list[str]:
    """Return one line for each setting that differs, nested ones by their dotted name."""
    changes = []
    for name in sorted(before.keys() | after.keys()):
        old, new = plain(before.get(name)), plain(after.get(name))
        if isinstance(old, dict) and isinstance(new, dict):
            changes += difference(old, new, f"{where}{name}.")
        elif old != new:
            changes.append(f"{where}{name} was {old}, is {new}")
    return changes
