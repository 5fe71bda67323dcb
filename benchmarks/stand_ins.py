"""Stand-ins for engines, in campaigns that are disturbed, and the Slurm of the tests."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

TESTS = Path(__file__).parents[1] / "tests"
COMMON = "tries: 2, bader: false, kpoints: [2, 2, 2], explore_runs: 1, timeout: 10 min"
LABELERS = {
    "born": "{kind: born}",
    "vasp": f"{{kind: vasp, command: COMMAND, verify_potcars: false, {COMMON}}}",
    "gpaw": f"{{kind: gpaw, save_interval: 0.2 s, metal_kpoints: 2, {COMMON}}}",
}
"""What a campaign file says of its labeler, by the name of the engine."""

REMEMBERS = 0.002
"""eV by which an energy depends on where the electrons began: an engine that began elsewhere, or
was steered otherwise, gives another label."""

HIDES = """#!/bin/sh
# An engine behind this is no child of its guard's, and how it ended is not told.
"$@"
exit 0
"""


@dataclass(frozen=True)
class Engine:
    """A stand-in that is installed in a folder.

    Attributes
    ----------
    labeler
        What a campaign file says of it.
    environment
        Variables with which al-charge finds it.
    """

    labeler: str
    environment: dict[str, str]


def of_tests(name: str) -> ModuleType:
    """Return a module of the tests.

    Parameters
    ----------
    name
        Its path in the folder of the tests.
    """
    spec = importlib.util.spec_from_file_location("of_tests", TESTS / name)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def install(
    engine: str,
    folder: Path,
    notes: Path,
    chances: dict[str, float],
    *,
    mpi: bool = False,
    seconds: float = 1.0,
    hold: Path | None = None,
) -> Engine:
    """Install a stand-in.

    Parameters
    ----------
    engine
        ``born``, which needs none, ``vasp`` or ``gpaw``.
    folder
        Folder to make.
    notes
        Folder in which each fault is noted as a file.
    chances
        By fault, its share of all starts.
    mpi
        Whether it is started by ``mpiexec``, and not by a script that tells nothing of its end.
    seconds
        How long it computes.
    hold
        Folder; VASP goes on as long as there is a file named ``engine-`` and the kind of its task.
    """
    if engine == "born":
        return Engine(LABELERS[engine], {})
    folder.mkdir(parents=True, exist_ok=True)
    plan: dict[str, Any] = {
        "chances": chances,
        "notes": str(notes),
        "seconds": seconds,
        "remembers": REMEMBERS,
    }
    if hold is not None:
        plan["hold"] = str(hold)
    (folder / "plan.json").write_text(json.dumps(plan), encoding="utf-8")
    (folder / "hides").write_text(HIDES, encoding="utf-8")
    (folder / "hides").chmod(0o755)
    launcher = "mpiexec -n 1" if mpi else str(folder / "hides")
    environment = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    if engine == "gpaw":
        environment |= {"GPAW_STANDIN": str(folder / "plan.json"), "FAULT_LAUNCHER": launcher}
        return Engine(LABELERS[engine], environment)
    program = folder / "vasp_std"
    stand_in = TESTS / "labelers" / "vasp" / "vasp_std.py"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -S {stand_in} "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    if not (folder / "potcars").exists():
        of_tests("labelers/vasp/conftest.py").write_potcars(folder / "potcars" / "POT_GGA_PAW_PBE")
    environment |= {
        "VASP_STANDIN": str(folder / "plan.json"),
        "PMG_VASP_PSP_DIR": str(folder / "potcars"),
        "PATH": os.pathsep.join([str(folder), os.environ["PATH"]]),
    }
    command = json.dumps(f"{launcher} vasp_std")
    return Engine(LABELERS[engine].replace("COMMAND", command), environment)
