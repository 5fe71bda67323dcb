"""The proof at x = 2/3: eight potentials, blind and charge-aware, search by themselves.

    python benchmarks/two_thirds_arms.py run CAMPAIGN LABELS FOLDER
    python benchmarks/two_thirds_arms.py picks CAMPAIGN FOLDER

CAMPAIGN is the file whose host, committee, training, relaxation and search count, LABELS what
`al-charge labels export` wrote. Each arm trains its own committee on all labels and searches each
composition from scratch, with relaxations of its own. What it has done is kept in FOLDER, one
folder for each arm; a run that was stopped goes on. A search of a blind arm sees ions alone: see
`two_thirds_data`.

``picks`` writes ``picks.extxyz``, the three lowest and the three highest of each arm at the first
composition that have no label, each order once, and ``picks/NN.extxyz``, the same one by one. They
are to be relaxed by DFT. A blind arm picks ions; they get the charge order of lowest Ewald energy
and shells that fit it. DFT that is started blind ends with all Fe alike, or in an order of chance;
this is the best order that is had without a potential, so that a blind arm's pick does not come out
high because its DFT was not steered.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
from ase import Atoms
from charge_awareness import ARCHITECTURES
from rich.progress import track
from superstructure import lowest_ewald, open_campaign, written
from two_thirds_data import View, distorted, read_labels

from al_charge.crystal.configuration import Configuration, composition, set_species, species_of
from al_charge.crystal.host import Host
from al_charge.crystal.identity import identity
from al_charge.errors import InputError
from al_charge.loop.campaign import Campaign
from al_charge.loop.train import FOLDS_PER_MEMBER
from al_charge.potentials.committee import Committee
from al_charge.potentials.model_file import read_members, write_model
from al_charge.potentials.relaxation.one_by_one import relax
from al_charge.potentials.settings import PotentialSettings
from al_charge.potentials.training.train import train
from al_charge.search.plugin import SEARCHES, Space
from al_charge.search.seeds import seeds

COMPOSITIONS = (Fraction(2, 3), Fraction(1, 2))
PICKED = 3
"""Lowest, and highest, of each arm that are labelled."""
LABELS, SETTINGS = "labels.extxyz", "arms.json"


@dataclass(frozen=True)
class Arm:
    """One potential that searches by itself."""

    kind: str
    charge_aware: bool
    seed: int

    @property
    def name(self) -> str:
        """What its folder is named after."""
        return f"{self.kind}-{'aware' if self.charge_aware else 'blind'}-{self.seed}"

    def settings(self, campaign: Campaign) -> PotentialSettings:
        """Return the potential's settings: the campaign's where the kinds have them in common."""
        given = campaign.spec.potential.model_dump(mode="json", exclude_unset=True)
        kind = ARCHITECTURES[self.kind]
        if self.kind != campaign.spec.potential.kind:
            common = {"pair_cutoff", "pair_intervals", "prior", "cutoff"}
            # CHGNet keeps the shape of its published weights, and is its own prior.
            common -= {"prior", "cutoff"} if self.kind == "chgnet" else set()
            given = {name: value for name, value in given.items() if name in common}
        changes = {"kind": self.kind, "charge_aware": self.charge_aware}
        settings: PotentialSettings = kind.model_validate(given | changes)
        return settings


@dataclass(frozen=True)
class Found:
    """A relaxation by an arm's committee; energies in eV per cell, lengths in angstrom."""

    energy: float
    converged: bool
    steps: int
    positions: list[list[float]]
    cell: list[list[float]]

    def atoms(self, start: Atoms) -> Atoms:
        """Return the geometry, with the arrays of its start."""
        moved = start.copy()
        moved.set_cell(self.cell, scale_atoms=False)
        moved.positions = self.positions
        return moved


