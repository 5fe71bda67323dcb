"""`al-charge train` and `evaluate` on labels of the database."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from al_charge.crystal.configuration import configuration, set_species, to_atoms
from al_charge.crystal.enumeration import enumerate_distinct
from al_charge.crystal.symmetry import canonical_hash, permutations
from al_charge.errors import InputError
from al_charge.loop.campaign import Campaign
from al_charge.loop.label_query import LabelQuery, parse_query, query_labels
from al_charge.loop.labelled_frames import cache_of
from al_charge.potentials.accuracy import accuracy
from al_charge.potentials.data.frames import groups_of, split_frames
from al_charge.potentials.data.grouping import derive_groups
from al_charge.potentials.model_file import load_model, read_members
from al_charge.report.export import frames_of
from al_charge.store.documents import LabelDoc
from al_charge.store.labels import ALL_FRAMES

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def settings(tmp_path: Path) -> str:
    file = tmp_path / "painn.yaml"
    potential = {"kind": "painn", "cutoff": "3 A", "channels": 4, "radial": 4, "pair_cutoff": "0 A"}
    file.write_text(yaml.safe_dump({"potential": potential, "training": {"epochs": 2}}))
    return str(file)


def test_queries_are_read() -> None:
    assert parse_query("db:demo-1") == LabelQuery("db:demo-1", "demo-1", {})
    found = parse_query("db: demo-1 , composition=4/6,composition=0.5, host=ab")
    assert found.campaign == "demo-1"
    assert found.wanted == {"composition": ("2/3", "1/2"), "host": ("ab",)}
    assert parse_query("db:settings=12").campaign is None


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("db:", "a term has no value; name a campaign, as in 'db:demo-1'"),
        ("db:demo,", "a term has no value"),
        ("db:compositon=1/2", "no field 'compositon'; did you mean 'composition'?"),
        ("db:composition=half", "'half' is not a composition; write a fraction, such as 2/3"),
        ("db:composition=1/0", "'1/0' is not a composition"),
        ("db:one,two", "it names two campaigns"),
    ],
)
def test_terms_that_cannot_be_read(text: str, what: str) -> None:
    with pytest.raises(InputError) as error:
        parse_query(text)
    assert str(error.value).startswith(f"{text}: ")
    assert what in str(error.value)


def test_training_on_a_campaign_s_labels(
    labelled: Campaign, run: Run, settings: str, tmp_path: Path
) -> None:
    model = tmp_path / "model"
    options = ("--settings", settings, "--folds", "2", "--json")
    code, out, err = run("train", "db:labelled", str(model), *options)
    assert code == 0, err
    assert "db:labelled: 1 labels left out: ambiguous" in err
    assert "db:labelled: 1 labels left out: unusable" in err
    document = json.loads(out)
    assert document["frames"] == 6
    assert document["frames_with"] == {"stress": 3, "moments": 4, "charges": 3}
    assert document["groups"] == len({label.config_hash for label in usable(labelled)})
    assert document["states_from"] == {"as the labeler found them": 6}
    assert (document["data"], document["groups_from"]) == ("db:labelled", "config_hash")
    assert not cache_of(tmp_path, "model").exists()
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == []
    (member,), training = read_members(model)
    assert member.vocabulary.tokens == ("Fe2+", "Fe3+", "Na+", "O2-", "P5+")
    assert [len(history) for history in training["history"]] == [2]


def test_frames_are_those_that_are_exported(labelled: Campaign, tmp_path: Path) -> None:
    found = query_labels(labelled.store, parse_query("db:labelled"), tmp_path, spin=False).frames
    labels = sorted(usable(labelled), key=lambda label: label.key)
    images = [image for label in labels for image in frames_of(label, 4)]
    for frame, image in zip(found, images, strict=True):
        assert frame.energy == image.get_potential_energy()
        assert np.array_equal(frame.forces, image.get_forces())
        assert np.array_equal(frame.atoms.positions, image.positions)
        assert np.array_equal(frame.atoms.arrays["species"], image.arrays["resolved_species"])
        assert frame.group == image.info["config_hash"]
        assert (frame.moments is None) == ("magmoms" not in image.calc.results)


def usable(campaign: Campaign) -> list[LabelDoc]:
    labels = list(campaign.store.labels.read(ALL_FRAMES, campaign=campaign.name))
    return [label for label in labels if not label.refused]


def test_evaluating_on_the_database(
    labelled: Campaign, run: Run, settings: str, tmp_path: Path
) -> None:
    model, query = tmp_path / "model", "db:labelled,composition=1/2"
    assert run("train", query, str(model), "--settings", settings)[0] == 0
    code, out, err = run("evaluate", str(model), query, "--json")
    assert code == 0, err
    found = json.loads(out)
    assert found["data"] == query
    assert (found["all"]["frames"], found["all"]["configurations"]) == (2, 1)
    assert [row["formula"] for row in found["compositions"]] == ["NaFe2(PO4)2"]
    data = query_labels(labelled.store, parse_query(query), tmp_path / "cache", spin=False)
    assert data.formula_units == [4, 4]
    for name, value in accuracy(load_model(model), data)["all"].items():
        assert found["all"][name] == value
    # Four formula units of 6.5 atoms.
    assert found["all"]["energy_per_formula"]["rmse"] == pytest.approx(
        6.5 * found["all"]["energy_per_atom"]["rmse"]
    )
    everything = query_labels(labelled.store, parse_query("db:labelled"), tmp_path / "c", spin=True)
    assert everything.states_from == {
        "as the labeler found them": 6,
        "nearest to uncertain moments": 1,
    }
    assert everything.left_out == {"unusable": 1}
    # x = 0 has no ion to tell the formula units by; its host does.
    assert everything.formula_units == [4] * 7


@pytest.mark.parametrize(
    ("query", "what"),
    [
        ("db:labeled", "campaign 'labeled': there is no such campaign; did you mean 'labelled'?"),
        ("db:labelled,composition=1/3", "no label has composition 1/3; there are 0, 1/2, 1"),
        ("db:labelled,settings=zz", "no label has settings zz; choose one of: "),
        ("db:host=zz", "no label has host zz; choose one of: "),
    ],
)
def test_what_is_not_there(
    query: str, what: str, labelled: Campaign, run: Run, tmp_path: Path
) -> None:
    code, out, err = run("train", query, str(tmp_path / "m"), "--kind", "painn")
    assert (code, out, err.strip().count("\n")) == (2, "", 0)
    assert what in err
    assert list(tmp_path.iterdir()) == []


def test_options_of_files_are_refused(labelled: Campaign, run: Run, tmp_path: Path) -> None:
    for options in (("--oxidation", "Fe3+"), ("--group", "x"), ("--flip-charges",)):
        command = ("train", "db:labelled", str(tmp_path / "m"), "--kind", "painn", *options)
        code, _, err = run(*command)
        assert code == 2
        assert f"{options[0]}: it is for files" in err


def test_labels_of_different_settings_are_not_mixed(
    labelled: Campaign, run: Run, settings: str, tmp_path: Path
) -> None:
    """Of two functionals, say; labels that are not used do not count."""
    (label, *_) = usable(labelled)
    other = {"settings_hash": "feed" * 6, "engine": "vasp 6.4"}
    labelled.store.labels.put(label.model_copy(update=other | {"key": "elsewhere"}))
    ours = labelled.settings_hash[:8]
    command = ("train", "db:composition=0", str(tmp_path / "m"), "--settings", settings)
    code, _, err = run(*command, "--folds", "1")
    assert (code, err.strip().count("\n")) == (2, 0)
    assert "labels of different settings are not comparable: " in err
    assert f"{ours} (1 by gpaw)" in err and "feedfeed (1 by vasp)" in err
    assert "choose one, as in 'db:composition=0,settings=" in err
    store = labelled.store
    for query in (f"db:composition=0,settings={ours}", "db:labelled,composition=0"):
        assert len(query_labels(store, parse_query(query), tmp_path / "c", spin=False).frames) == 3
    store.labels.put(label.model_copy(update=other | {"key": "broken", "unusable": "so"}))
    store.database["labels"].delete_one({"_id": "elsewhere"})
    query = parse_query("db:composition=0")
    assert len(query_labels(store, query, tmp_path / "c", spin=False).frames) == 3


def twice(campaign: Campaign, settings: dict[str, Any]) -> LabelDoc:
    """Return a label of two cells of a campaign's host."""
    template = next(label for label in usable(campaign) if label.n_ions == 4)
    small = to_atoms(campaign.host, enumerate_distinct(campaign.host, 4)[0])
    large = small.repeat((1, 2, 1))
    set_species(large, [str(token) for token in large.arrays["species"]])
    other = {"host_fingerprint": "larger", "n_ions": 8, "moments": None, "bader": None}
    label = _label(template, "double", large, "another hash").model_copy(
        update=other | {"settings": settings}
    )
    forces = np.zeros((len(large), 3)).tolist()
    frames = [frame.model_copy(update={"forces": forces}) for frame in label.frames]
    return label.model_copy(update={"frames": frames})


