"""GPAW itself, with the SCF ladder and saved states: runs in the process that imports GPAW."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
from ase import Atoms
from gpaw import GPAW, KohnShamConvergenceError
from gpaw.convergence_criteria import Density
from gpaw.dft import Parameters
from gpaw.mpi import world

from al_charge.labelers.dft.process import STOP
from al_charge.labelers.files import STATE
from al_charge.labelers.gpaw.journal import NO_SCF, Journal, Record

LOG = "gpaw.txt"
"""GPAW's own log."""

SETTLED = 1e-3
"""How well a density that another stage continues from is converged, in electrons per valence
electron: it only has to have settled on its charge order."""


class StoppedError(Exception):
    """The run was asked to stop, and has saved its state."""


class NotConvergedError(Exception):
    """No rung of the ladder has converged; the message lists the attempts."""


class Engine:
    """Energies of geometries of one cell, starting with the rung that converged before.

    Parameters
    ----------
    request
        See `al_charge.labelers.gpaw.request`.
    journal
        What was done so far.
    """

    def __init__(self, request: dict[str, Any], journal: Journal) -> None:
        self._request = request
        self._rungs: list[dict[str, Any]] = request["rungs"]
        self._journal = journal
        self._parameters: Record = {}  # those that the calculator iterates with
        self._calculator: Any = self._load() if journal.under_way else None
        self._saved = time.monotonic()
        self._told_to_stop = False
        signal.signal(signal.SIGTERM, self._on_sigterm)

    def evaluate(self, atoms: Atoms) -> Record:
        """Return what GPAW finds for a geometry, from whichever rung converges.

        Parameters
        ----------
        atoms
            The geometry.

        Returns
        -------
        dict
            Positions and cell in angstrom, energies in eV, forces in eV/angstrom, stress in
            eV/angstrom^3 (Voigt), moments in Bohr magnetons; None for what the request does not ask
            for.

        Raises
        ------
        NotConvergedError
            If no rung converges.
        StoppedError
            If the run was asked to stop.
        """
        if self._journal.failed:
            raise self._not_converged()
        while True:
            if not self._journal.under_way:
                self._begin_rung()
            try:
                self._converge(atoms)
                break
            except (KohnShamConvergenceError, ValueError) as error:
                self._next_rung(_told(error))
        self.save()
        return self._results(atoms)

    def write_density(self, path: Path) -> None:
        """Write the all-electron density that `al_charge.labelers.bader.from_gpaw` reads.

        Parameters
        ----------
        path
            The file; written in one step.
        """
        fine = self._request["density_refinement"]
        find = self._calculator.get_all_electron_density
        density, coarse = find(gridrefinement=fine), find(gridrefinement=fine // 2)
        if world.rank == 0:
            unfinished = path.with_name("unfinished-" + path.name)
            np.savez(unfinished, density=density, coarse=coarse)
            unfinished.replace(path)

    def save(self) -> None:
        """Write the state of the calculation, then the journal.

        If the process is killed between the two, the older journal begins its stage again from
        the newer state.
        """
        unfinished = Path(f"unfinished-{STATE}")
        self._calculator.write(str(unfinished), mode="all")
        if world.rank == 0:
            unfinished.replace(STATE)
        world.barrier()
        self._journal.save()
        self._saved = time.monotonic()

    @property
    def setups(self) -> dict[str, str]:
        """Fingerprint of the PAW dataset of each element."""
        return {setup.symbol: setup.fingerprint for setup in self._calculator.setups}

    def _begin_rung(self) -> None:
        self._calculator = None
        self._journal.stage = 0
        self._journal.begin(self._rungs[self._journal.rung]["changed"])

    def _next_rung(self, reason: str) -> None:
        self._journal.end(f"{reason} after {self._journal.steps} steps")
        self._journal.failed = self._journal.rung + 1 == len(self._rungs)
        if self._journal.failed:
            self._journal.save()
            raise self._not_converged()
        self._journal.rung += 1
        if world.rank == 0:
            Path(STATE).unlink(missing_ok=True)

    def _not_converged(self) -> NotConvergedError:
        attempts = self._journal.attempts
        told = "; ".join(f"{one['changed']}: {one['outcome']}" for one in attempts)
        return NotConvergedError(f"{NO_SCF} after {len(attempts)} attempts ({told})")

    def _converge(self, atoms: Atoms) -> None:
        """Go through the stages of the rung, or what is left of them."""
        stages = self._rungs[self._journal.rung]["stages"]
        while True:
            number = self._journal.stage
            last = number == len(stages) - 1
            self._iterate(self._geometry(atoms, stages[number]), stages[number], settle=not last)
            if last:
                return
            self._journal.stage += 1

    def _geometry(self, atoms: Atoms, stage: dict[str, Any]) -> Atoms:
        moved: Atoms = atoms.copy()
        moved.set_initial_magnetic_moments(self._request["moments"])
        if stage["at_start"]:
            moved.positions = np.array(self._request["start_positions"])
        return moved

    def _iterate(self, atoms: Atoms, stage: dict[str, Any], *, settle: bool) -> None:
        parameters = self._request["parameters"] | stage["parameters"]
        if self._calculator is None:
            self._calculator = GPAW(txt=_log(), **parameters)
            self._calculator.create_new_calculation(atoms)
            # GPAW would create it again, as one that was read without wave functions: in the mode
            # lcao there are none before the first step.
            self._calculator.create_new_calculation = lambda _: None
        else:
            if self._parameters != parameters:
                self._reconfigure(Parameters(**parameters), atoms)
            self._follow_cell(atoms)
        self._parameters = parameters
        settled = Density(SETTLED)
        # The calculator keeps its wave functions when atoms move, so this goes on from before.
        for context in self._calculator.iconverge(atoms):
            vars(self._calculator).pop("create_new_calculation", None)
            self._journal.count()
            if settle and settled(context)[0]:
                break
            self._save_or_stop()
        if settle:
            # The loop was left before its end, so the calculator takes nothing for a result.
            self._calculator.dft.results.clear()

    def _reconfigure(self, parameters: Parameters, atoms: Atoms) -> None:
        """Change how the calculator iterates; it keeps density and wave functions."""
        calculator = self._calculator
        builder = parameters.dft_component_builder(atoms, log=calculator.log, comm=world)
        loop = calculator.dft.scf_loop
        loop.occ_calc = builder.create_occupation_number_calculator()
        loop.mixer = builder.create_mixer()
        loop.maxiter = parameters.maxiter
        calculator.params = calculator.dft.params = parameters

    def _follow_cell(self, atoms: Atoms) -> None:
        """Make the plane waves of a changed cell, with the same cutoff.

        GPAW would do the same, but take the moments it has found for those to start from, whose
        sum a fixed total moment comes from.
        """
        calculator = self._calculator
        if np.array_equal(calculator.atoms.cell.array, atoms.cell.array):
            return
        if calculator.params.mode.name == "pw":
            calculator.create_new_calculation_from_old(atoms)
        else:
            calculator.create_new_calculation(atoms)

    def _save_or_stop(self) -> None:
        """Save, or stop, when it is time; all ranks do as the first one says."""
        order = np.zeros(1, dtype=int)
        if self._told_to_stop or Path(STOP).exists():
            order[0] = 2
        elif time.monotonic() - self._saved >= self._request["save_interval"]:
            order[0] = 1
        world.broadcast(order, 0)
        if order[0]:
            self.save()
        if order[0] == 2:
            raise StoppedError

    def _load(self) -> Any:
        """Return the calculator of the saved state, None if there is none that can be read."""
        self._journal.end(f"interrupted after {self._journal.steps} steps")
        calculator = None
        if Path(STATE).exists():
            try:
                calculator = GPAW(STATE, txt=_log())
                calculator.dft.ibzwfs.make_sure_wfs_are_read_from_gpw_file()
            except (OSError, EOFError, KeyError, IndexError, ValueError):
                calculator = None  # damaged, for instance by a full disk
        if calculator is None:
            self._journal.stage = 0
        self._journal.begin("started again" if calculator is None else "from the saved state")
        return calculator

    def _results(self, atoms: Atoms) -> Record:
        calculator, request = self._calculator, self._request
        return {
            "positions": atoms.positions.tolist(),
            "cell": atoms.cell.array.tolist(),
            "energy": float(calculator.get_potential_energy()),
            "free_energy": float(calculator.get_potential_energy(force_consistent=True)),
            "forces": calculator.get_forces().tolist() if request["forces"] else None,
            "stress": calculator.get_stress().tolist() if request["stress"] else None,
            "moments": calculator.get_magnetic_moments().tolist(),
            "total_moment": float(calculator.get_magnetic_moment()),
        }

    def _on_sigterm(self, number: int, frame: FrameType | None) -> None:
        self._told_to_stop = True


def _told(error: Exception) -> str:
    """Return how an attempt ended, or raise what is no matter of convergence."""
    if isinstance(error, KohnShamConvergenceError):
        return "not converged"
    # One rank may meet a singular matrix alone; then the others would wait for it for ever.
    if "NaN" in str(error) or (isinstance(error, np.linalg.LinAlgError) and world.size == 1):
        return "diverged"
    raise error


def _log() -> Any:
    """Return GPAW's log, to which a continued run adds."""
    return Path(LOG).open("a", encoding="utf-8") if world.rank == 0 else None
