"""Density-functional theory with GPAW, in a process of its own.

The plug-in is imported when it is asked for: GPAW's own processes, which import this package too,
start in two thirds of the time without it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from al_charge.labelers.gpaw.plugin import GpawPlugin

__all__ = ["GpawPlugin"]


def __getattr__(name: str) -> Any:
    """Import the plug-in."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from al_charge.labelers.gpaw.plugin import GpawPlugin

    return GpawPlugin
