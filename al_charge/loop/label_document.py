"""From the result of an engine to a label: moment windows, check of the sites, document."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike

from al_charge.crystal.charge_balance import end_member_species
from al_charge.crystal.configuration import Configuration, from_atoms, set_species
from al_charge.crystal.host import Host
from al_charge.crystal.identity import identity
from al_charge.crystal.species import charge_of, element_of
from al_charge.crystal.symmetry import canonical, canonical_hash
from al_charge.crystal.valence import Audit, Windows, calibrate
from al_charge.errors import AlChargeError, InputError
from al_charge.labelers.protocol import LabelResult, Relax
from al_charge.loop.campaign import Campaign, atoms_of
from al_charge.loop.cells import configuration_of
from al_charge.store.documents import CandidateDoc, FrameDoc, LabelDoc, StartDoc
from al_charge.store.labels import WITHOUT_FRAMES


def windows_for(campaign: Campaign, round_number: int, composition: str) -> Windows | None:
    """Return the moment windows that a label of a round is audited with.

    They are calibrated on the end members labelled in earlier rounds; in the first round, on those
    that it labels first.

    Parameters
    ----------
    campaign
        The campaign.
    round_number
        Round that has selected the label.
    composition
        Of the label, an exact fraction.

    Returns
    -------
    Windows or None
        Of the states that end members show; None for the labeler's own windows: for end members
        themselves, and as long as one is missing, or their states are not clearly separated.
    """
    host, ends = campaign.host, campaign.cells.ends
    if composition in ends:
        return None
    # The ends of a window are often mixed cells. Without one, those always counted as a whole.
    pure = end_member_species(host)
    mixed = host.redox_species - pure if host.window is not None else frozenset()
    moments: dict[str, list[float]] = defaultdict(list)
    charges: dict[str, list[float]] = defaultdict(list)
    labels = campaign.store.labels.read(
        WITHOUT_FRAMES,
        campaign=campaign.name,
        up_to=max(0, round_number - 1),
        compositions=ends,
        refused=False,
    )
    for label in labels:
        if label.moments is None:
            continue
        for site, species in enumerate(label.resolved or ()):
            if element_of(species) in host.redox_elements and species not in mixed:
                moments[species].append(label.moments[site])
                if label.bader is not None:
                    charges[species].append(label.bader[site])
    if not moments or not pure <= moments.keys():
        return None
    try:
        return calibrate(moments, charges=charges)
    except InputError:
        return None


def label_document(
    campaign: Campaign,
    candidate: CandidateDoc,
    result: LabelResult,
    key: str,
    round_number: int,
    relax: Relax,
    windows: Windows | None,
) -> LabelDoc:
    """Return the document of a label.

    Parameters
    ----------
    campaign
        Campaign that made it.
    candidate
        Candidate that was requested.
    result
        Result of the labeler.
    key
        Key of the label.
    round_number
        Round that has selected the candidate.
    relax
        What the labeler was allowed to move.
    windows
        Moment windows of the audit; None if they were the labeler's own.

    Returns
    -------
    LabelDoc
        The label, under the configuration that was found.
    """
    host, sites = campaign.cells.of(candidate), candidate.geometry.host_site
    result = replace(result, audit=in_states_of(host, result.audit, sites))
    reading = result.reading
    found = _configuration_found(host, candidate, result)
    bader = reading.bader
    return LabelDoc(
        key=key,
        config_hash=canonical_hash(host, found),
        identity=identity(host, found),
        requested_hash=candidate.config_hash,
        colours=list(canonical(host, found).occupation),
        composition=candidate.composition,
        n_ions=candidate.n_ions,
        host_fingerprint=host.fingerprint,
        settings_hash=campaign.settings_hash,
        settings=campaign.physical_settings,
        requested=list(result.species),
        resolved=list(result.resolved) if result.resolved is not None else None,
        delocalised=result.delocalised and result.resolved is None,
        sites=list(result.audit.sites),
        audit=result.audit.describe(),
        windows={s: list(w) for s, w in (windows.ranges if windows else {}).items()},
        bader_centres=dict(windows.charges) if windows else {},
        relax=relax.value,
        numbers=candidate.geometry.numbers,
        host_site=candidate.geometry.host_site,
        frames=[
            FrameDoc(
                positions=frame.positions.tolist(),
                cell=frame.cell.tolist(),
                energy=frame.energy,
                forces=frame.forces.tolist(),
                stress=frame.stress.tolist() if frame.stress is not None else None,
            )
            for frame in reading.frames
        ],
        energy=reading.frames[-1].energy,
        moments=reading.moments.tolist() if reading.moments is not None else None,
        bader=bader.net.tolist() if bader is not None else None,
        bader_electrons=bader.electrons.tolist() if bader is not None else None,
        bader_refused=reading.bader_refused,
        converged=reading.converged,
        unusable=reading.unusable,
        engine=reading.engine,
        datasets=dict(reading.datasets),
        attempts=[StartDoc(changed=a.changed, outcome=a.outcome) for a in result.attempts],
        wall_time=reading.wall_time,
        cores=reading.cores,
        directory=str(result.directory),
        details=dict(reading.details),
        campaign=campaign.name,
        round=round_number,
    )


def check_start(campaign: Campaign, candidate: CandidateDoc) -> None:
    """Refuse a candidate whose ions the committee has relaxed to other sites.

    A static label has the geometry of its candidate, so this is known before anything is run.

    Parameters
    ----------
    campaign
        The campaign.
    candidate
        Candidate that was requested.

    Raises
    ------
    AlChargeError
        If its positions, matched to the sites of the host, are another configuration.
    """
    start = candidate.geometry
    if not _on_its_sites(campaign, candidate, start.cell, start.positions):
        raise AlChargeError(
            "in the committee's relaxation its ions moved to other sites: another configuration"
        )


def check_sites(campaign: Campaign, candidate: CandidateDoc, result: LabelResult) -> None:
    """Refuse a result whose ions have relaxed to other sites: that is another configuration.

    Parameters
    ----------
    campaign
        The campaign.
    candidate
        Candidate that was requested.
    result
        Result of the labeler.

    Raises
    ------
    AlChargeError
        If the final positions, matched to the sites of the host, are another configuration.
    """
    last = result.reading.frames[-1]
    if not _on_its_sites(campaign, candidate, last.cell, last.positions):
        raise AlChargeError("its ions relaxed to other sites: another configuration")


def _on_its_sites(
    campaign: Campaign, candidate: CandidateDoc, cell: ArrayLike, positions: ArrayLike
) -> bool:
    """Return whether a geometry of a candidate's atoms is the configuration that it stands for."""
    atoms, host = atoms_of(candidate.geometry), campaign.cells.of(candidate)
    asked = from_atoms(host, atoms)
    del atoms.arrays["host_site"]
    atoms.set_cell(np.asarray(cell))
    atoms.set_positions(np.asarray(positions))
    try:
        return from_atoms(host, atoms) == asked
    except InputError:
        return False


