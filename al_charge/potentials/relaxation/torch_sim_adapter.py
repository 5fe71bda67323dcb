"""torch-sim of either interface: FIRE, and a committee as its model."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from al_charge.errors import NotInstalledError
from al_charge.potentials.relaxation.batched_committee import BatchedPrediction


def import_torch_sim() -> Any:
    """Return the package ``torch_sim``.

    Returns
    -------
    module
        Imported only now.

    Raises
    ------
    NotInstalledError
        If it is not installed.
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
    """Return the functions by which FIRE begins and goes on.

    With the unit-cell filter: the Frechet filter has, in torch-sim 0.3, a loop over all structures.
    A strain counts as a length by the cube root of the volume, as in ``relax``, and not by the
    number of atoms, which makes cells so soft that they need several times as many steps.

    Parameters
    ----------
    model
        What ``as_model`` returned.
    cell
        Whether cells are relaxed.

    Returns
    -------
    init : callable
        Takes a ``SimState`` and returns the state in which FIRE begins.
    step : callable
        Takes a state of FIRE and returns the next one.
    """
    torch_sim = import_torch_sim()
    step: Callable[[Any], Any]
    if hasattr(torch_sim, "CellFilter"):  # since torch-sim 0.4
        step = partial(torch_sim.fire_step, model=model)
        begin = partial(torch_sim.fire_init, model=model)
        cells = {"cell_filter": torch_sim.CellFilter.unit} if cell else {}
    else:
        begin, step = (torch_sim.unit_cell_fire if cell else torch_sim.optimizers.fire)(model)
        cells = {}

    def init(state: Any) -> Any:
        if not cell:
            return begin(state)
        return begin(state, cell_factor=state.volume.abs() ** (1.0 / 3.0), **cells)

    return init, step


def as_model(evaluate: Callable[[Any], BatchedPrediction], device: torch.device) -> Any:
    """Return a torch-sim model.

    Parameters
    ----------
    evaluate
        Returns predictions for a state of torch-sim.
    device
        Where it computes.

    Returns
    -------
    ModelInterface
        In double precision, with forces and stress.
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
