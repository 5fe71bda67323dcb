"""Priors: pretrained universal potentials that a potential is trained on top of.

A universal potential knows the stiffness of bonds, which the first few labels of a campaign do not
determine; charge order and the labeler's own energies are learned as a difference.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections import OrderedDict
from functools import cache
from typing import Protocol

import numpy as np
from ase import Atoms
from typing_extensions import override

from al_charge.potentials.prediction import Prediction

CACHE_SIZE = 256
"""Predictions cached: the members of a committee need the same structures in turn."""


class Prior(Protocol):
    """A potential that is used as it is, untrained."""

    def predict(self, atoms: Atoms) -> Prediction:
        """Return energy, forces and stress of a structure.

        Parameters
        ----------
        atoms
            The structure; its charge states do not matter.

        Returns
        -------
        Prediction
            Without moments and charges.
        """


@cache
def load_prior(name: str) -> Prior:
    """Return the prior of a name, loaded once.

    Parameters
    ----------
    name
        ``chgnet``.

    Returns
    -------
    Prior
        On the CPU.
    """
    assert name == "chgnet", name
    return ChgnetPrior()


class ChgnetPrior(Prior):
    """CHGNet 0.3.0 with the weights in its package: VASP PBE(+U) of the Materials Project.

    Deng et al., Nature Machine Intelligence 5, 1031 (2023).
    """

    def __init__(self) -> None:
        from chgnet.model.model import CHGNet

        with contextlib.redirect_stdout(io.StringIO()):  # it prints a line
            self._model = CHGNet.load(model_name="0.3.0", use_device="cpu", verbose=False)
        self._model.eval().requires_grad_(False)
        self._cache: OrderedDict[bytes, Prediction] = OrderedDict()

    @override
    def predict(self, atoms: Atoms) -> Prediction:
        facts = (atoms.numbers, atoms.positions, np.asarray(atoms.cell))
        key = b"".join(np.ascontiguousarray(fact).tobytes() for fact in facts)
        if key not in self._cache:
            self._cache[key] = self._predict(atoms)
            if len(self._cache) > CACHE_SIZE:
                self._cache.popitem(last=False)
        return self._cache[key]

    def _predict(self, atoms: Atoms) -> Prediction:
        """Differentiate the energy once, in fractional coordinates and lattice vectors.

        CHGNet's own forces and stress take twice as long: each is a pass of its own, and made
        to be differentiated again.
        """
        import torch
        from pymatgen.io.ase import AseAtomsAdaptor

        bare = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True)
        graph = self._model.graph_converter(AseAtomsAdaptor.get_structure(bare))
        with warnings.catch_warnings():
            # torch's, about the way CHGNet computes volumes
            warnings.filterwarnings("ignore", "Converting a tensor with requires_grad=True")
            energy = self._model([graph], task="e")["e"].sum() * len(atoms)
        torch.set_flush_denormal(True)  # numbers below 1e-38 are slow to compute with
        try:
            slopes = torch.autograd.grad(energy, (graph.atom_frac_coord, graph.lattice))
        finally:
            torch.set_flush_denormal(False)
        of_fractional, of_lattice = (one.double().numpy() for one in slopes)
        cell = np.asarray(atoms.cell)
        return Prediction(
            energy=float(energy),
            forces=-of_fractional @ np.linalg.inv(cell).T,
            stress=cell.T @ of_lattice / abs(np.linalg.det(cell)),
        )
