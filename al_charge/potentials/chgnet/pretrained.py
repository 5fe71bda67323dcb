"""CHGNet as it is published: the weights that its package ships, as the start of a potential."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import numpy as np
import torch

from al_charge.errors import InputError
from al_charge.potentials.baseline.fit import Baseline
from al_charge.potentials.chgnet import ChgnetSettings
from al_charge.potentials.chgnet.network import EMBEDDING
from al_charge.potentials.potential import Potential
from al_charge.potentials.vocabulary import Vocabulary

PRETRAINED = "0.3.0"
"""The weights in CHGNet's package: PBE and PBE+U of the Materials Project, with moments."""


def pretrained(settings: ChgnetSettings, vocabulary: Vocabulary) -> Potential:
    """Return CHGNet as it is published (Deng et al., Nat. Mach. Intell. 5, 1031 (2023)).

    Every charge state of an element starts as the element.

    Parameters
    ----------
    settings
        Of the shape of the published network.
    vocabulary
        Species of the potential.

    Returns
    -------
    Potential
        On the CPU, in single precision.

    Raises
    ------
    InputError
        If the published network lacks an element.
    """
    from chgnet.model.model import CHGNet

    with contextlib.redirect_stdout(io.StringIO()):  # it prints a line
        published: Any = CHGNet.load(model_name=PRETRAINED, use_device="cpu", verbose=False)
    numbers = np.unique(vocabulary.numbers)
    known = published.atom_embedding.embedding.weight.shape[0]
    if numbers.max() > known:
        raise InputError(
            f"CHGNet's published weights know the first {known} elements only",
            where="potential.pretrained",
            remedy="set pretrained: false",
        )
    blind = settings.model_copy(update={"charge_aware": False})
    elements = vocabulary.blind()
    rows = torch.as_tensor(elements.numbers - 1)
    references = published.composition_model.fc.weight.detach()[0, rows].double().numpy()
    parent = Potential.fresh(
        blind, elements, mean_neighbours=1.0, seed=0, baseline=Baseline(references)
    )
    weights = {
        f"network.{name}": value
        for name, value in published.state_dict().items()
        if not name.startswith("composition_model")
    }
    weights[EMBEDDING] = weights[EMBEDDING][rows]
    parent.module.load_state_dict(weights)
    return parent.with_vocabulary(vocabulary)
