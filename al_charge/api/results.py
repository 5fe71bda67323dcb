"""What a campaign has found, as objects that print as tables, plot, and become JSON."""

from __future__ import annotations

import io
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from al_charge.loop import campaign as loop
from al_charge.loop.energies import assessed_hull, calibration_of, candidate_entry
from al_charge.loop.ground_state import magnetic_corrections
from al_charge.loop.request_ledger import request_ledger
from al_charge.loop.verify import is_verified
from al_charge.report import documents, style
from al_charge.report.names import labeler_remark
from al_charge.thermo.hull import Entry, Hull
from al_charge.thermo.voltage import VoltageProfile, VoltageStep, voltage_profile

if TYPE_CHECKING:
    from rich.console import RenderableType

WIDTH = 100
"""Columns of a table that is printed as text."""


class Result(ABC):
    """Something that prints as a table; ``document`` is what ``--json`` prints."""

    document: dict[str, Any]

    @abstractmethod
    def table(self) -> RenderableType:
        """Return the table for a terminal.

        Returns
        -------
        rich renderable
            To print with a `rich.console.Console`.
        """

    def __str__(self) -> str:
        """Return the table as plain text."""
        from rich.console import Console

        console = Console(file=io.StringIO(), width=WIDTH, markup=False, color_system=None)
        with console.capture() as captured:
            console.print(self.table())
        return "\n".join(line.rstrip() for line in captured.get().splitlines())


@dataclass(frozen=True)
class HullResult(Result):
    """The hull after a campaign's last assessed round.

    Attributes
    ----------
    campaign
        The campaign's name.
    hull
        The hull itself: energies in eV per formula unit.
    verified
        Whether the labeler has relaxed the vertices and they stayed the same.
    document
        What ``al-charge hull --json`` prints.
    """

    campaign: str
    hull: Hull
    verified: bool
    document: dict[str, Any] = field(repr=False)
    _source: loop.Campaign = field(repr=False)

    @property
    def vertices(self) -> tuple[Entry, ...]:
        """The stable configurations, ordered by x; the first and the last are the end members."""
        return self.hull.vertices

    @property
    def entries(self) -> tuple[Entry, ...]:
        """The lowest label of every configuration, ordered by x and energy."""
        return self.hull.entries

    def table(self) -> RenderableType:
        """Return the table of `al-charge hull`.

        Returns
        -------
        rich renderable
            One line for each composition.
        """
        from al_charge.report.tables import hull_table

        return hull_table(self.document)

    def plot(self, path: Path | str) -> None:
        """Write the hull with labels and candidates.

        Parameters
        ----------
        path
            A file that ends in ``.png``, or in ``.html`` for an interactive plot.

        Raises
        ------
        InputError
            If it ends in anything else.
        """
        path = Path(path)
        from al_charge.report import interactive, static

        style.by_ending(path, static.hull_png, interactive.hull_html)(
            path,
            self.hull,
            labeler=self._source.spec.labeler.kind,
            campaign=_title(self.campaign, self.verified),
            candidates=_candidates(self._source),
            corrected={
                Fraction(vertex["x"]): vertex["corrected_formation_energy"]
                for vertex in self.document["vertices"]
                if vertex["corrected_formation_energy"] is not None
            },
            band=self.document["band"],
        )


@dataclass(frozen=True)
class VoltageResult(Result):
    """The voltage profile that follows from the hull.

    Attributes
    ----------
    campaign
        The campaign's name.
    profile
        The profile itself, V against the working-ion metal.
    verified
        See `HullResult`.
    document
        What ``al-charge voltage --json`` prints.
    """

    campaign: str
    profile: VoltageProfile
    verified: bool
    document: dict[str, Any] = field(repr=False)
    _source: loop.Campaign = field(repr=False)

    @property
    def steps(self) -> tuple[VoltageStep, ...]:
        """The plateaus, ordered by x; the voltage falls from each to the next."""
        return self.profile.steps

    @property
    def mean(self) -> float:
        """Mean voltage over the whole range of x, V."""
        return self.profile.mean

    def table(self) -> RenderableType:
        """Return the table of `al-charge voltage`.

        Returns
        -------
        rich renderable
            One line for each plateau.
        """
        from al_charge.report.tables import voltage_table

        return voltage_table(self.document)

    def plot(self, path: Path | str) -> None:
        """Write the voltage profile.

        Parameters
        ----------
        path
            A file that ends in ``.png``, or in ``.html`` for an interactive plot.

        Raises
        ------
        InputError
            If it ends in anything else.
        """
        path = Path(path)
        from al_charge.report import interactive, static

        style.by_ending(path, static.voltage_png, interactive.voltage_html)(
            path,
            self.profile,
            labeler=self._source.spec.labeler.kind,
            campaign=_title(self.campaign, self.verified),
            band=self.document["band"],
        )


