"""Labels as pymatgen's computed entries, to which corrections and phase diagrams apply."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import numpy as np
from ase.data import chemical_symbols
from pymatgen.core.lattice import Lattice
from pymatgen.core.structure import Structure
from pymatgen.entries.computed_entries import ComputedEntry, ComputedStructureEntry

from al_charge.crystal.species import charge_of, element_of
from al_charge.labelers.method import Method
from al_charge.labelers.plugin import method_of
from al_charge.loop.campaign import Campaign
from al_charge.store.documents import LabelDoc
from al_charge.store.labels import LAST_FRAME


def entries_of(campaign: Campaign, *, usable_only: bool = True) -> list[ComputedStructureEntry]:
    """Return the labels that a campaign uses as computed entries.

    Parameters
    ----------
    campaign
        The campaign.
    usable_only
        Whether to leave out labels that no hull may hold.

    Returns
    -------
    list of ComputedStructureEntry
        In the order of the labels' keys; see `entry_of`.
    """
    labels = campaign.store.labels.read(
        LAST_FRAME, campaign=campaign.name, refused=False if usable_only else None
    )
    return [entry_of(label) for label in labels]


def entry_of(label: LabelDoc) -> ComputedStructureEntry:
    """Return the result of a label as a computed entry.

    Parameters
    ----------
    label
        With its last frame at least.

    Returns
    -------
    ComputedStructureEntry
        Energy in eV per cell, without any correction. ``parameters`` are those that the Materials
        Project's corrections read: run type, U, and of VASP the datasets. The structure has neutral
        elements, with site properties ``magmom``, ``bader_charge`` and ``species`` where these are
        known; ``data`` holds the mean oxidation state of each element.
    """
    last = label.frames[-1]
    sites: dict[str, Any] = {"species": list(label.states_found)}
    if label.moments is not None:
        sites["magmom"] = list(label.moments)
    if label.bader is not None:
        sites["bader_charge"] = list(label.bader)
    structure = Structure(
        Lattice(np.array(last.cell)),
        [chemical_symbols[number] for number in label.numbers],
        np.array(last.positions),
        coords_are_cartesian=True,
        site_properties=sites,
    )
    return ComputedStructureEntry(
        structure,
        label.energy,
        parameters=_parameters(label),
        data={
            "oxidation_states": dict(_mean_states(label)),
            "config_hash": label.config_hash,
            "settings_hash": label.settings_hash,
            "x": label.composition,
            "usable": label.refusal is None,
            "refused": label.refused,
            "relax": label.relax,
        },
        entry_id=label.key,
    )


def metal_entry(campaign: Campaign) -> ComputedEntry | None:
    """Return the working-ion metal as a computed entry.

    Parameters
    ----------
    campaign
        The campaign.

    Returns
    -------
    ComputedEntry or None
        Energy of one atom, eV; None where it was not computed yet.
    """
    ion = campaign.spec.host.working_ion
    found = campaign.store.references.get(campaign.name, campaign.settings_hash, ion)
    if found is None:
        return None
    method = method_of(found.settings)
    software = str(found.settings.get("engine", ""))
    parameters = {"software": software}
    if method is not None:
        parameters["run_type"] = _run_type(software, Method(method.functional, {}))
    return ComputedEntry(ion, found.energy, parameters=parameters, entry_id=f"{ion} metal")


def _parameters(label: LabelDoc) -> dict[str, Any]:
    software = str(label.settings.get("engine", ""))
    parameters: dict[str, Any] = {"software": software}
    elements = [element_of(token) for token in dict.fromkeys(label.requested)]
    if (method := method_of(label.settings)) is not None:
        u = {element: float(method.hubbard_u.get(element, 0.0)) for element in elements}
        used = {element: value for element, value in u.items() if value}
        parameters |= {
            "run_type": _run_type(software, Method(method.functional, used)),
            "is_hubbard": bool(used),
            "hubbards": u if used else {},
        }
    if software == "vasp":
        titles = [label.datasets[el].partition(" sha256:")[0] for el in sorted(label.datasets)]
        parameters["potcar_symbols"] = titles
        parameters["potcar_spec"] = [{"titel": title, "hash": None} for title in titles]
    return parameters


def _run_type(software: str, method: Method) -> str:
    """Return a functional in the Materials Project's words, with the engine where it is not VASP.

    Corrections are fitted to VASP's energies. Other engines have another zero of energy, and
    pymatgen refuses entries of a run type that it does not know.
    """
    name = {"PBE": "GGA"}.get(method.functional, method.functional)
    name = f"{name}+U" if method.hubbard_u else name
    return name if software == "vasp" else f"{name} ({software})"


def _mean_states(label: LabelDoc) -> Iterator[tuple[str, float]]:
    """Yield each element with its mean oxidation state, that of the request where uncertain."""
    states: dict[str, list[int]] = defaultdict(list)
    for token in label.resolved or label.requested:
        states[element_of(token)].append(charge_of(token))
    yield from ((element, float(np.mean(charges))) for element, charges in states.items())
