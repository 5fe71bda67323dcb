"""A stand-in for GPAW, below al-charge's own code that runs it.

The module ``gpaw`` is replaced by a model: atoms repel each other, moments are those of the charge
states that were asked for, and the energy depends by a little on where the electrons began, which
the saved state hands on. What it does besides is in the JSON file that ``GPAW_STANDIN`` names:
``chances``, ``notes``, ``seconds`` and ``remembers``, as for the stand-in for VASP of the tests.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import random
import signal
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
from ase import Atoms
from ase.neighborlist import neighbor_list

PLAN = json.loads(Path(os.environ["GPAW_STANDIN"]).read_text(encoding="utf-8"))
STEPS = 8
"""SCF steps of a stage."""
CUTOFF = 6.0
"""angstrom"""
MOMENTS = {"Fe2+": 3.67, "Fe3+": 4.2}


def note(what: str) -> None:
    """Note something in a file of its own."""
    Path(PLAN["notes"], f"GPAW {what}-{uuid.uuid4().hex}").touch()


def drawn() -> str:
    """Return the fault of this start, or nothing."""
    names, shares = list(PLAN["chances"]), list(PLAN["chances"].values())
    fault = random.choices([*names, ""], [*shares, 1.0 - sum(shares)])[0]
    if fault:
        note(fault)
    return fault


class Parameters:
    """Parameters of a calculation; the model has no use for them."""

    def __init__(self, **given: Any) -> None:
        self.given = given
        self.mode = SimpleNamespace(name=given["mode"]["name"])
        self.maxiter = given["maxiter"]

    def dft_component_builder(self, *_: Any, **__: Any) -> Any:
        """Return what makes parts of an SCF loop."""
        nothing = lambda: None  # noqa: E731
        return SimpleNamespace(create_occupation_number_calculator=nothing, create_mixer=nothing)


class Density:
    """Whether the density has settled."""

    def __init__(self, _tolerance: float) -> None: ...

    def __call__(self, step: int) -> tuple[bool, str]:
        """Say so after some steps."""
        return step >= STEPS // 2, ""


class GPAW:
    """The calculator."""

    fault = ""

    def __init__(self, state: str | None = None, *, txt: Any = None, **given: Any) -> None:
        self.log = txt
        self.began, self.first = "", []
        if state is not None:
            saved = json.loads(Path(state).read_text(encoding="utf-8"))
            self.began, self.first, given = saved["began"], saved["first"], saved["given"]
            self.atoms = Atoms(saved["numbers"], saved["positions"], cell=saved["cell"], pbc=True)
        self.params = Parameters(**given)
        read = SimpleNamespace(make_sure_wfs_are_read_from_gpw_file=lambda: None)
        self.dft = SimpleNamespace(results={}, scf_loop=SimpleNamespace(), ibzwfs=read)

    @property
    def setups(self) -> list[Any]:
        """Names of datasets."""
        return [SimpleNamespace(symbol=one, fingerprint="model") for one in set(self.atoms.symbols)]

    def iconverge(self, atoms: Atoms) -> Iterator[int]:
        """Take SCF steps, and end in one of them if that is this start's fault."""
        self.atoms = atoms.copy()
        if not self.began:
            self.first = atoms.get_initial_magnetic_moments().tolist()
            where = [*atoms.cell.array.tolist(), *atoms.positions.tolist(), self.first]
            told = repr([[round(x, 5) + 0.0 for x in row] for row in where])
            self.began = hashlib.sha256(told.encode()).hexdigest()
        last = random.randrange(STEPS)
        for step in range(STEPS):
            time.sleep(PLAN["seconds"] / STEPS)
            if step == last and self.fault in ("killed", "killed, its state cut off"):
                if self.fault != "killed" and Path("state.gpw").exists():
                    os.truncate("state.gpw", Path("state.gpw").stat().st_size // 2)
                os.kill(os.getpid(), signal.SIGKILL)
            yield step

    def create_new_calculation(self, atoms: Atoms) -> None:
        """Follow a cell that has changed."""
        self.atoms = atoms.copy()

    def write(self, path: str, mode: str = "") -> None:
        """Save the state."""
        state = {"began": self.began, "first": self.first, "given": self.params.given}
        state |= {"numbers": self.atoms.numbers.tolist(), "cell": self.atoms.cell.tolist()}
        state |= {"positions": self.atoms.positions.tolist()}
        Path(path).write_text(json.dumps(state), encoding="utf-8")

    def get_potential_energy(self, force_consistent: bool = False) -> float:
        """Return 5 eV exp(-r / 0.7 A) for each pair; of a metal, a parabola in its volume."""
        shift = PLAN["remembers"] * int(self.began[:4], 16) / 65536
        if len(set(self.atoms.numbers)) == 1:
            asked = json.loads(Path("input.json").read_text(encoding="utf-8"))
            apart = self.atoms.get_volume() - abs(np.linalg.det(asked["cell"]))
            return 0.01 * apart**2 - 1.0
        return shift + 2.5 * float(np.exp(-neighbor_list("d", self.atoms, CUTOFF) / 0.7).sum())

    def get_forces(self) -> Any:
        """Return minus the derivative of that energy."""
        first, apart, away = neighbor_list("idD", self.atoms, CUTOFF)
        pull = (5.0 / 0.7 * np.exp(-apart / 0.7) / apart)[:, None] * away
        forces = np.zeros((len(self.atoms), 3))
        np.add.at(forces, first, -pull)
        return forces

    def get_magnetic_moments(self) -> Any:
        """Return those of the charge states that were asked for; of other spins where it began."""
        first = np.array(self.first)
        asked = json.loads(Path("input.json").read_text(encoding="utf-8"))
        tokens = asked.get("species", [""] * len(first))
        size = [MOMENTS.get(token, abs(m)) for token, m in zip(tokens, first, strict=True)]
        return np.sign(first) * np.array(size)

    def get_magnetic_moment(self) -> float:
        """Return their sum."""
        return float(self.get_magnetic_moments().sum())


def replace_gpaw() -> None:
    """Put the model in the place of the module."""
    world = SimpleNamespace(
        rank=0, size=1, barrier=lambda: None, broadcast=lambda values, root: None
    )
    parts: dict[str, dict[str, Any]] = {
        "gpaw": {"GPAW": GPAW, "KohnShamConvergenceError": RuntimeError, "__version__": "model"},
        "gpaw.mpi": {"world": world},
        "gpaw.convergence_criteria": {"Density": Density},
        "gpaw.dft": {"Parameters": Parameters},
    }
    for name, content in parts.items():
        sys.modules[name] = module = ModuleType(name)
        vars(module).update(content)


def main() -> None:
    """Run the job of the working folder."""
    alone = os.open("alone", os.O_CREAT | os.O_RDWR)  # held to the end
    try:
        fcntl.flock(alone, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        note("beside another")
    GPAW.fault = drawn()
    replace_gpaw()
    from al_charge.labelers.gpaw import run

    run.main()
    if GPAW.fault == "result cut off":
        os.truncate(run.RESULT, 100)


if __name__ == "__main__":
    main()
