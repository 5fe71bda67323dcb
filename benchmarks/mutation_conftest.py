"""What every mutant would do over again is done once: late imports, and Bader analyses.

A busy machine fails no test, and examples are the same for every mutant.

`mutation.py` puts this file above the tests of its folder, where mutmut imports it before it forks
a process for each mutant.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings

BADER = [sys.executable, "-m", "al_charge.labelers.bader"]
KEPT = Path(__file__).parent / "bader"
run = subprocess.run

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


def remembered(arguments: Any, **options: Any) -> subprocess.CompletedProcess[Any]:
    """Run a process; take a Bader analysis of the same densities from its file, if that went well.

    A mutant of what the process itself does is always run.
    """
    if arguments[:3] != BADER or "_partition" in os.environ.get("MUTANT_UNDER_TEST", ""):
        return run(arguments, **options)
    given, result = map(Path, arguments[3:])
    kept = KEPT / hashlib.sha256(given.read_bytes()).hexdigest()
    if kept.exists():
        shutil.copy(kept, result)
        return subprocess.CompletedProcess(arguments, 0, "", "")
    done = run(arguments, **options)
    if done.returncode == 0 and result.exists():
        KEPT.mkdir(exist_ok=True)
        shutil.copy(result, kept)
    return done


subprocess.run = remembered
