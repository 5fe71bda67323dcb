"""The GPAW labeler: density-functional theory in a process of its own."""

from al_charge.labelers.gpaw.labeler import GpawLabeler

__all__ = ["GpawLabeler"]
