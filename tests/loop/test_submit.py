"""What a new campaign stores, and what is refused before anything is stored."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pymongo.database import Database

from al_charge.crystal.host import Host
from al_charge.crystal.parent import number_of_cells, read_structure
from al_charge.errors import InputError
from al_charge.labelers import make_labeler
from al_charge.labelers.protocol import settings_hash
from al_charge.loop.campaign import LARGEST_DISPLACEMENT, Campaign, open_campaign
from al_charge.loop.spec import CampaignSpec, parse_spec
from al_charge.loop.stored_spec import is_same, spec_of
from al_charge.loop.submit import labeler_of, new_document, submit
from al_charge.search.genetic import OperatorWeights
from al_charge.store.documents import CampaignDoc
from al_charge.store.from_version_4 import split_spec
from al_charge.store.mongo import Store

HOSTS = Path(__file__).parents[2] / "workflows" / "hosts"


def specification(folder: Path = HOSTS, **sections: Any) -> CampaignSpec:
    document: dict[str, Any] = {
        "name": "new",
        "host": {
            "structure": "NaFePO4.cif",
            "working_ion": "Na",
            "redox": {"Fe": [2, 3]},
            "fixed": {"P": 5, "O": -2},
        },
        "labeler": {"kind": "born", "relax": "none"},
        "potential": {"kind": "painn"},
    }
    for section, fields in sections.items():
        document[section] = document.get(section, {}) | fields
    return parse_spec(document, source=folder / "campaign.yaml")


def campaign(**sections: Any) -> Campaign:
    from pymatgen.core.structure import Structure

    spec = specification(**sections)
    document = new_document(spec)
    empty = document.spec.get("empty_structure")
    return Campaign(
        spec=spec,
        structure=Structure.from_dict(document.spec["structure"]),
        store=None,  # type: ignore[arg-type]
        empty=Structure.from_dict(empty) if empty else None,
    )


def test_a_supercell_of_a_matrix_is_stored() -> None:
    matrix = ((1, 1, 0), (-1, 1, 0), (0, 0, 1))
    document = new_document(specification(host={"supercell": [list(row) for row in matrix]}))
    assert document.spec["campaign"]["host"]["supercell"] == [list(row) for row in matrix]
    assert spec_of(document).host.supercell == matrix
    assert new_document(specification()).spec["defaults"]["host"]["supercell"] == [1, 1, 1]


def test_a_formula_is_stored_and_the_files_before_it_mean_what_they_meant() -> None:
    plain = new_document(specification())
    assert plain.spec["defaults"]["host"]["redox_sites_per_formula"] == 1
    old = plain.model_copy(deep=True)
    del old.spec["defaults"]["host"]["formula"]
    assert spec_of(old).host.redox_sites_per_formula == 1
    assert is_same(old, plain)
    assert is_same(old, new_document(specification(host={"redox_sites_per_formula": 1})))
    double = new_document(specification(host={"formula": "Na2Fe2P2O8"}))
    assert double.spec["campaign"]["host"]["formula"] == "Na2Fe2P2O8"
    assert spec_of(double).host.redox_sites_per_formula is None
    assert double.host_fingerprint != plain.host_fingerprint and not is_same(double, plain)
    two = new_document(specification(host={"redox_sites_per_formula": 2}))
    assert double.host_fingerprint == two.host_fingerprint
    assert campaign(host={"formula": "Na2Fe2P2O8"}).framework == "Fe2P2O8"


def magnesium(folder: Path, **host: Any) -> CampaignSpec:
    """Return a campaign of olivine with Mg on the sites of Na."""
    text = (HOSTS / "NaFePO4.cif").read_text(encoding="utf-8").replace("Na", "Mg")
    (folder / "Mg.cif").write_text(text, encoding="utf-8")
    return specification(folder, host={"structure": "Mg.cif", "working_ion": "Mg"} | host)


def test_stored_campaigns_keep_the_charge_of_their_ion(tmp_path: Path) -> None:
    spec = magnesium(tmp_path)
    assert spec.host.working_ion_charge == 2
    given = spec.model_dump(mode="json", exclude_unset=True)
    given["host"]["structure"] = "Mg.cif"
    structure = read_structure(tmp_path / "Mg.cif")

    def stored(given: dict[str, Any], charge: int) -> CampaignDoc:
        defaults = {"host": {"working_ion_charge": charge}}
        contents = {"campaign": given, "defaults": defaults, "structure": structure.as_dict()}
        return CampaignDoc(name="new", spec=contents, host_fingerprint="a", settings_hash="b")

    # The default was 1 whatever the element, and a file could give any charge.
    before, today = stored(given, 1), stored(given, 2)
    assert spec_of(before).host.working_ion_charge == 1
    assert Host.build(spec_of(before).host, structure).ion_counts == (0, 1, 2, 3, 4)
    assert Host.build(spec_of(today).host, structure).ion_counts == (0, 1, 2)
    assert is_same(before, today)
    explicit = stored(given | {"host": given["host"] | {"working_ion_charge": 1}}, 2)
    assert spec_of(explicit).host.working_ion_charge == 1
    assert is_same(before, explicit) and not is_same(today, explicit)
    old = split_spec(
        {
            "campaign": spec.model_dump(mode="json")
            | {
                "host": {
                    "structure": "Mg.cif",
                    "working_ion": "Mg",
                    "working_ion_charge": 1,
                    "redox": {"Fe": [2, 3]},
                    "fixed": {"P": 5, "O": -2},
                }
            },
            "structure": structure.as_dict(),
        }
    )
    assert old["defaults"]["host"]["working_ion_charge"] == 1


@pytest.mark.parametrize(
    ("ion", "charge", "known"), [("Na", 2, "1"), ("Na", 3, "1"), ("Mg", 3, "1 or 2")]
)
def test_a_charge_that_an_ion_never_has_is_refused_in_files(
    ion: str, charge: int, known: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError) as caught:
        if ion == "Na":
            specification(host={"working_ion_charge": charge})
        else:
            magnesium(tmp_path, working_ion_charge=charge)
    assert str(caught.value).endswith(
        f"campaign.yaml: host.working_ion_charge: {ion} is never {charge}+; leave it out, or give "
        f"{known}"
    )


def test_an_unusual_charge_may_be_given(tmp_path: Path) -> None:
    assert magnesium(tmp_path, working_ion_charge=1).host.working_ion_charge == 1


def test_campaigns_of_before_spin_states_stay_high_spin() -> None:
    """Their files may be submitted again; what they mean is what was stored."""
    crystal = Path(__file__).parents[1] / "cases" / "hosts" / "licoo2.cif"
    spec = specification(
        host={"structure": str(crystal), "working_ion": "Li", "redox": {"Co": [3, 4]}}
    )
    spec = spec.model_copy(update={"host": spec.host.model_copy(update={"fixed": {"O": -2}})})
    structure = read_structure(crystal)
    given = spec.model_dump(mode="json", exclude_unset=True)

    def stored(defaults: dict[str, Any]) -> CampaignDoc:
        contents = {
            "campaign": given,
            "defaults": {"host": defaults},
            "structure": structure.as_dict(),
        }
        return CampaignDoc(name="new", spec=contents, host_fingerprint="a", settings_hash="b")

    before, today = stored({}), stored({"spins": "usual"})
    for document, species in (
        (before, {"Co3+", "Co4+"}),
        (today, {"Co3+,spin=0", "Co4+,spin=1"}),
    ):
        assert Host.build(spec_of(document).host, structure).redox_species == species
    assert is_same(before, today)


def test_campaigns_of_before_min_distance_have_no_limit() -> None:
    """Their files may be submitted again, and their hosts and labels are the same."""
    crystal = Path(__file__).parents[1] / "cases" / "hosts" / "nacoo2_p2_both_sites.cif"
    spec = specification(host={"structure": str(crystal), "redox": {"Co": [3, 4]}})
    spec = spec.model_copy(update={"host": spec.host.model_copy(update={"fixed": {"O": -2}})})
    structure = read_structure(crystal)
    given = spec.model_dump(mode="json", exclude_unset=True)
    documents = [
        CampaignDoc(
            name="new",
            spec={
                "campaign": given,
                "defaults": {"host": defaults},
                "structure": structure.as_dict(),
            },
            host_fingerprint="a",
            settings_hash="b",
        )
        for defaults in ({"spins": "usual"}, {"spins": "usual", "min_distance": "2.0 A"})
    ]
    before, today = (Host.build(spec_of(document).host, structure) for document in documents)
    assert before.exclusions == () and len(today.exclusions) == 2
    assert before.fingerprint == "a8d56b32e4337c89"
    assert is_same(*documents)


def test_what_a_file_said_is_kept_apart_from_defaults() -> None:
    operators = {"splice": 2}
    spec = specification(training={"epochs": 3}, search={"seeds": 12, "operators": operators})
    document = new_document(spec)
    assert document.spec["campaign"] == {
        "name": "new",
        "host": {
            "structure": "NaFePO4.cif",
            "working_ion": "Na",
            "redox": {"Fe": [2, 3]},
            "fixed": {"P": 5, "O": -2},
        },
        "labeler": {"kind": "born", "relax": "none"},
        "potential": {"kind": "painn"},
        "training": {"epochs": 3},
        "search": {"seeds": 12, "operators": {"splice": 2.0}},
    }
    defaults = document.spec["defaults"]
    assert defaults["labeler"] == {"fmax": "0.005 eV/A", "max_steps": 500}
    assert defaults["seed"] == 1
    assert defaults["search"]["operators"].keys() == OperatorWeights.model_fields.keys() - operators
    stored = spec_of(document)
    assert stored.model_dump(exclude={"host"}) == spec.model_dump(exclude={"host"})
    assert stored.host == spec.host.model_copy(update={"structure": Path("NaFePO4.cif")})


def with_defaults(document: CampaignDoc, **sections: Any) -> CampaignDoc:
    """Return a campaign that was submitted when some defaults were others."""
    changed = document.model_copy(deep=True)
    for section, fields in sections.items():
        changed.spec["defaults"][section] |= fields
    return changed


def test_later_defaults_neither_change_nor_refuse_a_campaign() -> None:
    search = {"operators": {"splice": 2}}
    file = specification(acquisition={"chance": 0.5}, search=search)
    weights = {"ion_swap": 7.0, "charge_swap": 1.0}
    old = with_defaults(
        new_document(file),
        acquisition={"spread": 0.9},
        labeler={"fmax": "0.01 eV/A"},
        search={"operators": weights},
    )
    stored = spec_of(old)
    assert (stored.acquisition.chance, stored.acquisition.spread) == (0.5, 0.9)
    assert stored.labeler.fmax == 0.01
    operators = stored.search.operators
    assert (operators.splice, operators.ion_swap, operators.coupled_swap) == (2.0, 7.0, 2.0)
    assert is_same(old, new_document(file))
    for said, same in (({"spread": 0.9}, True), ({"spread": 0.2}, False)):
        written = specification(acquisition={"chance": 0.5} | said, search=search)
        assert is_same(old, new_document(written)) is same
        assert is_same(new_document(written), old) is same
    assert not is_same(old, new_document(specification(search=search)))  # what it said is missing


LICOO2 = Path(__file__).parents[1] / "cases" / "hosts" / "licoo2.cif"


def cobaltate(kind: str, **labeler: Any) -> CampaignSpec:
    """Return the campaign of a material that has a default U of its own."""
    spec = specification(
        host={"structure": str(LICOO2), "working_ion": "Li", "redox": {"Co": [3, 4]}},
        labeler={"kind": kind, "relax": "none"} | labeler,
    )
    return spec.model_copy(update={"host": spec.host.model_copy(update={"fixed": {"O": -2}})})


@pytest.mark.parametrize("kind", ["gpaw", "vasp"])
@pytest.mark.usefixtures("gpaw", "any_potcars")
def test_the_default_u_of_the_host_is_stored(kind: str) -> None:
    document = new_document(cobaltate(kind))
    assert "hubbard_u" not in document.spec["campaign"]["labeler"]
    assert document.spec["defaults"]["labeler"]["hubbard_u"] == {"Co": "3.32 eV"}
    written = new_document(cobaltate(kind, hubbard_u={"Co": "3.32 eV"}))
    assert document.settings_hash == written.settings_hash
    assert document.settings_hash == settings_hash(labeler_of(spec_of(document)))
    assert is_same(document, written)
    none = new_document(cobaltate(kind, hubbard_u={}))
    assert none.settings_hash != document.settings_hash
    assert spec_of(none).labeler.model_dump()["hubbard_u"] == {}
    assert not is_same(document, none)


@pytest.mark.usefixtures("gpaw")
def test_a_stored_campaign_keeps_the_u_that_it_had() -> None:
    """GPAW's default was that of iron for every host; such a file may be submitted again."""
    file = cobaltate("gpaw")
    old = with_defaults(new_document(file), labeler={"hubbard_u": {"Fe": "5.3 eV"}})
    stored = spec_of(old)
    assert labeler_of(stored).settings()["hubbard_u"] == {"Fe": 5.3}  # none acts on cobalt
    assert is_same(old, new_document(file))
    assert settings_hash(labeler_of(stored)) != new_document(file).settings_hash


