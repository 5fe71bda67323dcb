"""The proof at x = 2/3, small: olivine with four Fe, Born labels, x = 1/2 in place of 2/3."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import ase.io
import numpy as np
import pytest

from al_charge.crystal.configuration import Configuration, composition, total_charge
from al_charge.crystal.enumeration import distinct_occupations, enumerate_distinct
from al_charge.crystal.identity import identity, written_in
from al_charge.errors import InputError
from al_charge.search.seeds import ewald_energies

ROOT = Path(__file__).parents[2]
HALF = Fraction(1, 2)
CAMPAIGN = f"""
name: small
host:
  structure: {ROOT}/workflows/hosts/NaFePO4.cif
  working_ion: Na
  redox: {{Fe: [2, 3]}}
  fixed: {{P: 5, O: -2}}
labeler: {{kind: born, relax: cell}}
potential: {{kind: painn, cutoff: 4 A, channels: 4, pair_cutoff: 6 A, pair_intervals: 8}}
training: {{epochs: 1}}
committee: {{size: 2}}
relaxation: {{max_steps: 3}}
search: {{kind: screen, evaluations: 6, seeds: 2, batch: 3}}
"""


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    """Return the modules, the campaign and a file of labels of it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "benchmarks"))
        names = ("superstructure", "data", "arms", "table", "embedding", "born")
        modules = {
            name: import_module(name if name == "superstructure" else f"two_thirds_{name}")
            for name in names
        }
        folder = tmp_path_factory.mktemp("two-thirds")
        file, labels = folder / "small.yaml", folder / "labels.extxyz"
        file.write_text(CAMPAIGN)
        modules["born"].main(["first", str(file), str(labels), "--each", "2"])
        campaign = modules["superstructure"].open_campaign(file)
        yield SimpleNamespace(**modules, file=file, labels=labels, campaign=campaign, folder=folder)


def run(here: SimpleNamespace, labels: Path, folder: Path) -> Any:
    """Run PaiNN's arms; return the aware and the blind one."""
    here.arms.main(
        ["run", str(here.file), str(labels), str(folder), "--x", "1/2", "--kinds", "painn"]
    )
    return here.arms.runners_of(here.file, folder)


@pytest.fixture(scope="module")
def runners(here: SimpleNamespace) -> Any:
    return run(here, here.labels, here.folder / "arms")


@pytest.fixture(scope="module")
def permuted(here: SimpleNamespace) -> Path:
    """Write the labels with the charge states of every structure permuted among its Fe."""
    images = ase.io.read(here.labels, ":")
    rng = np.random.default_rng(3)
    changed = 0
    for image in images:
        iron = np.flatnonzero(image.numbers == 26)
        states = image.arrays["resolved_species"]
        before = states.copy()
        states[iron] = states[np.roll(iron, rng.integers(1, len(iron)))]
        changed += (states != before).any()
    assert changed > len(images) / 3
    path = here.folder / "permuted.extxyz"
    ase.io.write(path, images, format="extxyz")
    return path


def test_a_blind_arm_does_not_see_charge_states(
    here: SimpleNamespace, runners: Any, permuted: Path
) -> None:
    aware, blind = runners
    other_aware, other_blind = run(here, permuted, here.folder / "permuted")
    assert other_blind.search(HALF) == blind.search(HALF)
    assert other_aware.search(HALF) != aware.search(HALF)
    told = {token for frame in blind.view.frames for token in frame.atoms.arrays["species"]}
    assert len({token for token in told if token.startswith("Fe")}) == 1
    assert len(blind.view.frames) == len(aware.view.frames)
    assert blind.committee.members[0].vocabulary.charge_aware is False
    assert aware.committee.members[0].vocabulary.charge_aware is True


