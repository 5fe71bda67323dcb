"""Propose: candidates of one composition, by a search on the last committee."""

from __future__ import annotations

import time
from collections.abc import Sequence
from fractions import Fraction
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from al_charge.crystal.configuration import Configuration, ion_count, set_site_kinds, to_atoms
from al_charge.crystal.host import Host
from al_charge.crystal.identity import identity
from al_charge.crystal.shells import SHELL_DISTORTION, distort_shells
from al_charge.crystal.symmetry import canonical, canonical_hash
from al_charge.errors import AlChargeError
from al_charge.loop.campaign import Campaign, atoms_of, geometry_of
from al_charge.loop.cells import configuration_of
from al_charge.loop.committee import knowing_members, load_committee, relax_with
from al_charge.loop.energies import labelled_hull, lowest_labels
from al_charge.loop.labelled_frames import label_atoms
from al_charge.loop.outlook import in_doubt
from al_charge.loop.posterior import fit_posterior, observations, of_minima
from al_charge.search.plugin import SEARCHES, SearchResult, Space
from al_charge.search.seeds import DrawnLater, seeds
from al_charge.store.documents import CandidateDoc, Geometry, LabelDoc, Statistics
from al_charge.store.labels import LAST_FRAME, SUMMARY

if TYPE_CHECKING:
    from al_charge.potentials.relaxation.one_by_one import Relaxed
    from al_charge.surrogate.surrogate import Observation


def propose(campaign: Campaign, round_number: int, n_ions: int, cell: int = 0) -> None:
    """Store the candidates of one composition in all supercells, unless an earlier run has done so.

    Round 0 has no potential yet: its candidates are seeds on the host's ideal sites, those of small
    supercells first. Later rounds search for configurations, each relaxed by the committee of the
    round before.

    Parameters
    ----------
    campaign
        The campaign.
    round_number
        Number of the round.
    n_ions
        Working ions in the first supercell that has the composition.
    cell
        That supercell.
    """
    if campaign.store.proposals.has(campaign.name, round_number, n_ions, cell):
        return
    started = time.monotonic()
    statistics = Statistics()
    x = campaign.cells.hosts[cell].composition(n_ions)
    if round_number == 0:
        candidates = _seed_candidates(campaign, x)
    else:
        candidates, statistics = _evolved_candidates(campaign, round_number, x)
    campaign.store.proposals.put(
        campaign.name, round_number, n_ions, candidates, statistics, cell=cell
    )
    campaign.store.rounds.add_seconds(
        campaign.name, round_number, "propose", time.monotonic() - started
    )


def _supercells(campaign: Campaign, x: Fraction) -> list[tuple[int, Host, int]]:
    """Return the supercells with configurations of their own at a composition, and their ions."""
    cells = campaign.cells
    return [
        (cell, host, host.n_ions(x))
        for cell, host in enumerate(cells.hosts)
        if cells.numbers[cell].get(x)
    ]


def _rng(campaign: Campaign, *words: int | str, cell: int) -> np.random.Generator:
    """Return the random generator of a supercell; that of the first is that of campaigns of one."""
    return campaign.rng(*words, *(("cell", cell) if cell else ()))


def _seed_candidates(campaign: Campaign, x: Fraction) -> list[CandidateDoc]:
    candidates: list[CandidateDoc] = []
    for cell, host, n_ions in _supercells(campaign, x):
        rng = _rng(campaign, "seeds", n_ions, cell=cell)
        wanted = campaign.spec.search.seeds - len(candidates)
        found = seeds(host, n_ions, wanted, rng, campaign.cells.smaller(cell)) if wanted else []
        candidates += [
            _document(campaign, 0, host, config, geometry_of(_start(campaign, host, config)))
            for config in found
        ]
    return candidates


def _start(
    campaign: Campaign, host: Host, config: Configuration, labelled: Sequence[LabelDoc] = ()
) -> Atoms:
    """Return a configuration on its composition's sites, strained as labels of it are in the mean.

    For a labeler that keeps the geometry it is given, the shells of redox sites are made to fit
    their charge states: on ideal sites a charge order may be no solution at all.
    """
    atoms = to_atoms(campaign.start_host(host, ion_count(host, config)), config)
    if labelled:
        cells = [_cell_in(campaign, host, label) for label in labelled]
        atoms.set_cell(np.mean(cells, axis=0), scale_atoms=True)
    if not campaign.static_labels:
        return atoms
    set_site_kinds(host, atoms)
    return distort_shells(atoms, SHELL_DISTORTION)


def _cell_in(campaign: Campaign, host: Host, label: LabelDoc) -> NDArray[np.float64]:
    """Return the vectors of a supercell strained as a label's is."""
    found, own = np.array(label.frames[-1].cell), campaign.cells.of(label)
    if own is host:
        return found
    strain = np.linalg.solve(own.structure.lattice.matrix, found)
    strained: NDArray[np.float64] = host.structure.lattice.matrix @ strain
    return strained


