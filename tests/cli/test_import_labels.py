"""`al-charge labels import`: what was exported comes back as it was, or is refused in one line."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase.io import read
from pymongo.database import Database

import al_charge as ac
from al_charge.crystal.host import Host
from al_charge.crystal.parent import read_structure
from al_charge.loop.campaign import Campaign, open_campaign
from al_charge.loop.label import label
from al_charge.loop.propose import propose
from al_charge.loop.reference import label_metal
from al_charge.loop.rounds import label_slots, open_round
from al_charge.loop.select import select_candidates
from al_charge.loop.spec import load_spec, parse_spec
from al_charge.loop.submit import submit
from al_charge.report.exported import Exported
from al_charge.store.documents import LabelDoc
from al_charge.store.labels import ALL_FRAMES
from al_charge.store.migrations import SCHEMA
from al_charge.store.mongo import Store

ROOT = Path(__file__).parents[2]
HOST = ROOT / "workflows" / "hosts" / "NaFePO4.cif"
COMMITTED = ROOT / "examples" / "data" / "nafepo4_gpaw.extxyz"
GPAW_HOSTS = sorted(
    path.stem
    for path in (ROOT / "examples" / "hosts" / "gpaw").glob("*.yaml")
    if COMMITTED.with_name(f"{path.stem}_gpaw.extxyz").exists()
)
HALF = "62143e5a3ee088084d475aed"
"""A static label at x = 1/4 in the committed file."""
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def store(database: Database[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> Store:
    """An empty database, which commands find by themselves."""
    monkeypatch.setattr("al_charge.store.connection.DEFAULT_NAME", database.name)
    store = Store(database)
    store.ensure_schema()
    return store


def emptied(store: Store) -> Store:
    for name in set(store.database.list_collection_names()) - {SCHEMA}:
        store.database[name].delete_many({})
    return store


def contents(store: Store) -> dict[str, list[dict[str, Any]]]:
    names = sorted(store.database.list_collection_names())
    return {name: list(store.database[name].find(sort=[("_id", 1)])) for name in names}


def made(store: Store, folder: Path, **labeler: Any) -> Campaign:
    """Return a campaign whose first labels were made by Born."""
    document = {
        "name": "made",
        "host": {
            "structure": str(HOST),
            "working_ion": "Na",
            "redox": {"Fe": [2, 3]},
            "fixed": {"P": 5, "O": -2},
        },
        "labeler": {"kind": "born", **labeler},
        "potential": {"kind": "painn"},
        "search": {"seeds": 3},
        "acquisition": {"first_round": 5},
        "convergence": {"max_labels": 5},
    }
    submit(store, parse_spec(document, source=HOST))
    campaign = open_campaign(store, "made")
    open_round(campaign, 0)
    for n_ions in campaign.host.ion_counts:
        propose(campaign, 0, n_ions)
    select_candidates(campaign, 0)
    for slot in range(label_slots(campaign, 0)):
        label(campaign, 0, slot, folder / str(slot), spool=folder / "spool")
    label_metal(campaign, folder / "metal")
    return campaign


@pytest.mark.parametrize(("moment", "delocalised"), [(4.0, True), (3.0, False)])
def test_what_is_delocalised_comes_back_as_that_where_its_moments_say_so(
    moment: float, delocalised: bool, run: Run, store: Store, tmp_path: Path
) -> None:
    made(store, tmp_path, relax="none")
    label = next(one for one in store.labels.read(ALL_FRAMES) if one.n_ions == 2)
    iron = [i for i, token in enumerate(label.requested) if token.startswith("Fe")]
    told = {
        "resolved": None,
        "delocalised": True,
        "windows": {"Fe2+": [3.65, 3.85], "Fe3+": [4.15, 4.35]},
        "sites": [None if i in iron else token for i, token in enumerate(label.requested)],
        "moments": [moment if i in iron else 0.0 for i in range(len(label.requested))],
    }
    store.database["labels"].delete_one({"_id": label.key})
    assert store.labels.put(label.model_copy(update=told))
    file = str(tmp_path / "made.extxyz")
    assert run("export", "made", file)[0] == 0
    emptied(store)
    assert run("labels", "import", file)[0] == 0
    again = store.labels.get(label.key)
    assert again is not None
    assert again.delocalised is delocalised
    assert (again.refusal is None) is delocalised


@pytest.mark.parametrize(
    "labeler", [{"relax": "none"}, {"fmax": "0.1 eV/A"}], ids=["static", "relaxed"]
)
def test_labels_come_back_as_they_were(
    run: Run, store: Store, tmp_path: Path, labeler: dict[str, Any]
) -> None:
    made(store, tmp_path, **labeler)
    before = {one.key: one for one in store.labels.read(ALL_FRAMES)}
    (metal,) = store.database["references"].find()
    file = str(tmp_path / "made.extxyz")
    assert run("export", "made", file)[0] == 0
    emptied(store)
    code, out, err = run("labels", "import", file)
    assert (code, err) == (0, "")
    assert out == (
        f"labels of campaign 'made', settings 860a66b866fbd989: {len(before)} imported, 0 there "
        "already, 0 left out\nenergy of Na metal: imported\n"
    )
    after = {one.key: one for one in store.labels.read(ALL_FRAMES)}
    assert after.keys() == before.keys()
    for key, one in after.items():
        check_same(one, before[key])
    (again,) = store.database["references"].find()
    changed = {"checksums", "created", "directory", "imported", "wall_time"}
    assert {n: v for n, v in again.items() if n not in changed} == {
        n: v for n, v in metal.items() if n not in changed
    }
    # What was imported can be exported and imported in turn.
    submitted = made(store, tmp_path / "again", **labeler)
    assert store.attempts.all("made") == []
    assert store.labels.uses("made").keys() == before.keys()
    assert run("export", "made", file, "--force")[0] == 0
    assert (
        submitted.host.fingerprint
        == json.loads(Path(file).with_suffix(".json").read_text())["host"]["fingerprint"]
    )
    emptied(store)
    assert run("labels", "import", file)[0] == 0
    third = {one.key: one for one in store.labels.read(ALL_FRAMES)}
    assert third.keys() == before.keys()


def check_same(one: LabelDoc, other: LabelDoc) -> None:
    """Compare a label that was imported with the one that was exported."""
    assert one.imported is not None
    assert (one.imported.file, one.imported.campaign) == ("made.extxyz", "made")
    assert re.fullmatch("[0-9a-f]{64}", one.imported.sha256)
    assert one.directory == ""
    assert other.directory
    skipped = {"imported", "directory", "frames"}
    assert one.model_dump(exclude=skipped) == other.model_dump(exclude=skipped)
    for frame, before in zip(one.frames, other.frames, strict=True):
        assert frame.energy == before.energy
        np.testing.assert_array_equal(frame.cell, before.cell)
        np.testing.assert_allclose(frame.positions, before.positions, atol=1e-8)
        np.testing.assert_allclose(frame.forces, before.forces, atol=1e-8)
        assert (frame.stress is None) is (before.stress is None)
        if frame.stress is not None and before.stress is not None:
            np.testing.assert_allclose(frame.stress, before.stress, atol=1e-12)


def test_the_committed_labels(run: Run, store: Store) -> None:
    code, out, err = run("labels", "import", str(COMMITTED), "--json")
    assert (code, err) == (0, "")
    document = json.loads(out)
    assert len(document["imported"]) == 50
    assert document["known"] == []
    assert document["left_out"] == document["kept"] == {}
    assert (document["metal"], document["metal_imported"]) == ("Na", True)
    before = contents(store)
    document = json.loads(run("labels", "import", str(COMMITTED), "--json")[1])
    assert (len(document["imported"]), len(document["known"])) == (0, 50)
    assert document["metal_imported"] is False
    assert contents(store) == before
    labels = list(store.labels.read(ALL_FRAMES))
    assert {one.relax for one in labels} == {"none", "cell"}
    for one in labels:
        # What the export did not tell stays empty.
        assert (one.attempts, one.wall_time, one.cores, one.round) == ([], None, None, None)
        assert one.campaign == "nafepo4-gpaw-final"
        assert one.resolved == one.requested
        assert one.audit == "every moment fits a charge state"
        assert set(one.datasets) == {"Fe", "P", "O"} | ({"Na"} if one.n_ions else set())
    # The energies of docs/results.md, eV per cell.
    lowest = {one.n_ions: 0.0 for one in labels}
    for one in labels:
        lowest[one.n_ions] = min(lowest[one.n_ions], one.energy)
    assert [round(lowest[n], 3) for n in range(5)] == [
        -178.343, -182.355, -186.990, -190.937, -195.529,
    ]  # fmt: skip


@pytest.mark.parametrize("name", GPAW_HOSTS)
def test_labels_of_the_gpaw_hosts_come_back(name: str, run: Run, store: Store) -> None:
    """All of the file, with the readings that it tells, and for the campaign file that it names."""
    file = COMMITTED.with_name(f"{name}_gpaw.extxyz")
    told = json.loads(file.with_suffix(".json").read_text())
    code, out, err = run("labels", "import", str(file), "--json")
    assert (code, err) == (0, "")
    document = json.loads(out)
    assert document["left_out"] == document["kept"] == {}
    labels = {one.key: one for one in store.labels.read(ALL_FRAMES)}
    assert sorted(labels) == sorted(document["imported"]) == sorted(told["labels"])
    assert sum(one.refusal is None for one in labels.values()) == told["counts"]["usable"]
    assert sum(one.delocalised for one in labels.values()) == told["counts"]["delocalised"]
    # Energies, states and what is refused, as ASE reads the file; last frames are results.
    images = {atoms.info["label"]: atoms for atoms in read(file, ":")}
    for key, one in labels.items():
        assert one.energy == images[key].get_potential_energy()
        assert one.states_found == images[key].arrays["resolved_species"].tolist()
        assert (one.config_hash, one.refused) == (
            images[key].info["config_hash"], images[key].info.get("refused", "")
        )  # fmt: skip
    spec = load_spec(ROOT / "examples" / "hosts" / "gpaw" / f"{name}.yaml")
    assert spec.name == told["campaign"]
    host = Host.from_spec(spec.host)
    assert {one.host_fingerprint for one in labels.values()} == {host.fingerprint}
    assert {one.n_ions for one in labels.values()} <= set(host.ion_counts)


def test_an_export_of_before_min_distance_has_no_limit(tmp_path: Path) -> None:
    """Its host has both sites of a layer, and the fingerprint of then."""
    cell = read_structure(ROOT / "tests" / "cases" / "hosts" / "nacoo2_p2_both_sites.cif")
    spec = {"structure": "p2.cif", "working_ion": "Na", "redox": {"Co": [3, 4]}, "fixed": {"O": -2}}

    def other_host(document: dict[str, Any]) -> None:
        document["host"] = {
            "spec": spec | {"spins": "usual"},
            "structure": cell.as_dict(),
            "fingerprint": "a8d56b32e4337c89",
        }

    host = Exported(Path(edited(tmp_path, other_host))).host
    assert host.exclusions == () and host.most_ions == 4


def test_an_export_that_does_not_tell_its_host(run: Run, store: Store, tmp_path: Path) -> None:
    """As version 0.2 wrote it: the campaign says which, and the hashes whether it is the one."""
    file = edited(tmp_path, lambda document: document.pop("host") and document.pop("fmax"))
    line = refused(run, store, file)
    assert "does not name the host" in line
    assert "--campaign" in line
    other = ROOT / "workflows" / "nafepo4_born.yaml"  # on a larger cell
    assert "not a configuration of this host" in refused(run, store, file, "--campaign", str(other))
    whole = ROOT / "workflows" / "nafepo4_gpaw.yaml"
    code, out, _ = run("labels", "import", file, "--campaign", str(whole))
    assert (code, "50 imported" in out) == (0, True)
    emptied(store)
    other = ROOT / "workflows" / "nafepo4_gpaw_round.yaml"  # the same host
    line = refused(run, store, file, "--campaign", str(other))
    assert "its key is not that of its configuration, settings and force limit" in line


def edited(
    folder: Path,
    document: Callable[[dict[str, Any]], object] = lambda _: None,
    frames: Callable[[str], str] = lambda text: text,
) -> str:
    """Return a changed copy of the committed file."""
    told = json.loads(COMMITTED.with_suffix(".json").read_text())
    document(told)
    (folder / "labels.json").write_text(json.dumps(told))
    (folder / "labels.extxyz").write_text(frames(COMMITTED.read_text()))
    return str(folder / "labels.extxyz")


def refused(run: Run, store: Store, *arguments: str) -> str:
    """Return the one line with which an import is refused; nothing may be written."""
    before = contents(store)
    code, out, err = run("labels", "import", *arguments)
    assert (code, out, err.count("\n")) == (2, "", 1), (out, err)
    assert contents(store) == before
    return err


def of_label(pattern: str, replacement: str) -> Callable[[str], str]:
    """Return an edit of the first line of label `HALF`."""

    def edit(text: str) -> str:
        lines = text.splitlines(keepends=True)
        (number,) = [i for i, line in enumerate(lines) if f"label={HALF}" in line]
        changed = re.sub(pattern, replacement, lines[number])
        assert changed != lines[number], lines[number]
        lines[number] = changed
        return "".join(lines)

    return edit


def moved(text: str) -> str:
    """Move the first atom of label `HALF` by 0.001 A."""
    lines = text.splitlines(keepends=True)
    (number,) = [i for i, line in enumerate(lines) if f"label={HALF}" in line]
    words = lines[number + 1].split()
    lines[number + 1] = lines[number + 1].replace(words[1], f"{float(words[1]) + 0.001:.8f}", 1)
    return "".join(lines)


def misspelt(text: str) -> str:
    before, half, after = text.partition(f"label={HALF}")
    return before + half + after.replace(" Fe3+ Fe3+ ", " Fe3+ Iron ", 1)


def cut(text: str) -> str:
    return text[: text.rindex("28\nLattice")]


BAD: dict[str, tuple[Callable[[dict[str, Any]], object], Callable[[str], str], str]] = {
    "a geometry": (lambda _: None, moved, "its key is not that of its configuration, settings"),
    "a key": (
        lambda _: None, of_label(HALF, HALF[::-1]), "its key is not that of its configuration",
    ),
    "a configuration": (
        lambda _: None,
        of_label("requested_hash=[0-9a-f]+", "requested_hash=" + 24 * "a"),
        "not a configuration of this host",
    ),
    "a configuration found": (
        lambda _: None,
        of_label(" config_hash=[0-9a-f]+", " config_hash=" + 24 * "a"),
        "not those of its config_hash",
    ),
    "settings": (
        lambda d: d["settings"].update(cutoff=500.0), str, "do not have the hash 47a32094d252cfff",
    ),
    "settings of a frame": (
        lambda _: None,
        of_label("settings_hash=[0-9a-f]+", "settings_hash=860a66b866fbd989"),
        "it has the settings 860a66b866fbd989",
    ),
    "an energy": (lambda _: None, of_label("energy=[-.0-9]+", "energy=nan"), "energy"),
    "no energy": (lambda _: None, of_label(" energy=[-.0-9]+", ""), "it has no 'energy'"),
    "a frame's number": (
        lambda _: None, of_label("frame=0", "frame=1e400"), "not as an export writes it",
    ),
    "a charge state": (
        lambda _: None, misspelt, "'Iron' is not a charge state",
    ),
    "no key": (lambda _: None, of_label("label=[0-9a-f]+", ""), "it has no 'label'"),
    "relaxed frames": (
        lambda d: d["counts"].update(frames=57),
        lambda text: "".join(text.splitlines(keepends=True)[26:]),
        "it has 2 of 3 frames, or not in order; export it without --last",
    ),
    "a frame too few": (lambda _: None, cut, "its JSON file describes 50 with 58"),
    "labels twice": (lambda _: None, lambda text: 2 * text, "appears twice"),
    "no windows": (lambda d: d.pop("moment_windows"), str, "it has no 'moment_windows'"),
    "windows": (
        lambda d: d["moment_windows"].update({"Fe2+": ["low", "high"]}), str, "not as an export",
    ),
    "a host": (
        lambda d: d["host"]["spec"].update(redox={"Fe": [1, 2, 3]}), str, "have the fingerprint",
    ),
    "a force limit": (lambda d: d.update(fmax=0.2), str, "settings and force limit"),
    "a metal": (lambda d: d["metal"].update(element="Li"), str, "the metal Li"),
    "no energy of the metal": (lambda d: d["metal"].pop("energy"), str, "it has no 'energy'"),
    "not a description": (lambda d: d.clear(), str, "does not describe labels"),
}  # fmt: skip
"""What is wrong with a file: an edit of the JSON file, one of the frames, and what is said."""


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused_before_anything_is_written(
    run: Run, store: Store, tmp_path: Path, case: str
) -> None:
    document, frames, expected = BAD[case]
    assert expected in refused(run, store, edited(tmp_path, document, frames))


def test_missing_files(run: Run, store: Store, tmp_path: Path) -> None:
    assert "no such file" in refused(run, store, str(tmp_path / "none.extxyz"))
    assert "give the .extxyz file" in refused(run, store, str(COMMITTED.with_suffix(".json")))
    alone = shutil.copy(COMMITTED, tmp_path / "alone.extxyz")
    line = refused(run, store, str(alone))
    assert "alone.json: no such file; keep it beside" in line
    (tmp_path / "alone.json").write_text("{")
    assert "not a JSON file" in refused(run, store, str(alone))
    assert "no such campaign" in refused(run, store, str(COMMITTED), "--campaign", "none")


def swapped(text: str) -> str:
    """Let label `HALF` say that its Fe2+ and one of its Fe3+ have changed places."""
    lines = text.splitlines(keepends=True)
    (number,) = [i for i, line in enumerate(lines) if f"label={HALF}" in line]
    atoms = [i for i in range(number + 1, number + 10) if " Fe" in lines[i] or lines[i][:2] == "Fe"]
    two = next(i for i in atoms if "Fe2+ Fe2+" in lines[i])
    three = next(i for i in atoms if "Fe3+ Fe3+" in lines[i])
    lines[two] = lines[two].replace("Fe2+ Fe2+", "Fe3+ Fe2+")
    lines[three] = lines[three].replace("Fe3+ Fe3+", "Fe2+ Fe3+")
    return "".join(lines)


def test_labels_that_are_not_what_they_say_are_told_one_by_one(
    run: Run, store: Store, tmp_path: Path
) -> None:
    file = edited(tmp_path, frames=swapped)
    code, out, err = run("labels", "import", file)
    assert (code, err) == (1, "")
    first, _, line = out.splitlines()
    assert "49 imported, 0 there already, 1 left out" in first
    assert re.fullmatch(
        rf"left out {HALF}: atom \d+ is Fe[23]\+ in the file, Fe[23]\+ by its moment; "
        r"atom \d+ is Fe[23]\+ in the file, Fe[23]\+ by its moment",
        line,
    )
    assert not store.labels.has(HALF)
    # With narrower windows, no moment tells a state.
    emptied(store)
    narrow = {"Fe2+": [3.5, 3.501], "Fe3+": [4.4, 4.401]}
    file = edited(tmp_path, lambda document: document.update(moment_windows=narrow))
    code, out, _ = run("labels", "import", file)
    lines = out.splitlines()[2:]
    assert (code, len(lines)) == (1, 50)
    assert all("certain, but moments of atoms" in line for line in lines)
    assert store.database["labels"].count_documents({}) == 0


def test_a_label_that_is_there_stays(run: Run, store: Store, tmp_path: Path) -> None:
    run("labels", "import", str(COMMITTED))
    file = edited(tmp_path, frames=of_label("energy=[-.0-9]+", "energy=-181.5"))
    before = contents(store)
    code, out, _ = run("labels", "import", file)
    assert code == 0
    assert out.splitlines()[-1] == (
        f"kept {HALF}: it was there with -182.354980 eV, the file has -181.500000"
    )
    assert contents(store) == before


def test_the_python_face(store: Store) -> None:
    found = ac.import_labels(COMMITTED)
    assert (len(found.imported), found.known) == (50, ())
    assert str(found).startswith("labels of campaign 'nafepo4-gpaw-final', settings")
    assert ac.import_labels(str(COMMITTED)).known == found.imported
    assert {one.key for one in store.labels.read(ALL_FRAMES)} == set(found.imported)


def test_listing_labels_is_as_it_was(
    run: Run, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "220")
    made(store, tmp_path)
    file = str(tmp_path / "made.extxyz")
    run("export", "made", file)
    listed = run("labels", "made")
    assert listed == run("labels", "list", "made")
    assert listed[0] == 0
    assert "(imported)" not in listed[1]
    orders = (("labels", "--json", "made"), ("labels", "made", "--json"))
    one, other = (json.loads(run(*words)[1]) for words in orders)
    assert one == other | {"time": one["time"]}
    emptied(store)
    run("labels", "import", file)
    made(store, tmp_path / "again")
    assert run("labels", "made")[1].count("(imported)") == 5
    found = json.loads(run("labels", "made", "--json")[1])["labels"]
    assert {one["imported"]["campaign"] for one in found} == {"made"}
    code, _, err = run("labels")
    assert (code, "CAMPAIGN" in err) == (2, True)


def test_labels_of_another_u_than_the_known_windows_are_told() -> None:
    """The committed labels have U = 5.3 eV and calibrated windows; here they have neither."""
    from al_charge.api.imports import _warnings
    from al_charge.report.exported import Exported

    exported = Exported(COMMITTED)
    assert exported.settings["hubbard_u"] == {"Fe": 5.3}
    assert _warnings(exported) == []
    exported.settings["hubbard_u"] = {"Fe": 4.0}
    calibrated = dict(exported.document["moment_windows"])
    assert calibrated
    assert _warnings(exported) == []
    exported.document["moment_windows"] = {}
    exported.document["engine_windows"] = {"ranges": {"Fe2+": [3.57, 3.78], "Fe3+": [4.18, 4.42]}}
    (line,) = _warnings(exported)
    assert line.startswith("computed with U = 4 instead of 5.3 eV on Fe")
    exported.document["engine_windows"]["users"] = {"Fe2+": [3.57, 3.78], "Fe3+": [4.18, 4.42]}
    assert _warnings(exported) == []
