"""The report of a campaign, gathered from what the Python face answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from al_charge.api.check import meaning_of_x
from al_charge.api.hull import hull_result
from al_charge.api.voltage import voltage_result
from al_charge.errors import AlChargeError
from al_charge.loop.campaign import Campaign
from al_charge.report.campaign_report.facts import Facts, Found, gather
from al_charge.report.campaign_report.page import page


def write_report(
    path: Path, campaign: Campaign, status: dict[str, Any], failed_jobs: list[dict[str, Any]]
) -> None:
    """Write the report of a campaign.

    Parameters
    ----------
    path
        File to write; its folder is created.
    campaign
        An open campaign.
    status
        ``al-charge campaign status --json``.
    failed_jobs
        Those of ``al-charge campaign jobs --failed --json``.
    """
    text = page(report_facts(campaign, status, failed_jobs))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def report_facts(
    campaign: Campaign, status: dict[str, Any], failed_jobs: list[dict[str, Any]]
) -> Facts:
    """Gather what a report tells, as far as it is there.

    Parameters
    ----------
    campaign
        An open campaign.
    status
        ``al-charge campaign status --json``.
    failed_jobs
        Those of ``al-charge campaign jobs --failed --json``.

    Returns
    -------
    Facts
        With what is missing, and why.
    """
    missing: list[str] = []
    found: Found | None = None
    numbers = [one["round"] for one in status["rounds"] if one["labels"] is not None]
    try:
        results = [hull_result(campaign, number).with_predicted() for number in numbers]
        if results:
            found = Found([one.document for one in results], results[-1].hull, None)
    except AlChargeError as error:
        missing.append(f"There is no hull: {error}.")
    if found is None and not missing:
        missing.append(
            "There is no hull and no voltage yet: no round has been assessed, which takes labels "
            "of both end members."
        )
    if found is not None:
        try:
            found = Found(found.hulls, found.last, voltage_result(campaign).document)
        except AlChargeError as error:
            missing.append(f"There is no voltage: {error}.")
    return gather(
        campaign,
        status=status,
        failed_jobs=failed_jobs,
        found=found,
        missing=missing,
        space=meaning_of_x(campaign.host, *campaign.cells.hosts),
    )
