"""Active learning of charge-aware interatomic potentials for mixed-valence cathodes."""

from importlib.metadata import version

__version__ = version("al-charge")
