"""A campaign of many labels and rounds, made in seconds: al-charge's size and times depend on it.

One Born label of olivine is made by the loop itself. All others are that label with the atoms of
other configurations, rattled, and an energy from a formula; candidates, rounds, models and
Fireworks of past rounds are written as the loop would have written them. Candidates that nobody
asks for again, and weights, are written for the last rounds only.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import al_charge.fw  # noqa: F401  # first: FireWorks reads its settings when it is imported

# isort: split
import numpy as np
from ase import Atoms
from fireworks import FWAction, FWorker, LaunchPad
from fireworks.core.firework import Launch
from pymongo import UpdateOne

from al_charge.crystal.configuration import to_atoms
from al_charge.crystal.symmetry import canonical, canonical_hash
from al_charge.fw.launchpad import connect_launchpad, store_of
from al_charge.fw.tasks import round_workflow
from al_charge.loop.campaign import Campaign, geometry_of, label_key, open_campaign
from al_charge.loop.label import label
from al_charge.loop.reference import label_metal
from al_charge.loop.rounds import open_round
from al_charge.loop.spec import parse_spec
from al_charge.loop.strict_yaml import read_mapping
from al_charge.loop.submit import submit
from al_charge.potentials.data.frames import TrainingFrame
from al_charge.potentials.training.train import train
from al_charge.search.random_occupation import random_occupation
from al_charge.store.documents import (
    Assessment,
    AttemptDoc,
    CandidateDoc,
    Criterion,
    LabelDoc,
    LabelUseDoc,
    ModelDoc,
    Request,
    Statistics,
    Vertex,
)
from al_charge.store.labels import ALL_FRAMES

FILE = Path(__file__).parents[1] / "workflows" / "nafepo4_born.yaml"
IN_FULL = 3
"""Last rounds that have all their candidates and their potentials' weights."""
FEWEST = 4
"""Least number of ions, and of vacancies, of configurations whose labels are relaxed."""
RATTLE = 0.03
"""angstrom."""


@dataclass(frozen=True)
class Size:
    """How large a campaign is made: rounds, and labels of all of them together."""

    rounds: int
    labels: int
    supercell: tuple[int, int, int]

    @property
    def per_round(self) -> int:
        """Labels of each round but the first, which has the rest."""
        return self.labels // self.rounds

    @property
    def first(self) -> int:
        """Labels of the first round."""
        return self.labels - self.per_round * (self.rounds - 1)


