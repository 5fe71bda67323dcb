"""The hull that a campaign has found, as an object that prints, plots, and becomes JSON."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from al_charge.api.results import Listing, title
from al_charge.loop import campaign as loop
from al_charge.loop.energies import assessed_hull, calibration_of, candidate_entry
from al_charge.loop.ground_state import magnetic_corrections
from al_charge.loop.request_ledger import request_ledger
from al_charge.report import documents, style
from al_charge.report.names import labeler_remark
from al_charge.thermo.hull import Entry, Hull

if TYPE_CHECKING:
    from rich.console import RenderableType


@dataclass(frozen=True)
class HullResult(Listing):
    """The hull after an assessed round of a campaign.

    Attributes
    ----------
    campaign
        The campaign's name.
    round
        Number of the round.
    hull
        The hull itself: energies in eV per formula unit.
    verified
        Whether the labeler has relaxed the vertices and they stayed the same.
    """

    campaign: str
    round: int
    hull: Hull
    verified: bool
    _head: dict[str, Any] = field(repr=False)
    _source: loop.Campaign = field(repr=False)

    @cached_property
    def document(self) -> dict[str, Any]:  # type: ignore[override]
        """What ``al-charge hull --json`` prints."""
        entries = [documents.entry_document(self.hull, entry) for entry in self.entries]
        return self._head | {"entries": entries}

    @property
    def vertices(self) -> tuple[Entry, ...]:
        """The stable configurations, ordered by x; the first and the last are the end members."""
        return self.hull.vertices

    @property
    def entries(self) -> tuple[Entry, ...]:
        """The lowest label of every configuration, ordered by x and energy."""
        return self.hull.entries

    @cached_property
    def predicted(self) -> tuple[Entry, ...]:
        """What is predicted, by committee and surrogate, of configurations without a label then.

        Ordered by x and energy; empty if no round came after, or it proposed nothing.
        """
        found = _candidates(self._source, self.round, self.hull)
        return tuple(sorted(found, key=lambda one: (one.x, one.energy, one.key)))

    def rows(self) -> list[dict[str, Any]]:
        """Return one row for each labelled configuration, then those that were predicted.

        Returns
        -------
        list of dict
            Ordered by x and energy; ``x`` is an exact fraction, such as ``1/2``. A prediction has
            no ``label``, and an ``error_bar``.
        """
        vertices = {vertex.key for vertex in self.vertices}
        shown = ("x", "formula", "energy_per_formula", "formation_energy", "distance_to_hull")
        return [
            {name: one[name] for name in shown}
            | {
                "error_bar": one.get("error_bar"),
                "vertex": one.get("label") in vertices,
                "label": one.get("label"),
                "hash": one["hash"],
                "remark": one.get("remark", ""),
            }
            for one in [*self.document["entries"], *self.document.get("predicted", [])]
        ]

    def with_predicted(self) -> HullResult:
        """Return the same hull with `predicted` in its document.

        Returns
        -------
        HullResult
            Its ``document["predicted"]`` lists them as entries with an ``error_bar``.
        """
        told = documents.predicted_entries(self.hull, self.predicted)
        units = self._head["units"] | documents.PREDICTED_UNITS
        return replace(self, _head=self._head | {"predicted": told, "units": units})

    def table(self) -> RenderableType:
        """Return the table of `al-charge hull`.

        Returns
        -------
        rich renderable
            One line for each composition.
        """
        from rich.console import Group

        from al_charge.report.tables import hull_table, predicted_table

        groups = groupby(self.entries, key=lambda entry: entry.x)
        drawn = hull_table(self._head, {str(x): len([*of_x]) for x, of_x in groups})
        if "predicted" not in self._head:
            return drawn
        return Group(drawn, predicted_table(self._head))

    def plot(self, path: Path | str, width: style.Width = "single") -> None:
        """Write the hull with labels and predictions.

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
            candidates=list(self.predicted),
            corrected={
                Fraction(vertex["x"]): vertex["corrected_formation_energy"]
                for vertex in self._head["vertices"]
                if vertex["corrected_formation_energy"] is not None
            },
            band=self._head["band"],
        )
        if path.suffix == style.PAGE:
            interactive.hull_html(path, self.hull, **shown)
        else:
            canvas.write_figure(static.hull_figure(self.hull, width=width, **shown), path)


def hull_result(campaign: loop.Campaign, round: int | None = None) -> HullResult:
    """Return the hull after an assessed round of a campaign.

    Parameters
    ----------
    campaign
        An open campaign.
    round
        Number of the round; the last that was assessed when None.

    Returns
    -------
    HullResult
        With what may lie below it.

    Raises
    ------
    AlChargeError
        If no round has been assessed yet.
    """
    found, assessment = assessed_hull(campaign, round)
    assert found.round is not None
    verified = assessment.verification is not None and assessment.verification.verified
    # There may be many entries: all of them are listed when somebody asks for them.
    lowest = [next(of_x) for _, of_x in groupby(found.hull.entries, key=lambda one: one.x)]
    head = documents.hull_document(
        found.hull,
        campaign=campaign.name,
        labeler=campaign.spec.labeler.kind,
        verified=verified,
        corrections=magnetic_corrections(campaign),
        remark=labeler_remark(campaign.spec.labeler),
        state=campaign.store.campaigns.get(campaign.name).state.value,
        round=found.round,
        found=assessment,
        listed=lowest,
    )
    return HullResult(campaign.name, found.round, found.hull, verified, head, campaign)


def _candidates(campaign: loop.Campaign, number: int, hull: Hull) -> list[Entry]:
    """Return what is predicted for configurations without a label, by committee and surrogate.

    They are the candidates of the next round, which a round's committee has relaxed. Those of the
    last round are left out that would not be labelled again.
    """
    from al_charge.loop.posterior import weigh, weighed  # slow to import

    last = campaign.store.rounds.last(campaign.name)
    # Where no round came after, what the committee before has said of this one's.
    is_last = last is None or last.number <= number + 1
    following = min(number + 1, last.number) if last is not None else number
    found = [
        one
        for one in campaign.store.candidates.all(campaign.name, following)
        if one.energy is not None
    ]
    if is_last:
        found = request_ledger(campaign).needing_label(found)
    else:
        labelled = {entry.config_hash for entry in hull.entries}
        found = [one for one in found if one.config_hash not in labelled]
    record = campaign.store.rounds.get(campaign.name, following)
    if not found or record is None:
        return []
    known = weighed(campaign, record)
    if not known.told and record.assessment is not None:
        known = weigh(campaign, following)
    calibration = calibration_of(campaign, following - 1)
    return [candidate_entry(campaign, one, calibration, known) for one in found]