class Runner:
    """One arm: its committee, its relaxations and its searches, kept in its folder."""

    def __init__(self, arm: Arm, view: View, folder: Path) -> None:
        self.arm, self.view, self.folder = arm, view, folder / arm.name
        self.folder.mkdir(parents=True, exist_ok=True)
        self._kept = self.folder / "relaxations.jsonl"
        lines = self._kept.read_text().splitlines(True) if self._kept.exists() else []
        if lines and not lines[-1].endswith("\n"):  # the run was stopped while it was written
            self._kept.write_text("".join(lines[:-1]))
        whole = [json.loads(line) for line in lines if line.endswith("\n")]
        self.relaxations = {key: Found(**found) for key, found in whole}

    @cached_property
    def committee(self) -> Committee:
        """The arm's committee, trained unless it is there."""
        model = self.folder / "committee.safetensors"
        if not model.exists():
            write_model(model, [self._member(number) for number in range(self._size)])
        return Committee(read_members(model)[0])

    @property
    def _size(self) -> int:
        return self.view.campaign.spec.committee.size

    def _member(self, number: int) -> Any:
        return train(
            self.arm.settings(self.view.campaign),
            self.view.campaign.spec.training,
            self.view.frames,
            seed=int(self._rng("train", number).integers(2**31)),
            fold=number,
            n_folds=FOLDS_PER_MEMBER * self._size,
            checkpoint=self.folder / f"member-{number}.checkpoint",
        ).potential

    def _rng(self, *words: int | str) -> np.random.Generator:
        return self.view.campaign.rng("arm", self.arm.seed, *words)

    def relaxed(self, host: Host, config: Configuration) -> tuple[Atoms, Found]:
        """Return a configuration relaxed by the committee from sites.

        Each image of a configuration is relaxed for itself, so that its sites are where they were.
        """
        occupation = ",".join(map(str, config.occupation))
        key, start = f"{host.fingerprint}:{occupation}", self.view.start(host, config)
        if key not in self.relaxations:
            campaign = self.view.campaign
            (one,) = relax(
                self.committee,
                [start],
                fmax=campaign.spec.relaxation.fmax,
                max_steps=campaign.spec.relaxation.max_steps,
                cell=campaign.committee_relaxes_cells,
                largest_displacement=campaign.largest_displacement,
            )
            found = Found(
                one.energy,
                one.converged,
                one.steps,
                one.atoms.positions.tolist(),
                one.atoms.cell.tolist(),
            )
            with self._kept.open("a") as file:
                file.write(json.dumps([key, vars(found)]) + "\n")
            self.relaxations[key] = found
        return self.relaxations[key].atoms(start), self.relaxations[key]

    def search(self, x: Fraction) -> list[dict[str, Any]]:
        """Return what a search of a composition relaxed, lowest first, per formula unit."""
        path = self.folder / f"search-{x.numerator}-{x.denominator}.json"
        if not path.exists():
            spaces, settings = self._spaces(x), self.view.campaign.spec.search
            results = SEARCHES.of(settings).search(spaces, self._evaluate, settings)
            ranking = [
                {
                    "energy": energy / space.host.formula_units,
                    "order": identity(space.host, config),
                    "cell": self.view.cells.hosts.index(space.host),
                    "occupation": list(config.occupation),
                }
                for space, result in zip(spaces, results, strict=True)
                for config, energy in result.ranking
                if space.without_smaller([config])
            ]
            ranking.sort(key=lambda one: (one["energy"], one["order"]))
            part = path.with_suffix(".part")
            part.write_text(json.dumps(ranking, indent=1))
            part.replace(path)
        found: list[dict[str, Any]] = json.loads(path.read_text())
        return found

    def _evaluate(self, points: Sequence[tuple[Space, Configuration]]) -> list[float]:
        return [self.relaxed(space.host, config)[1].energy for space, config in points]

    def _spaces(self, x: Fraction) -> list[Space]:
        """Return the spaces of a composition as in a campaign's first search after its labels."""
        cells, count = self.view.cells, self.view.campaign.spec.search.seeds
        homes = [self.view.home(one) for one in self.view.labels if one.x == x]
        spaces = []
        for cell, host in enumerate(cells.hosts):
            if not cells.numbers[cell].get(x):
                continue
            n_ions, smaller = host.n_ions(x), cells.smaller(cell)
            rng = self._rng("seeds", str(x), cell)
            spaces.append(
                Space(
                    host,
                    n_ions,
                    rng=self._rng("search", str(x), cell),
                    seeds=seeds(host, n_ions, count, rng, smaller),
                    labelled=[config for home, config in homes if home is host],
                    observations=self.view.observations(),
                    smaller=smaller,
                )
            )
        return spaces


def picks(runners: Sequence[Runner], x: Fraction) -> list[Atoms]:
    """Return what arms want to be labelled, each order once; ``info`` tells who wants it.

    Of an order that several want the geometry is that of the first charge-aware one.
    """
    chosen: dict[str, Atoms] = {}
    for runner in sorted(runners, key=lambda one: not one.arm.charge_aware):
        known = {one.order for one in runner.view.labels}
        new = [one for one in runner.search(x) if one["order"] not in known]
        ends = new[:PICKED], new[PICKED:][-PICKED:][::-1]
        for side, some in zip(("low", "high"), ends, strict=True):
            for number, one in enumerate(some, start=1):
                host = runner.view.campaign.cells.hosts[one["cell"]]
                config = Configuration(tuple(one["occupation"]))
                atoms, _ = runner.relaxed(runner.view.cells.hosts[one["cell"]], config)
                if not runner.view.charge_aware:
                    config = lowest_ewald(host, config)
                    set_species(atoms, list(species_of(host, config).values()))
                    if runner.view.campaign.static_labels:
                        atoms = distorted(atoms)
                order = identity(host, config)
                kept = chosen.setdefault(order, written(atoms))
                kept.info.setdefault("order", order)
                kept.info.setdefault("x", float(composition(host, config)))
                wanted = f"{runner.arm.name}:{side}{number}"
                kept.info["arms"] = " ".join([*kept.info.get("arms", "").split(), wanted])
    return list(chosen.values())