class Maker:
    """Writes one campaign into the embedded database."""

    def __init__(self, size: Size, folder: Path, *, static: bool) -> None:
        self.size = size
        self.folder = folder
        self.rng = np.random.default_rng(1)
        self.launchpad: LaunchPad = connect_launchpad(None)
        store = store_of(self.launchpad)
        store.ensure_schema()
        self.campaign = submitted(size, self.launchpad, static=static)
        self.store = self.campaign.store
        self.template: LabelDoc | None = None
        self.seen: set[str] = set()
        self.held: list[tuple[str, float]] = []
        self.energies: dict[str, float] = {}
        self.requests: list[Request] = []
        self.model = trained(self.campaign, folder)

    def make(self) -> None:
        """Write every round; the assessment of the last is what comes next."""
        label_metal(self.campaign, self.folder / "metal")
        for number in range(self.size.rounds):
            self.write_round(number)

    def write_round(self, number: int) -> None:
        """Write a round: candidates, labels, models, assessment and Fireworks."""
        spec = self.campaign.spec
        open_round(self.campaign, number)
        count = self.size.per_round if number else self.size.first
        candidates = self.candidates(number, count)
        reasons = dict.fromkeys(
            (one.doc_id for one in candidates[:count]), "30 % chance below hull"
        )
        self.store.rounds.record_selection(self.campaign.name, number, reasons)
        if self.template is None:
            self.template = self.real_label()
        made = [self.label_of(one, number) for one in candidates[number == 0 : count]]
        self.write_labels(made, number)
        self.write_models(number)
        for stage in ("propose", "select", "label", "train", "assess"):
            self.store.rounds.add_seconds(self.campaign.name, number, stage, 100.0)
        if number < self.size.rounds - 1:
            energies = self.rng.normal(-130, 1, size=(spec.committee.size, len(self.energies)))
            self.store.rounds.record_assessment(
                self.campaign.name, number, self.assessment(), sorted(self.energies), energies
            )
        write_workflow(self.launchpad, self.campaign, number, last=number == self.size.rounds - 1)

    def candidates(self, number: int, count: int) -> list[CandidateDoc]:
        """Store candidates of a round and return them, end members first in the first round."""
        host, spec = self.campaign.host, self.campaign.spec
        ions = list(host.ion_counts)
        full = number >= self.size.rounds - IN_FULL
        total = spec.search.evaluations * len(ions) if full else count
        # With fewer ions or vacancies there are not enough different configurations.
        edge = 1 if self.campaign.static_labels else FEWEST
        wanted = [int(n) for n in self.rng.integers(edge, len(ions) - edge, size=total)]
        if number == 0:
            wanted[:2] = [0, len(ions) - 1]
        found = [self.candidate(number, ions[place]) for place in wanted]
        for n_ions in ions:
            of_one = [one for one in found if one.n_ions == n_ions]
            self.store.proposals.put(
                self.campaign.name, number, n_ions, of_one, Statistics(evaluated=36)
            )
        return found

    def candidate(self, number: int, n_ions: int) -> CandidateDoc:
        """Return a candidate: a configuration that is not there yet, or any for static labels."""
        host = self.campaign.host
        while True:
            config = canonical(host, random_occupation(host, n_ions, self.rng))
            key = canonical_hash(host, config)
            if key not in self.seen or self.campaign.static_labels:
                break
        self.seen.add(key)
        atoms = to_atoms(host, config)
        atoms.positions += self.rng.normal(scale=RATTLE, size=atoms.positions.shape)
        energy = None if number == 0 else self.energy(n_ions) + 0.05
        return CandidateDoc(
            campaign=self.campaign.name,
            round=number,
            n_ions=n_ions,
            composition=str(host.composition(n_ions)),
            config_hash=key,
            colours=list(config.occupation),
            geometry=geometry_of(atoms),
            energy=energy,
            spread=None if energy is None else 0.08,
            origin="seed" if energy is None else "search",
        )

    def energy(self, n_ions: int) -> float:
        """Return an energy that makes a hull of some vertices, eV per cell."""
        host = self.campaign.host
        x = n_ions / host.ion_counts[-1]
        lift = 0.0 if x in (0.0, 1.0) else float(self.rng.gamma(4.0, 0.02))
        return host.formula_units * (-130.0 - 5.0 * x - 0.4 * x * (1.0 - x) + lift)

    def real_label(self) -> LabelDoc:
        """Make the first label as a worker does."""
        label(self.campaign, 0, 0, self.folder / "label", spool=self.folder / "spool")
        (made,) = self.store.labels.read(ALL_FRAMES, campaign=self.campaign.name)
        self.held.append((made.config_hash, 0.01))
        self.energies[made.key] = made.energy
        return made

    def label_of(self, candidate: CandidateDoc, number: int) -> LabelDoc:
        """Return the label of a candidate: the real one with other atoms and another energy."""
        assert self.template is not None
        geometry, energy = candidate.geometry, self.energy(candidate.n_ions)
        at, shape = np.array(geometry.positions), (len(geometry.numbers), 3)
        frames = [
            frame.model_copy(
                update={
                    "positions": (at + self.rng.normal(scale=0.01, size=shape)).tolist(),
                    "forces": self.rng.normal(scale=0.1, size=shape).tolist(),
                    "energy": energy + 0.1 * (len(self.template.frames) - 1 - place),
                }
            )
            for place, frame in enumerate(self.template.frames)
        ]
        return self.template.model_copy(
            update={
                "key": label_key(self.campaign, candidate),
                "config_hash": candidate.config_hash,
                "requested_hash": candidate.config_hash,
                "colours": candidate.colours,
                "composition": candidate.composition,
                "n_ions": candidate.n_ions,
                "requested": geometry.species,
                "resolved": geometry.species,
                "sites": geometry.species,
                "numbers": geometry.numbers,
                "host_site": geometry.host_site,
                "frames": frames,
                "energy": energy,
                "directory": str(self.folder / "label"),
                "round": number,
                "created": datetime.now(UTC),
            }
        )

    def write_labels(self, made: Sequence[LabelDoc], number: int) -> None:
        """Write labels with their uses and attempts."""
        name, database = self.campaign.name, self.store.database
        uses = [LabelUseDoc(campaign=name, round=number, key=one.key) for one in made]
        attempts = [
            AttemptDoc(
                attempt=uuid.uuid4().hex, key=one.key, campaign=name, round=number, slot=slot,
                hostname="node", pid=1, finished=datetime.now(UTC), outcome="made",
            )
            for slot, one in enumerate(made)
        ]  # fmt: skip
        for documents in (made, uses, attempts):
            collection = database[documents[0].collection]
            collection.insert_many(document.to_mongo() for document in documents)
        self.held += [(one.config_hash, 0.01) for one in made]
        self.energies |= {one.key: one.energy for one in made}
        self.requests = [Request(one.config_hash, one.key, False) for one in made]

    def write_models(self, number: int) -> None:
        """Write the committee of a round; each member holds out a part of its own."""
        config, weights, history = self.model
        size = self.campaign.spec.committee.size
        full = number >= self.size.rounds - IN_FULL
        for member in range(size):
            document = ModelDoc(
                campaign=self.campaign.name,
                round=number,
                member=member,
                config=config,
                metrics=history[-1],
                history=history,
                held_out=dict(self.held[member :: 2 * size]),
            )
            if full:
                errors = self.rng.normal(scale=0.05, size=len(self.energies)).tolist()
                said = zip(self.energies.items(), errors, strict=True)
                predictions = {key: energy + error for (key, energy), error in said}
                self.store.models.put(document, weights, predictions)
            else:
                self.store.database[ModelDoc.collection].insert_one(document.to_mongo())

    def assessment(self) -> Assessment:
        """Return what the assessment of a past round found."""
        return Assessment(
            spread_scale=1.0,
            vertices=[Vertex("0", self.held[0][0]), Vertex("1", self.held[1][0])],
            labels=len(self.energies),
            criteria=[
                Criterion(name=f"criterion {i}", met=False, value="not yet") for i in range(4)
            ],
            hull_shift=0.01,
            p_below_hull=0.01,
            unlabelled_vertices=[],
            requests=self.requests if self.campaign.static_labels else None,
        )


