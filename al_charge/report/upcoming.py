"""What a campaign labels next, with the reasons."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from al_charge.loop.campaign import Campaign, label_key
from al_charge.loop.energies import calibration_of, candidate_entry
from al_charge.loop.posterior import weighed
from al_charge.loop.verify import is_verification, relax_in
from al_charge.store.documents import CampaignState, RoundDoc

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

UNITS = {
    "predicted": "eV per formula unit, by committee and surrogate",
    "error_bar": "eV per formula unit, half width of the band that should hold 68 % of errors",
}


def next_document(campaign: Campaign) -> dict[str, Any]:
    """Return what the last round of a campaign labels.

    Parameters
    ----------
    campaign
        The campaign.

    Returns
    -------
    dict
        ``what`` says it in a sentence; ``labels`` are those of the last round in the order of their
        selection, each ``made``, ``running``, ``given up`` or ``waiting``; empty before it has
        selected any, and after the campaign has ended.
    """
    last = campaign.store.rounds.last(campaign.name)
    state = campaign.store.campaigns.state(campaign.name)
    going = state in (CampaignState.RUNNING, CampaignState.PAUSED)
    labels: list[dict[str, Any]] = []
    if not going:
        what = f"the campaign is {state.value}: it will label nothing more"
    elif last is None:
        what = "no round has started"
    elif last.selected is None:
        what = f"round {last.number} has not selected its labels yet"
    else:
        labels = _labels(campaign, last)
        waiting = sum(one["state"] in ("waiting", "running") for one in labels)
        kind = "verifies the hull and" if is_verification(campaign, last.number) else ""
        what = f"round {last.number} {kind} has {waiting} of {len(labels)} labels to make"
    return {
        "campaign": campaign.name,
        "state": state.value,
        "round": None if last is None else last.number,
        "what": " ".join(what.split()),
        "labels": labels,
        "units": dict(UNITS),
    }


def next_table(document: dict[str, Any]) -> Table | Text:
    """Return the table of what a campaign labels next.

    Parameters
    ----------
    document
        What `next_document` returns.

    Returns
    -------
    Table
        One row for each label of the round; a sentence if there is none.
    """
    from rich.table import Table
    from rich.text import Text

    sentence = f"{document['what'].capitalize()}."
    if not document["labels"]:
        return Text(sentence)
    table = Table(caption=f"{sentence} Energies in eV per formula unit.")
    for heading in ("x", "label", "state"):
        table.add_column(heading)
    table.add_column("predicted", justify="right")
    table.add_column("why")
    for one in document["labels"]:
        bar = one["error_bar"]
        predicted = "" if one["predicted"] is None else f"{one['predicted']:.4f}"
        predicted += f" ± {bar:.4f}" if predicted and bar is not None else ""
        cells = (one["x"], one["label"][:8], one["state"], predicted, one["reason"])
        table.add_row(*map(Text, cells))
    return table


def _labels(campaign: Campaign, record: RoundDoc) -> list[dict[str, Any]]:
    """Return the labels that a round has selected, and how far each is."""
    store, ids = campaign.store, record.selected or []
    reasons = dict(zip(ids, record.reasons, strict=False))
    relax = relax_in(campaign, record.number)
    calibration, predicted = calibration_of(campaign, record.number - 1), weighed(campaign, record)
    found: list[dict[str, Any]] = []
    for candidate in store.candidates.stream(ids):
        known = candidate.energy is not None
        entry = candidate_entry(campaign, candidate, calibration, predicted) if known else None
        found.append(
            {
                "label": label_key(campaign, candidate, relax),
                "hash": candidate.config_hash,
                "x": candidate.composition,
                "place": ids.index(candidate.doc_id) + 1,
                "reason": reasons.get(candidate.doc_id, ""),
                "origin": candidate.origin,
                "predicted": entry.energy if entry else None,
                "error_bar": entry.error_bar if entry else None,
            }
        )
    keys = [one["label"] for one in found]
    made, given_up = store.labels.among(keys), store.failures.among(keys)
    running = {one.key for one in store.attempts.open(campaign.name)}
    for one in found:
        key = one["label"]
        states = ((made, "made"), (given_up, "given up"), (running, "running"))
        one["state"] = next((state for keys_, state in states if key in keys_), "waiting")
    return sorted(found, key=lambda one: one["place"])
