"""Databases that past versions of the schema wrote are migrated and read by the present code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gridfs
import pytest
from bson import json_util
from pymongo.database import Database
from pymongo.errors import WriteError

from al_charge.acquisition.weighted import WeightedSettings
from al_charge.errors import InputError
from al_charge.loop.campaign import open_campaign
from al_charge.loop.energies import assessed_hull
from al_charge.loop.spec import CampaignSpec, load_spec, parse_spec
from al_charge.loop.stored_spec import is_same, spec_of
from al_charge.loop.submit import submit
from al_charge.search.genetic import GeneticSettings
from al_charge.store import from_version_4
from al_charge.store.backup.restore import restore
from al_charge.store.documents import (
    DOCUMENTS,
    SCHEMA_VERSION,
    CampaignDoc,
    CandidateDoc,
    Geometry,
    ModelDoc,
)
from al_charge.store.fields import now
from al_charge.store.from_version_4 import split_spec, to_version_5
from al_charge.store.from_versions_1_to_3 import to_version_2, to_version_4
from al_charge.store.migrations import (
    MIGRATION_ID,
    RESTORE_ID,
    SCHEMA,
    is_due,
    migrate,
    stored_version,
)
from al_charge.store.mongo import Store
from al_charge.store.schema import validator_of

DATA = Path(__file__).parent / "data"
WORKFLOWS = Path(__file__).parents[2] / "workflows"
VERSION_1 = DATA / "schema_1.json"
"""Validators and documents as version 1 wrote them: labels by Born and GPAW, one ambiguous."""


@pytest.fixture
def old(database: Database[dict[str, Any]]) -> Database[dict[str, Any]]:
    """A database as version 1 left it."""
    stored = version_1()
    for name, validator in stored["validators"].items():
        database.create_collection(name, validator=validator, validationLevel="strict")
    for name, documents in stored["documents"].items():
        database[name].insert_many(documents)
    database["schema"].insert_one({"_id": "version", "version": 1})
    return database


def test_every_document_is_brought_to_the_present_version(old: Database[dict[str, Any]]) -> None:
    migrate(old)
    assert stored_version(old) == SCHEMA_VERSION
    assert check_documents(old) == sum(len(docs) for docs in documents_of_version_1().values())


def test_what_a_label_said_stays_and_nothing_is_made_up(old: Database[dict[str, Any]]) -> None:
    store = Store(old)
    before = {label["_id"]: label for label in documents_of_version_1()["labels"]}
    migrate(old)
    born, gpaw, ambiguous = (
        store.labels.get(key) for key in ("born-label", "gpaw-label", "gpaw-ambiguous")
    )
    assert born is not None
    assert gpaw is not None
    assert ambiguous is not None
    for label in (born, gpaw, ambiguous):
        kept = label.to_mongo()
        if label is born:
            assert kept["settings"].keys() == {"engine", "version", "max_steps"}
            kept |= {name: before[label.key][name] for name in ("settings", "settings_hash")}
        assert {
            name: value
            for name, value in before[label.key].items()
            if kept[name] != value and name != "schema_version"
        } == {}
        assert (label.bader, label.bader_electrons, label.cores) == (None, None, None)
        assert (label.attempts, label.windows, label.bader_centres) == ([], {}, {})
        assert label.unusable == label.bader_refused == ""
    assert (born.relax, gpaw.relax) == ("cell", "none")
    assert born.sites == gpaw.sites == ["Na+", "Fe2+", "O2-"]
    assert ambiguous.sites == []
    assert born.identity == gpaw.identity == ambiguous.identity == ""
    assert ambiguous.audit == "moments of atoms 1 fit no charge state"
    assert gpaw.datasets == {"Fe": "f00", "Na": "ba5", "O": "0c1"}
    assert (born.directory, gpaw.directory) == ("", "runs/olivine/0/3")


@pytest.mark.parametrize(
    ("name", "relax"),
    [("olivine-born", "cell"), ("olivine-static", "none"), ("olivine-gpaw", "none")],
)
def test_a_campaign_can_still_be_opened(
    old: Database[dict[str, Any]], name: str, relax: str
) -> None:
    store = Store(old)
    migrate(old)
    before = {doc["_id"]: doc for doc in documents_of_version_1()["campaigns"]}[name]
    assert store.campaigns.get(name).settings_hash == before["settings_hash"]
    campaign = open_campaign(store, name)
    assert campaign.host.fingerprint == before["host_fingerprint"]
    assert campaign.spec.labeler.relax == relax
    assert campaign.spec.labeler.kind == before["spec"]["campaign"]["labeler"]["kind"]


def test_a_reference_learns_its_settings_from_labels(old: Database[dict[str, Any]]) -> None:
    store = Store(old)
    migrate(old)
    known = store.references.get("olivine", "gpaw-settings", "Na")
    assert known is not None
    assert (known.energy, known.engine, known.wall_time) == (-1.31, "gpaw 26.7.0", None)
    assert known.settings["xc"] == "PBE"
    unused = old["references"].find_one({"settings_hash": "unused-settings"})
    assert unused is not None
    assert (unused["settings"], unused["engine"]) == ({}, "")


def test_a_migration_killed_half_way_is_completed(
    old: Database[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    from al_charge.store import from_versions_1_to_3

    asked: list[str] = []
    real = from_versions_1_to_3._of_label

    def dies_at_the_second(label: dict[str, Any]) -> dict[str, Any]:
        asked.append(label["_id"])
        if len(asked) == 2:
            raise KeyboardInterrupt
        return real(label)

    monkeypatch.setattr(from_versions_1_to_3, "_of_label", dies_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        migrate(old)
    assert stored_version(old) == 1
    assert old["labels"].count_documents({"schema_version": 2}) == 1
    with pytest.raises(InputError, match=r"a migration began at .* run 'al-charge db"):
        Store(old).ensure_schema()
    assert is_due(old)
    migrate(old)
    assert not is_due(old)
    assert asked[2:] == asked[1:2] + [key for key in LABELS if key not in asked[:2]]
    assert old["labels"].count_documents({"schema_version": SCHEMA_VERSION}) == len(LABELS)
    assert stored_version(old) == SCHEMA_VERSION


NEW_FIELDS = {
    2: {"candidates": ["drifted"], "models": ["start"]},
    3: {"models": ["predictions_file"]},
    9: {"candidates": ["identity"]},
}
"""By the last version that did not have them."""


@pytest.mark.parametrize("version", [1, 2, 3])
def test_candidates_and_models_of_older_versions(
    database: Database[dict[str, Any]], version: int
) -> None:
    """Nothing is made up: whether the committee agreed, or where training began, is not known."""
    store = Store(database)
    store.ensure_schema()
    geometry = Geometry(
        numbers=[26], positions=[[0.0] * 3], cell=[[9.0] * 3] * 3, species=["Fe3+"], host_site=[0]
    )
    candidate = CandidateDoc(
        campaign="old",
        round=1,
        n_ions=0,
        composition="0",
        config_hash="h",
        colours=[1],
        geometry=geometry,
        energy=-1.0,
        spread=0.1,
        origin="search",
    )
    model = ModelDoc(
        campaign="old", round=1, member=0, config={}, metrics={}, history=[], held_out={}
    )
    for document in (candidate, model):
        stored = document.to_mongo() | {"schema_version": version}
        for last, fields in NEW_FIELDS.items():
            for field in fields.get(document.collection, []) if version <= last else []:
                del stored[field]
        database[document.collection].insert_one(stored, bypass_document_validation=True)
    database["schema"].update_one({}, {"$set": {"version": version}})
    migrate(database)
    assert stored_version(database) == SCHEMA_VERSION
    assert store.candidates.get(candidate.doc_id) == candidate
    assert database["candidates"].find_one({}, {"_id": 0, "drifted": 1}) == {"drifted": None}
    (kept,) = database["models"].find({})
    assert ModelDoc.from_mongo(kept) == model
    assert (kept["start"], kept["predictions_file"]) == ("", None)


def test_a_migration_killed_after_its_last_step_is_due(database: Database[dict[str, Any]]) -> None:
    Store(database).ensure_schema()
    assert not is_due(database)
    database[SCHEMA].insert_one({"_id": MIGRATION_ID, "started": now()})
    assert is_due(database)
    assert migrate(database) == SCHEMA_VERSION
    Store(database).ensure_schema()


@pytest.mark.parametrize("version", range(1, SCHEMA_VERSION + 1))
def test_a_whole_campaign_of_every_version_is_read(
    database: Database[dict[str, Any]], version: int
) -> None:
    """Backups of one small campaign, made with the code of each version, and the hull it showed."""
    restored = restore(database, DATA / f"schema_{version}.zip", lambda *_: None, lambda _: None)
    assert (restored.schema_version, stored_version(database)) == (version, version)
    store = Store(database)
    meant = specification_before(database)
    if version < SCHEMA_VERSION:
        with pytest.raises(InputError, match=rf"version {version}, .* run 'al-charge db migrate'"):
            store.ensure_schema()
        assert migrate(database) == version
    store.ensure_schema()
    check_documents(database)
    known = json.loads((DATA / f"schema_{version}_hull.json").read_text())
    found, _ = assessed_hull(open_campaign(store, "kept"))
    assert [vertex.key for vertex in found.hull.vertices] == known["vertices"]
    assert [(str(entry.x), entry.key) for entry in found.hull.entries] == [
        (entry["x"], entry["label_id"]) for entry in known["entries"]
    ]
    for entry, before in zip(found.hull.entries, known["entries"], strict=True):
        shown = (entry.energy, found.hull.distance(entry))
        expected = [before[x] for x in ("energy_per_formula", "distance_to_hull")]
        assert shown == pytest.approx(expected, abs=1e-9)
    for model in store.models.all("kept"):
        assert store.models.get("kept", model.round, model.member) is not None
    # The campaign means what it meant, and its file may be submitted again.
    assert spec_of(store.campaigns.get("kept")) == meant
    assert submit(store, parse_spec(KEPT, source=HOST)) is False
    changed = KEPT | {"training": {"epochs": 4, "checkpoint_every": 2}}
    with pytest.raises(InputError, match="another campaign"):
        submit(store, parse_spec(changed, source=HOST))


HOST = WORKFLOWS / "hosts" / "NaFePO4.cif"
KEPT: dict[str, Any] = {
    "name": "kept",
    "host": {
        "structure": str(HOST),
        "working_ion": "Na",
        "redox": {"Fe": [2, 3]},
        "fixed": {"P": 5, "O": -2},
    },
    "labeler": {"kind": "born", "fmax": "0.1 eV/A"},
    "potential": {"kind": "painn", "cutoff": "4 A", "channels": 8},
    "committee": {"size": 2},
    "training": {"epochs": 3, "checkpoint_every": 2},
    "search": {"evaluations": 6, "seeds": 4},
    "acquisition": {"first_round": 5, "labels_per_round": 3},
    "convergence": {"rounds": 2, "max_labels": 8},
}
"""The file of the campaign that is kept for every version."""


def specification_before(database: Database[dict[str, Any]], name: str = "kept") -> CampaignSpec:
    """Return what a campaign of any version means, as the code of then would have read it."""
    stored = database["campaigns"].find_one({"_id": name})
    assert stored is not None
    spec = united(stored["spec"].get("defaults", {}), stored["spec"]["campaign"])
    relax = spec["labeler"].get("relax")
    if isinstance(relax, bool):  # in version 1
        spec["labeler"]["relax"] = "cell" if relax else "none"
    spec["host"].setdefault("spins", "high")  # as all ions were
    spec["host"].setdefault("min_distance", "0 A")  # there was no limit
    spec["convergence"].setdefault("verify", False)  # not before a file asked for it
    if spec["labeler"]["kind"] in ("gpaw", "vasp"):  # nor runs in other spin states
        spec["labeler"].setdefault("explore_spin", False)
    return CampaignSpec.model_validate(spec)


def united(defaults: Any, given: Any) -> Any:
    """Return settings with their defaults; until version 4 every default was written out."""
    if not (isinstance(defaults, dict) and isinstance(given, dict)):
        return given
    names = defaults.keys() | given.keys()
    return {n: united(defaults.get(n), given[n]) if n in given else defaults[n] for n in names}


def test_stored_defaults_are_marked_as_not_given(old: Database[dict[str, Any]]) -> None:
    """What a file set to another value stays; what equals the default of then is a default."""
    names = ("olivine-born", "olivine-static", "olivine-gpaw")
    before = {name: specification_before(old, name) for name in names}
    migrate(old)
    store = Store(old)
    for name in names:
        assert spec_of(store.campaigns.get(name)) == before[name]
    born, static, gpaw = (store.campaigns.get(name).spec for name in names)
    assert born["campaign"].keys() == {"name", "host", "labeler", "potential"}
    assert born["campaign"]["labeler"] == {"kind": "born"}
    assert born["defaults"]["labeler"] == {"relax": "cell", "fmax": "0.005 eV/A", "max_steps": 500}
    assert static["campaign"]["labeler"] == {"kind": "born", "relax": "none"}
    # Defaults were others when this one was stored.
    changed = {"energy_tolerance", "mixer", "moment_windows"}
    assert gpaw["campaign"]["labeler"].keys() == {"kind"} | changed
    assert gpaw["defaults"]["labeler"].keys() >= {"mode", "hubbard_u", "bader"}
    assert born["defaults"]["seed"] == 1
    assert born["defaults"]["search"]["operators"]["coupled_swap"] == 2.0


@pytest.mark.parametrize(
    "file",
    sorted(set(WORKFLOWS.glob("*.yaml")) - {WORKFLOWS / "nafepo4_two_thirds.yaml"}),  # is younger
    ids=lambda path: path.stem,
)
def test_campaigns_that_version_4_stored_keep_their_meaning(file: Path) -> None:
    spec = load_spec(file)
    searched = {name: getattr(spec.search, name) for name in ("evaluations", "seeds")}
    selected = {n: getattr(spec.acquisition, n) for n in ("labels_per_round", "first_round")}
    of_then = {"search": GeneticSettings(**searched), "acquisition": WeightedSettings(**selected)}
    spec = spec.model_copy(update=of_then)
    without = {"database", "resources"}
    campaign = spec.model_dump(mode="json", exclude=without, round_trip=True)
    # There was one search and one acquisition rule, and VASP's known windows were written out.
    del campaign["search"]["kind"], campaign["acquisition"]["kind"]
    # Fields that came later were not there.
    del campaign["search"]["operators"]["spin_change"], campaign["keep"]
    dft = campaign["labeler"].pop("explore_spin", None) is not None
    for later in ("moments", "total_moment", "explore_runs", "kpoint_spacing"):
        campaign["labeler"].pop(later, None)
    verifies = campaign["convergence"]["verify"] is True
    campaign["convergence"]["verify"] = verifies
    known = {"structure", "working_ion", "redox", "fixed", *from_version_4.DEFAULTS["host"]}
    campaign["host"] = {name: campaign["host"][name] for name in known}
    # Of version 4 are tables that are none now, or depend on the host.
    then = from_version_4.DEFAULTS[f"labeler.{campaign['labeler']['kind']}"]
    for table in {"hubbard_u", "moment_windows", "kpoint_density"} & then.keys():
        if campaign["labeler"][table] is None:
            campaign["labeler"][table] = then[table]
    stored = split_spec({"campaign": campaign})
    document = CampaignDoc(name=spec.name, spec=stored, host_fingerprint="", settings_hash="")
    meant = spec.model_copy(
        update={
            "host": spec.host.model_copy(update={"spins": "high", "min_distance": 0.0}),
            "convergence": spec.convergence.model_copy(update={"verify": verifies}),
            "labeler": type(spec.labeler).model_validate(
                campaign["labeler"] | ({"explore_spin": False} if dft else {})
            ),
        }
    )
    assert spec_of(document).model_dump(exclude=without) == meant.model_dump(exclude=without)
    said = spec.model_dump(mode="json", exclude=without, round_trip=True, exclude_unset=True)
    for section, fields in stored["campaign"].items():
        assert fields == said[section] or fields.items() <= said[section].items()
    again = CampaignDoc(
        name=spec.name,
        spec={"campaign": said, "defaults": {}},
        host_fingerprint="",
        settings_hash="",
    )
    assert is_same(document, again)


def test_a_migration_to_version_5_is_repeated(
    database: Database[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    restore(database, DATA / "schema_3.zip", lambda *_: None, lambda _: None)
    to_version_4(database)
    before = specification_before(database)
    real, asked = from_version_4._assessment, []

    def dies_at_the_second(*arguments: Any) -> Any:
        asked.append(arguments)
        if len(asked) == 2:
            raise KeyboardInterrupt
        return real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(from_version_4, "_assessment", dies_at_the_second)
        with pytest.raises(KeyboardInterrupt):
            to_version_5(database)
    versions = database["campaigns"].distinct("schema_version")
    assert (versions, database["rounds"].distinct("schema_version")) == ([5], [4, 5])
    to_version_5(database)
    assert database["campaigns"].distinct("schema_version") == [5]
    migrate(database)
    assert check_documents(database) > 20
    assert spec_of(Store(database).campaigns.get("kept")) == before
    assert Store(database).files.unused() == []


def test_predictions_move_from_assessments_to_files(database: Database[dict[str, Any]]) -> None:
    """Also those of a migration that was killed before it had told the round of its file."""
    restore(database, DATA / "schema_3.zip", lambda *_: None, lambda _: None)
    before = {one["_id"]: one["assessment"] for one in database["rounds"].find()}
    files = gridfs.GridFS(database, collection="weights")
    known = database["weights.files"].count_documents({})
    files.put(b"half", filename="kept/1/predictions")
    migrate(database)
    store = Store(database)
    assert database["weights.files"].count_documents({}) == known + len(before)
    assert store.files.unused() == []
    for record in store.rounds.all("kept"):
        keys, energies = store.rounds.predictions(record)
        old, found = before[record.doc_id], record.assessment
        assert found is not None
        assert (keys, energies.tolist()) == (old["label_keys"], old["member_energies"])
        assert found.spread_scale == old["spread_scale"]
        assert [list(vertex) for vertex in found.vertices] == old["vertices"]
        assert [criterion.model_dump() for criterion in found.criteria] == old["criteria"]


def check_documents(database: Database[dict[str, Any]]) -> int:
    """Check every document against its model and its validator; return how many there are."""
    read = 0
    for document in DOCUMENTS:
        collection = database[document.collection]
        for stored in collection.find():
            assert document.from_mongo(stored).schema_version == SCHEMA_VERSION
            read += 1
        assert collection.find_one({"$nor": [validator_of(document)]}) is None
    assert list(Store(database).integrity.damaged()) == []
    return read


def test_code_of_version_1_can_no_longer_write(old: Database[dict[str, Any]]) -> None:
    label = documents_of_version_1()["labels"][0] | {"_id": "late", "key": "late"}
    to_version_2(old)
    with pytest.raises(WriteError, match="failed validation"):
        old["labels"].insert_one(label)


def version_1() -> dict[str, Any]:
    options = json_util.JSONOptions(tz_aware=True)
    stored: dict[str, Any] = json_util.loads(VERSION_1.read_text(), json_options=options)
    return stored


def documents_of_version_1() -> dict[str, list[dict[str, Any]]]:
    documents: dict[str, list[dict[str, Any]]] = version_1()["documents"]
    return documents


LABELS = [label["_id"] for label in documents_of_version_1()["labels"]]


def test_a_database_that_is_half_restored_is_not_migrated(
    database: Database[dict[str, Any]],
) -> None:
    database["schema"].insert_one({"_id": RESTORE_ID, "started": now()})
    with pytest.raises(InputError, match="a restore began"):
        migrate(database)