def test_a_table_is_given_as_a_whole() -> None:
    """An element that is left out of a table of U has none, whatever the default table says."""
    default, partial = {"Fe": "5.3 eV", "Mn": "3.9 eV"}, {"Fe": "5.3 eV"}
    left_out, given, complete = (new_document(specification()) for _ in range(3))
    for document, said in ((left_out, None), (given, partial), (complete, default)):
        document.spec["campaign"]["labeler"] = {"kind": "gpaw"}
        document.spec["defaults"]["labeler"] = {"hubbard_u": default}
        if said is not None:
            document.spec["campaign"]["labeler"] = {"kind": "gpaw", "hubbard_u": said}
            document.spec["defaults"]["labeler"] = {}
    assert not is_same(left_out, given)
    assert is_same(left_out, complete)


@pytest.mark.mongod
@pytest.mark.parametrize(
    ("sections", "same"),
    [
        ({}, True),
        ({"labeler": {"fmax": "5 meV/A"}, "training": {}}, True),  # defaults, and another unit
        ({"labeler": {"fmax": "0.01 eV/A"}}, False),
        ({"labeler": {"relax": "cell"}}, False),
        ({"potential": {"kind": "cpainn"}}, False),
        ({"convergence": {"max_labels": 50}}, False),
        ({"host": {"supercell": [1, 2, 1]}}, False),
    ],
)
def test_a_campaign_is_submitted_again(
    database: Database[dict[str, Any]], sections: dict[str, Any], same: bool
) -> None:
    store = Store(database)
    store.ensure_schema()
    assert submit(store, specification())
    if same:
        assert not submit(store, specification(**sections))
    else:
        with pytest.raises(InputError, match=r"campaign 'new': another campaign has this name"):
            submit(store, specification(**sections))
    assert len(store.campaigns.all()) == 1


