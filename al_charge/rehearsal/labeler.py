"""Labels by a stored potential, in double precision and on the CPU, so that all machines agree."""

from __future__ import annotations

import hashlib
import json
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms
from typing_extensions import override

from al_charge.crystal.configuration import set_species
from al_charge.crystal.species import element_of, tokens_of
from al_charge.crystal.valence import Audit, Windows
from al_charge.errors import AlChargeError, CrashedError, InputError
from al_charge.labelers.files import read_json, write_json
from al_charge.labelers.kept_frames import kept_frames
from al_charge.labelers.protocol import Attempt, Frame, Labeler, Reading, Relax
from al_charge.rehearsal.settings import ModelSettings, read_file

if TYPE_CHECKING:
    from al_charge.potentials.committee import Committee
    from al_charge.potentials.prediction import Prediction

ENGINE, VERSION = "rehearsal", 1
"""The name of the engine in labels, and the version of how a potential labels."""

INPUT, RESULT = "input.json", "result.json"
"""The files of a job."""


class ModelLabeler(Labeler):
    """Labels made by a stored potential, or by the mean of a committee.

    Parameters
    ----------
    settings
        The file, and whether and how far to relax.
    """

    gives_stress = True
    tries = 1
    """Charge states are an input of the potential: there is nothing to steer."""

    def __init__(self, settings: ModelSettings) -> None:
        self._settings = settings

    @property
    @override
    def relax(self) -> Relax:
        return self._settings.relax

    @override
    def settings(self) -> dict[str, Any]:
        metal = self._settings.metal_energy
        return {
            "engine": ENGINE,
            "version": VERSION,
            "model": self._settings.digest,
            "metal_energy": None if metal is None else float(metal),
        }

    @override
    def check(self, species: Sequence[str], ion: str) -> None:
        self._refuse_unknown(species)

    @override
    def prepare(self, atoms: Atoms, directory: Path, *, relax: Relax, attempt: int) -> None:
        """Write ``input.json``."""
        species = tokens_of(atoms)
        self._refuse_unknown(species)
        document = {
            "labeler": self.settings(),
            "relax": relax.value,
            "fmax": float(self._settings.fmax),
            "max_steps": self._settings.max_steps,
            "species": species,
            "positions": atoms.positions.tolist(),
            "cell": atoms.cell.array.tolist(),
        }
        try:
            directory.mkdir(parents=True, exist_ok=True)
            # The result of another job must be gone before this one's input is there.
            if _input(directory) != document:
                (directory / RESULT).unlink(missing_ok=True)
        except OSError as error:
            raise AlChargeError(
                f"cannot write: {error.strerror or error}", where=str(directory)
            ) from error
        write_json(directory / INPUT, document)

    @override
    def run(self, directory: Path) -> None:
        """Write ``result.json``; fail if the potential contradicts the charge order."""
        job = read_json(directory / INPUT)
        if self._has_ended(directory):
            return
        began = time.monotonic()
        committee = self._committee()
        places = _places(committee, job)
        _refuse_flipped(committee, job["species"], places[-1][1])
        kept = kept_frames([prediction.energy for _, prediction in places])
        result = {
            "job": _identity(job),
            "frames": [_record(*places[i]) for i in kept],
            "details": {"steps": len(places) - 1},
            "wall_time": time.monotonic() - began,
        }
        write_json(directory / RESULT, result)

    @override
    def read(self, directory: Path) -> Reading:
        job, result = read_json(directory / INPUT), read_json(directory / RESULT)
        try:
            if result["job"] != _identity(job):
                raise AlChargeError(
                    "the result belongs to another job", where=str(directory / RESULT)
                )
            return Reading(
                frames=tuple(_frame(record) for record in result["frames"]),
                moments=None,
                bader=None,
                converged=True,
                engine=f"{ENGINE} {job['labeler']['model'][:12]}",
                wall_time=result["wall_time"],
                attempts=(Attempt("charge states as asked for", "converged"),),
                details=result["details"],
            )
        except (KeyError, TypeError, ValueError) as error:
            raise CrashedError(
                "the file is truncated or damaged", where=str(directory / RESULT)
            ) from error

    def _has_ended(self, directory: Path) -> bool:
        try:
            self.read(directory)
        except AlChargeError:
            return False
        return True

    @override
    def audit(self, reading: Reading, species: Sequence[str], windows: Windows | None) -> Audit:
        """Return the requested charge states, which are an input of the potential."""
        return Audit(tuple(species))

    @override
    def metal_energy(self, ion: str, directory: Path) -> float:
        """Return the energy that the settings give, or zero; nothing is written.

        A potential of ions knows no metal. With zero only differences of voltages mean something,
        which is told wherever they are shown.
        """
        return float(self._settings.metal_energy or 0.0)

    def _committee(self) -> Committee:
        return _loaded(self._settings.model, self._settings.digest)

    def _refuse_unknown(self, species: Iterable[str]) -> None:
        """Refuse species that a member does not know, and mixed valence if one is blind."""
        states: dict[str, set[str]] = defaultdict(set)
        for token in species:
            states[element_of(token)].add(token)
        mixed = sorted(token for tokens in states.values() if len(tokens) > 1 for token in tokens)
        where = f"labeler.model: {self._settings.model.name}"
        for member in self._committee().members:
            vocabulary = member.vocabulary
            if mixed and not vocabulary.charge_aware:
                raise InputError(
                    f"this potential is blind to charge states and cannot tell {', '.join(mixed)}",
                    where=where,
                    remedy="give one that was trained with 'charge_aware: true'",
                )
            tokens = {token for group in states.values() for token in group}
            lacking = sorted(one for one in tokens if vocabulary.name(one) not in vocabulary.tokens)
            if lacking:
                raise InputError(
                    f"this potential does not know {', '.join(lacking)}",
                    where=where,
                    remedy=f"it knows {', '.join(vocabulary.tokens)}",
                )


