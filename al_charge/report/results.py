"""A campaign's results as documents and plots: from the store to what a person or script reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from al_charge.loop.answers import answers_of
from al_charge.loop.campaign import Campaign
from al_charge.loop.energies import assessed_hull, candidate_entry
from al_charge.loop.verify import is_verified
from al_charge.report import documents, interactive, plots
from al_charge.thermo.hull import Entry
from al_charge.thermo.uncertainty import profile_with_error_bars
from al_charge.thermo.voltage import VoltageProfile


def hull_result(campaign: Campaign) -> dict[str, Any]:
    """Return the document of a campaign's hull after its last assessed round."""
    found, _ = assessed_hull(campaign)
    return documents.hull_document(
        found.hull,
        campaign=campaign.name,
        labeler=campaign.spec.labeler.kind,
        verified=is_verified(campaign),
    )


def voltage_result(campaign: Campaign) -> dict[str, Any]:
    """Return the document of a campaign's voltage profile."""
    return documents.voltage_document(
        _profile(campaign),
        campaign=campaign.name,
        labeler=campaign.spec.labeler.kind,
        verified=is_verified(campaign),
    )


def plot_hull(campaign: Campaign, path: Path) -> None:
    """Write the hull with labels and candidates as PNG or HTML, by the ending of ``path``."""
    found, _ = assessed_hull(campaign)
    plot = plots.by_ending(path, plots.hull_png, interactive.hull_html)
    plot(
        path,
        found.hull,
        labeler=campaign.spec.labeler.kind,
        campaign=_title(campaign),
        candidates=_candidates(campaign),
    )


def plot_voltage(campaign: Campaign, path: Path) -> None:
    """Write the voltage profile as PNG or HTML, by the ending of ``path``."""
    plot = plots.by_ending(path, plots.voltage_png, interactive.voltage_html)
    plot(path, _profile(campaign), labeler=campaign.spec.labeler.kind, campaign=_title(campaign))


def _title(campaign: Campaign) -> str:
    """Return the campaign's name, with a word on its hull if that is verified."""
    return f"{campaign.name} (hull verified)" if is_verified(campaign) else campaign.name


def _profile(campaign: Campaign) -> VoltageProfile:
    found, bars = assessed_hull(campaign)
    return profile_with_error_bars(found.hull, bars)


def _candidates(campaign: Campaign) -> list[Entry]:
    """Return the predictions for the last round's candidates that no label answers."""
    last = campaign.store.rounds.last(campaign.name)
    found = campaign.store.candidates.all(campaign.name, last.number if last else 0)
    return [
        candidate_entry(campaign, candidate)
        for candidate in answers_of(campaign).unanswered(found)
        if candidate.energy is not None
    ]