@pytest.fixture
def gpaw(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give GPAW a version and datasets, installed or not."""
    monkeypatch.setattr("al_charge.labelers.gpaw.labeler.gpaw_version", lambda: "26.7.0")
    monkeypatch.setattr("al_charge.labelers.gpaw.labeler.datasets_identity", lambda: "1.2.1")


@pytest.fixture
def any_potcars(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every POTCAR be there."""
    monkeypatch.setattr("al_charge.labelers.vasp.potcars.find_all", lambda *_, **__: {})


def gpaw_specification(name: str, **hubbard_u: str) -> CampaignSpec:
    labeler = {"kind": "gpaw", "relax": "none", "hubbard_u": hubbard_u}
    return specification(labeler=labeler).model_copy(update={"name": name})


@pytest.mark.mongod
@pytest.mark.usefixtures("gpaw")
def test_labels_whose_hash_counts_absent_elements_stay_comparable(
    database: Database[dict[str, Any]],
) -> None:
    store = Store(database)
    store.ensure_schema()
    with_manganese = {"Fe": "5.3 eV", "Mn": "3.9 eV"}
    old = new_document(gpaw_specification("old", **with_manganese))
    former = settings_hash(make_labeler(gpaw_specification("old", **with_manganese).labeler))
    assert former != old.settings_hash
    submit(store, gpaw_specification("without-labels", **with_manganese))
    store.campaigns.add(old.model_copy(update={"settings_hash": former}))
    label = {"_id": "k", "host_fingerprint": old.host_fingerprint, "settings_hash": former}
    database["labels"].insert_one(label, bypass_document_validation=True)
    submit(store, gpaw_specification("same-table", **with_manganese))
    submit(store, gpaw_specification("other-table", Fe="5.3 eV"))
    hashes = {}
    for document in store.campaigns.all():
        campaign = open_campaign(store, document.name)
        store.campaigns.check_settings(
            document.name, campaign.settings_hash, campaign.physical_settings
        )
        text = json.dumps(campaign.physical_settings, sort_keys=True)
        assert campaign.settings_hash == hashlib.sha256(text.encode()).hexdigest()[:16]
        hashes[document.name] = campaign.settings_hash
    assert hashes["old"] == hashes["same-table"] == former
    assert hashes["without-labels"] == hashes["other-table"] == old.settings_hash
    store.labels.link("same-table", 0, "k")
    with pytest.raises(InputError, match="settings"):
        store.labels.link("other-table", 0, "k")


def test_another_crystal_makes_another_campaign(tmp_path: Path) -> None:
    here, text = new_document(specification()), (HOSTS / "NaFePO4.cif").read_text(encoding="utf-8")
    for length, same in (("10.41", True), ("10.42", False)):
        (tmp_path / "NaFePO4.cif").write_text(text.replace("10.41", length), encoding="utf-8")
        assert is_same(here, new_document(specification(tmp_path))) is same


def test_tasks_of_one_campaign_share_its_supercells() -> None:
    """What is found of a host, such as its symmetry, is kept for the next task."""
    one, other, larger = (
        campaign(),
        campaign(labeler={"relax": "ions"}),
        campaign(host={"supercell": [1, 2, 1]}),
    )
    assert one.structure is not other.structure
    assert one.cells is other.cells
    assert len(larger.host.elements) == 2 * len(one.host.elements)
    moved = one.structure.copy()
    moved.translate_sites([0], [0.01, 0.0, 0.0], to_unit_cell=False)
    assert replace(one, structure=moved).cells is not one.cells
    in_spin = replace(one, spins={"Fe2+": "Fe2+,spin=0"})
    assert in_spin.cells is not one.cells


def test_the_empty_structure_is_stored_and_not_its_path(tmp_path: Path) -> None:
    for name in ("NaFePO4.cif", "FePO4.cif"):
        shutil.copy(HOSTS / name, tmp_path)
    here, there = (
        new_document(specification(folder, host={"empty_structure": "FePO4.cif"}))
        for folder in (HOSTS, tmp_path)
    )
    assert here.spec == there.spec
    assert here.spec["campaign"]["host"]["empty_structure"] == "FePO4.cif"
    assert len(here.spec["empty_structure"]["sites"]) == 24


def test_the_empty_structure_does_not_change_who_the_host_is() -> None:
    without = campaign()
    with_it = campaign(host={"empty_structure": "FePO4.cif"})
    assert with_it.host.fingerprint == without.host.fingerprint
    assert without.start_host(without.host, 0) is without.host
    volumes = [
        with_it.start_host(with_it.host, n).structure.volume for n in with_it.host.ion_counts
    ]
    assert volumes == sorted(volumes)
    assert volumes[0] == pytest.approx(9.7599 * 5.7519 * 4.7560)
    assert volumes[-1] == pytest.approx(with_it.host.structure.volume)


def test_another_crystal_as_empty_structure_is_refused() -> None:
    with pytest.raises(InputError, match=r"host\.empty_structure: it contains Na"):
        new_document(specification(host={"empty_structure": "NaFePO4.cif"}))
    with pytest.raises(InputError, match=r"host\.empty_structure: no structure file"):
        new_document(specification(host={"empty_structure": "LiFePO4.cif"}))


def test_no_cell_is_relaxed_without_stress() -> None:
    lcao = {"kind": "gpaw", "mode": "lcao", "relax": "none"}
    with pytest.raises(InputError, match=r"relaxation\.cell: .*gives no stress"):
        new_document(specification(labeler=lcao, relaxation={"cell": True}))


@pytest.mark.parametrize(
    ("labeler", "relaxation", "cells", "displacement"),
    [
        ({"kind": "born", "relax": "none"}, {}, True, LARGEST_DISPLACEMENT),
        ({"kind": "born", "relax": "cell"}, {}, True, float("inf")),
        ({"kind": "born", "relax": "none"}, {"cell": False, "reach": "0.1 A"}, False, 0.1),
    ],
)
def test_how_far_committees_relax(
    labeler: dict[str, Any], relaxation: dict[str, Any], cells: bool, displacement: float
) -> None:
    found = campaign(labeler=labeler, relaxation=relaxation)
    assert found.committee_relaxes_cells is cells
    assert found.largest_displacement == displacement


@pytest.mark.mongod
def test_a_campaign_of_several_supercells_is_stored_as_its_file_says(
    database: Database[dict[str, Any]],
) -> None:
    store = Store(database)
    store.ensure_schema()
    spec = specification(host={"supercells": {"up_to": 2}})
    assert new_document(spec).spec["campaign"]["host"]["supercells"] == {"up_to": 2}
    assert submit(store, spec) is True
    assert submit(store, spec) is False
    found = open_campaign(store, spec.name)
    assert [number_of_cells(host.supercell) for host in found.cells.hosts] == [1] + 7 * [2]
    assert found.host is found.cells.hosts[0]
    with pytest.raises(InputError, match="another campaign has this name"):
        submit(store, specification(host={"supercells": {"up_to": 3}}))


@pytest.mark.usefixtures("any_potcars")
def test_one_grid_of_k_points_does_not_fit_several_supercells() -> None:
    vasp: dict[str, Any] = {"labeler": {"kind": "vasp", "relax": "none", "kpoints": [2, 2, 2]}}
    several = {"host": {"supercells": {"up_to": 2}}}
    with pytest.raises(InputError, match=r"a different density .*kpoint_spacing"):
        new_document(specification(**several, **vasp))
    new_document(specification(**vasp))
    del vasp["labeler"]["kpoints"]
    new_document(specification(**several, **vasp))
