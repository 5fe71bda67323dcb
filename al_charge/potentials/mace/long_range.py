"""Electrostatics beyond the cutoff: latent Ewald summation, of the optional package ``les``.

Cheng, npj Comput. Mater. 11, 80 (2025). A network gives every atom a latent charge; these, as
Gaussians, interact through an Ewald sum in reciprocal space. They are not labelled: they are
learned from energies and forces alone.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from al_charge.errors import NotInstalledError

if TYPE_CHECKING:
    from torch import Tensor

    from al_charge.potentials.networks.graph import Graph

ARGUMENTS = {"use_atomwise": False, "sigma": 1.0, "dl": 1.2, "remove_self_interaction": True}
"""Arguments of ``les``, fixed here since a model's weights depend on them and the defaults of the
package have changed. The width of the Gaussians (angstrom) is the published one, and no charge
interacts with its own Gaussian. The sum in reciprocal space is finer than the usual 2.0 angstrom,
with which energies jump by meV whenever a changing cell takes a wave into the sum."""


def require_les() -> None:
    """Check that ``les`` is installed, without importing it.

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
    """Return the electrostatic energy of latent charges in every structure.

    Parameters
    ----------
    les
        A ``les.Les``.
    charges
        In the package's own unit, shape (n_atoms,).
    graph
        With positions and cells.

    Returns
    -------
    Tensor, shape (n_graphs,)
        eV.
    """
    assert graph.positions is not None and graph.cells is not None
    # The package treats a left-handed cell as no cell at all. The negative of such a cell is
    # right-handed and has the same lattice.
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
