"""What the package ``les`` computes of charges in crystals, for where it is not installed.

Gaussian charges in reciprocal space, written from the equations; the package's units.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import torch
from torch import Tensor, nn

HALF_INVERSE_PERMITTIVITY = 90.0474
"""eV angstrom / e^2, the package's."""


class Les(nn.Module):
    """The interface of ``les.Les`` as far as MACE uses it."""

    def __init__(self, les_arguments: dict[str, Any]) -> None:
        super().__init__()
        self.arguments = les_arguments

    def forward(
        self,
        positions: Tensor,
        cell: Tensor,
        latent_charges: Tensor,
        batch: Tensor,
        compute_energy: bool = True,
        compute_bec: bool = False,
        bec_output_index: int | None = None,
    ) -> dict[str, Tensor | None]:
        assert compute_energy and not compute_bec and bec_output_index is None
        energies = [
            self._energy(latent_charges[batch == i], positions[batch == i], box)
            for i, box in enumerate(cell)
        ]
        return {
            "E_lr": HALF_INVERSE_PERMITTIVITY * torch.stack(energies),
            "latent_charges": latent_charges,
            "BEC": None,
        }

    def _energy(self, charges: Tensor, positions: Tensor, cell: Tensor) -> Tensor:
        volume = torch.linalg.det(cell)
        assert volume > 1e-6, "the package would sum in real space"
        sigma, largest = self.arguments["sigma"], 2.0 * math.pi / self.arguments["dl"]
        reciprocal = 2.0 * math.pi * torch.linalg.inv(cell).T
        reach = [int(largest * float(row.norm()) / (2.0 * math.pi)) for row in cell.detach()]
        numbers = list(itertools.product(*(range(-n, n + 1) for n in reach)))
        waves = torch.tensor(numbers, dtype=cell.dtype) @ reciprocal
        squares = waves.square().sum(dim=1)
        inside = (squares > 1e-12) & (squares <= largest**2)
        waves, squares = waves[inside], squares[inside]
        phases = positions @ waves.T
        sums = (charges @ torch.cos(phases)).square() + (charges @ torch.sin(phases)).square()
        energy = (torch.exp(-0.5 * sigma**2 * squares) / squares * sums).sum() / volume
        if self.arguments["remove_self_interaction"]:
            energy = energy - charges.square().sum() / (sigma * (2.0 * math.pi) ** 1.5)
        return energy
