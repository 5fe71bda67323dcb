"""Labels keep their sites, and an assessment looks at what has no label yet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from ase import Atoms

from al_charge.crystal.configuration import to_atoms
from al_charge.crystal.enumeration import enumerate_distinct
from al_charge.crystal.host import VACANCY, Host
from al_charge.crystal.symmetry import canonical_hash
from al_charge.crystal.valence import Audit
from al_charge.errors import AlChargeError
from al_charge.labelers.protocol import Frame, LabelResult, Reading
from al_charge.loop.campaign import atoms_of, geometry_of
from al_charge.loop.cells import Cells
from al_charge.loop.committee import knowing_members, newest_candidates
from al_charge.loop.label_document import check_sites
from al_charge.loop.request_ledger import RequestLedger, request_ledger
from al_charge.potentials.committee import Committee
from al_charge.potentials.potential import Potential
from al_charge.potentials.prediction import Prediction
from al_charge.store.documents import CandidateDoc


def candidate(host: Host, index: int, energy: float | None = None) -> CandidateDoc:
    """Return a candidate with two of four Na; energies in eV per formula unit."""
    config = enumerate_distinct(host, 2)[index]
    return CandidateDoc(
        campaign="c",
        round=1,
        n_ions=2,
        composition="1/2",
        config_hash=canonical_hash(host, config),
        colours=list(config.occupation),
        geometry=geometry_of(to_atoms(host, config)),
        energy=None if energy is None else energy * host.formula_units,
        spread=0.010 * host.formula_units,
        origin="search",
    )


def result(atoms: Atoms) -> LabelResult:
    species = tuple(str(token) for token in atoms.arrays["species"])
    frame = Frame(atoms.positions, atoms.cell.array, -1.0, np.zeros((len(atoms), 3)), None)
    reading = Reading((frame,), None, None, True, "engine", 0.0)
    return LabelResult(species, reading, Audit(species), (), Path())


def relaxed(host: Host, asked: CandidateDoc) -> Atoms:
    """Return an honest result: strained by some per cent, every ion moved a little."""
    from al_charge.loop.campaign import atoms_of

    atoms = atoms_of(asked.geometry)
    atoms.set_cell(atoms.cell.array * [0.95, 1.03, 0.98], scale_atoms=True)
    atoms.rattle(0.1, seed=3)
    return atoms


def test_a_relaxed_geometry_on_its_sites_is_kept(olivine: Host) -> None:
    asked = candidate(olivine, 4)
    check_sites(SimpleNamespace(cells=Cells((olivine,))), asked, result(relaxed(olivine, asked)))  # type: ignore[arg-type]


def test_an_ion_that_hopped_to_a_vacancy_makes_another_configuration(olivine: Host) -> None:
    asked = candidate(olivine, 4)
    atoms = relaxed(olivine, asked)
    empty = next(
        int(site)
        for site, state in zip(olivine.ion_sites, asked.colours, strict=False)
        if state == VACANCY
    )
    sodium = int(np.flatnonzero(atoms.numbers == 11)[0])
    atoms.positions[sodium] = olivine.structure.frac_coords[empty] @ atoms.cell.array
    with pytest.raises(AlChargeError, match="another configuration"):
        check_sites(SimpleNamespace(cells=Cells((olivine,))), asked, result(atoms))  # type: ignore[arg-type]


def test_an_ion_between_two_sites_belongs_to_neither(olivine: Host) -> None:
    asked = candidate(olivine, 4)
    atoms = relaxed(olivine, asked)
    sodium = int(np.flatnonzero(atoms.numbers == 11)[0])
    atoms.positions[sodium] += atoms.cell.array[1] / 4  # half way along the channel
    with pytest.raises(AlChargeError, match="another configuration"):
        check_sites(SimpleNamespace(cells=Cells((olivine,))), asked, result(atoms))  # type: ignore[arg-type]


def campaign(
    host: Host,
    candidates: list[CandidateDoc],
    known: set[str],
    held_out: Sequence[Sequence[str]] = (),
) -> Any:
    selected = [f"c/0/{key}" for key in known]
    store = SimpleNamespace(
        candidates=SimpleNamespace(
            all=lambda name, number: candidates if (name, number) == ("c", 1) else []
        ),
        labels=SimpleNamespace(read=lambda wanted, campaign: []),
        models=SimpleNamespace(
            all=lambda name, number: [
                SimpleNamespace(held_out=dict.fromkeys(held, 0.0))
                for held in held_out
                if (name, number) == ("c", 1)
            ]
        ),
        rounds=SimpleNamespace(
            all=lambda name: [SimpleNamespace(number=0, selected=selected, assessment=None)],
            get=lambda name, number: None,
        ),
    )
    spec = SimpleNamespace(convergence=SimpleNamespace(hull_tolerance=0.001))
    return SimpleNamespace(
        name="c", host=host, cells=Cells((host,)), store=store, spec=spec, static_labels=False
    )


def test_what_may_need_a_label_has_the_newest_energy(olivine: Host) -> None:
    found = [candidate(olivine, i, -9.0 - 0.01 * i) for i in range(8)]
    labelled = {c.config_hash for c in found[3:]}
    here = campaign(olivine, found, labelled)

    class Newest:
        def predict(self, structures: list[Atoms]) -> list[Any]:
            return [SimpleNamespace(energy=one.positions.sum(), spread=0.5) for one in structures]

    relaxed = newest_candidates(here, 1, cast(Committee, Newest()), request_ledger(here), [])
    assert [one.config_hash for one in relaxed] == [one.config_hash for one in found]
    newest = [np.sum(one.geometry.positions) for one in found[:3]]
    energies = newest + [one.energy for one in found[3:]]
    assert [one.energy for one in relaxed] == pytest.approx(energies)
    assert [one.spread for one in relaxed[:3]] == [0.5] * 3


class Well:
    """A potential whose minimum lies beside a structure."""

    vocabulary = SimpleNamespace(charge_aware=True)
    neighbour_cutoff = 3.0
    stiffness = 8.0
    baseline = SimpleNamespace(pairs=None)

    def __init__(self, minimum: np.ndarray) -> None:
        self.minimum = minimum

    def predict(self, structures: Sequence[Atoms], neighbours: Any = None) -> list[Prediction]:
        away = [one.positions - self.minimum for one in structures]
        return [
            Prediction(
                self.stiffness / 2 * (one**2).sum() - 40.0,
                -self.stiffness * one,
                np.zeros((3, 3)),
                None,
                None,
            )
            for one in away
        ]


def static_campaign(host: Host, found: list[CandidateDoc], held_out: list[list[str]]) -> Any:
    here = campaign(host, found, set(), held_out=held_out)
    here.static_labels, here.committee_relaxes_cells, here.largest_displacement = True, False, 1.0
    here.spec.relaxation = SimpleNamespace(fmax=0.001, max_steps=200)
    here.spec.potential = SimpleNamespace(charge_aware=True)
    return here


def static_label(host: Host, one: CandidateDoc, energy: float, **changes: Any) -> Any:
    """Return a label of a candidate whose ions have moved since it was proposed."""
    frame = one.geometry.model_copy(
        update={"positions": np.add(one.geometry.positions, [0.02, 0.0, 0.01])}
    )
    fields = {
        "key": f"label of {one.config_hash}",
        "config_hash": one.config_hash,
        "colours": one.colours,
        "identity": one.identity,
        "composition": one.composition,
        "n_ions": one.n_ions,
        "numbers": one.geometry.numbers,
        "host_site": one.geometry.host_site,
        "resolved": one.geometry.species,
        "requested": one.geometry.species,
        "host_fingerprint": host.fingerprint,
        "frames": [frame],
        "energy": energy * host.formula_units,
        "relax": "none",
        "used": 1,
        "delocalised": False,
        "refusal": None,
    }
    return SimpleNamespace(**(fields | changes))


def test_static_labels_are_relaxed_further_by_those_who_have_learnt_their_forces(
    olivine: Host,
) -> None:
    """Their energies fall by what the relaxation takes off, whatever the committee says of them."""
    found = [candidate(olivine, i, -9.0) for i in range(9)]
    orders = [one.config_hash for one in found]
    here = static_campaign(olivine, found, held_out=[[], [orders[0]]])
    labels = [
        static_label(olivine, found[0], -9.3),
        static_label(olivine, found[1], -9.2),
        static_label(olivine, found[2], -9.2, relax="ions"),
        static_label(olivine, found[3], -9.2, used=0),  # of ideal sites
        static_label(olivine, found[4], -9.2, delocalised=True),
        static_label(olivine, found[6], -9.2),
    ]
    here.store.labels.get = {one.key: one for one in labels}.__getitem__
    shifts = [np.array([0.07, 0.0, 0.01]), np.array([0.02, 0.05, 0.01])]
    start = np.array(found[0].geometry.positions)
    wells = [Well(start + shift) for shift in shifts]
    committee = Committee(cast(list[Potential], wells))
    ledger = cast(
        RequestLedger,
        SimpleNamespace(
            may_need_label=lambda one: one.config_hash == orders[7],
            relaxed={orders[2]},
            missed=Counter({orders[6]: 2}),
        ),
    )
    told = newest_candidates(here, 1, committee, ledger, cast(Any, labels))
    assert [one.config_hash for one in told] == orders
    first = told[0]  # only the first member has learnt it
    assert first.geometry.positions == pytest.approx(start + shifts[0], abs=1e-3)
    taken = Well.stiffness / 2 * 0.05**2 * len(start)
    assert first.energy == pytest.approx(-9.3 * olivine.formula_units - taken, abs=1e-4)
    assert first.spread == 0.0
    assert told[1].energy is not None and told[1].energy < -9.2 * olivine.formula_units
    middle = start + np.mean(shifts, axis=0)  # both members have learnt that one
    assert told[1].geometry.positions == pytest.approx(middle, abs=1e-3)
    assert told[2:7] + told[8:] == found[2:7] + found[8:]
    there = [atoms_of(found[7].geometry)]
    predicted = [well.predict(there)[0].energy for well in wells]
    assert told[7].energy == pytest.approx(np.mean(predicted))
    # The round may have something lower than what a label falls to, or not have proposed it.
    asked_again = SimpleNamespace(**{**vars(ledger), "may_need_label": lambda one: one == found[0]})
    both = cast(RequestLedger, asked_again)
    low = wells[0].predict([atoms_of(found[0].geometry)])[0].energy
    for energy, lower in ((-9.3, low), (-12.0, -12.0 * olivine.formula_units - taken)):
        labels[0].energy = energy * olivine.formula_units
        first = newest_candidates(here, 1, committee, both, cast(Any, labels))[0]
        assert first.energy == pytest.approx(lower, abs=1e-4)
    assert low < -9.3 * olivine.formula_units - taken
    fewer = static_campaign(olivine, found[1:], held_out=[[], []])
    fewer.store.labels.get = here.store.labels.get
    others = newest_candidates(fewer, 1, committee, ledger, cast(Any, labels[:1]))
    assert {one.config_hash for one in others} == set(orders)
    here.static_labels = False
    again = newest_candidates(here, 1, committee, ledger, cast(Any, labels))
    assert [one.energy for one in again[:7]] == [one.energy for one in found[:7]]


class Constant:
    """A potential of one energy."""

    vocabulary = SimpleNamespace(charge_aware=True)
    neighbour_cutoff = 3.0

    def __init__(self, energy: float) -> None:
        self.energy = energy

    def predict(self, structures: Sequence[Atoms], neighbours: Any = None) -> list[Prediction]:
        return [
            Prediction(self.energy, np.zeros((len(one), 3)), np.zeros((3, 3)), None, None)
            for one in structures
        ]


def test_members_that_have_not_learnt_a_label_are_not_asked_of_it(olivine: Host) -> None:
    found = [candidate(olivine, i, -9.0) for i in range(6)]
    a, b, c, d = (one.config_hash for one in found[:4])
    here = campaign(olivine, found, set(), held_out=[[a, b, d], [b, d], [d]])
    members = cast(list[Potential], [Constant(energy) for energy in (1.0, 2.0, 4.0)])
    committee = Committee(members, spread_scale=3.0)
    asked = knowing_members(here, 1, committee)
    assert [asked.of(key).members for key in (a, b, c)] == [members[1:], members[2:], members]
    assert asked.of(d) is asked.of("another") is committee  # nobody knows, or everyone
    relaxed = newest_candidates(here, 1, committee, request_ledger(here), [])
    everyone = (7 / 3, 3 * np.std([1, 2, 4], ddof=1))
    expected = [(3.0, 3 * np.sqrt(2)), (4.0, 0.0), *[everyone] * 4]
    assert [(one.energy, one.spread) for one in relaxed] == [pytest.approx(e) for e in expected]
