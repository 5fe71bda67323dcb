"""The voltage profile of a campaign, as an object that prints, plots, and becomes JSON."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from al_charge.api.results import Listing, title
from al_charge.loop import campaign as loop
from al_charge.loop.energies import assessed_hull
from al_charge.report import documents, style
from al_charge.report.names import labeler_remark
from al_charge.store.labels import LAST_CELL
from al_charge.thermo.electrode import Electrode, electrode
from al_charge.thermo.voltage import VoltageProfile, VoltageStep, voltage_profile

if TYPE_CHECKING:
    from rich.console import RenderableType

    from al_charge.report.experiment import Measured


@dataclass(frozen=True)
class VoltageResult(Listing):
    """The voltage profile that follows from the hull.

    Attributes
    ----------
    campaign
        The campaign's name.
    round
        Number of the round whose hull it is.
    profile
        The profile itself, V against the working-ion metal.
    verified
        See `HullResult`.
    electrode
        What the electrode stores: voltage, capacities, energies and volume change.
    document
        What ``al-charge voltage --json`` prints.
    """

    campaign: str
    round: int
    profile: VoltageProfile
    verified: bool
    electrode: Electrode
    document: dict[str, Any] = field(repr=False)
    _source: loop.Campaign = field(repr=False)
    _measured: Measured | None = field(default=None, repr=False)

    @property
    def steps(self) -> tuple[VoltageStep, ...]:
        """The plateaus, ordered by x; the voltage falls from each to the next."""
        return self.profile.steps

    @property
    def mean(self) -> float:
        """Mean voltage over the whole range of x, V."""
        return self.profile.mean

    @property
    def capacity(self) -> float:
        """Capacity between the ends of x, mAh per gram of the discharged electrode."""
        return self.electrode.capacity

    def with_measured(self, path: Path | str) -> VoltageResult:
        """Return the same profile with a measured curve beside it.

        Parameters
        ----------
        path
            Comma-separated values with the columns ``voltage`` (V), and ``x`` or ``capacity``
            (mAh/g, from the charged end on).

        Returns
        -------
        VoltageResult
            Its plot and its document have the curve.

        Raises
        ------
        InputError
            If the file cannot be read.
        """
        from al_charge.report.experiment import read_measured

        measured = read_measured(Path(path), self.profile, self.capacity)
        told = documents.measured_document(measured, self.profile)
        document = self.document | {"experiment": told}
        return replace(self, document=document, _measured=measured)

    def summary(self) -> RenderableType:
        """Return the table of `al-charge voltage --summary`.

        Returns
        -------
        rich renderable
            One line for each quantity.
        """
        from al_charge.report.tables import summary_table

        return summary_table(self.document)

    def rows(self) -> list[dict[str, Any]]:
        """Return one row for each plateau.

        Returns
        -------
        list of dict
            Ordered by x.
        """
        return [dict(step) for step in self.document["steps"]]

    def table(self) -> RenderableType:
        """Return the table of `al-charge voltage`.

        Returns
        -------
        rich renderable
            One line for each plateau.
        """
        from al_charge.report.tables import voltage_table

        return voltage_table(self.document)

    def plot(self, path: Path | str, width: style.Width = "single") -> None:
        """Write the voltage profile.

        Parameters
        ----------
        path
            A file that ends in ``.png``, ``.svg`` or ``.pdf``, or in ``.html`` for an interactive
            plot.
        width
            Of a column of a journal (``single``, 86 mm) or of its page (``double``, 178 mm); an
            interactive plot is as wide as its window.

        Raises
        ------
        InputError
            If it ends in anything else.
        """
        from al_charge.report import canvas, interactive, static

        path = Path(path)
        style.check_ending(path)
        shown: dict[str, Any] = dict(
            labeler=self._source.spec.labeler.kind,
            campaign=title(self.campaign, self.verified),
            band=self.document["band"],
            measured=self._measured,
            capacity=self.capacity,
        )
        if path.suffix == style.PAGE:
            interactive.voltage_html(path, self.profile, **shown)
        else:
            canvas.write_figure(static.voltage_figure(self.profile, width=width, **shown), path)


def voltage_result(campaign: loop.Campaign, round: int | None = None) -> VoltageResult:
    """Return the voltage profile after an assessed round of a campaign.

    Parameters
    ----------
    campaign
        An open campaign.
    round
        Number of the round; the last that was assessed when None.

    Returns
    -------
    VoltageResult
        With error bars and bands from sampled hulls.

    Raises
    ------
    AlChargeError
        If no round has been assessed yet.
    """
    found, assessment = assessed_hull(campaign, round)
    assert found.round is not None
    verified = assessment.verification is not None and assessment.verification.verified
    known = assessment.voltages
    profile = voltage_profile(
        found.hull,
        error_bars=known.errors if known else None,
        mean_error_bar=known.mean_error if known else None,
    )
    some = [found.lowest[vertex.key] for vertex in found.hull.vertices]
    cells = campaign.store.labels.read(LAST_CELL, keys=[one.key for one in some])
    units = {one.key: campaign.cells.of(one).formula_units for one in some}
    stored = electrode(
        found.hull, {key: abs(float(np.linalg.det(cell))) / units[key] for key, cell in cells}
    )
    document = documents.voltage_document(
        profile,
        campaign=campaign.name,
        labeler=campaign.spec.labeler.kind,
        verified=verified,
        remark=labeler_remark(campaign.spec.labeler),
        state=campaign.store.campaigns.state(campaign.name).value,
        round=found.round,
        found=assessment,
        stored=stored,
    )
    return VoltageResult(campaign.name, found.round, profile, verified, stored, document, campaign)
