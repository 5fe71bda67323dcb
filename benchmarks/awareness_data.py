"""The two data sets on which blind and charge-aware potentials are compared.

``born``: every configuration of three supercells of olivine NaxFePO4; whole compositions are held
out (`born_pool`). ``gpaw``: the labels in ``examples/data``; half the mixed configurations of every
composition are held out, others with each seed.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms
from born_pool import EXHAUSTIVE, make_pool

from al_charge.crystal.configuration import to_atoms
from al_charge.crystal.enumeration import enumerate_distinct
from al_charge.crystal.host import Host
from al_charge.crystal.interpolation import interpolated_host, match_empty
from al_charge.crystal.parent import read_structure
from al_charge.crystal.shells import SHELL_DISTORTION, distort_shells
from al_charge.crystal.symmetry import canonical_hash
from al_charge.labelers.born.parameters import METAL_ENERGIES
from al_charge.loop.spec import load_spec
from al_charge.potentials.data.dataset import Dataset, Reading, read_dataset
from al_charge.potentials.data.frames import TrainingFrame

ROOT = Path(__file__).parents[1]
GPAW_LABELS = ROOT / "examples" / "data" / "nafepo4_gpaw.extxyz"
GPAW_CAMPAIGN = ROOT / "workflows" / "nafepo4_gpaw.yaml"
BORN_LABELLED = 160
"""Mixed configurations that a potential is trained on."""
LARGEST_FORCE = 1.0
"""eV/angstrom, in frames that errors are measured on: farther ones matter to no hull."""
RELAXED_FORCE = 0.5
"""eV/angstrom, in GPAW labels that count as the result of a relaxation. Labels are single points at
geometries that committees relaxed; some are far from GPAW's own minimum, and are no targets."""
BORN_RANKED, BORN_LOWEST = 24, 6
"""Configurations of a held-out composition that are relaxed, and how many of them are the
labeler's lowest; the others are drawn at random."""


@dataclass(frozen=True)
class Labelled:
    """All frames of one configuration.

    Attributes
    ----------
    name
        Canonical hash.
    x
        Working ions per formula unit.
    supercell
        Of the host, as ``1x2x1``; empty if the file does not tell.
    formula_units
        Of the cell.
    frames
        In the order of the file.
    """

    name: str
    x: Fraction
    supercell: str
    formula_units: int
    frames: list[TrainingFrame]


@dataclass(frozen=True)
class Target:
    """A configuration to relax, and what the labeler found.

    Attributes
    ----------
    name, x
        As in `Labelled`.
    start
        Unrelaxed structure.
    energy
        The labeler's lowest, eV per formula unit.
    relaxed
        The geometry of that energy.
    held_out
        Whether no potential of this trial was trained on it.
    """

    name: str
    x: Fraction
    start: Atoms
    energy: float
    relaxed: Atoms
    held_out: bool


@dataclass(frozen=True)
class Trial:
    """What the potentials of one seed are trained and tested on.

    Attributes
    ----------
    labelled
        The configurations to train on.
    test
        Held-out frames, of those with no force beyond ``LARGEST_FORCE``.
    targets
        To relax; end members among them.
    metal_energy
        eV/atom of the working ion's metal.
    formula_units
        Of every target.
    """

    labelled: list[Labelled]
    test: Dataset
    targets: list[Target]
    metal_energy: float
    formula_units: int

    @property
    def frames(self) -> list[TrainingFrame]:
        """Frames to train on."""
        return [frame for one in self.labelled for frame in one.frames]


def trial(data: str, folder: Path, seed: int) -> Trial:
    """Return the trial of a seed; ``folder`` is where Born labels are kept."""
    return _born(folder, seed) if data == "born" else _gpaw(seed)


@cache
def _read(path: Path) -> tuple[Labelled, ...]:
    data = read_dataset(path, Reading())
    infos = [atoms.info for atoms in ase.io.iread(path)]
    assert len(infos) == len(data.frames), f"frames of {path} were left out"
    groups: dict[str, list[int]] = defaultdict(list)
    for number, frame in enumerate(data.frames):
        groups[frame.group].append(number)
    found = []
    for name, numbers in groups.items():
        info, units = infos[numbers[0]], data.formula_units[numbers[0]]
        assert units is not None, f"{path} does not tell formula units"
        x = Fraction(int(info["n_ions"]), units)
        frames = [data.frames[i] for i in numbers]
        found.append(Labelled(name, x, str(info.get("supercell", "")), units, frames))
    return tuple(found)