@dataclass(frozen=True)
class LabelsResult(Result):
    """The labels of a campaign, one by one.

    Attributes
    ----------
    campaign
        The campaign's name.
    document
        What ``al-charge labels --json`` prints.
    """

    campaign: str
    document: dict[str, Any] = field(repr=False)

    def __len__(self) -> int:
        """Return how many labels there are."""
        return len(self.document["labels"])

    def table(self) -> RenderableType:
        """Return the tables of `al-charge labels`.

        Returns
        -------
        rich renderable
            One line for each label, then one for each composition.
        """
        from al_charge.report.labels import labels_table

        return labels_table(self.document)


@dataclass(frozen=True)
class StatusResult(Result):
    """How a campaign stands.

    Attributes
    ----------
    campaign
        The campaign's name.
    document
        What ``al-charge campaign status --json`` prints.
    """

    campaign: str
    document: dict[str, Any] = field(repr=False)

    @property
    def state(self) -> str:
        """State of the campaign, such as ``running`` or ``converged``."""
        return str(self.document["state"])

    def table(self) -> RenderableType:
        """Return the panel of `al-charge campaign status`.

        Returns
        -------
        rich renderable
            Rounds, tasks and criteria.
        """
        from al_charge.report.progress import status_panel

        return status_panel(self.document)


def hull_result(campaign: loop.Campaign) -> HullResult:
    """Return the hull after a campaign's last assessed round.

    Parameters
    ----------
    campaign
        An open campaign.

    Returns
    -------
    HullResult
        With what may lie below it.

    Raises
    ------
    AlChargeError
        If no round has been assessed yet.
    """
    found, assessment = assessed_hull(campaign)
    verified = is_verified(campaign)
    document = documents.hull_document(
        found.hull,
        campaign=campaign.name,
        labeler=campaign.spec.labeler.kind,
        verified=verified,
        corrections=magnetic_corrections(campaign),
        remark=labeler_remark(campaign.spec.labeler),
        state=campaign.store.campaigns.get(campaign.name).state.value,
        found=assessment,
    )
    return HullResult(campaign.name, found.hull, verified, document, campaign)


def voltage_result(campaign: loop.Campaign) -> VoltageResult:
    """Return the voltage profile after a campaign's last assessed round.

    Parameters
    ----------
    campaign
        An open campaign.

    Returns
    -------
    VoltageResult
        With error bars and bands from sampled hulls.

    Raises
    ------
    AlChargeError
        If no round has been assessed yet.
    """
    found, assessment = assessed_hull(campaign)
    verified, known = is_verified(campaign), assessment.voltages
    profile = voltage_profile(
        found.hull,
        error_bars=known.errors if known else None,
        mean_error_bar=known.mean_error if known else None,
    )
    document = documents.voltage_document(
        profile,
        campaign=campaign.name,
        labeler=campaign.spec.labeler.kind,
        verified=verified,
        remark=labeler_remark(campaign.spec.labeler),
        found=assessment,
    )
    return VoltageResult(campaign.name, profile, verified, document, campaign)


def _title(name: str, verified: bool) -> str:
    """Return the campaign's name, and whether its hull is verified."""
    return f"{name} (hull verified)" if verified else name


def _candidates(campaign: loop.Campaign) -> list[Entry]:
    """Return the predictions for the last round's candidates that still need a label."""
    last = campaign.store.rounds.last(campaign.name)
    number = last.number if last else 0
    found = campaign.store.candidates.all(campaign.name, number)
    calibration = calibration_of(campaign, number - 1)
    return [
        candidate_entry(campaign, candidate, calibration)
        for candidate in request_ledger(campaign).needing_label(found)
        if candidate.energy is not None
    ]
