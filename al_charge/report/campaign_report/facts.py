"""Everything that the report of a campaign tells, gathered once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from fractions import Fraction
from importlib.metadata import version
from typing import Any

from al_charge.errors import AlChargeError
from al_charge.loop.campaign import Campaign
from al_charge.loop.energies import labelled_hull
from al_charge.loop.posterior import weighed
from al_charge.loop.predicted import compare_with_labels
from al_charge.loop.verify import verifications
from al_charge.report.campaign_report.charge_order import Order, charge_order, lowest_entries
from al_charge.report.campaign_report.methods import methods_paragraph
from al_charge.report.campaign_report.random_choice import RandomChoice, random_choice
from al_charge.report.campaign_report.structures import drawing
from al_charge.report.cost import cost_document
from al_charge.report.labels import labels_document
from al_charge.report.references import Reference, references_of
from al_charge.store.documents import LabelDoc, PredictedLabel, RoundDoc
from al_charge.store.labels import LAST_FRAME
from al_charge.thermo.hull import Hull

PACKAGES = ("al-charge", "ase", "pymatgen", "torch")
"""Packages whose versions are told."""
MOST_LABELS = 1000
"""Labels that are listed one by one; `al-charge labels` lists them all."""


@dataclass(frozen=True)
class Found:
    """What the assessed rounds of a campaign have found.

    Attributes
    ----------
    hulls
        ``al-charge hull --predicted --json`` of each assessed round, in order.
    last
        The last of these hulls.
    voltage
        ``al-charge voltage --json``; None if there is none.
    """

    hulls: Sequence[dict[str, Any]]
    last: Hull
    voltage: dict[str, Any] | None


@dataclass(frozen=True)
class Structure:
    """One of the lowest structures.

    Attributes
    ----------
    x
        Its composition.
    entry
        Its entry in the hull's document.
    vertex
        Whether it is on the hull.
    order
        Its charge order.
    as_requested, delocalised
        As in `al_charge.store.documents.LabelDoc`.
    atoms
        In its cell.
    drawing
        What is drawn of it; None where it is no vertex.
    """

    x: str
    entry: dict[str, Any]
    vertex: bool
    order: Order
    as_requested: bool
    delocalised: bool
    atoms: int
    drawing: dict[str, Any] | None


@dataclass(frozen=True)
class Facts:
    """Everything that a report tells.

    Attributes
    ----------
    status, labels, cost
        What ``al-charge campaign status``, ``labels`` and ``campaign cost`` print with ``--json``.
    failed_jobs
        Those of ``al-charge campaign jobs --failed --json``.
    found
        What the rounds have found; None before one is assessed.
    missing
        What is not there, each with its reason, in sentences.
    space
        What x means, and where it goes.
    counts
        Distinct configurations by composition.
    labelled
        Distinct configurations with a usable label by composition.
    structures
        The lowest ones of each composition.
    predictions
        Round and prediction of each label that could be compared, by committee and surrogate.
    random
        What random choice would have needed; None where it is not estimated.
    tolerance
        Of the hull, eV per formula unit.
    spec
        The campaign file with every default, without the database.
    settings, settings_hash
        What the engine's energies depend on, and its hash.
    versions
        Of packages that made the report.
    methods
        The methods paragraph.
    references
        What to cite.
    made
        When the report was made.
    """

    status: dict[str, Any]
    labels: dict[str, Any]
    cost: dict[str, Any]
    failed_jobs: list[dict[str, Any]]
    found: Found | None
    missing: list[str]
    space: str
    counts: dict[Fraction, int]
    labelled: dict[str, int]
    structures: list[Structure]
    predictions: list[tuple[int, PredictedLabel]]
    random: RandomChoice | None
    tolerance: float
    spec: dict[str, Any]
    settings: dict[str, Any]
    settings_hash: str
    versions: dict[str, str]
    methods: str
    references: list[Reference]
    made: datetime


def gather(
    campaign: Campaign,
    *,
    status: dict[str, Any],
    failed_jobs: list[dict[str, Any]],
    found: Found | None,
    missing: Sequence[str],
    space: str,
) -> Facts:
    """Gather what a report tells.

    Parameters
    ----------
    campaign
        The campaign.
    status
        ``al-charge campaign status --json``.
    failed_jobs
        Those of ``al-charge campaign jobs --failed --json``.
    found
        What the rounds have found; None before one is assessed.
    missing
        What could not be had, in sentences.
    space
        What x means, and where it goes.

    Returns
    -------
    Facts
        Read from the database now.
    """
    labels = labels_document(campaign)
    counts: Counter[Fraction] = Counter()
    for some in campaign.cells.numbers:
        counts.update(some)
    docs: dict[str, LabelDoc] = {}
    if found is not None:
        keys = [entry.key for entry in lowest_entries(found.last)]
        docs = {one.key: one for one in campaign.store.labels.read(LAST_FRAME, keys=keys)}
    rounds = campaign.store.rounds.all(campaign.name)
    assessed = [one.assessment for one in rounds if one.assessment is not None]
    settings = _settings(campaign, docs)
    versions = {name: version(name) for name in PACKAGES}
    references = references_of(campaign)
    distinct = sum(counts.values())
    return Facts(
        status=status,
        labels=labels,
        cost=cost_document(campaign),
        failed_jobs=failed_jobs,
        found=found,
        missing=[*missing],
        space=space,
        counts=dict(sorted(counts.items())),
        labelled=dict(Counter(str(entry.x) for entry in found.last.entries)) if found else {},
        structures=_structures(campaign, found, docs) if found else [],
        predictions=_predictions(campaign, rounds),
        random=random_choice(counts, found.last.compositions) if found else None,
        tolerance=float(campaign.spec.convergence.hull_tolerance),
        spec=campaign.spec.model_dump(mode="json", exclude={"database"}),
        settings=settings,
        settings_hash=campaign.stored_hash or campaign.settings_hash,
        versions=versions,
        methods=methods_paragraph(
            campaign,
            version=versions["al-charge"],
            formula=labels["formula"],
            space=space,
            distinct=distinct,
            labels=labels,
            settings=settings,
            last=assessed[-1] if assessed else None,
            references=references,
        ),
        references=references,
        made=datetime.now(UTC),
    )


def _settings(campaign: Campaign, docs: Mapping[str, LabelDoc]) -> dict[str, Any]:
    """Return the engine's settings: those that a label has, else those of this machine's engine."""
    for label in docs.values():
        return dict(label.settings)
    try:
        return campaign.physical_settings
    except AlChargeError:  # the engine is not installed here
        return {}


def _predictions(
    campaign: Campaign, rounds: Sequence[RoundDoc]
) -> list[tuple[int, PredictedLabel]]:
    """Return every label of which an energy had been predicted, with its round."""
    verifying = verifications(rounds)  # what these have for predictions are energies of labels
    assessed = [one for one in rounds if one.assessment and one.number not in verifying]
    if not assessed:
        return []
    labelled = labelled_hull(campaign)
    return [
        (one.number, predicted)
        for one in assessed
        for predicted in compare_with_labels(campaign, one.number, labelled, weighed(campaign, one))
    ]


def _structures(campaign: Campaign, found: Found, docs: Mapping[str, LabelDoc]) -> list[Structure]:
    """Return the lowest structures of each composition."""
    redox, ion = frozenset(campaign.host.redox_elements), campaign.spec.host.working_ion
    entries = {one["label"]: one for one in found.hulls[-1]["entries"]}
    vertices = {one.key for one in found.last.vertices}
    return [
        Structure(
            x=str(entry.x),
            entry=entries[entry.key],
            vertex=entry.key in vertices,
            order=charge_order(docs[entry.key], redox, ion),
            as_requested=docs[entry.key].as_requested,
            delocalised=docs[entry.key].delocalised,
            atoms=len(docs[entry.key].numbers),
            drawing=drawing(docs[entry.key], redox, ion) if entry.key in vertices else None,
        )
        for entry in lowest_entries(found.last)
    ]