def test_a_blind_arm_has_one_order_for_each_order_of_ions(runners: Any) -> None:
    _, blind = runners
    (host,), (ions,) = blind.view.campaign.cells.hosts, blind.view.cells.hosts
    for n_ions in host.ion_counts:
        parts = distinct_occupations(host, n_ions)[:, :4]
        assert {one.occupation for one in enumerate_distinct(ions, n_ions)} == set(
            map(tuple, parts.tolist())
        )
        assert ions.composition(n_ions) == host.composition(n_ions)
    # The lowest label on some ions is the one that counts.
    for one in blind.view.labels:
        same = [
            label.energy
            for label in runners[0].view.labels
            if identity(*blind.view.seen(label.host, label.config)) == one.order
        ]
        assert one.energy == min(same)


def test_ewald_energies_of_ions_do_not_depend_on_the_cell(here: SimpleNamespace) -> None:
    spec = here.campaign.spec.host
    one, two = (
        here.data.IonHost.of(here.superstructure.host_of(spec, cell))
        for cell in (((1, 0, 0), (0, 1, 0), (0, 0, 1)), ((1, 0, 0), (0, 2, 0), (0, 0, 1)))
    )
    for config in enumerate_distinct(one, 2):
        found = ewald_energies(two, [written_in(two, one, config)])[0] / two.formula_units
        assert found == pytest.approx(ewald_energies(one, [config])[0] / one.formula_units)


def test_what_was_done_is_not_done_again(
    here: SimpleNamespace, runners: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    aware, _ = runners
    before = aware.search(HALF)
    (aware.folder / "search-1-2.json").unlink()
    with (aware.folder / "relaxations.jsonl").open("a") as file:
        file.write('["a line that was cut')
    monkeypatch.setattr(here.arms, "relax", lambda *_, **__: pytest.fail("relaxed again"))
    monkeypatch.setattr(here.arms, "train", lambda *_, **__: pytest.fail("trained again"))
    again, _ = here.arms.runners_of(here.file, here.folder / "arms")
    assert again.search(HALF) == before
    text = (aware.folder / "relaxations.jsonl").read_text()
    assert text.endswith("\n") and "was cut" not in text


def test_a_folder_is_of_one_set_of_labels(
    here: SimpleNamespace, runners: Any, permuted: Path
) -> None:
    with pytest.raises(InputError, match="other labels or settings"):
        run(here, permuted, here.folder / "arms")


def test_picks_are_the_ends_of_each_arm_and_can_be_labelled(
    here: SimpleNamespace, runners: Any
) -> None:
    folder = here.folder / "arms"
    here.arms.main(["picks", str(here.file), str(folder), "--x", "1/2"])
    found = ase.io.read(folder / "picks.extxyz", ":")
    assert len(list((folder / "picks").iterdir())) == len(found)
    labelled = {one.order for one in runners[0].view.labels}
    campaign = runners[0].view.campaign
    chosen = dict(zip(here.born.wanted(campaign, folder / "picks.extxyz"), found, strict=True))
    orders = [identity(host, config) for host, config in chosen]
    assert len(set(orders)) == len(orders)
    for aware in (runner for runner in runners if runner.arm.charge_aware):
        new = [one["order"] for one in aware.search(HALF) if one["order"] not in labelled]
        wanted = {
            word.split(":")[1]: order
            for order, atoms in zip(orders, found, strict=True)
            for word in str(atoms.info["arms"]).split()
            if word.startswith(aware.arm.name)
        }
        assert [wanted[f"low{i}"] for i in (1, 2, 3)] == new[:3]
        assert wanted.get("high1", new[-1]) == new[-1]
    blind = runners[1].arm.name
    (host,) = campaign.cells.hosts
    rows = [Configuration(tuple(row)) for row in distinct_occupations(host, 2).tolist()]
    energies = ewald_energies(host, rows)
    for (_, config), atoms in chosen.items():
        assert composition(host, config) == HALF and total_charge(host, config) == 0
        if blind in str(atoms.info["arms"]):
            ions = identity(*runners[1].view.seen(host, config))
            same = [
                energy
                for row, energy in zip(rows, energies, strict=True)
                if identity(*runners[1].view.seen(host, row)) == ions
            ]
            assert ewald_energies(host, [config])[0] == pytest.approx(min(same))
