"""Sites, each a whole installation of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from al_charge.testing.site import Site

STRUCTURE = Path(__file__).parents[2] / "workflows" / "hosts" / "NaFePO4.cif"


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The site of a campaign that nothing disturbed, at its end."""
    site = Site(tmp_path_factory.mktemp("calm") / "calm", STRUCTURE)
    try:
        site.run("campaign", "submit", str(site.file))
        site.finish()
        yield site
    finally:
        site.stop()


@pytest.fixture
def make_site(tmp_path: Path) -> Iterator[Callable[[str], Site]]:
    """Make sites by name; all of them are stopped in the end."""
    sites: list[Site] = []

    def make(name: str) -> Site:
        sites.append(Site(tmp_path / name, STRUCTURE))
        return sites[-1]

    yield make
    for site in sites:
        site.stop()