def test_one_grid_in_cells_of_different_size_is_refused(
    labelled: Campaign, run: Run, settings: str, tmp_path: Path
) -> None:
    store = labelled.store
    grid, spacing = {"kpoints": [2, 4, 4]}, {"kpoints": {"spacing": 0.3}}
    query = ("train", "db:composition=1", str(tmp_path / "m"), "--settings", settings)
    store.database["labels"].update_many({}, {"$set": {"settings": grid}})
    store.labels.put(twice(labelled, grid))
    code, _, err = run(*query)
    assert (code, err.strip().count("\n")) == (2, 0)
    assert "energies with the k-point grid 2x4x4 in cells of host " in err
    assert "(56 atoms)" in err and "(28 atoms)" in err and "share no hull" in err
    only = parse_query(f"db:composition=1,host={labelled.host.fingerprint[:8]}")
    assert query_labels(store, only, tmp_path / "c", spin=False).frames
    store.database["labels"].update_many({}, {"$set": {"settings": spacing}})
    both = parse_query("db:composition=1")
    frames = query_labels(store, both, tmp_path / "c", spin=False).frames
    assert {len(frame.atoms) for frame in frames} == {28, 56}


def test_symmetric_copies_and_steps_of_a_relaxation_share_a_side(
    labelled: Campaign, tmp_path: Path
) -> None:
    """Copies by every kind of operation of the host, each with several frames."""
    host, store = labelled.host, labelled.store
    template = next(label for label in usable(labelled) if label.n_ions == 2)
    copies: dict[str, str] = {}
    rng = np.random.default_rng(0)
    for which, config in enumerate(enumerate_distinct(host, 2)):
        for permutation in rng.permutation(len(permutations(host)))[:3]:
            copy = configuration(host, config.as_array()[permutations(host)[permutation]])
            atoms = to_atoms(host, copy)
            assert canonical_hash(host, copy) == canonical_hash(host, config)
            key = f"copy {which} {permutation}"
            copies[key] = canonical_hash(host, config)
            store.labels.put(_label(template, key, atoms, copies[key]))
    query = parse_query("db:composition=1/2")
    frames = query_labels(store, query, tmp_path / "cache", spin=False).frames
    assert len(copies) > 6
    assert set(copies.values()) <= set(groups_of(frames))
    for fold in range(3):
        used, held = split_frames(frames, fold=fold, n_folds=3)
        used_groups, held_groups = set(groups_of(used)), set(groups_of(held))
        assert used_groups and not used_groups & held_groups
        assert len(used) + len(held) == len(frames)
        # By distances alone, which know nothing of hashes.
        names = derive_groups([frame.atoms for frame in (*used, *held)])
        assert not set(names[: len(used)]) & set(names[len(used) :])