def runners_of(campaign_file: Path, folder: Path) -> list[Runner]:
    """Return the arms of a folder with what they see."""
    document = json.loads((folder / SETTINGS).read_text())
    campaign = with_budget(open_campaign(campaign_file), document["budget"])
    labels = read_labels(campaign, folder / LABELS)
    views = {aware: View.of(campaign, labels, charge_aware=aware) for aware in (True, False)}
    arms = [Arm(**one) for one in document["arms"]]
    return [Runner(arm, views[arm.charge_aware], folder) for arm in arms]


def begin(campaign: Campaign, labels: Path, folder: Path, arms: Sequence[Arm], budget: Any) -> None:
    """Keep the labels and the settings in a folder; further arms may join.

    Raises
    ------
    InputError
        If the folder was begun with other labels or settings.
    """
    folder.mkdir(parents=True, exist_ok=True)
    parts = {"host", "labeler", "potential", "training", "committee", "relaxation", "search"}
    document: dict[str, Any] = {
        "labels": hashlib.sha256(labels.read_bytes()).hexdigest(),
        "campaign": campaign.spec.model_dump(mode="json", include={*parts, "seed"}),
        "budget": budget,
        "arms": [],
    }
    path = folder / SETTINGS
    before = json.loads(path.read_text()) if path.exists() else document
    if before | {"arms": []} != document:
        raise InputError(
            "the folder has results of other labels or settings",
            where=str(folder),
            remedy="give another folder",
        )
    shutil.copyfile(labels, folder / LABELS)
    new = [vars(arm) for arm in arms if vars(arm) not in before["arms"]]
    path.write_text(json.dumps(document | {"arms": before["arms"] + new}, indent=1))


def with_budget(campaign: Campaign, budget: dict[str, int | None]) -> Campaign:
    """Return a campaign with other numbers where some are given."""
    spec = campaign.spec

    def changed(part: Any, field: str, name: str) -> Any:
        return part.model_copy(update={field: budget[name]}) if budget[name] else part

    changes = {
        "training": changed(spec.training, "epochs", "epochs"),
        "search": changed(spec.search, "evaluations", "evaluations"),
        "committee": changed(spec.committee, "size", "members"),
    }
    return replace(campaign, spec=spec.model_copy(update=changes))


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    running = commands.add_parser("run", help="train and search what is missing")
    picking = commands.add_parser("picks", help="write what is to be labelled")
    running.add_argument("campaign", type=Path)
    running.add_argument("labels", type=Path)
    picking.add_argument("campaign", type=Path)
    for one in (running, picking):
        one.add_argument("folder", type=Path)
        one.add_argument("--x", type=Fraction, nargs="+", default=list(COMPOSITIONS))
    running.add_argument("--kinds", nargs="+", choices=ARCHITECTURES, default=list(ARCHITECTURES))
    running.add_argument("--seeds", type=int, default=1)
    for name in ("epochs", "evaluations", "members"):
        running.add_argument(f"--{name}", type=int, help="instead of the campaign's")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run arms, or write what they want to be labelled."""
    import torch

    torch.set_num_threads(1)
    options = parsed(arguments)
    folder: Path = options.folder
    if options.command == "run":
        arms = [
            Arm(kind, aware, seed)
            for seed in range(options.seeds)
            for kind in options.kinds
            for aware in (True, False)
        ]
        budget = {name: getattr(options, name) for name in ("epochs", "evaluations", "members")}
        campaign = with_budget(open_campaign(options.campaign), budget)
        begin(campaign, options.labels, folder, arms, budget)
        mine = [one for one in runners_of(options.campaign, folder) if one.arm in arms]
        for runner in track(mine, "arms"):
            for x in options.x:
                runner.search(x)
        return
    found = picks(runners_of(options.campaign, folder), options.x[0])
    shutil.rmtree(folder / "picks", ignore_errors=True)  # of fewer arms
    (folder / "picks").mkdir()
    ase.io.write(folder / "picks.extxyz", found, format="extxyz")
    for number, atoms in enumerate(found):
        ase.io.write(folder / "picks" / f"{number:02d}.extxyz", atoms, format="extxyz")
    print(f"{folder / 'picks.extxyz'}: {len(found)} orders to label")


if __name__ == "__main__":
    main()
