"""What the settings of every labeler must do."""

from __future__ import annotations

import json
from typing import Any, ClassVar

import pytest

from al_charge.labelers import make_labeler
from al_charge.labelers.protocol import Labeler, settings_hash
from al_charge.labelers.settings import LabelerSettings


def changed(settings: LabelerSettings, change: dict[str, Any]) -> LabelerSettings:
    """Return settings, written to a document and read again, with some other values."""
    document = settings.model_dump(mode="json", round_trip=True)
    return type(settings).model_validate(document | change)


class SettingsContract:
    """Tests that the settings of every labeler must pass.

    Attributes
    ----------
    physical, other
        Changes, as a campaign file would make them: every one of the first gives the labeler
        another identity, none of the second does. Each setting is in one of the two.
    """

    physical: ClassVar[tuple[dict[str, Any], ...]]
    other: ClassVar[tuple[dict[str, Any], ...]]

    @classmethod
    def settings(cls) -> LabelerSettings:
        """Return settings with which a label is quick."""
        raise NotImplementedError

    @pytest.fixture
    def labeler(self) -> Labeler:
        """Return a labeler that has run nothing yet."""
        return make_labeler(self.settings())

    def test_settings_are_json_and_the_same_every_time(self, labeler: Labeler) -> None:
        """Through the text of a campaign file and through JSON."""
        settings = labeler.settings()
        assert json.loads(json.dumps(settings)) == settings
        again = make_labeler(changed(self.settings(), {}))
        assert again.settings() == settings
        assert settings_hash(again) == settings_hash(labeler)

    def test_every_physical_setting_changes_the_identity(self, labeler: Labeler) -> None:
        """No two of these changes share a hull."""
        hashes = [
            settings_hash(make_labeler(changed(self.settings(), change)))
            for change in ({}, *self.physical)
        ]
        assert len(set(hashes)) == 1 + len(self.physical)
        assert hashes[0] == settings_hash(labeler)

    def test_no_other_setting_changes_the_identity(self, labeler: Labeler) -> None:
        """How a minimum or the charge order is found, by how many processes, in what time."""
        for change in self.other:
            settings = changed(self.settings(), change)
            assert settings != self.settings(), change
            assert settings_hash(make_labeler(settings)) == settings_hash(labeler), change

    def test_every_setting_is_one_or_the_other(self) -> None:
        """So that a new setting is not forgotten here."""
        listed = [name for change in self.physical + self.other for name in change]
        assert set(listed) | {"kind"} == set(type(self.settings()).model_fields)