def _evolved_candidates(
    campaign: Campaign, round_number: int, x: Fraction
) -> tuple[list[CandidateDoc], Statistics]:
    from al_charge.potentials.drift import drifted_sites

    committee = load_committee(campaign, round_number - 1)
    asked = knowing_members(campaign, round_number - 1, committee)
    # In the order of their keys: by the time they were made, results would depend on the workers.
    labelled = list(
        campaign.store.labels.read(
            LAST_FRAME,
            campaign=campaign.name,
            up_to=round_number - 1,
            compositions=[str(x)],
            refused=False,
        )
    )
    starts = _known_geometries(campaign, round_number, x, labelled)
    relaxed: dict[str, Relaxed] = {}
    settings = campaign.spec.search

    def evaluate(points: Sequence[tuple[Space, Configuration]]) -> list[float]:
        hashes = [canonical_hash(space.host, config) for space, config in points]
        atoms = [
            starts[key] if key in starts else _start(campaign, space.host, config, labelled)
            for key, (space, config) in zip(hashes, points, strict=True)
        ]
        results = [
            relax_with(campaign, asked.of(key), one) for key, one in zip(hashes, atoms, strict=True)
        ]
        relaxed.update(zip(hashes, results, strict=True))
        return [result.energy for result in results]

    def documents(space: Space, configs: Sequence[Configuration]) -> list[CandidateDoc]:
        some = []
        for config in space.without_smaller(configs):
            one = relaxed.get(canonical_hash(space.host, config))
            if one is None:
                raise AlChargeError(
                    f"the search '{settings.kind}' returned a configuration that it did not "
                    "evaluate",
                    where="search",
                    remedy="report it to the authors of the plug-in",
                )
            species = one.atoms.arrays["species"]
            some.append(
                _document(
                    campaign,
                    round_number,
                    space.host,
                    config,
                    geometry_of(one.atoms),
                    energy=one.energy,
                    spread=one.spread,
                    drifted=drifted_sites(committee, species, one.moments, one.charges),
                )
            )
        return some

    kept = _kept(campaign, round_number, x)
    spaces = _spaces(campaign, round_number, x, labelled, kept)
    found = SEARCHES.of(settings).search(spaces, evaluate, settings)
    candidates = list(kept)
    for space, result in zip(spaces, found, strict=True):
        candidates += documents(space, [config for config, _ in result.ranking])
    left = settings.evaluations * len(spaces) - len(relaxed)
    if left > 0:
        by_host = {space.host.fingerprint: space for space in spaces}
        doubtful = _in_doubt(campaign, round_number, x, candidates)[:left]
        points = [(by_host[host.fingerprint], config) for host, config in doubtful]
        evaluate(points)
        for space, config in points:
            candidates += documents(space, [config])
    unfinished = [key for key, result in relaxed.items() if not result.converged]
    statistics = Statistics(
        evaluated=len(relaxed),
        steps=sum(result.steps for result in relaxed.values()),
        unconverged=len(unfinished),
        unfinished=unfinished,
        candidates=len(candidates),
        compared=sum(candidate.drifted is not None for candidate in candidates),
        flagged=sum(bool(candidate.drifted) for candidate in candidates),
        **_told(spaces, found),
    )
    return candidates, statistics


def _kept(campaign: Campaign, round_number: int, x: Fraction) -> list[CandidateDoc]:
    """Return the candidates of the round before if the committee is the one that relaxed them.

    A round that has brought no label goes on with the search instead of starting a new one. What
    was not relaxed to the end goes through the search again.
    """
    members = [
        [model.sha256 for model in campaign.store.models.all(campaign.name, number)]
        for number in (round_number - 1, round_number - 2)
    ]
    told = [one.statistics for one in campaign.store.proposals.all(campaign.name, round_number - 1)]
    unfinished = {key for one in told for key in one.unfinished}
    if members[0] != members[1] or sum(one.unconverged for one in told) != len(unfinished):
        return []
    before = campaign.store.candidates.all(campaign.name, round_number - 1, str(x))
    return [
        one.model_copy(update={"round": round_number})
        for one in before
        if one.origin == "search" and one.config_hash not in unfinished
    ]


def _in_doubt(
    campaign: Campaign, round_number: int, x: Fraction, candidates: Sequence[CandidateDoc]
) -> list[tuple[Host, Configuration]]:
    """Return what a search has left that may lie below the hull, the likeliest first."""
    before = campaign.store.rounds.get(campaign.name, round_number - 1)
    if before is None or before.assessment is None:
        return []  # there is no hull yet
    labels = labelled_hull(campaign, up_to=round_number - 1)
    predicted = _predicted_before(campaign, round_number)
    others = [one for one in predicted if one.composition != str(x)]
    posterior = fit_posterior(campaign, labels.labels.values(), [*others, *candidates])
    return in_doubt(campaign, labels, posterior, x, candidates)


