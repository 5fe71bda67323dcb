"""The electrode that a campaign's labels make, as pymatgen and emmet describe it."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from al_charge.errors import AlChargeError
from al_charge.loop.campaign import Campaign
from al_charge.loop.energies import assessed_hull
from al_charge.report.entries import entry_of, metal_entry
from al_charge.store.labels import LAST_FRAME
from al_charge.thermo.voltage import step_voltages

if TYPE_CHECKING:
    from emmet.core.electrode import InsertionElectrodeDoc
    from pymatgen.apps.battery.insertion_battery import InsertionElectrode

AGREES = 1e-6
"""V by which two voltages differ that are the same."""


def electrode_of(campaign: Campaign) -> InsertionElectrode:
    """Return the electrode that the hull of the last assessed round makes.

    pymatgen's own way to make one takes another hull, against elements at an energy that suits
    VASP's, and the largest oxidation state of the working ion. Here vertices and charge are those
    of the campaign's hull.

    Parameters
    ----------
    campaign
        The campaign.

    Returns
    -------
    InsertionElectrode
        Its entries are the lowest label of each configuration.

    Raises
    ------
    AlChargeError
        If no round has been assessed yet.
    """
    from pymatgen.apps.battery.insertion_battery import InsertionElectrode, InsertionVoltagePair
    from pymatgen.core.periodic_table import Element

    hull = assessed_hull(campaign)[0].hull
    labels = campaign.store.labels.read(LAST_FRAME, keys=[entry.key for entry in hull.entries])
    by_key = {label.key: entry_of(label) for label in labels}
    metal = metal_entry(campaign)
    assert metal is not None  # the hull has its energy
    stable = [by_key[vertex.key] for vertex in hull.vertices]
    pairs = [
        InsertionVoltagePair.from_entries(charged, discharged, metal)
        for charged, discharged in pairwise(stable)
    ]
    voltages = step_voltages(hull, [vertex.energy for vertex in hull.vertices])
    # pymatgen's valence of the ion is the largest that its element has.
    valence = abs(max(Element(hull.working_ion).oxidation_states))
    for pair, voltage in zip(pairs, voltages, strict=True):
        pair.mAh *= hull.working_ion_charge / valence
        pair.voltage = voltage
    keys = {vertex.key for vertex in hull.vertices}
    return InsertionElectrode(
        voltage_pairs=tuple(pairs),
        working_ion_entry=metal,
        framework_formula=pairs[0].framework.reduced_formula,
        stable_entries=tuple(stable),
        unstable_entries=tuple(by_key[e.key] for e in hull.entries if e.key not in keys),
    )


def electrode_document(campaign: Campaign) -> InsertionElectrodeDoc:
    """Return the Materials Project's document of the electrode, as emmet builds it.

    Parameters
    ----------
    campaign
        The campaign.

    Returns
    -------
    InsertionElectrodeDoc
        With the campaign's name as its id.

    Raises
    ------
    AlChargeError
        If emmet cannot build it from these energies, or finds another electrode than the hull of
        the campaign; or if no round has been assessed yet.
    """
    from emmet.core.electrode import InsertionElectrodeDoc

    ours, metal = electrode_of(campaign), metal_entry(campaign)
    assert metal is not None  # as above
    where = f"campaign '{campaign.name}'"
    for entry in ours.get_all_entries():
        # emmet's ids end in a number; this one is the label's key.
        entry.data["material_id"] = f"label-{int(entry.entry_id, 16)}"
    try:
        found = InsertionElectrodeDoc.from_entries(ours.get_all_entries(), metal, campaign.name)
    except (IndexError, ValueError) as error:
        raise AlChargeError(f"emmet cannot build its document: {error}", where=where) from error
    if found is None or found.electrode_object is None:
        raise AlChargeError("emmet finds no two stable entries", where=where)
    theirs = [pair.voltage for pair in found.electrode_object.voltage_pairs]
    same = len(theirs) == len(ours) and np.allclose(
        theirs, [pair.voltage for pair in ours], atol=AGREES
    )
    if not same:
        raise AlChargeError(
            "emmet finds other voltages than the campaign's hull has",
            where=where,
            remedy="'electrode()' has those of the hull",
        )
    return found
