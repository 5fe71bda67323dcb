"""Electrostatics beyond the cutoff: latent Ewald summation, of the optional package ``les``.

Cheng, npj Comput. Mater. 11, 80 (2025). A network gives every atom a latent charge; these, as
Gaussians, interact through an Ewald sum in reciprocal space. No label tells them: they are learned
from energies and forces alone.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from al_charge.errors import NotInstalledError

if TYPE_CHECKING:
    from torch import Tensor

    from al_charge.potentials.networks.graph import Graph

ARGUMENTS = {"use_atomwise": False, "sigma": 1.0, "dl": 1.2, "remove_self_interaction": True}
"""What ``les`` is built with; written down since a model's weights depend on it, and the package's
own defaults have changed. The width of the Gaussians (angstrom) is the published one, and no charge
sees its own Gaussian. The sum in reciprocal space is finer than the usual 2.0 angstrom, with which
energies jump by meV whenever a changing cell takes a wave into the sum."""


def require_les() -> None:
    """Refuse to go on where ``les`` is not installed; nothing heavy is imported.

    Raises
    ------
    NotInstalledError
        With how to install it.
    """
    if find_spec("les") is None:
        raise NotInstalledError(
            "latent Ewald summation needs the package 'les', which is not installed",
            where="potential.long_range",
            remedy="get it with 'git clone https://github.com/ChengUCB/les' and 'pip install "
            "./les', or set long_range: none",
        )


def ewald_energies(les: Any, charges: Tensor, graph: Graph) -> Tensor:
    """Return the energy of latent charges in every structure, shape (n_graphs,).

    Parameters
    ----------
    les
        A ``les.Les``.
    charges
        Shape (n_atoms,).
    graph
        With positions and cells.
    """
    assert graph.positions is not None and graph.cells is not None
    # The package takes a left-handed cell for a molecule in no cell at all. The negative of such a
    # cell is right-handed and has the same lattice.
    signs = graph.cells.detach().det().sign()
    found = les(
        latent_charges=charges,
        positions=graph.positions,
        cell=graph.cells * signs[:, None, None],
        batch=graph.batch,
        compute_energy=True,
        compute_bec=False,
    )
    energies: Tensor = found["E_lr"]
    return energies
