"""Labels by a stored potential, in double precision and on the CPU, so that all machines agree."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ase import Atoms
from typing_extensions import override

from al_charge.crystal.configuration import set_species
from al_charge.crystal.species import element_of
from al_charge.errors import AlChargeError, InputError
from al_charge.labelers.in_process import InProcessLabeler
from al_charge.labelers.protocol import Frame, Relax
from al_charge.rehearsal.settings import ModelSettings, read_file

if TYPE_CHECKING:
    from al_charge.potentials.committee import Committee
    from al_charge.potentials.prediction import Prediction

ENGINE, VERSION = "rehearsal", 1
"""The name of the engine in labels, and the version of how a potential labels."""


class ModelLabeler(InProcessLabeler):
    """Labels made by a stored potential, or by the mean of a committee.

    Parameters
    ----------
    settings
        The file, and whether and how far to relax.
    """

    def __init__(self, settings: ModelSettings) -> None:
        super().__init__(settings.relax, float(settings.fmax), settings.max_steps)
        self._settings = settings

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
        self.refuse_unknown(species)

    @property
    @override
    def name(self) -> str:
        return f"{ENGINE} {str(self._settings.digest)[:12]}"

    @property
    @override
    def attempt(self) -> str:
        return "charge states as asked for"

    @override
    def compute(self, job: dict[str, Any]) -> tuple[list[Frame], dict[str, Any]]:
        """Relax the structure; fail if the potential contradicts the charge order."""
        committee = self._committee()
        places = _places(committee, job)
        _refuse_flipped(committee, job["species"], places[-1][1])
        return [_frame(*place) for place in places], {"steps": len(places) - 1}

    @override
    def metal_energy(self, ion: str, directory: Path) -> float:
        """Return the energy that the settings give, or zero; nothing is written.

        A potential of ions knows no metal. With zero only differences of voltages mean something,
        which is told wherever they are shown.
        """
        return float(self._settings.metal_energy or 0.0)

    def _committee(self) -> Committee:
        return _loaded(self._settings.model, self._settings.digest)

    @override
    def refuse_unknown(self, species: Sequence[str]) -> None:
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


def _frame(atoms: Atoms, prediction: Prediction) -> Frame:
    return Frame(
        positions=atoms.positions,
        cell=atoms.cell.array,
        energy=prediction.energy,
        forces=prediction.forces,
        stress=(prediction.stress + prediction.stress.T) / 2.0,
    )
