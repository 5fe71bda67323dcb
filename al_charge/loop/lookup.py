"""From what people write to the label that they mean, and why it was chosen."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from al_charge.errors import AlChargeError, InputError
from al_charge.loop.campaign import Campaign
from al_charge.loop.energies import calibration_of, candidate_entry, usable
from al_charge.loop.posterior import weighed
from al_charge.store.documents import LabelDoc
from al_charge.store.labels import SUMMARY, LabelSummary


def find_label(campaign: Campaign, which: str) -> str:
    """Return the label that an id or a composition stands for.

    Parameters
    ----------
    campaign
        The campaign.
    which
        First characters of the label's key or of its configuration's hash, as many as only one has;
        or x, which stands for the lowest label there. Of labels of one configuration the lowest is
        taken.

    Returns
    -------
    str
        Key of the label.

    Raises
    ------
    InputError
        If there is no such label, or several.
    """
    x = _composition(which)
    is_x = x is not None and (str(x) == which or "/" in which or "." in which)  # no id such as 000
    if x is not None and is_x and x in campaign.cells.compositions:
        return lowest_at(campaign, x)
    keys = campaign.store.labels.beginning(which, campaign.name) if which else []
    if not keys and campaign.store.labels.has(which):
        return which  # such as one in another electronic state, which no round uses
    if not keys:
        some = [
            one
            for one in campaign.store.labels.read(SUMMARY, campaign=campaign.name)
            if which and one.config_hash.startswith(which)
        ]
        orders = {one.config_hash: _lowest(campaign, some).key for one in some}
        keys = list(orders.values()) if len(orders) < 2 else sorted(one.key for one in some)
    if len(keys) == 1:
        return keys[0]
    if keys:
        few = ", ".join(key[: len(which) + 4] for key in keys[:3])
        raise InputError(
            f"{len(keys)} labels begin with '{which}'",
            where=campaign.name,
            remedy=f"write more of it, such as {few}",
        )
    given_up = [
        one for one in campaign.store.failures.all(campaign.name) if one.key.startswith(which)
    ]
    if which and given_up:
        raise InputError(f"this label was given up: {given_up[0].reason}", where=given_up[0].key)
    raise InputError(
        f"there is no label '{which}'",
        where=campaign.name,
        remedy=f"see 'al-charge labels {campaign.name}'",
    )


def lowest_at(campaign: Campaign, x: Fraction) -> str:
    """Return the lowest label of a composition that may be on a hull.

    Parameters
    ----------
    campaign
        The campaign.
    x
        Working ions per formula unit.

    Returns
    -------
    str
        Key of the label.

    Raises
    ------
    InputError
        If there is none.
    """
    read = campaign.store.labels.read
    found = [
        one for one in read(SUMMARY, campaign=campaign.name, compositions=[str(x)]) if usable(one)
    ]
    if not found:
        raise InputError(
            f"x = {x} has no label that may be on the hull",
            where=campaign.name,
            remedy=f"see 'al-charge labels {campaign.name}'",
        )
    return _lowest(campaign, found).key


def composition_of(campaign: Campaign, text: str) -> Fraction:
    """Read a composition of a campaign.

    Parameters
    ----------
    campaign
        The campaign.
    text
        Such as ``1/2``.

    Returns
    -------
    Fraction
        Working ions per formula unit.

    Raises
    ------
    InputError
        If it is no number, or no supercell of the campaign has it.
    """
    x = _composition(text)
    if x is None or x not in campaign.cells.compositions:
        known = ", ".join(map(str, campaign.cells.compositions))
        raise InputError(
            f"there is no composition x = {text}", where=campaign.name, remedy=f"there are {known}"
        )
    return x


@dataclass(frozen=True)
class Why:
    """Why a campaign has a label.

    Attributes
    ----------
    round
        Round that selected it, or took it over.
    reason
        In words; empty where an earlier version kept none.
    place, of
        Which of how many that the round selected, the most wanted first; None where it was not
        selected.
    origin
        How the candidate was found, such as ``enumerated``.
    predicted, error_bar
        What committee and surrogate said of its energy then, eV per formula unit; None where there
        was no committee. Rounds that earlier versions assessed have what the committee said.
    """

    round: int
    reason: str
    place: int | None = None
    of: int | None = None
    origin: str = ""
    predicted: float | None = None
    error_bar: float | None = None


def why(campaign: Campaign, label: LabelDoc) -> Why:
    """Return why a campaign has a label.

    Parameters
    ----------
    campaign
        The campaign.
    label
        The label.

    Returns
    -------
    Why
        What its round has written when it selected the label.

    Raises
    ------
    AlChargeError
        If the campaign does not use the label.
    """
    store = campaign.store
    used = store.labels.uses(campaign.name).get(label.key)
    if used is None:
        raise AlChargeError("the campaign does not use this label", where=f"label '{label.key}'")
    # A label that came after its round was assessed is used by a later one.
    for record in reversed(store.rounds.all(campaign.name)):
        doc_id = f"{campaign.name}/{record.number}/{label.requested_hash}"
        if record.number > used or doc_id not in (record.selected or []):
            continue
        place = (record.selected or []).index(doc_id)
        reason = record.reasons[place] if place < len(record.reasons) else ""
        candidate = store.candidates.get(doc_id)
        found = Why(
            round=record.number,
            reason=reason,
            place=place + 1,
            of=len(record.selected or []),
            origin=candidate.origin if candidate else "",
        )
        if candidate is None or candidate.energy is None:
            return found
        calibration = calibration_of(campaign, record.number - 1)
        known = weighed(campaign, record)
        entry = candidate_entry(campaign, candidate, calibration, known)
        return Why(**(vars(found) | {"predicted": entry.energy, "error_bar": entry.error_bar}))
    taken = "it was imported" if label.imported else "it existed already"
    return Why(round=used, reason=taken)


def _composition(text: str) -> Fraction | None:
    try:
        return Fraction(text)
    except (ValueError, ZeroDivisionError):
        return None


def _lowest(campaign: Campaign, labels: list[LabelSummary]) -> LabelSummary:
    return min(labels, key=lambda one: (not usable(one), campaign.cells.energy_of(one), one.key))