def _told(spaces: Sequence[Space], found: Sequence[SearchResult]) -> dict[str, float | None]:
    """Return what a search says of the rest, of all spaces together."""
    if len(spaces) == 1:
        (one,) = found
        return {
            "screened": one.screened,
            "gap": one.gap,
            "gap_deviation": one.gap_deviation,
            "p_missed": one.p_missed,
        }
    shares = [one.screened for one in found]
    missed = [one.p_missed for one in found]
    numbers = [space.number for space in spaces]
    gaps = [(one.gap, one.gap_deviation) for one in found if one.gap is not None]
    gap, deviation = min(gaps, default=(None, None), key=lambda pair: pair[0])
    return {
        "screened": (
            None if None in shares else float(np.average(np.array(shares, float), weights=numbers))
        ),
        "gap": gap,
        "gap_deviation": deviation,
        "p_missed": None if None in missed else min(1.0, float(np.sum(np.array(missed, float)))),
    }


def _spaces(
    campaign: Campaign,
    round_number: int,
    x: Fraction,
    labelled: Sequence[LabelDoc],
    kept: Sequence[CandidateDoc],
) -> list[Space]:
    """Return the configurations of a composition, with what is known of them so far."""
    cells, count = campaign.cells, campaign.spec.search.seeds
    earlier = sorted(
        (
            candidate
            for candidate in campaign.store.candidates.all(campaign.name, round_number - 1, str(x))
            if candidate.energy is not None
        ),
        key=lambda candidate: (candidate.energy, candidate.config_hash),
    )
    lowest = sorted(
        lowest_labels(campaign, labelled), key=lambda label: (cells.energy_of(label), label.key)
    )
    told = _observations(campaign, round_number)
    spaces = []
    for cell, host, n_ions in _supercells(campaign, x):
        smaller = cells.smaller(cell)
        fresh = _rng(campaign, "seeds", round_number, n_ions, cell=cell)
        known = {
            configuration_of(one.colours): one.energy
            for one in kept
            if one.energy is not None and cells.of(one) is host
        }
        if not campaign.static_labels:  # which leave open whether there is a lower geometry
            known |= {
                config: label.energy * (host.formula_units / cells.of(label).formula_units)
                for label in labelled
                for home, config in [cells.home_of(label)]
                if home is host
            }
        spaces.append(
            Space(
                host,
                n_ions,
                rng=_rng(campaign, "evolve", round_number, n_ions, cell=cell),
                seeds=DrawnLater(partial(seeds, host, n_ions, count, fresh, smaller)),
                predicted=[
                    configuration_of(one.colours) for one in earlier if cells.of(one) is host
                ],
                labelled=[config for home, config in map(cells.home_of, lowest) if home is host],
                known=known,
                observations=told,
                smaller=smaller,
            )
        )
    return spaces


def _observations(campaign: Campaign, round_number: int) -> list[Observation]:
    """Return what is known at all compositions: labels, and what was predicted a round before."""
    labels = campaign.store.labels.read(SUMMARY, campaign=campaign.name, up_to=round_number - 1)
    known = of_minima(campaign, labels)
    labelled, predicted = observations(campaign, known, _predicted_before(campaign, round_number))
    return [*labelled, *predicted]


def _predicted_before(campaign: Campaign, round_number: int) -> list[CandidateDoc]:
    """Return the candidates of the round before; those that verify a hull are labels themselves."""
    before = campaign.store.candidates.all(campaign.name, round_number - 1)
    return [one for one in before if one.origin != "label"]


def _known_geometries(
    campaign: Campaign, round_number: int, x: Fraction, labelled: Sequence[LabelDoc]
) -> dict[str, Atoms]:
    """Return where to start relaxing configurations, by hash.

    From the lowest label, where labels are of one geometry; else from where the committee of the
    round before has left them.
    """
    found = {
        candidate.config_hash: atoms_of(candidate.geometry)
        for candidate in campaign.store.candidates.all(campaign.name, round_number - 1, str(x))
        if candidate.energy is not None
    }
    if campaign.static_labels:
        for label in lowest_labels(campaign, labelled):
            found[label.config_hash] = label_atoms(label, label.frames[-1])
    return found


def _document(
    campaign: Campaign,
    round_number: int,
    host: Host,
    config: Configuration,
    geometry: Geometry,
    *,
    energy: float | None = None,
    spread: float | None = None,
    drifted: list[int] | None = None,
) -> CandidateDoc:
    config = canonical(host, config)
    n_ions = ion_count(host, config)
    return CandidateDoc(
        campaign=campaign.name,
        round=round_number,
        cell=campaign.cells.hosts.index(host),
        n_ions=n_ions,
        composition=str(host.composition(n_ions)),
        config_hash=canonical_hash(host, config),
        identity=identity(host, config),
        colours=list(config.occupation),
        geometry=geometry,
        energy=energy,
        spread=spread,
        drifted=drifted,
        origin="seed" if energy is None else "search",
    )
