"""Faults of engines that have processes of their own, and what engines note of theirs."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil

from al_charge.labelers.dft.job_folder import MARK
from al_charge.testing.site import Site

LONGEST_WAIT = 40.0
"""s; after so long no engine is waited for."""


def parts_of_engines(site: Site) -> dict[int, str]:
    """Return the processes of engines that run for a site: engine, launcher, guard or custodian."""
    return {process.pid: part for process, part, _ in _marked(site)}


def folders_of_engines(site: Site) -> list[str]:
    """Return the folders in which engines run."""
    return [folder for _, part, folder in _marked(site) if part == "engine"]


def _marked(site: Site) -> Iterator[tuple[psutil.Process, str, str]]:
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            folder, words = process.environ().get(MARK, ""), process.cmdline()
            ours = folder.startswith(f"{(site.home / 'runs').resolve()}/")
            if ours and words and process.status() != psutil.STATUS_ZOMBIE:
                yield process, _part(words), folder


def _part(words: list[str]) -> str:
    """Return what part of an engine's run a process is, by its command line."""
    names = [Path(word).name for word in words]
    if "guard.py" in names[:2]:
        return "guard"
    if not names[0].startswith("python"):
        return "launcher"
    return "engine" if {"vasp_std.py", "gpaw_stand_in.py"} & set(names) else "custodian"


def _wait_for(site: Site, part: str) -> list[psutil.Process]:
    """Return the processes that are a part of an engine's run, once there is an engine."""
    deadline = time.monotonic() + LONGEST_WAIT
    while time.monotonic() < deadline:
        parts = parts_of_engines(site)
        if "engine" in parts.values() and part in parts.values():
            return [psutil.Process(pid) for pid, what in parts.items() if what == part]
        time.sleep(0.3)
    return []


def _hit_part(site: Site, part: str, rng: random.Random, *, pause: float = 0.0) -> bool:
    """Kill a part of an engine's run, or stop it for some seconds."""
    with suppress(psutil.NoSuchProcess):
        if victims := _wait_for(site, part):
            victim = rng.choice(victims)
            if not pause:
                victim.kill()
                return True
            victim.suspend()
            time.sleep(pause)
            victim.resume()
            return True
    return False


def kill_engine(site: Site, rng: random.Random) -> bool:
    """Kill an engine with -9, whatever is between it and its worker."""
    return _hit_part(site, "engine", rng)


def freeze_engine(site: Site, rng: random.Random) -> bool:
    """Stop an engine for some seconds."""
    return _hit_part(site, "engine", rng, pause=rng.uniform(5.0, 20.0))


def kill_launcher(site: Site, rng: random.Random) -> bool:
    """Kill the wrapper script or `mpiexec` of an engine with -9."""
    return _hit_part(site, "launcher", rng)


def kill_guard(site: Site, rng: random.Random) -> bool:
    """Kill a guard of an engine with -9."""
    return _hit_part(site, "guard", rng)


def orphan_engines(site: Site, rng: random.Random) -> bool:
    """Kill parent, workers, guards and custodian at once with -9, but not the engines, stopped."""
    if site.worker is None or site.worker.poll() is not None or not _wait_for(site, "engine"):
        return False
    with suppress(psutil.NoSuchProcess):
        parent = psutil.Process(site.worker.pid)
        parts = parts_of_engines(site)
        family = [parent, *parent.children(recursive=True)]
        doomed = [one for one in family if parts.get(one.pid) not in ("engine", "launcher")]
        for one in doomed:  # none sees another die
            with suppress(psutil.NoSuchProcess):
                one.suspend()
        for one in doomed:
            with suppress(psutil.NoSuchProcess):
                one.kill()
        for one in family:  # engines are there for as long as it takes
            with suppress(psutil.NoSuchProcess):
                one.suspend()
    site.worker.wait(timeout=200)
    return True


OF_ENGINES: dict[str, Callable[[Site, random.Random], bool]] = {
    "engine killed": kill_engine,
    "engine frozen for seconds": freeze_engine,
    "launcher of an engine killed": kill_launcher,
    "guard of an engine killed": kill_guard,
    "all killed but the engines": orphan_engines,
}
"""Kinds for engines that have processes of their own."""
FROM_WITHIN = {
    "Born killed": "analytic engine killed",
    "Born cut off": "output of the analytic engine cut off",
    "VASP SIGKILL": "VASP killed by SIGKILL",
    "VASP SIGSEGV": "VASP killed by SIGSEGV",
    "VASP SIGTERM": "VASP ended by SIGTERM",
    "VASP cut off": "VASP killed, exit code 0",
    "VASP in WAVECAR": "VASP killed while it wrote WAVECAR",
    "VASP in OUTCAR": "VASP killed while it wrote OUTCAR",
    "VASP truncate": "vasprun.xml cut off",
    "VASP die": "VASP crashed, as Fortran says it",
    "VASP disk full": "VASP had no space, as Fortran says it",
    "GPAW killed": "GPAW killed by SIGKILL",
    "GPAW killed, its state cut off": "GPAW killed, its saved state cut off",
    "GPAW result cut off": "result of GPAW cut off",
}
"""Kinds that come from inside of engines, by the beginning of their notes."""
