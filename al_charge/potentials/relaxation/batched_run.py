"""The state of a batched relaxation: what is in the batch, what has ended, and where.

torch-sim identifies atoms by a number: here it is their index in a ``BatchedCommittee``, which has
their charge states, moments and elements.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import Any

import numpy as np
import torch
from ase import Atoms
from torch import Tensor

from al_charge.potentials.committee import Committee, standard_deviation
from al_charge.potentials.relaxation.batched_committee import BatchedCommittee, BatchedPrediction
from al_charge.potentials.relaxation.one_by_one import (
    FARTHEST_MOVE,
    SHORTEST_DISTANCE,
    VOLUME_RANGE,
    Progress,
    Relaxed,
)
from al_charge.potentials.relaxation.torch_sim_adapter import as_model, fire, import_torch_sim


class BatchedRun:
    """Structures on their way to their minima.

    Parameters
    ----------
    committee
        Whose mean energy falls.
    structures
        Starts, with ``species`` arrays.
    device
        Where to compute.
    fmax
        Largest force left in eV/angstrom, as for ``relax``.
    max_steps
        Evaluations of each structure at most.
    cell
        Whether cells are relaxed.
    progress
        Called after every structure.

    Attributes
    ----------
    table
        The committee and all structures.
    done
        Those that have ended, by their index.
    atoms, systems
        Numbers of atoms and structures in the batch that was last evaluated.
    """

    def __init__(
        self,
        committee: Committee,
        structures: Sequence[Atoms],
        device: torch.device,
        fmax: float,
        max_steps: int,
        cell: bool,
        progress: Progress | None,
    ) -> None:
        self.committee, self.structures, self.progress = committee, structures, progress
        self.fmax, self.max_steps, self.cell = fmax, max_steps, cell
        self.table = BatchedCommittee(committee, structures, device)
        self.done: dict[int, Relaxed] = {}
        self.atoms = self.systems = 0
        self.last: BatchedPrediction
        self.steps: dict[int, int] = {}
        cells = np.array([atoms.cell.array for atoms in structures])
        self.cells = torch.as_tensor(cells, device=device)
        positions = np.concatenate([atoms.positions for atoms in structures])
        self.starts = torch.as_tensor(positions, device=device)

    def go_on(self, limit: int) -> None:
        """Relax what is not done yet.

        A structure that was in the batch when memory ran out begins again, so that the result does
        not depend on it.

        Parameters
        ----------
        limit
            Atoms in a batch at most.
        """
        torch_sim = import_torch_sim()
        init, step = fire(as_model(self.evaluate, self.table.device), self.cell)
        waiting = self._initialised(init, limit)
        first = next(waiting, None)
        if first is None:
            return
        batcher = torch_sim.InFlightAutoBatcher(
            model=None, memory_scales_with="n_atoms", max_memory_scaler=limit
        )
        batcher.load_states(chain([first], waiting))
        state = batcher.next_batch(None, None)[0]
        while state is not None:
            before = state.positions.clone(), state.row_vector_cell.clone()
            state = step(state)
            state = batcher.next_batch(state, self._ended(state, before))[0]

    def evaluate(self, state: Any) -> BatchedPrediction:
        """Return the committee's predictions for a state of torch-sim.

        Parameters
        ----------
        state
            A ``torch_sim.SimState`` whose atomic numbers are indices of atoms.

        Returns
        -------
        BatchedPrediction
            It is also kept as ``last``.
        """
        self.atoms, self.systems = state.n_atoms, state.n_systems
        self.last = self.table.evaluate(
            state.atomic_numbers, state.positions, state.row_vector_cell, state.system_idx
        )
        return self.last

    def probe(self) -> int:
        """Evaluate the largest structure where it starts.

        Returns
        -------
        int
            Number of its atoms.
        """
        sizes = self.table.sizes
        state = self._state(int(np.argmax(sizes)))
        self.evaluate(state)
        return max(sizes)

    def _initialised(self, init: Callable[[Any], Any], limit: int) -> Iterator[Any]:
        """Yield the initial states of structures, except those that are relaxed already."""
        left = [number for number in range(len(self.structures)) if number not in self.done]
        while left:
            chunk = [left.pop(0)]
            while left and sum(self.table.sizes[n] for n in [*chunk, left[0]]) <= limit:
                chunk.append(left.pop(0))
            self.steps.update(dict.fromkeys(chunk, 0))
            states = init(import_torch_sim().concatenate_states([self._state(n) for n in chunk]))
            ended = self._ended(states, (states.positions, states.row_vector_cell)).tolist()
            for state, over in zip(states.split(), ended, strict=True):
                if not over:
                    yield state

    def _state(self, number: int) -> Any:
        own = self.table.places(number)
        size, device = self.table.sizes[number], self.table.device
        return import_torch_sim().SimState(
            positions=self.starts[own].clone(),
            masses=torch.ones(size, dtype=torch.float64, device=device),
            cell=self.cells[number].mT[None].clone(),
            pbc=True,
            atomic_numbers=torch.arange(own.start, own.stop, device=device),
            system_idx=torch.zeros(size, dtype=torch.int64, device=device),
        )

    def _ended(self, state: Any, before: tuple[Tensor, Tensor]) -> Tensor:
        """Return which structures have ended with the last evaluation, and keep those.

        Parameters
        ----------
        state
            Of torch-sim, just evaluated.
        before
            Positions and cells of the step before, to which structures that are not intact return.
        """
        numbers = self.table.structures_of(state.atomic_numbers.long(), state.system_idx)
        largest, intact = self._judge(state, numbers)
        ended = (largest <= self.fmax) | ~intact
        for place, number in enumerate(numbers):
            self.steps[number] += 1
            if self.steps[number] >= self.max_steps:
                ended[place] = True
        for place in torch.nonzero(ended).flatten().tolist():
            number, own = numbers[place], state.system_idx == place
            if bool(intact[place]):
                positions, cell = state.positions[own], state.row_vector_cell[place]
                found = self._prediction(place, own)
            else:
                positions, cell, found = before[0][own], before[1][place], None
            converged = bool(intact[place] & (largest[place] <= self.fmax))
            self._keep(number, positions, cell, found, converged)
        return ended

    def _judge(self, state: Any, numbers: list[int]) -> tuple[Tensor, Tensor]:
        """Return every structure's largest force as ``relax`` counts it, and whether it is intact.

        The stress counts as the force on the strain divided by the cube root of the volume.
        """
        batch, cells, starts = state.system_idx, state.row_vector_cell, self.cells[numbers]
        zeros = cells.new_zeros(len(numbers))

        def largest_of(values: Tensor) -> Tensor:
            found: Tensor = zeros.scatter_reduce(0, batch, values, "amax")
            return found

        volumes, before = torch.linalg.det(cells).abs(), torch.linalg.det(starts).abs()
        deformation = torch.linalg.solve(starts, cells)
        largest = largest_of(torch.linalg.vector_norm(self.last.forces, dim=1))
        finite = torch.isfinite(self.last.energy) & torch.isfinite(largest)
        finite &= torch.isfinite(self.last.stress).all(dim=(1, 2))
        if self.cell:
            scale = (volumes / before ** (1.0 / 3.0))[:, None, None]
            pull = torch.linalg.solve(deformation, scale * self.last.stress)
            pull = (pull + pull.mT) / 2.0
            off = 2.0**0.5 * (pull - torch.diag_embed(pull.diagonal(dim1=1, dim2=2)))
            strain = torch.maximum(
                pull.diagonal(dim1=1, dim2=2).abs().amax(dim=1), off.abs().amax(dim=(1, 2))
            )
            largest = torch.maximum(largest, strain)
        inverse = torch.linalg.inv(deformation)
        back = torch.einsum("ai,aij->aj", state.positions, inverse[batch])
        moved = torch.linalg.vector_norm(back - self.starts[state.atomic_numbers.long()], dim=1)
        ratio = volumes / before
        intact = finite & (ratio > VOLUME_RANGE[0]) & (ratio < VOLUME_RANGE[1])
        intact &= (self.last.shortest > SHORTEST_DISTANCE) & (largest_of(moved) < FARTHEST_MOVE)
        return largest, intact

    def _prediction(self, place: int, own: Tensor) -> dict[str, Any]:
        """Return the last prediction for one structure of the batch."""
        energies = self.last.energies[:, place].cpu().numpy()
        per_atom = {"moments": self.last.moments, "charges": self.last.charges}
        return {
            "energy": float(energies.mean()),
            "spread": self.committee.spread_scale * standard_deviation(energies),
            **{k: None if v is None else v[own].cpu().numpy() for k, v in per_atom.items()},
        }

    def _keep(
        self,
        number: int,
        positions: Tensor,
        cell: Tensor,
        found: dict[str, Any] | None,
        converged: bool,
    ) -> None:
        atoms = self.structures[number].copy()
        atoms.set_cell(cell.cpu().numpy())
        atoms.positions = positions.cpu().numpy()
        if found is None:
            (prediction,) = self.committee.predict([atoms])
            names = ("energy", "spread", "moments", "charges")
            found = {name: getattr(prediction, name) for name in names}
        self.done[number] = Relaxed(
            atoms=atoms, converged=converged, steps=self.steps[number], **found
        )
        if self.progress is not None:
            self.progress(len(self.done), len(self.structures))
