"""Potentials as a configuration, which is JSON, and named tensors, which are safetensors."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from pydantic import TypeAdapter
from torch import Tensor

from al_charge.errors import AlChargeError
from al_charge.potentials.baseline.fit import Baseline
from al_charge.potentials.baseline.pairs import PairTerms
from al_charge.potentials.settings import PotentialSettings
from al_charge.potentials.vocabulary import Vocabulary

if TYPE_CHECKING:
    from al_charge.potentials.potential import Potential

STATE_VERSION = 1
_SETTINGS: TypeAdapter[PotentialSettings] = TypeAdapter(PotentialSettings)


def state_of(potential: Potential) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return a potential's configuration and its weights, on the CPU."""
    config = {
        "version": STATE_VERSION,
        "settings": potential.settings.model_dump(mode="json"),
        "tokens": list(potential.vocabulary.tokens),
        "mean_neighbours": potential.mean_neighbours,
        "dtype": str(potential.dtype).removeprefix("torch."),
    }
    weights = {
        f"module.{name}": value.detach().to("cpu", copy=True).contiguous()
        for name, value in potential.module.state_dict().items()
    }
    if potential.site_means:
        config["site_means"] = potential.site_means
    weights["references"] = torch.tensor(potential.baseline.references)
    if potential.baseline.pairs is not None:
        config["pair_cutoff"] = potential.baseline.pairs.cutoff
        weights["pairs"] = torch.tensor(potential.baseline.pairs.coefficients)
    if potential.spin_aware:
        weights["typical_moments"] = torch.tensor(potential.typical_moments)
    weights["scale"] = torch.tensor([potential.scale], dtype=torch.float64)
    return config, weights


def restored(
    kind: type[Potential], config: dict[str, Any], weights: dict[str, Tensor]
) -> Potential:
    """Return the potential of a state, on the CPU; see ``Potential.from_state``."""
    if (version := config.get("version")) != STATE_VERSION:
        raise AlChargeError(
            f"a potential of version {version} cannot be read",
            where="potential",
            remedy=f"this release reads version {STATE_VERSION}",
        )
    settings = _SETTINGS.validate_python(config["settings"])
    _check_values(config, weights)
    potential = kind.fresh(
        settings,
        Vocabulary(tuple(config["tokens"]), settings.charge_aware),
        mean_neighbours=float(config["mean_neighbours"]),
        seed=0,
        baseline=_read_baseline(config, weights),
        scale=float(weights["scale"]),
        typical_moments=(
            weights["typical_moments"].numpy() if "typical_moments" in weights else None
        ),
        site_means=config.get("site_means"),
    )
    potential.module.to(getattr(torch, config["dtype"]))
    own = {
        name.removeprefix("module."): value
        for name, value in weights.items()
        if name.startswith("module.")
    }
    for name, value in potential.module.state_dict().items():
        # torch would convert them in silence.
        if name in own and own[name].is_floating_point() != value.is_floating_point():
            raise ValueError(f"{name} are numbers of another kind")
    try:
        potential.module.load_state_dict(own)
    except RuntimeError as error:
        raise AlChargeError("weights do not fit the configuration", where="potential") from error
    return potential


def _check_values(config: dict[str, Any], weights: dict[str, Tensor]) -> None:
    """Refuse what would be taken for something else.

    Raises
    ------
    ValueError
        If species are no list of tokens, or weights or sizes no finite numbers.
    """
    if not isinstance(config["tokens"], list):
        raise ValueError("the species are no list")
    numbers = [float(config[name]) for name in ("mean_neighbours", "pair_cutoff") if name in config]
    if not all(map(math.isfinite, numbers)):
        raise ValueError("a size is no number")
    for name, value in weights.items():
        known_kind = name.startswith("module.") or value.is_floating_point()
        if not known_kind or not value.isfinite().all():
            raise ValueError(f"{name} are not all numbers")


def _read_baseline(config: dict[str, Any], weights: dict[str, Tensor]) -> Baseline:
    pairs = None
    if "pairs" in weights:
        pairs = PairTerms(float(config["pair_cutoff"]), weights["pairs"].numpy())
    return Baseline(weights["references"].numpy(), pairs)
