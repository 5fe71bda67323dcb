"""Sites, each a whole installation of its own."""

from __future__ import annotations

import contextlib
import multiprocessing
import runpy
import subprocess
from collections.abc import Callable, Iterator
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import Any

import psutil
import pytest

from al_charge.fw.tasks import CATEGORIES
from al_charge.fw.worker import work
from al_charge.store.embedded import HOME_ENV
from al_charge.testing.site import NAME, Site

FORKED = Path(__file__).with_name("forked_worker.py")
IMPORTED = [
    *("al_charge.cli.worker", "al_charge.fw.pool", "al_charge.labelers.born.labeler"),
    *("al_charge.loop.assess", "al_charge.loop.labelled_frames", "al_charge.loop.propose"),
    *("al_charge.loop.reference", "al_charge.loop.select", "al_charge.loop.train"),
    *("al_charge.potentials.committee", "al_charge.potentials.painn.network"),
    *("al_charge.potentials.relaxation.one_by_one", "al_charge.potentials.training.train"),
    *("al_charge.search.seeds", "pymatgen.analysis.phase_diagram", "scipy.stats"),
]
STRUCTURE = Path(__file__).parents[2] / "workflows" / "hosts" / "NaFePO4.cif"
RunHere = Callable[..., tuple[int, str, str]]


class QuickSite(Site):
    """A site whose commands run in this process; only its workers have processes of their own.

    A process for each command would spend most of its time on imports.
    """

    def __init__(self, run_here: RunHere, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._run_here = run_here

    def run(self, *arguments: str) -> str:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in self.environment.items():
                patch.setenv(name, value)
            code, out, err = self._run_here(*arguments)
        assert code == 0, f"{arguments}: {err}"
        return out


class Forked:
    """A process, with as much of the face of `subprocess.Popen` as sites want."""

    def __init__(self, process: ForkServerProcess) -> None:
        self._process = process
        self.pid = process.pid

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired("al-charge worker", timeout or 0.0)
        return self._process.exitcode


class ForkedSite(QuickSite):
    """A site whose workers, and their processes, are forked from one that has done the imports.

    They are processes like others, to be killed, but start in no time.
    """

    def __init__(self, forks: ForkServerContext, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._forks = forks

    def start_worker(self, **environment: str) -> None:
        given = {
            "arguments": ["worker", NAME, "--processes", "2"],
            "environment": self.environment | environment,
            "log": str(self.log),
        }
        process = self._forks.Process(
            target=runpy.run_path, args=(str(FORKED), {"given": given}, "__main__")
        )
        process.start()
        self.worker = Forked(process)  # type: ignore[assignment]

    def victims(self) -> dict[str, list[int]]:
        try:
            found = super().victims()
            for pid in found["worker"]:
                found["child"] = forks_of(psutil.Process(pid))
        except psutil.NoSuchProcess:  # the worker has just ended
            return self.victims()
        return found


def forks_of(worker: psutil.Process) -> list[int]:
    """Return what a worker has forked, but not what starts a server and is another program."""
    line, found = worker.cmdline(), []
    for child in worker.children():
        with contextlib.suppress(psutil.NoSuchProcess):
            found += [child.pid] if child.cmdline() == line else []
    return found


@pytest.fixture(scope="module")
def forks() -> ForkServerContext:
    """Return what forks processes from one that has imported what workers import."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(IMPORTED)
    return context


@pytest.fixture(scope="module")
def calm(run: RunHere, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The site of a campaign that nothing disturbed, at its end."""
    site = QuickSite(run, tmp_path_factory.mktemp("calm") / "calm", STRUCTURE)
    try:
        site.run("campaign", "submit", str(site.file))
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(HOME_ENV, str(site.home))
            work(None, NAME, site.home / "runs", categories=CATEGORIES, until_idle=True)
        yield site
    finally:
        site.stop()


@pytest.fixture
def make_site(
    run: RunHere, forks: ForkServerContext, tmp_path: Path
) -> Iterator[Callable[..., Site]]:
    """Make sites by name, whose workers may be forked; all of them are stopped in the end."""
    sites: list[Site] = []

    def make(name: str, *, forked: bool = False) -> Site:
        given = (run, tmp_path / name, STRUCTURE)
        sites.append(ForkedSite(forks, *given) if forked else QuickSite(*given))
        return sites[-1]

    yield make
    for site in sites:
        site.stop()
