"""The contract of labelers' settings: which of them change what an energy means."""

from __future__ import annotations

import contextlib
import json
from typing import Any, ClassVar

import pytest
from pydantic import ValidationError

from al_charge.labelers import make_labeler
from al_charge.labelers.plugin import LABELERS, LabelerSettings
from al_charge.labelers.protocol import Labeler, settings_hash


def changed(settings: LabelerSettings, change: dict[str, Any]) -> LabelerSettings:
    """Return settings with some values changed, written to a document and read again.

    Parameters
    ----------
    settings
        The settings to start from; they are left as they are.
    change
        New values as a campaign file gives them, by field.

    Returns
    -------
    LabelerSettings
        The changed settings.
    """
    document = settings.model_dump(mode="json", round_trip=True)
    return type(settings).model_validate(document | change)


class SettingsContract:
    """Tests that the settings of every labeler must pass.

    A labeler's identity is its `settings_hash`: labels share a hull only if their hashes agree.

    Attributes
    ----------
    physical, other
        Changes as a campaign file would make them. Each change in ``physical`` must give the
        labeler another identity, and no change in ``other`` may. Every field except ``kind`` is in
        one of the two.
    """

    physical: ClassVar[tuple[dict[str, Any], ...]]
    other: ClassVar[tuple[dict[str, Any], ...]]

    @classmethod
    def settings(cls) -> LabelerSettings:
        """Return settings with which a label is quick; to be overridden.

        Returns
        -------
        LabelerSettings
            Settings of the labeler under test.

        Raises
        ------
        NotImplementedError
            If a subclass does not override it.
        """
        raise NotImplementedError

    @pytest.fixture
    def labeler(self) -> Labeler:
        """Return a labeler that has run nothing yet.

        Returns
        -------
        Labeler
            Made from `settings`.
        """
        return make_labeler(self.settings())

    def test_settings_are_json_and_the_same_every_time(self, labeler: Labeler) -> None:
        """Settings and their hash survive a campaign file and JSON unchanged."""
        settings = labeler.settings()
        assert json.loads(json.dumps(settings)) == settings
        again = make_labeler(changed(self.settings(), {}))
        assert again.settings() == settings
        assert settings_hash(again) == settings_hash(labeler)

    def test_every_physical_setting_changes_the_identity(self, labeler: Labeler) -> None:
        """No two of the changes in `physical` may share a hull."""
        hashes = [
            settings_hash(make_labeler(changed(self.settings(), change)))
            for change in ({}, *self.physical)
        ]
        assert len(set(hashes)) == 1 + len(self.physical)
        assert hashes[0] == settings_hash(labeler)

    def test_no_other_setting_changes_the_identity(self, labeler: Labeler) -> None:
        """How a minimum is found, with how many processes, does not change what energies mean."""
        for change in self.other:
            settings = changed(self.settings(), change)
            assert settings != self.settings(), change
            assert settings_hash(make_labeler(settings)) == settings_hash(labeler), change

    def test_settings_that_converge_are_tried_around_their_values(self, labeler: Labeler) -> None:
        """Every step changes the identity, but the one that has the settings' own values."""
        for parameter in LABELERS.of(self.settings()).convergence_parameters(self.settings()):
            hashes = []
            for step in parameter.steps:
                with contextlib.suppress(ValidationError):  # such steps are left out
                    tried = changed(self.settings(), dict(step.fields))
                    hashes.append(settings_hash(make_labeler(tried)))
            assert len(set(hashes)) == len(hashes) > 1, parameter.name
            assert settings_hash(labeler) in hashes[:-1], parameter.name

    def test_every_setting_is_one_or_the_other(self) -> None:
        """Each field is listed in `physical` or `other`, so that no new setting is forgotten."""
        listed = [name for change in self.physical + self.other for name in change]
        assert set(listed) | {"kind"} == set(type(self.settings()).model_fields)