def submitted(size: Size, launchpad: LaunchPad, *, static: bool) -> Campaign:
    """Submit the campaign and return it."""
    document = read_mapping(FILE)
    document["name"] = "scale"
    document["host"]["supercell"] = list(size.supercell)
    document["labeler"]["relax"] = "none" if static else "cell"
    document["acquisition"] = {"first_round": size.first, "labels_per_round": size.per_round}
    document["convergence"] |= {"max_labels": 2 * size.labels, "max_rounds": 2 * size.rounds}
    spec = parse_spec(document, source=FILE)
    store = store_of(launchpad)
    submit(store, spec)
    return open_campaign(store, spec.name)


def trained(campaign: Campaign, folder: Path) -> tuple[dict[str, Any], bytes, list[dict[str, Any]]]:
    """Return configuration, weights and history of a potential that has seen a few frames."""
    from safetensors.torch import save

    frames = []
    for n_ions in campaign.host.ion_counts[::4]:
        atoms = rattled(campaign, n_ions, len(frames))
        forces = np.random.default_rng(len(frames)).normal(scale=0.1, size=(len(atoms), 3))
        energy = -130.0 * campaign.host.formula_units - 5.0 * n_ions
        frames.append(TrainingFrame(atoms, energy, forces, np.zeros((3, 3)), f"g{len(frames)}"))
    result = train(
        campaign.spec.potential,
        campaign.spec.training,
        frames,
        seed=1,
        fold=0,
        n_folds=6,
        checkpoint=folder / "checkpoint",
    )
    config, weights = result.potential.state()
    return config, save(weights), result.history


def rattled(campaign: Campaign, n_ions: int, seed: int) -> Atoms:
    """Return a random configuration, its atoms moved a little."""
    rng = np.random.default_rng(seed)
    atoms = to_atoms(campaign.host, random_occupation(campaign.host, n_ions, rng))
    atoms.positions += rng.normal(scale=RATTLE, size=atoms.positions.shape)
    return atoms


def write_workflow(launchpad: LaunchPad, campaign: Campaign, number: int, *, last: bool) -> None:
    """Write a round's workflow whose Fireworks have run, but for the last round's assessment."""
    workflow = round_workflow(campaign, number)
    launchpad.add_wf(workflow)
    done = [fw.fw_id for fw in workflow.fws if not (last and fw.name.endswith("assess"))]
    more = {"$inc": {"next_launch_id": len(done)}}
    first = launchpad.fw_id_assigner.find_one_and_update({}, more)["next_launch_id"]
    launch_ids = {fw_id: first + place for place, fw_id in enumerate(done)}
    launches = [launch_of(fw_id, launch_id).to_db_dict() for fw_id, launch_id in launch_ids.items()]
    launchpad.launches.insert_many(launches)
    ended = [
        UpdateOne({"fw_id": fw_id}, {"$set": {"state": "COMPLETED", "launches": [launch_id]}})
        for fw_id, launch_id in launch_ids.items()
    ]
    launchpad.fireworks.bulk_write(ended)
    states = {f"fw_states.{fw_id}": "COMPLETED" for fw_id in done}
    states["state"] = "RUNNING" if last else "COMPLETED"
    launchpad.workflows.update_one({"nodes": done[0]}, {"$set": states})
    # As FireWorks does when the last of its parents has ended.
    launchpad._refresh_wf(done[-1])


def launch_of(fw_id: int, launch_id: int) -> Launch:
    """Return a launch that has run to its end."""
    fworker = FWorker(name="1@node@0.00", category=["cpu", "dft", "gpu"])
    launch = Launch("RESERVED", "/runs", fworker, "node", "", launch_id=launch_id, fw_id=fw_id)
    launch.state = "RUNNING"
    launch.state, launch.action = "COMPLETED", FWAction()
    return launch
