"""The proof at x = 2/3, small: olivine with four Fe, Born labels, x = 1/2 in place of 2/3."""

from __future__ import annotations

import json
from collections.abc import Iterator
from fractions import Fraction
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import ase.io
import numpy as np
import pytest
from scipy.stats import kendalltau

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
potential:
  {{kind: painn, cutoff: 4 A, channels: 2, layers: 1, radial: 4, pair_cutoff: 6 A}}
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
    campaign = blind.view.campaign
    labels = here.data.read_labels(campaign, permuted)
    views = [here.data.View.of(campaign, labels, charge_aware=one) for one in (True, False)]
    assert [one.order for one in views[0].labels] != [one.order for one in aware.view.labels]
    (here.folder / "permuted").mkdir()
    other = here.arms.Runner(blind.arm, views[1], here.folder / "permuted")
    assert other.search(HALF) == blind.search(HALF)
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
    *wanted_by_arms, known = here.born.wanted(campaign, folder / "picks.extxyz")
    assert composition(*known) == Fraction(2, 3)
    chosen = dict(zip(wanted_by_arms, found, strict=True))
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


@pytest.fixture(scope="module")
def truth(here: SimpleNamespace, runners: Any) -> Path:
    """Label what the arms want."""
    folder = here.folder / "arms"
    here.arms.main(["picks", str(here.file), str(folder), "--x", "1/2"])
    path = here.folder / "truth.extxyz"
    picks = str(folder / "picks.extxyz")
    here.born.main(["picks", str(here.file), picks, str(here.labels), str(path)])
    return path


def orders(here: SimpleNamespace, path: Path) -> Any:
    return here.data.orders_of(here.data.read_labels(here.campaign, path))


def test_the_table_orders_as_scipy_does_and_counts_ties_against_an_arm(
    here: SimpleNamespace, truth: Path
) -> None:
    targets = here.table.judged_orders(orders(here, truth), HALF)
    first = {one.order for one in orders(here, here.labels)}
    half = np.array([one.x == HALF for one in targets])
    unseen = half & np.array([one.order not in first for one in targets])
    assert 3 <= unseen.sum() < half.sum()
    true = np.array([one.energy for one in targets])
    x = np.array([float(one.x) for one in targets])
    # What the end members' errors make of an energy is no error of a formation energy.
    shift = 0.3 - 0.7 * x
    exact = here.table.judgement(targets, first, HALF, true + shift)
    formation = here.table.formation(targets, true + shift)
    assert [formation[x == end].min() for end in (0, 1)] == pytest.approx([0, 0], abs=1e-9)
    assert exact == pytest.approx(
        {"tau": 1.0, "unseen": 1.0, "rank": 1.0, "error": 0.0, "hull": 0.0}, abs=1e-6
    )
    rng = np.random.default_rng(1)
    wrong = true + shift + 0.05 * rng.normal(size=len(true))
    wrong[(x == 0) | (x == 1)] = (true + shift)[(x == 0) | (x == 1)]
    found = here.table.judgement(targets, first, HALF, wrong)
    assert found["tau"] == pytest.approx(kendalltau(true[half], wrong[half]).statistic)
    assert found["unseen"] == pytest.approx(kendalltau(true[unseen], wrong[unseen]).statistic)
    assert -1 < found["unseen"] != found["tau"] < 1
    lowest = np.flatnonzero(half)[true[half].argmin()]
    assert found["rank"] == 1 + np.sum(wrong[half] < wrong[lowest])
    assert found["error"] == pytest.approx(1e3 * (wrong - true - shift)[lowest])
    # All alike: nothing is ordered, and the lowest is the last that would be chosen.
    blind = np.where(half, true[half].mean(), true) + shift
    tied = here.table.judgement(targets, first, HALF, blind)
    assert (tied["tau"], tied["rank"]) == (0.0, half.sum())
    assert found["hull"] == pytest.approx(
        1e3 * np.mean(np.abs(lower_hull(x, wrong - shift) - lower_hull(x, true)))
    )


def lower_hull(x: np.ndarray, energies: np.ndarray) -> np.ndarray:
    """Return the lowest of all lines between two points, at 401 compositions, less the ends'."""
    grid = np.linspace(0, 1, 401)
    ends = [energies[x == end].min() for end in (0, 1)]
    energies = energies - (1 - x) * ends[0] - x * ends[1]
    lowest = np.zeros(len(grid))
    for i, j in zip(*np.nonzero(x[:, None] < x[None]), strict=True):
        part = (grid - x[i]) / (x[j] - x[i])
        line = (1 - part) * energies[i] + part * energies[j]
        lowest = np.minimum(lowest, np.where((part >= 0) & (part <= 1), line, 0.0))
    return lowest


