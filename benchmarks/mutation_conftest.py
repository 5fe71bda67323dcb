"""What every mutant would do over again is done once: late imports.

A busy machine fails no test, and examples are the same for every mutant.

`mutation.py` puts this file above the tests of its folder, where mutmut imports it before it forks
a process for each mutant.
"""

from importlib import import_module

from hypothesis import HealthCheck, settings

for name in (
    "pymatgen.analysis.phase_diagram",
    "pymatgen.analysis.structure_matcher",
    "pymatgen.apps.battery.insertion_battery",
    "pymatgen.io.vasp.outputs",
    "pymongo",
    "scipy.optimize",
):
    import_module(name)

settings.register_profile(
    "mutation", derandomize=True, deadline=None, suppress_health_check=list(HealthCheck)
)
settings.load_profile("mutation")
