"""What a campaign is going to take: labels as in the benchmarks, core-hours as labels have cost."""

from __future__ import annotations

from math import ceil
from typing import Any

from al_charge.acquisition.plugin import ACQUISITIONS
from al_charge.crystal.host import Host
from al_charge.crystal.supercells import Supercells
from al_charge.errors import AlChargeError
from al_charge.labelers.protocol import Relax, settings_hash
from al_charge.loop.spec import CampaignSpec
from al_charge.loop.submit import labeler_of
from al_charge.store.connection import connect
from al_charge.store.embedded import EmbeddedServer
from al_charge.store.ledger import Ledger
from al_charge.store.settings import settings_from_environment

MOST_STATIC = 10.0
"""Labels for each composition of the one campaign of static labels that was run to its end
(docs/results.md, olivine by GPAW): a geometry that is predicted lower is labelled again."""


def atoms_of_labels(host: Host) -> tuple[int, int]:
    """Return how many atoms the labels of a host have.

    Parameters
    ----------
    host
        The host.

    Returns
    -------
    int
        At the lowest composition.
    int
        At the highest.
    """
    others = len(host.elements) - len(host.ion_sites) - host.inert_ions
    return others + host.ion_counts[0], others + host.ion_counts[-1]


def expected(
    spec: CampaignSpec, supercells: Supercells, distinct: dict[str, int]
) -> dict[str, Any]:
    """Return what a campaign is going to take.

    Parameters
    ----------
    spec
        The campaign.
    supercells
        Its hosts.
    distinct
        Number of distinct configurations by composition.

    Returns
    -------
    dict
        ``labels``: ``from`` and ``to``, and of which composition (``per_composition``) these were
        measured; None for a rule that was not. ``max_labels``. ``core_hours_per_label`` and
        ``core_hours``, also ``from`` and ``to``, and of how many labels (``priced``) they are the
        mean; None where nothing is known. ``unknown``: why not, if there is more to say than that.
    """
    labels = _labels(spec, distinct)
    unknown, prices = "", []
    try:
        prices = _prices(spec, supercells)
    except AlChargeError as error:  # not installed here, or no answer from the database
        unknown = str(error)
    means = [mean / 3600 for _, mean in prices]
    return {
        "labels": labels,
        "max_labels": spec.convergence.max_labels,
        "core_hours_per_label": {"from": min(means), "to": max(means)} if means else None,
        "core_hours": {"from": labels["from"] * min(means), "to": labels["to"] * max(means)}
        if means and labels
        else None,
        "priced": sum(number for number, _ in prices),
        "unknown": unknown,
    }


def _labels(spec: CampaignSpec, distinct: dict[str, int]) -> dict[str, Any] | None:
    """Return how many labels a campaign is going to take."""
    measured = ACQUISITIONS.of(spec.acquisition).labels_per_composition
    if measured is None:
        return None
    least, most = measured
    bounds = [spec.convergence.max_labels]
    if spec.labeler.relax is Relax.NONE:
        most = max(most, MOST_STATIC)
    else:  # each configuration is labelled once
        bounds.append(sum(distinct.values()))
    first = spec.acquisition.first_round
    low, high = (max(first, ceil(each * len(distinct))) for each in (least, most))
    return {
        "from": min(low, *bounds),
        "to": min(high, *bounds),
        "per_composition": [least, most],
    }


def _prices(spec: CampaignSpec, supercells: Supercells) -> list[tuple[int, float]]:
    """Return what labels of each supercell have cost: their number, and mean core-seconds.

    Nothing if that is not known of every supercell.
    """
    where = spec.database or settings_from_environment()
    if where is None and not EmbeddedServer().status()["running"]:
        return []
    settings = settings_hash(labeler_of(spec))
    database = connect(where)
    try:
        ledger = Ledger(database)
        found = [
            ledger.price(settings, spec.labeler.relax, atoms_of_labels(host))
            for host in supercells.hosts
        ]
    finally:
        database.client.close()
    return found if all(number for number, _ in found) else []
