"""Labels of the database as outputs of runs, to be audited."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms

from al_charge.crystal.charges import redox_elements
from al_charge.crystal.species import charge_of, element_of
from al_charge.crystal.valence import Audit, Windows
from al_charge.errors import InputError
from al_charge.labelers.output import Output
from al_charge.labelers.plugin import method_of
from al_charge.labelers.protocol import BaderCharges

if TYPE_CHECKING:
    from al_charge.store.documents import LabelDoc


def stored_output(key: str, database: Any = None) -> Output:
    """Return a stored label as the output of a run, to be audited again by the label's windows.

    Of a label without windows for all its states, it is what the label says.

    Parameters
    ----------
    key
        Key of the label.
    database
        Settings of the database; None for the one of the environment, else the embedded one.

    Returns
    -------
    Output
        Its last geometry, moments and Bader charges.

    Raises
    ------
    InputError
        If there is no label of this key.
    """
    from al_charge.store.connection import connect
    from al_charge.store.mongo import Store
    from al_charge.store.settings import settings_from_environment

    store = Store(connect(database or settings_from_environment()))
    try:
        store.ensure_schema()
        label = store.labels.get(key)
    finally:
        store.close()
    if label is None:
        raise InputError(
            "there is no such file, and no label with this key in the database", where=key
        )
    last = label.frames[-1]
    bader = None
    if label.bader is not None and label.bader_electrons is not None:
        bader = BaderCharges(np.array(label.bader), np.array(label.bader_electrons))
    windows = {token: (low, high) for token, (low, high) in label.windows.items()}
    told = _as_stored(label)
    return Output(
        source=f"label {key}",
        engine=label.engine,
        atoms=Atoms(label.numbers, positions=last.positions, cell=last.cell, pbc=True),
        windows=Windows(windows, label.bader_centres),
        energy=label.energy,
        moments=np.array(label.moments) if label.moments is not None else None,
        no_moments="" if label.moments is not None else "its engine gives no moments",
        converged=label.converged,
        bader=bader,
        bader_refused=label.bader_refused,
        species=tuple(label.requested),
        method=method_of(label.settings),
        told=told,
        doubt=label.audit if label.resolved is None else "",
    )


def _as_stored(label: LabelDoc) -> Audit | None:
    """Return what a label says of its charge states; None if its windows tell them all."""
    redox = redox_elements(map(element_of, label.requested))
    unknown = [None if element_of(token) in redox else token for token in label.requested]
    sites = tuple(label.sites or label.resolved or unknown)
    states = {token for token in {*label.requested, *sites} if token and element_of(token) in redox}
    if states <= label.windows.keys():
        return None
    ambiguous = tuple(i for i, site in enumerate(sites) if site is None)
    charge = None if ambiguous else sum(charge_of(str(site)) for site in sites)
    return Audit(sites, ambiguous, charge=charge, delocalised=label.delocalised)
