"""Active learning of charge-aware interatomic potentials for mixed-valence cathodes.

``import al_charge as ac`` offers a few names, each imported when it is first used:

====================  ============================================================================
``ac.open``           a campaign: ``.hull()``, ``.voltage()``, ``.labels()``, ``.status()``
``ac.hull``           campaigns of one composition, such as polymorphs, on one hull
``ac.load``           a trained potential, or a committee
``ac.relax``          relax structures with either, one by one, by processes or in batches
``ac.train``          train a potential on labels
``ac.label``          label one structure with an engine
``ac.audit``          charge states in the output of a VASP or GPAW run
``ac.check``          check a campaign file
``ac.converge``       cutoff, k-points and smearing that a material needs
``ac.import_labels``  import labels that were exported, and audit them again
====================  ============================================================================
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from al_charge.api.campaign import Campaign
    from al_charge.api.check import check
    from al_charge.api.common_hull import hull
    from al_charge.api.convergence import converge
    from al_charge.api.imports import import_labels
    from al_charge.api.inputs import audit, label
    from al_charge.api.opening import open_campaign as open
    from al_charge.api.relaxation import relax
    from al_charge.api.training import train
    from al_charge.errors import AlChargeError, InputError
    from al_charge.potentials import load

    __version__: str

_WHERE = {
    "AlChargeError": ("errors", "AlChargeError"),
    "Campaign": ("api.campaign", "Campaign"),
    "InputError": ("errors", "InputError"),
    "audit": ("api.inputs", "audit"),
    "check": ("api.check", "check"),
    "converge": ("api.convergence", "converge"),
    "hull": ("api.common_hull", "hull"),
    "import_labels": ("api.imports", "import_labels"),
    "label": ("api.inputs", "label"),
    "load": ("potentials", "load"),
    "open": ("api.opening", "open_campaign"),
    "relax": ("api.relaxation", "relax"),
    "train": ("api.training", "train"),
}
"""Module and name of everything that is offered."""

__all__ = [
    "AlChargeError",
    "Campaign",
    "InputError",
    "__version__",
    "audit",
    "check",
    "converge",
    "hull",
    "import_labels",
    "label",
    "load",
    "open",
    "relax",
    "train",
]


def __getattr__(name: str) -> Any:
    """Import what is asked for, and keep it."""
    if name == "__version__":
        from importlib.metadata import version

        found: Any = version("al-charge")
    elif name in _WHERE:
        from importlib import import_module

        module, attribute = _WHERE[name]
        found = getattr(import_module(f"al_charge.{module}"), attribute)
    else:
        raise AttributeError(f"module 'al_charge' has no attribute '{name}'")
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    """Return the names that are offered."""
    return sorted(__all__)
