"""Sites, each a whole installation of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from al_charge.fw.tasks import CATEGORIES
from al_charge.fw.worker import work
from al_charge.store.embedded import HOME_ENV
from al_charge.testing.site import NAME, Site

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
def make_site(run: RunHere, tmp_path: Path) -> Iterator[Callable[[str], Site]]:
    """Make sites by name; all of them are stopped in the end."""
    sites: list[Site] = []

    def make(name: str) -> Site:
        sites.append(QuickSite(run, tmp_path / name, STRUCTURE))
        return sites[-1]

    yield make
    for site in sites:
        site.stop()
