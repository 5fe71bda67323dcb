"""Label: one selected candidate through the labeler, once and for all campaigns."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

from ase import Atoms

from al_charge.crystal.configuration import Configuration, from_atoms, set_species, to_atoms
from al_charge.crystal.symmetry import canonical, canonical_hash
from al_charge.errors import AlChargeError, InputError
from al_charge.labelers.protocol import LabelResult
from al_charge.loop.campaign import Campaign, atoms_of, configuration_of, label_key
from al_charge.store.documents import CandidateDoc, FailureDoc, FrameDoc, LabelDoc


def label(campaign: Campaign, round_number: int, slot: int, directory: Path) -> None:
    """Make the label of one slot of a round's selection.

    An existing label, of this campaign or another with the same settings, is used as it is. A job
    that fails is quarantined with its reason: it costs its own label, never the round.

    Parameters
    ----------
    slot
        Position in the selection; a slot beyond its end has nothing to do.
    directory
        Folder for the engine's files; emptied first.
    """
    record = campaign.store.round(campaign.name, round_number)
    selected = record.selected if record is not None else None
    if selected is None:
        raise AlChargeError("nothing was selected", where=f"{campaign.name}/{round_number}")
    if slot >= len(selected):
        return
    candidate = campaign.store.candidate(selected[slot])
    if candidate is None:
        raise AlChargeError("a selected candidate is missing", where=selected[slot])
    key = label_key(campaign, candidate)
    if campaign.store.label(key) is None and campaign.store.failure(key) is None:
        _make(campaign, round_number, slot, candidate, key, directory)
    if campaign.store.label(key) is not None:
        campaign.store.link_label(campaign.name, round_number, key)


def _make(
    campaign: Campaign,
    round_number: int,
    slot: int,
    candidate: CandidateDoc,
    key: str,
    directory: Path,
) -> None:
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    store = campaign.store
    started = time.monotonic()
    reason = ""
    starts = _starts(campaign, candidate)
    for atoms in starts:
        attempt = store.start_attempt(key, campaign=campaign.name, round=round_number, slot=slot)
        try:
            result = campaign.labeler.label(atoms, directory)
            _check_sites(campaign, candidate, result)
        except AlChargeError as error:
            reason = str(error)
            store.finish_attempt(attempt, "failed", reason)
            continue
        made = store.put_label(_document(campaign, round_number, candidate, key, result))
        store.finish_attempt(attempt, "made" if made else "discarded")
        break
    else:
        failure = FailureDoc(
            key=key,
            campaign=campaign.name,
            round=round_number,
            reason=reason,
            attempts=len(starts),
        )
        store.put_failure(failure)
    store.add_stage_seconds(campaign.name, round_number, "label", time.monotonic() - started)


def _starts(campaign: Campaign, candidate: CandidateDoc) -> list[Atoms]:
    """Return the geometries to try in turn.

    A label that is relaxed answers for its configuration wherever it started from, so that the
    host's ideal sites may follow a geometry that a young committee has spoilt.
    """
    starts = [atoms_of(candidate.geometry)]
    if campaign.relaxes:
        starts.append(to_atoms(campaign.host, configuration_of(candidate.colours)))
    return starts


def _check_sites(campaign: Campaign, candidate: CandidateDoc, result: LabelResult) -> None:
    """Refuse a result whose ions have relaxed to other sites: it is another configuration.

    Raises
    ------
    AlChargeError
        If the final positions, matched to the host's sites, give other colours.
    """
    last = result.frames[-1]
    atoms = atoms_of(candidate.geometry)
    del atoms.arrays["host_site"]
    atoms.set_cell(last.cell)
    atoms.set_positions(last.positions)
    try:
        kept = from_atoms(campaign.host, atoms).colours == tuple(candidate.colours)
    except InputError:
        kept = False
    if not kept:
        raise AlChargeError("the ions relaxed to other sites, to another configuration")


def _document(
    campaign: Campaign, round_number: int, candidate: CandidateDoc, key: str, result: LabelResult
) -> LabelDoc:
    found = _configuration_found(campaign, candidate, result)
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
            for frame in result.frames
        ],
        energy=result.frames[-1].energy,
        moments=result.moments.tolist() if result.moments is not None else None,
        converged=result.converged,
        engine=result.engine,
        wall_time=result.wall_time,
        details=result.details,
        campaign=campaign.name,
        round=round_number,
    )


def _configuration_found(
    campaign: Campaign, candidate: CandidateDoc, result: LabelResult
) -> Configuration:
    """Return the configuration that the engine found, or the requested one if it is ambiguous."""
    if result.resolved is None:
        return configuration_of(candidate.colours)
    atoms = atoms_of(candidate.geometry)
    set_species(atoms, list(result.resolved))
    return from_atoms(campaign.host, atoms)
