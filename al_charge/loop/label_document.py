"""What an engine found, as the document of a label."""

from __future__ import annotations

from al_charge.crystal.configuration import Configuration, from_atoms, set_species
from al_charge.crystal.symmetry import canonical, canonical_hash
from al_charge.crystal.valence import Windows
from al_charge.errors import AlChargeError, InputError
from al_charge.labelers.protocol import LabelResult, Relax
from al_charge.loop.campaign import Campaign, atoms_of, configuration_of
from al_charge.store.documents import CandidateDoc, FrameDoc, LabelDoc, StartDoc


def label_document(
    campaign: Campaign,
    candidate: CandidateDoc,
    result: LabelResult,
    key: str,
    round_number: int,
    relax: Relax,
    windows: Windows | None,
) -> LabelDoc:
    """Return the document of a result.

    Parameters
    ----------
    key
        Of the label.
    relax
        What was allowed to move.
    windows
        That the charge states were read with.
    """
    reading = result.reading
    found = _configuration_found(campaign, candidate, result)
    bader = reading.bader
    return LabelDoc(
        key=key,
        config_hash=canonical_hash(campaign.host, found),
        requested_hash=candidate.config_hash,
        colours=list(canonical(campaign.host, found).colours),
        composition=candidate.composition,
        n_ions=candidate.n_ions,
        host_fingerprint=campaign.host.fingerprint,
        settings_hash=campaign.settings_hash,
        settings=campaign.labeler.settings(),
        requested=list(result.species),
        resolved=list(result.resolved) if result.resolved is not None else None,
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


def check_sites(campaign: Campaign, candidate: CandidateDoc, result: LabelResult) -> None:
    """Refuse a result whose ions have relaxed to other sites: it is another configuration.

    Raises
    ------
    AlChargeError
        If the final positions, matched to the host's sites, give other colours.
    """
    last = result.reading.frames[-1]
    atoms = atoms_of(candidate.geometry)
    asked = from_atoms(campaign.host, atoms)
    del atoms.arrays["host_site"]
    atoms.set_cell(last.cell)
    atoms.set_positions(last.positions)
    try:
        kept = from_atoms(campaign.host, atoms) == asked
    except InputError:
        kept = False
    if not kept:
        raise AlChargeError("the ions relaxed to other sites, to another configuration")


def _configuration_found(
    campaign: Campaign, candidate: CandidateDoc, result: LabelResult
) -> Configuration:
    """Return the configuration that the engine found, or the requested one if it is ambiguous."""
    if result.resolved is None:
        return configuration_of(candidate.colours)
    atoms = atoms_of(candidate.geometry)
    set_species(atoms, list(result.resolved))
    return from_atoms(campaign.host, atoms)
