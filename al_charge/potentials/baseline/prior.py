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
from typing import Any, Protocol

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
        from ase.units import GPa
        from pymatgen.io.ase import AseAtomsAdaptor

        bare = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True)
        structure = AseAtomsAdaptor.get_structure(bare)
        with warnings.catch_warnings():
            # torch's, about the way CHGNet computes volumes
            warnings.filterwarnings("ignore", "Converting a tensor with requires_grad=True")
            found: Any = self._model.predict_structure(structure, task="efs")
        return Prediction(
            energy=float(found["e"]) * len(atoms),
            forces=np.asarray(found["f"], dtype=np.float64),
            stress=np.asarray(found["s"], dtype=np.float64) * GPa,
        )
