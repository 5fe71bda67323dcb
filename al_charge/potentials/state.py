"""What potentials are stored as: a configuration, which is JSON, and named tensors."""

from __future__ import annotations

import math
from typing import Any, TypedDict

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import TypeAdapter
from torch import Tensor, nn

from al_charge.errors import AlChargeError
from al_charge.potentials.baseline.fit import Baseline
from al_charge.potentials.baseline.pairs import PairTerms
from al_charge.potentials.plugin import LARGEST_PAIR_CUTOFF
from al_charge.potentials.settings import PotentialSettings
from al_charge.potentials.vocabulary import Vocabulary

Array = NDArray[np.float64]

SiteMeans = dict[str, dict[str, float]]
"""Mean size of the ``moments`` (Bohr magnetons) and mean ``charges`` (e) by species token."""

STATE_VERSION = 1
_SETTINGS: TypeAdapter[PotentialSettings] = TypeAdapter(PotentialSettings)


class Parts(TypedDict):
    """Everything of a potential but its network; see `al_charge.potentials.potential.Potential`.

    ``typical_moments`` is None where moments are not an input of the network.
    """

    settings: PotentialSettings
    vocabulary: Vocabulary
    mean_neighbours: float
    baseline: Baseline
    scale: float
    typical_moments: Array | None
    site_means: SiteMeans | None


def state_of(module: nn.Module, parts: Parts) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the state of a potential.

    Parameters
    ----------
    module
        Network of the potential.
    parts
        The rest of the potential.

    Returns
    -------
    config
        Configuration, JSON-serialisable.
    weights
        Tensors by name, on the CPU.
    """
    config = {
        "version": STATE_VERSION,
        "settings": parts["settings"].model_dump(mode="json"),
        "tokens": list(parts["vocabulary"].tokens),
        "mean_neighbours": parts["mean_neighbours"],
        "dtype": str(next(module.parameters()).dtype).removeprefix("torch."),
    }
    weights = {
        f"module.{name}": value.detach().to("cpu", copy=True).contiguous()
        for name, value in module.state_dict().items()
    }
    baseline = parts["baseline"]
    if parts["site_means"]:
        config["site_means"] = parts["site_means"]
    weights["references"] = torch.tensor(baseline.references)
    if baseline.pairs is not None:
        config["pair_cutoff"] = baseline.pairs.cutoff
        weights["pairs"] = torch.tensor(baseline.pairs.coefficients)
    if parts["typical_moments"] is not None:
        weights["typical_moments"] = torch.tensor(parts["typical_moments"])
    weights["scale"] = torch.tensor([parts["scale"]], dtype=torch.float64)
    return config, weights


def parts_of(config: dict[str, Any], weights: dict[str, Tensor]) -> Parts:
    """Return the potential of a state without its network.

    Parameters
    ----------
    config
        Configuration that ``state_of`` returned.
    weights
        Tensors that it returned.

    Returns
    -------
    Parts
        With arrays in double precision.

    Raises
    ------
    AlChargeError
        If the state is of another version.
    ValueError
        If the configuration or a tensor is malformed.
    """
    if (version := config.get("version")) != STATE_VERSION:
        raise AlChargeError(
            f"a potential of version {version} cannot be read",
            where="potential",
            remedy=f"this release reads version {STATE_VERSION}",
        )
    settings = settings_of(config)
    _check_values(config, weights)
    return {
        "settings": settings,
        "vocabulary": Vocabulary(tuple(config["tokens"]), settings.charge_aware),
        "mean_neighbours": float(config["mean_neighbours"]),
        "baseline": _read_baseline(config, weights),
        "scale": float(weights["scale"]),
        "typical_moments": (
            weights["typical_moments"].numpy() if "typical_moments" in weights else None
        ),
        "site_means": config.get("site_means"),
    }


def settings_of(config: dict[str, Any]) -> PotentialSettings:
    """Return the settings of a potential, of which nothing is built.

    Parameters
    ----------
    config
        Configuration that ``state_of`` returned.

    Returns
    -------
    PotentialSettings
        With the defaults of what it lacks.

    Raises
    ------
    ValueError
        If they are malformed.
    """
    return _SETTINGS.validate_python(config["settings"])


def load_network(module: nn.Module, config: dict[str, Any], weights: dict[str, Tensor]) -> None:
    """Give a fresh network the weights and the precision of a state.

    Parameters
    ----------
    module
        Network that was built from the ``Parts`` of the same state.
    config
        Configuration that ``state_of`` returned.
    weights
        Tensors that it returned.

    Raises
    ------
    AlChargeError
        If the weights do not fit the configuration.
    ValueError
        If a weight is an integer where a floating-point number belongs, or the other way round.
    """
    module.to(getattr(torch, config["dtype"]))
    own = {
        name.removeprefix("module."): value
        for name, value in weights.items()
        if name.startswith("module.")
    }
    for name, value in module.state_dict().items():
        # torch would convert them in silence.
        if name in own and own[name].is_floating_point() != value.is_floating_point():
            raise ValueError(f"{name} has values of the wrong type")
    try:
        module.load_state_dict(own)
    except RuntimeError as error:
        raise AlChargeError("weights do not fit the configuration", where="potential") from error


def _check_values(config: dict[str, Any], weights: dict[str, Tensor]) -> None:
    """Refuse what would be taken for something else.

    Raises
    ------
    ValueError
        If species are not a list of tokens, or weights or sizes are NaN or infinite.
    """
    if not isinstance(config["tokens"], list):
        raise ValueError("the species tokens are not a list")
    numbers = [float(config[name]) for name in ("mean_neighbours", "pair_cutoff") if name in config]
    if not all(map(math.isfinite, numbers)):
        raise ValueError("a size is NaN or infinite")
    if not 0.0 <= float(config.get("pair_cutoff", 0.0)) <= LARGEST_PAIR_CUTOFF:
        raise ValueError("its pair terms reach too far")
    for name, value in weights.items():
        known_kind = name.startswith("module.") or value.is_floating_point()
        if not known_kind or not value.isfinite().all():
            raise ValueError(f"{name} has NaN or infinite values, or values of the wrong type")


def _read_baseline(config: dict[str, Any], weights: dict[str, Tensor]) -> Baseline:
    pairs = None
    if "pairs" in weights:
        pairs = PairTerms(float(config["pair_cutoff"]), weights["pairs"].numpy())
    return Baseline(weights["references"].numpy(), pairs)