def test_the_table_of_arms_and_null_models(
    here: SimpleNamespace, runners: Any, truth: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = here.folder / "table.json"
    folder = here.folder / "arms"
    here.table.main([str(here.file), str(folder), str(truth), "--x", "1/2", "--json", str(path)])
    document = json.loads(path.read_text())
    rows, known = document["rows"], document["superstructure"]
    # Four Fe do not hold it, yet its label is read: the only one at x = 2/3.
    assert known["above"] == 0.0 and known["lowest"] == known["order"]
    printed = capsys.readouterr().out
    aware, blind, *nulls = rows
    assert (aware["charge_aware"], blind["charge_aware"]) == (True, False)
    assert [row["null"] for row in nulls] == ["straight line", "Ewald energy", "pair expansion"]
    assert nulls[0]["tau"] == 0.0
    for row, runner in ((aware, runners[0]), (blind, runners[1])):
        energies = {
            identity(*runner.view.seen(one.host, one.config)): one.energy
            for one in reversed(orders(here, truth))
        }
        mine = [energies.get(one["order"], np.inf) for one in runner.search(HALF)[:3]]
        lowest = min(one.energy for one in orders(here, truth) if one.x == HALF)
        assert row["found"] == pytest.approx(1e3 * (min(mine) - lowest))
        assert 0 <= row["drifted"] <= 100
    assert "The known superstructure lies 0.0 meV/f.u. above the lowest label" in printed
    best = max(nulls, key=lambda row: row["unseen"])
    assert f"({best['null']}, {best['unseen']:.2f})" in printed
    for row, name in ((aware, "PaiNN, aware"), (blind, "PaiNN, blind")):
        said = name in printed.strip().splitlines()[-3]
        assert said == (row["unseen"] <= best["unseen"])


def test_drifted_sites_are_those_with_the_shell_of_the_other_state(
    here: SimpleNamespace, truth: Path
) -> None:
    targets = [one for one in orders(here, truth) if one.x == HALF]
    middle = here.table.middle_length([one.relaxed for one in targets])
    relaxed = [one.relaxed for one in targets]
    assert here.table.drifted(targets, relaxed, middle) == 0.0
    swapped = []
    for one in targets:
        atoms = one.relaxed.copy()
        atoms.arrays["species"] = np.where(
            atoms.numbers == 26,
            np.where(atoms.arrays["species"] == "Fe2+", "Fe3+", "Fe2+"),
            atoms.arrays["species"],
        )
        swapped.append(SimpleNamespace(relaxed=atoms))
    assert here.table.drifted(swapped, relaxed, middle) == 100.0


def test_embeddings_follow_the_superstructure(
    here: SimpleNamespace,
    runners: Any,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    started, original = [], here.embedding.relax

    def relax(committee: Any, starts: Any, **settings: Any) -> Any:
        iron = starts[0].numbers == 26
        started.append(set(starts[0].arrays["species"][iron].tolist()))
        return original(committee, starts, **settings)

    monkeypatch.setattr(here.embedding, "relax", relax)
    figure, path = here.folder / "figure.png", here.folder / "figure.json"
    folder = here.folder / "arms"
    here.embedding.main([str(here.file), str(folder), str(figure), "--json", str(path)])
    aware, blind = json.loads(path.read_text())
    assert started == [{"Fe2+", "Fe3+"}, {"Fe3+"}]
    assert figure.stat().st_size > 10_000
    for trail in (aware, blind):
        points = np.array(trail["points"])
        assert points.shape == (3, 12, 2)
        assert sorted(trail["states"]) == 8 * ["Fe2+"] + 4 * ["Fe3+"]
        assert points.mean(axis=(0, 1)) == pytest.approx([0, 0], abs=1e-6)
    assert min(aware["separation"]) > 0.9 > blind["separation"][0]
    assert "PaiNN, blind: separation" in capsys.readouterr().out


def test_the_sentence_names_what_did_not_beat_the_null_models(here: SimpleNamespace) -> None:
    arm = {"kind": "mace", "charge_aware": True}
    seeds = [arm | {"unseen": 0.5}, arm | {"unseen": 0.7}]
    blind = {"kind": "mace", "charge_aware": False, "unseen": 0.3}
    nulls = [{"null": "line", "unseen": 0.0}, {"null": "pairs", "unseen": 0.59}]
    said = here.table.sentence([*seeds, blind, *nulls])
    assert said.endswith("(pairs, 0.59): MACE, blind.")
    nulls[1]["unseen"] = 0.61
    assert here.table.sentence([*seeds, blind, *nulls]).endswith(": MACE, aware; MACE, blind.")
    nulls[1]["unseen"] = 0.2
    assert here.table.sentence([*seeds, blind, *nulls]).startswith("Every arm")
    assert "Too few" in here.table.sentence([*seeds, blind, {"null": "line", "unseen": None}])


def test_the_known_superstructure_is_told_against_the_lowest_label(here: SimpleNamespace) -> None:
    own = identity(*here.superstructure.home(here.campaign))
    truth = [
        SimpleNamespace(order=order, x=x, energy=energy)
        for order, x, energy in (("full", 1, -3.0), ("other", 2 / 3, -2.5), (own, 2 / 3, -2.492))
    ]
    missing = here.table.known_superstructure(here.campaign, truth[:2])
    assert missing == {"order": own, "above": None, "lowest": None}
    found = here.table.known_superstructure(here.campaign, truth)
    assert found == {"order": own, "above": pytest.approx(8.0), "lowest": "other"}
