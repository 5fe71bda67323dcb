"""Which campaign uses which label in the database."""

from __future__ import annotations

from collections.abc import Collection

from pymongo.database import Database

from al_charge.store.base import KEYS_AT_ONCE, Stored, StorePart, portions
from al_charge.store.campaigns import Campaigns
from al_charge.store.documents import LabelDoc, LabelUseDoc

FEW_KEYS = 10 * KEYS_AT_ONCE
"""Labels that are looked up one by one; of more, everything that a campaign uses is read."""


class LabelUses(StorePart):
    """The part of a store that says which campaign uses which label.

    Parameters
    ----------
    database
        Of the store.
    campaigns
        Of the same store.
    """

    def __init__(self, database: Database[Stored], campaigns: Campaigns) -> None:
        super().__init__(database)
        self._campaigns = campaigns

    def link(self, campaign: str, round: int, key: str, *, adopted: bool = False) -> bool:
        """Record that a campaign uses a label.

        Parameters
        ----------
        campaign
            Campaign that has selected or adopted it.
        round
            Round that has done so.
        key
            Key of the label.
        adopted
            Whether it was taken because it had been imported.

        Returns
        -------
        bool
            False if that was recorded already.

        Raises
        ------
        InputError
            If the label was made with other settings than the campaign's.
        """
        label = self._collection(LabelDoc).find_one({"_id": key}, {"settings_hash": 1})
        if label is not None:
            self._campaigns.check_settings(campaign, label["settings_hash"])
        return self._insert_once(
            LabelUseDoc(campaign=campaign, round=round, key=key, adopted=adopted)
        )

    def unlink(self, campaign: str, key: str) -> None:
        """Forget that a campaign uses a label, which it will ask for again.

        Parameters
        ----------
        campaign
            Its name.
        key
            Of the label.
        """
        self._collection(LabelUseDoc).delete_one({"campaign": campaign, "key": key})

    def users(self, key: str) -> dict[str, bool]:
        """Return which campaigns use a label.

        Parameters
        ----------
        key
            Of the label.

        Returns
        -------
        dict
            Whether they adopted it, by their names.
        """
        found = self._collection(LabelUseDoc).find({"key": key}, {"campaign": 1, "adopted": 1})
        return {use["campaign"]: use["adopted"] for use in found}

    def count(self, campaign: str) -> int:
        """Count the labels that a campaign uses.

        Parameters
        ----------
        campaign
            Its name.

        Returns
        -------
        int
            How many there are.
        """
        return self._collection(LabelUseDoc).count_documents({"campaign": campaign})

    def uses(
        self,
        campaign: str,
        up_to: int | None = None,
        *,
        adopted: bool | None = None,
        keys: Collection[str] | None = None,
    ) -> dict[str, int]:
        """Return which labels the rounds of a campaign use.

        Parameters
        ----------
        campaign
            Its name.
        up_to
            The last round whose labels count; all rounds when None.
        adopted
            Only those that were adopted, or only those that were selected; None for both.
        keys
            Only these labels; None for all.

        Returns
        -------
        dict
            The round by the label's key.
        """
        query: Stored = {"campaign": campaign}
        if adopted is not None:
            query["adopted"] = adopted
        if up_to is not None:
            query["round"] = {"$lte": up_to}
        queries = [query]
        if keys is not None and len(keys) <= FEW_KEYS:
            queries = [query | {"key": {"$in": some}} for some in portions(list(keys))]
        uses = self._collection(LabelUseDoc)
        found = {
            use["key"]: use["round"]
            for one in queries
            for use in uses.find(one, {"_id": 0, "key": 1, "round": 1})
        }
        if keys is None or len(keys) <= FEW_KEYS:
            return found
        return {key: found[key] for key in keys if key in found}
