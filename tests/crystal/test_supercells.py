"""Which cell a configuration belongs to: identities of everything, cell by cell."""

from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from al_charge.crystal.configuration import Configuration
from al_charge.crystal.enumeration import count_distinct
from al_charge.crystal.identity import held, identities, identity
from al_charge.crystal.prepare import parent_structure
from al_charge.crystal.supercells import Supercells, hosts_of
from al_charge.crystal.symmetry import canonical

from .test_identity import SupercellsSpec, everything, spec_of


def supercells(name: str, up_to: int, folder: Path) -> Supercells:
    spec = spec_of(name, folder).model_copy(update={"supercells": SupercellsSpec(up_to=up_to)})
    return hosts_of(spec, parent_structure(spec))


@pytest.mark.parametrize("without", [(), (0,), (0, 2)], ids=str)
@pytest.mark.parametrize(
    ("name", "up_to"),
    [
        ("layers with spins", 2),
        ("sites that exclude each other", 2),
        ("ions and redox sites that stay", 2),
        ("tetragonal", 4),
    ],
)
def test_a_configuration_belongs_to_the_first_cell_that_holds_it(
    name: str, up_to: int, without: tuple[int, ...], tmp_path: Path
) -> None:
    whole = supercells(name, up_to, tmp_path)
    kept = [host for cell, host in enumerate(whole.hosts) if cell not in without]
    cells = Supercells(tuple(kept))
    first: dict[str, int] = {}
    for cell, host in enumerate(cells.hosts):
        rows = everything(host)
        found = identities(host, rows)
        not_mine = held(host, rows, cells.smaller(cell))
        assert_array_equal(not_mine, [one in first for one in found])
        for row, one in zip(rows.tolist(), found, strict=True):
            config = Configuration(tuple(row))
            home, written = cells.home(host, config)
            assert cells.hosts.index(home) == first.get(one, cell)
            assert identity(home, written) == one
            assert written == canonical(home, written)
        own = len({one for one in found if one not in first})
        assert sum(cells.numbers[cell].values()) == (~not_mine).sum()
        # Two cells that stand for one that is missing may hold one order turned in two ways.
        assert (~not_mine).sum() == own or without
        first |= {one: cell for one in found if one not in first}


def test_one_cell_has_everything_that_it_holds(tmp_path: Path) -> None:
    host = supercells("tetragonal", 4, tmp_path).hosts[-1]
    cells = Supercells((host,))
    assert cells.numbers == [count_distinct(host)]
    assert not held(host, everything(host), cells.smaller(0)).any()
    config = Configuration(tuple(everything(host)[-1].tolist()))
    assert cells.home(host, config) == (host, config)
    assert cells.widest is host


def test_each_composition_has_a_first_cell(tmp_path: Path) -> None:
    cells = supercells("tetragonal", 3, tmp_path)
    for x, (cell, n_ions) in cells.compositions.items():
        assert cells.hosts[cell].composition(n_ions) == x
        assert not any(x in one for one in cells.numbers[:cell])
        assert cells.numbers[cell][x] > 0
    assert list(cells.compositions) == sorted({x for one in cells.numbers for x in one})
    assert np.all(np.diff([len(host.elements) for host in cells.hosts]) >= 0)