def _born(folder: Path, seed: int) -> Trial:
    files = make_pool(folder, processes=2)
    here = "x".join(map(str, EXHAUSTIVE))
    known = _read(files["train"])
    ends = [one for one in known if one.x in (0, 1)]
    mixed = [one for one in known if one.x not in (0, 1)]
    order = np.random.default_rng(seed).permutation(len(mixed))
    chosen = ends + [mixed[i] for i in order[:BORN_LABELLED]]
    held = [one for one in _read(files["test"]) if one.supercell == here]
    targets = [_relaxed(one, held_out=False) for one in ends if one.supercell == here]
    for x in sorted({one.x for one in held}):
        targets += [_relaxed(one, held_out=True) for one in _ranked(held, x)]
    return Trial(
        labelled=chosen,
        test=_dataset(held),
        targets=targets,
        metal_energy=METAL_ENERGIES["Na"],
        formula_units=held[0].formula_units,
    )


def _ranked(held: Sequence[Labelled], x: Fraction) -> list[Labelled]:
    """Return the configurations of a composition that are relaxed, the same for every potential."""
    ordered = sorted((one for one in held if one.x == x), key=lambda one: one.frames[-1].energy)
    lowest, others = ordered[:BORN_LOWEST], ordered[BORN_LOWEST:]
    drawn = np.random.default_rng(0).permutation(len(others))[: BORN_RANKED - BORN_LOWEST]
    return lowest + [others[i] for i in drawn]


def _relaxed(one: Labelled, *, held_out: bool) -> Target:
    """Return a configuration whose frames are those of a relaxation."""
    last = one.frames[-1]
    energy = last.energy / one.formula_units
    return Target(one.name, one.x, one.frames[0].atoms, energy, last.atoms, held_out)


def _gpaw(seed: int) -> Trial:
    labelled = _read(GPAW_LABELS)
    starts = _gpaw_starts()
    rng = np.random.default_rng(seed)
    held: list[Labelled] = []
    for x in sorted({one.x for one in labelled} - {Fraction(0), Fraction(1)}):
        own = [one for one in labelled if one.x == x]
        held += [own[i] for i in rng.permutation(len(own))[: len(own) // 2]]
    names = {one.name for one in held}
    targets = []
    for one in labelled:
        lowest = min(one.frames, key=lambda frame: frame.energy)
        if _largest_force(lowest) > RELAXED_FORCE:
            continue
        energy = lowest.energy / one.formula_units
        start = starts[one.name]
        targets.append(Target(one.name, one.x, start, energy, lowest.atoms, one.name in names))
    return Trial(
        labelled=[one for one in labelled if one.name not in names],
        test=_dataset(held),
        targets=targets,
        metal_energy=json.loads(GPAW_LABELS.with_suffix(".json").read_text())["metal"]["energy"],
        formula_units=labelled[0].formula_units,
    )


@cache
def _gpaw_starts() -> dict[str, Atoms]:
    """Return where the campaign started from, by canonical hash: sites between both hosts."""
    spec = load_spec(GPAW_CAMPAIGN)
    full = read_structure(spec.host.structure)
    host = Host.build(spec.host, full)
    assert spec.host.empty_structure is not None
    empty = match_empty(full, read_structure(spec.host.empty_structure), spec.host.working_ion)
    starts = {}
    for n_ions in host.ion_counts:
        sites = interpolated_host(host, full, empty, n_ions)
        for config in enumerate_distinct(host, n_ions):
            atoms = distort_shells(to_atoms(sites, config), SHELL_DISTORTION)
            starts[canonical_hash(host, config)] = atoms
    return starts


def _dataset(held: Sequence[Labelled]) -> Dataset:
    known: list[tuple[TrainingFrame, int | None]] = [
        (frame, one.formula_units)
        for one in held
        for frame in one.frames
        if _largest_force(frame) <= LARGEST_FORCE
    ]
    frames, units = [frame for frame, _ in known], [unit for _, unit in known]
    return Dataset(frames, units, left_out={}, groups_from="configuration", states_from={})


def _largest_force(frame: TrainingFrame) -> float:
    return float(np.linalg.norm(frame.forces, axis=1).max())
