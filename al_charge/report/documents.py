"""The JSON documents of a hull and of a voltage profile, which outside scripts rely on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import pairwise
from typing import Any

from al_charge.report.experiment import Measured
from al_charge.report.names import X_UNIT, host_formula, labeler_name
from al_charge.store.documents import Assessment
from al_charge.thermo.electrode import Electrode
from al_charge.thermo.hull import Entry, Hull
from al_charge.thermo.magnetic import corrected_formation_energy, undecided
from al_charge.thermo.voltage import VoltageProfile

HULL_UNITS = {
    "x": X_UNIT,
    "energy_per_formula": "eV per formula unit",
    "formation_energy": "eV per formula unit, against the two end members",
    "distance_to_hull": "eV per formula unit",
    "lowest_labelled": "eV per formula unit, formation energy of the lowest label",
    "lowest_predicted": "eV per formula unit, lowest formation energy predicted without a label",
    "p_lower": "probability that anything lies below the lowest label by more than the tolerance",
    "lower_by": "eV per formula unit, 95 % bound of how far anything lies below the lowest label",
    "p_below_hull": "probability that anything lies below the hull by more than the tolerance",
    "band": "eV per formula unit, where the hull lies with 95 and 68 %",
    "magnetic_correction": "eV per formula unit, by which another magnetic order is lower",
    "corrected_formation_energy": "eV per formula unit, each in its lowest magnetic order",
}
PREDICTED_UNITS = {
    "error_bar": "eV per formula unit, half width of the band that should hold 68 % of errors"
}
VOLTAGE_UNITS = {
    "x_from": X_UNIT,
    "x_to": X_UNIT,
    "voltage": "V against the working-ion metal",
    "mean_voltage": "V against the working-ion metal",
    "error_bar": "V, root mean square difference from sampled hulls",
    "mean_error_bar": "V, root mean square difference from sampled hulls",
    "band": "V, where the voltage lies with 95 and 68 %",
    "capacity": "mAh/g of the discharged electrode, which has the most working ions",
    "specific_energy": "Wh/kg of the discharged electrode",
    "volume_capacity": "mAh/cm3 of the discharged electrode",
    "energy_density": "Wh/l of the discharged electrode",
    "volume_change": "largest volume of a vertex over the smallest, minus one",
    "mean_difference": "V, computed minus measured mean voltage where both are known",
}


def hull_document(
    hull: Hull,
    *,
    campaign: str,
    labeler: str,
    verified: bool = False,
    corrections: Mapping[str, float] | None = None,
    remark: str = "",
    state: str = "",
    round: int | None = None,
    found: Assessment | None = None,
    listed: Sequence[Entry] | None = None,
) -> dict[str, Any]:
    """Return a hull as a JSON document.

    Parameters
    ----------
    hull
        The labelled hull; an entry's key is its label's id.
    campaign
        Its name.
    labeler
        Kind of the labeler, e.g. ``born``.
    verified
        Whether the labeler has relaxed the vertices and they stayed the same.
    corrections
        By how much another magnetic order is lower, eV per formula unit, by the hash of the
        configuration, of those that were run in one.
    remark
        What is to be told of the labeler wherever its results are shown.
    state
        State of the campaign, e.g. ``converged``.
    round
        Round whose hull it is.
    found
        What the last assessment has found; None for nothing.
    listed
        The entries that are listed; all when None.

    Returns
    -------
    dict
        ``compositions`` says by composition what may lie below the labels, ``band`` where the hull
        lies; where nothing was predicted the latter is empty, and what is not known is None.
        ``vertices`` and ``entries`` (the lowest label of each configuration, vertices included)
        are ordered by x and energy; compositions are strings such as ``5/8``; ``units`` says what
        the numbers are. The hull is that of the labels; of vertices, ``magnetic_correction`` and
        ``corrected_formation_energy`` stand beside it, None where they are not known. ``undecided``
        are vertices that lie less below their neighbours than magnetic orders change.
        A delocalised label has that as its ``remark``.
    """
    known = corrections or {}
    return {
        **_campaign(hull, campaign, labeler, remark),
        "state": state,
        "round": round,
        "verified": verified,
        "p_below_hull": found.p_below_hull if found else None,
        "exhaustive": found.exhaustive if found else None,
        "compositions": _compositions(hull, found),
        "band": [
            {"x": one.x} | _ends(one.band_95, one.band_68)
            for one in (found.compositions if found else None) or []
        ],
        "vertices": [
            entry_document(hull, entry)
            | {
                "magnetic_correction": known.get(entry.config_hash),
                "corrected_formation_energy": corrected_formation_energy(hull, entry, known),
            }
            for entry in hull.vertices
        ],
        "undecided": [
            {
                "x": str(one.x),
                "depth": one.depth,
                "change": one.change,
                "largest_difference": one.largest,
            }
            for one in undecided(hull, known)
        ],
        "entries": [
            entry_document(hull, entry) for entry in (hull.entries if listed is None else listed)
        ],
        "units": dict(HULL_UNITS),
    }


def predicted_entries(hull: Hull, predicted: Sequence[Entry]) -> list[dict[str, Any]]:
    """Return predictions as the entries of a hull's document.

    Parameters
    ----------
    hull
        The labelled hull that they are compared with.
    predicted
        Configurations without a label.

    Returns
    -------
    list of dict
        Without ``label``; ``error_bar`` in eV per formula unit besides.
    """
    told = []
    for entry in predicted:
        row = entry_document(hull, entry)
        del row["label"]
        told.append(row | {"error_bar": entry.error_bar})
    return told


def entry_document(hull: Hull, entry: Entry) -> dict[str, Any]:
    """Return a labelled entry of a hull as a JSON document.

    Parameters
    ----------
    hull
        The hull.
    entry
        The entry; its key is its label's id.

    Returns
    -------
    dict
        Energies in eV per formula unit; a ``remark`` where there is one.
    """
    return {
        "x": str(entry.x),
        "formula": hull.formula(entry.x),
        "energy_per_formula": entry.energy,
        "formation_energy": hull.formation_energy(entry),
        "distance_to_hull": hull.distance(entry),
        "hash": entry.config_hash,
        "label": entry.key,
        **({"remark": entry.remark} if entry.remark else {}),
    }


def voltage_document(
    profile: VoltageProfile,
    *,
    campaign: str,
    labeler: str,
    verified: bool = False,
    remark: str = "",
    state: str = "",
    round: int | None = None,
    found: Assessment | None = None,
    stored: Electrode | None = None,
) -> dict[str, Any]:
    """Return a voltage profile as a JSON document.

    Parameters
    ----------
    profile
        The profile of the labelled hull.
    campaign
        Its name.
    labeler
        Kind of the labeler, e.g. ``born``.
    verified
        Whether the labeler has relaxed the vertices and they stayed the same.
    remark
        What is to be told of the labeler wherever its results are shown.
    state
        State of the campaign, e.g. ``converged``.
    round
        Round whose profile it is.
    found
        What the last assessment has found; None for nothing.
    stored
        What the electrode stores; None if that is not known.

    Returns
    -------
    dict
        ``steps`` are the plateaus in order of x; compositions are strings such as ``5/8``;
        ``electrode`` is what it stores; ``band`` says where the voltage lies between neighbouring
        compositions, and is empty where nothing was predicted; ``units`` says what the numbers are.
    """
    return {
        **_campaign(profile, campaign, labeler, remark),
        "state": state,
        "round": round,
        "verified": verified,
        "steps": step_documents(profile),
        "mean_voltage": profile.mean,
        "mean_error_bar": profile.mean_error_bar,
        "electrode": None if stored is None else asdict(stored),
        "band": _voltage_band(found),
        "units": dict(VOLTAGE_UNITS),
    }


def step_documents(profile: VoltageProfile) -> list[dict[str, Any]]:
    """Return the plateaus of a voltage profile as JSON documents.

    Parameters
    ----------
    profile
        The voltage profile.

    Returns
    -------
    list of dict
        Voltages in V.
    """
    return [
        {
            "x_from": str(step.x_from),
            "x_to": str(step.x_to),
            "voltage": step.voltage,
            "error_bar": step.error_bar,
        }
        for step in profile.steps
    ]


def measured_document(measured: Measured, profile: VoltageProfile) -> dict[str, Any]:
    """Return a measured voltage curve, compared with a computed one, as a JSON document.

    Parameters
    ----------
    measured
        The measured curve.
    profile
        The computed profile.

    Returns
    -------
    dict
        ``points`` of it; ``mean_voltage`` between the ends of the computed profile, as measured,
        and ``mean_difference`` by which the computed one is higher, None where it was not measured
        so far; ``steps`` has the same of each plateau.
    """
    steps = []
    for step in profile.steps:
        mean = measured.mean(float(step.x_from), float(step.x_to))
        steps.append(
            {
                "x_from": str(step.x_from),
                "x_to": str(step.x_to),
                "mean_voltage": mean,
                "mean_difference": None if mean is None else step.voltage - mean,
            }
        )
    mean = measured.mean(float(profile.steps[0].x_from), float(profile.steps[-1].x_to))
    return {
        "source": measured.source,
        "points": [{"x": x, "voltage": voltage} for x, voltage in measured.points],
        "mean_voltage": mean,
        "mean_difference": None if mean is None else profile.mean - mean,
        "steps": steps,
    }


def _campaign(
    of: Hull | VoltageProfile, campaign: str, labeler: str, remark: str
) -> dict[str, Any]:
    return {
        "campaign": campaign,
        "labeler": labeler_name(labeler),
        "labeler_kind": labeler,
        "labeler_remark": remark,
        "working_ion": of.working_ion,
        "framework": of.framework,
        "formula": host_formula(of.framework, of.working_ion),
    }


def _compositions(hull: Hull, found: Assessment | None) -> list[dict[str, Any]]:
    if found is not None and found.compositions is not None:
        return [one.model_dump(exclude={"band_95", "band_68"}) for one in found.compositions]
    lowest: dict[str, float] = {}
    for entry in hull.entries:  # by x, then by energy
        lowest.setdefault(str(entry.x), hull.formation_energy(entry))
    unknown = dict.fromkeys(("lowest_predicted", "p_lower", "lower_by"))
    return [{"x": x, "lowest_labelled": energy} | unknown for x, energy in lowest.items()]


def _voltage_band(found: Assessment | None) -> list[dict[str, Any]]:
    if found is None or found.compositions is None or found.voltages is None:
        return []
    both = zip(found.voltages.band_95, found.voltages.band_68, strict=True)
    return [
        {"x_from": left.x, "x_to": right.x} | _ends(*bands)
        for (left, right), bands in zip(pairwise(found.compositions), both, strict=True)
    ]


def _ends(band_95: tuple[float, float], band_68: tuple[float, float]) -> dict[str, float]:
    return {
        "lower_95": band_95[0],
        "lower_68": band_68[0],
        "upper_68": band_68[1],
        "upper_95": band_95[1],
    }