def in_states_of(host: Host, audit: Audit, host_sites: Sequence[int]) -> Audit:
    """Return an audit in which ions are uncertain in states that the host has not on their sites.

    Charges that it has on no site of their element are left, to be refused.

    Parameters
    ----------
    host
        The host.
    audit
        Of a label.
    host_sites
        Index of the host's site of every atom.

    Returns
    -------
    Audit
        The same one where every ion is in a state of its site.
    """
    charges = {(element_of(token), charge_of(token)) for token in host.species}
    others = tuple(
        atom
        for atom, (site, token) in enumerate(zip(host_sites, audit.species or (), strict=False))
        if token not in {host.token(element_of(token), state) for state in host.states[site]}
        and (element_of(token), charge_of(token)) in charges
    )
    if not others:
        return audit
    sites = tuple(None if site in others else token for site, token in enumerate(audit.sites))
    return replace(audit, sites=sites, ambiguous=others, charge=None)


def _configuration_found(host: Host, candidate: CandidateDoc, result: LabelResult) -> Configuration:
    """Return the configuration that the engine found, or the requested one if it is ambiguous."""
    if result.resolved is None:
        return configuration_of(candidate.colours)
    atoms = atoms_of(candidate.geometry)
    set_species(atoms, list(result.resolved))
    return from_atoms(host, atoms)