def _label(template: LabelDoc, key: str, atoms: Any, group: str) -> LabelDoc:
    species = [str(token) for token in atoms.arrays["species"]]
    frame = template.frames[-1].model_copy(
        update={"positions": atoms.positions.tolist(), "cell": atoms.cell.array.tolist()}
    )
    return template.model_copy(
        update={
            "key": key,
            "config_hash": group,
            "frames": [frame, frame.model_copy(update={"energy": frame.energy - 1.0})],
            "requested": species,
            "resolved": species,
            "sites": species,
            "numbers": atoms.numbers.tolist(),
            "host_site": atoms.arrays["host_site"].tolist(),
        }
    )


def test_one_structure_in_two_hosts_is_one_group(labelled: Campaign, tmp_path: Path) -> None:
    """The full cell, and twice of it as another host: two hashes, one crystal."""
    store = labelled.store
    store.labels.put(twice(labelled, {"kpoints": {"spacing": 0.3}}))
    data = query_labels(store, parse_query("db:composition=1"), tmp_path / "cache", spin=False)
    assert len(data.frames) == 3
    assert len(set(groups_of(data.frames))) == 1
    assert {frame.group for frame in data.frames} == set(groups_of(data.frames))
    assert sorted(data.formula_units) == [4, 8, 8]  # type: ignore[type-var]
    assert data.groups_from == "config_hash and structure"
