"""Propose: candidates of one composition, by a search on the last committee."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from ase import Atoms

from al_charge.crystal.configuration import Configuration, ion_count, set_site_kinds, to_atoms
from al_charge.crystal.identity import identity
from al_charge.crystal.shells import SHELL_DISTORTION, distort_shells
from al_charge.crystal.symmetry import canonical, canonical_hash
from al_charge.errors import AlChargeError
from al_charge.loop.campaign import Campaign, atoms_of, configuration_of, geometry_of
from al_charge.loop.committee import load_committee
from al_charge.loop.energies import lowest_labels
from al_charge.loop.labelled_frames import label_atoms
from al_charge.loop.posterior import observations
from al_charge.search.plugin import SEARCHES, Space
from al_charge.search.seeds import seeds
from al_charge.store.documents import CandidateDoc, Geometry, LabelDoc, Statistics
from al_charge.store.labels import LAST_FRAME, SUMMARY

if TYPE_CHECKING:
    from al_charge.potentials.relaxation.one_by_one import Relaxed
    from al_charge.surrogate.surrogate import Observation


def propose(campaign: Campaign, round_number: int, n_ions: int) -> None:
    """Store the candidates of one composition, unless an earlier run has done so.

    Round 0 has no potential yet: its candidates are seeds on the host's ideal sites. Later rounds
    search for configurations, each relaxed by the committee of the round before.

    Parameters
    ----------
    campaign
        The campaign.
    round_number
        Number of the round.
    n_ions
        Working ions in the cell.
    """
    if campaign.store.proposals.has(campaign.name, round_number, n_ions):
        return
    started = time.monotonic()
    statistics = Statistics()
    if round_number == 0:
        candidates = _seed_candidates(campaign, n_ions)
    else:
        candidates, statistics = _evolved_candidates(campaign, round_number, n_ions)
    campaign.store.proposals.put(campaign.name, round_number, n_ions, candidates, statistics)
    campaign.store.rounds.add_seconds(
        campaign.name, round_number, "propose", time.monotonic() - started
    )


def _seed_candidates(campaign: Campaign, n_ions: int) -> list[CandidateDoc]:
    rng = campaign.rng("seeds", n_ions)
    found = seeds(campaign.host, n_ions, campaign.spec.search.seeds, rng)
    return [
        _document(campaign, 0, n_ions, config, geometry_of(_start(campaign, config)))
        for config in found
    ]


def _start(campaign: Campaign, config: Configuration, labelled: Sequence[LabelDoc] = ()) -> Atoms:
    """Return a configuration on its composition's sites, in the mean cell of labels of it.

    For a labeler that keeps the geometry it is given, the shells of redox sites are made to fit
    their charge states: on ideal sites a charge order may be no solution at all.
    """
    atoms = to_atoms(campaign.start_host(ion_count(campaign.host, config)), config)
    if labelled:
        cell = np.mean([label.frames[-1].cell for label in labelled], axis=0)
        atoms.set_cell(cell, scale_atoms=True)
    if not campaign.static_labels:
        return atoms
    set_site_kinds(campaign.host, atoms)
    return distort_shells(atoms, SHELL_DISTORTION)


def _evolved_candidates(
    campaign: Campaign, round_number: int, n_ions: int
) -> tuple[list[CandidateDoc], Statistics]:
    from al_charge.potentials.drift import drifted_sites
    from al_charge.potentials.relaxation.one_by_one import relax

    committee = load_committee(campaign, round_number - 1)
    labels = campaign.store.labels.read(
        LAST_FRAME, campaign=campaign.name, up_to=round_number - 1, n_ions=[n_ions], refused=False
    )
    labelled = sorted(labels, key=lambda label: (label.created, label.key))
    starts = _known_geometries(campaign, round_number, n_ions, labelled)
    relaxed: dict[str, Relaxed] = {}
    settings, relaxation = campaign.spec.search, campaign.spec.relaxation

    def evaluate(points: Sequence[tuple[Space, Configuration]]) -> list[float]:
        hashes = [canonical_hash(space.host, config) for space, config in points]
        atoms = [
            starts[key] if key in starts else _start(campaign, config, labelled)
            for key, (_, config) in zip(hashes, points, strict=True)
        ]
        results = relax(
            committee,
            atoms,
            fmax=relaxation.fmax,
            max_steps=relaxation.max_steps,
            cell=campaign.committee_relaxes_cells,
            largest_displacement=campaign.largest_displacement,
        )
        relaxed.update(zip(hashes, results, strict=True))
        return [result.energy for result in results]

    space = _space(campaign, round_number, n_ions, labelled)
    (found,) = SEARCHES.of(settings).search([space], evaluate, settings)
    candidates = []
    for config, _ in found.ranking:
        result = relaxed.get(canonical_hash(campaign.host, config))
        if result is None:
            raise AlChargeError(
                f"the search '{settings.kind}' returned a configuration that it did not evaluate",
                where="search",
                remedy="report it to the authors of the plug-in",
            )
        species = result.atoms.arrays["species"]
        candidates.append(
            _document(
                campaign,
                round_number,
                n_ions,
                config,
                geometry_of(result.atoms),
                energy=result.energy,
                spread=result.spread,
                drifted=drifted_sites(committee, species, result.moments, result.charges),
            )
        )
    statistics = Statistics(
        evaluated=len(relaxed),
        steps=sum(result.steps for result in relaxed.values()),
        unconverged=sum(not result.converged for result in relaxed.values()),
        candidates=len(candidates),
        compared=sum(candidate.drifted is not None for candidate in candidates),
        flagged=sum(bool(candidate.drifted) for candidate in candidates),
        screened=found.screened,
        gap=found.gap,
        gap_deviation=found.gap_deviation,
        p_missed=found.p_missed,
    )
    return candidates, statistics


def _space(
    campaign: Campaign, round_number: int, n_ions: int, labelled: Sequence[LabelDoc]
) -> Space:
    """Return the configurations of a composition, with what is known of them so far."""
    earlier = sorted(
        (
            candidate
            for candidate in campaign.store.candidates.all(campaign.name, round_number - 1, n_ions)
            if candidate.energy is not None
        ),
        key=lambda candidate: (candidate.energy, candidate.config_hash),
    )
    lowest = sorted(lowest_labels(labelled), key=lambda label: (label.energy, label.key))
    fresh = campaign.rng("seeds", round_number, n_ions)
    return Space(
        campaign.host,
        n_ions,
        rng=campaign.rng("evolve", round_number, n_ions),
        seeds=seeds(campaign.host, n_ions, campaign.spec.search.seeds, fresh),
        predicted=[configuration_of(candidate.colours) for candidate in earlier],
        labelled=[configuration_of(label.colours) for label in lowest],
        # A static label leaves open whether its configuration has a lower geometry.
        known=(
            {}
            if campaign.static_labels
            else {configuration_of(label.colours): label.energy for label in labelled}
        ),
        observations=_observations(campaign, round_number),
    )


def _observations(campaign: Campaign, round_number: int) -> list[Observation]:
    """Return what is known at all compositions: labels, and candidates of the round before.

    A static label of round 0 is of ideal sites, far above the minimum of its configuration; later
    ones are of the committee's minimum. Candidates that verify the hull have no error bar.
    """
    labels = campaign.store.labels.read(SUMMARY, campaign=campaign.name, up_to=round_number - 1)
    if campaign.static_labels:
        labels = (label for label in labels if label.used)
    candidates = campaign.store.candidates.all(campaign.name, round_number - 1)
    return observations(campaign, labels, [one for one in candidates if one.spread])


def _known_geometries(
    campaign: Campaign, round_number: int, n_ions: int, labelled: Sequence[LabelDoc]
) -> dict[str, Atoms]:
    """Return where to start relaxing configurations, by hash.

    From the lowest label, where labels are of one geometry; else from where the committee of the
    round before has left them.
    """
    found = {
        candidate.config_hash: atoms_of(candidate.geometry)
        for candidate in campaign.store.candidates.all(campaign.name, round_number - 1, n_ions)
        if candidate.energy is not None
    }
    if campaign.static_labels:
        for label in lowest_labels(labelled):
            found[label.config_hash] = label_atoms(label, label.frames[-1])
    return found


def _document(
    campaign: Campaign,
    round_number: int,
    n_ions: int,
    config: Configuration,
    geometry: Geometry,
    *,
    energy: float | None = None,
    spread: float | None = None,
    drifted: list[int] | None = None,
) -> CandidateDoc:
    config = canonical(campaign.host, config)
    return CandidateDoc(
        campaign=campaign.name,
        round=round_number,
        n_ions=n_ions,
        composition=str(campaign.host.composition(n_ions)),
        config_hash=canonical_hash(campaign.host, config),
        identity=identity(campaign.host, config),
        colours=list(config.occupation),
        geometry=geometry,
        energy=energy,
        spread=spread,
        drifted=drifted,
        origin="seed" if energy is None else "search",
    )
