"""torch-sim of either interface: FIRE, and what it takes for a model."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from al_charge.errors import NotInstalledError
from al_charge.potentials.batched_committee import BatchedPrediction


def import_torch_sim() -> Any:
    """Return the module.

    Raises
    ------
    NotInstalledError
        If it is not there.
    """
    try:
        import torch_sim
    except ImportError as error:
        raise NotInstalledError(
            "torch-sim is not installed",
            where="batched relaxation",
            remedy="install al-charge with the extra 'gpu', or relax by processes",
        ) from error
    return torch_sim


def fire(model: Any, cell: bool) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    """Return how FIRE begins and goes on.

    The unit cell filter: that of Frechet has, in torch-sim 0.3, a loop over all structures.
    """
    torch_sim = import_torch_sim()
    if hasattr(torch_sim, "CellFilter"):  # since torch-sim 0.4
        cells = torch_sim.CellFilter.unit if cell else None
        init = partial(torch_sim.fire_init, model=model, cell_filter=cells)
        return init, partial(torch_sim.fire_step, model=model)
    begin = torch_sim.unit_cell_fire if cell else torch_sim.optimizers.fire
    init, step = begin(model)
    return init, step


def as_model(evaluate: Callable[[Any], BatchedPrediction], device: torch.device) -> Any:
    """Return what torch-sim calls a model.

    Parameters
    ----------
    evaluate
        Says what holds of a state of torch-sim.
    device
        Where that is computed.
    """
    from torch_sim.models.interface import ModelInterface

    class Model(ModelInterface):  # type: ignore[misc, unused-ignore]
        def __init__(self) -> None:
            super().__init__()
            self._device, self._dtype = device, torch.float64
            self._compute_forces = self._compute_stress = True

        def forward(self, state: Any, **_: Any) -> dict[str, Tensor]:
            found = evaluate(state)
            return {"energy": found.energy, "forces": found.forces, "stress": found.stress}

    return Model()