@lru_cache(maxsize=2)
def _loaded(path: Path, digest: str) -> Committee:
    """Return the committee of a file, in double precision, if the file is still the same."""
    import torch

    from al_charge.potentials.committee import Committee
    from al_charge.potentials.model_file import read_members

    if hashlib.sha256(read_file(path)).hexdigest() != digest:
        raise InputError(
            "the file is not the one with this checksum",
            where=f"labeler.model: {path}",
            remedy="restore it, or leave sha256 out",
        )
    members, _ = read_members(path)
    return Committee([member.to(dtype=torch.float64) for member in members])


def _places(committee: Committee, job: dict[str, Any]) -> list[tuple[Atoms, Prediction]]:
    """Return the geometries of a job, from the one asked for to the relaxed one."""
    from al_charge.potentials.relaxation.one_by_one import relax

    species = job["species"]
    symbols = [element_of(token) for token in species]
    atoms = Atoms(symbols, positions=job["positions"], cell=job["cell"], pbc=True)
    set_species(atoms, species)
    if job["relax"] == Relax.NONE:
        return [(atoms, committee.predict([atoms])[0])]
    places: list[tuple[Atoms, Prediction]] = []
    (found,) = relax(
        committee,
        [atoms],
        fmax=job["fmax"],
        max_steps=job["max_steps"],
        cell=job["relax"] == Relax.CELL,
        watch=lambda here, prediction: places.append((here, prediction)),
    )
    if not found.converged:
        raise AlChargeError(
            f"the relaxation ended after {found.steps} steps without small forces",
            where="rehearsal",
            remedy="check the starting geometry, or give a larger fmax",
        )
    return places


def _refuse_flipped(committee: Committee, species: list[str], last: Prediction) -> None:
    """Refuse a charge order that the potential's own moments or charges contradict."""
    from al_charge.potentials.drift import drifted_sites

    flipped = drifted_sites(committee, species, last.moments, last.charges)
    if flipped:
        sites = ", ".join(f"{species[site]} {site}" for site in flipped)
        raise AlChargeError(
            f"by the potential's own moments and charges the state of {sites} has flipped",
            where="rehearsal",
        )


def _input(directory: Path) -> dict[str, Any] | None:
    try:
        return read_json(directory / INPUT)
    except AlChargeError:
        return None


def _identity(job: dict[str, Any]) -> str:
    """Return the identity of a job, a hash of all that is asked for."""
    return hashlib.sha256(json.dumps(job, sort_keys=True).encode()).hexdigest()[:16]


def _record(atoms: Atoms, prediction: Prediction) -> dict[str, Any]:
    return {
        "positions": atoms.positions.tolist(),
        "cell": atoms.cell.array.tolist(),
        "energy": prediction.energy,
        "forces": prediction.forces.tolist(),
        "stress": ((prediction.stress + prediction.stress.T) / 2.0).tolist(),
    }


def _frame(record: dict[str, Any]) -> Frame:
    return Frame(
        positions=np.array(record["positions"], dtype=float),
        cell=np.array(record["cell"], dtype=float),
        energy=float(record["energy"]),
        forces=np.array(record["forces"], dtype=float),
        stress=np.array(record["stress"], dtype=float),
    )
