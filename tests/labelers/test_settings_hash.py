"""Two runs with any different physical setting never share a hull.

Labels stand on one hull when their settings have the same hash. The table below says of every
setting of every engine whether energies depend on it, and each one is changed to see.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from al_charge.labelers import make_labeler
from al_charge.labelers.born.settings import BornSettings
from al_charge.labelers.gpaw.settings import GpawSettings
from al_charge.labelers.plugin import EngineSettings
from al_charge.labelers.protocol import settings_hash
from al_charge.labelers.vasp.settings import VaspSettings
from al_charge.loop.spec import load_spec
from al_charge.loop.submit import labeler_of

WORKFLOWS = Path(__file__).parents[2] / "workflows"


@dataclass(frozen=True)
class Setting:
    """Whether energies depend on a setting, and another value of it.

    ``given`` are settings without which it has no effect.
    """

    physical: bool
    other: Any
    given: dict[str, Any] = field(default_factory=dict)


def energy(other: Any, **given: Any) -> Setting:
    """A setting that energies depend on."""
    return Setting(True, other, given)


def conduct(other: Any, **given: Any) -> Setting:
    """A setting that says how a result is found, read or run."""
    return Setting(False, other, given)


WINDOWS = {"Fe2+": (3.0, 3.9), "Fe3+": (4.0, 4.6)}

BORN = {
    "relax": conduct("none"),
    "fmax": conduct("0.01 eV/A"),
    "max_steps": conduct(99),
}
GPAW = {
    "mode": energy("pw"),
    "cutoff": energy("600 eV", mode="pw"),
    "basis": energy("szp(dzp)"),
    "grid_spacing": energy("0.2 A"),
    "xc": energy("LDA"),
    "hubbard_u": energy({"Fe": "4 eV"}),
    "smearing": energy("0.1 eV"),
    "kpoints": energy((1, 2, 2)),
    "kpoint_spacing": energy(0.25),
    "metal_kpoints": energy(16),
    "magnetic_order": energy("antiferromagnetic"),
    "fixed_moment": energy(True),
    "moments": energy({"Fe3+": 4.2}),
    "total_moment": energy(0.0),
    "energy_tolerance": energy("1e-7 eV"),
    "density_tolerance": energy(1e-5),
    "eigenstates_tolerance": energy(1e-8, mode="pw"),
    "max_iterations": conduct(333),
    "mixer": conduct("pulay"),
    "scf_ladder": conduct(False),
    "relax": conduct("ions"),
    "fmax": conduct("0.02 eV/A"),
    "max_steps": conduct(50),
    "shell_distortion": conduct("0.1 A"),
    "shell_contrast": conduct("0.2 A"),
    "tries": conduct(1),
    "moment_limit": conduct(3.0),
    "moment_windows": conduct(WINDOWS),
    "bader": conduct(False),
    "explore_spin": conduct(False),
    "explore_runs": conduct(2),
    "bader_refinement": conduct(4),
    "processes": conduct(2),
    "timeout": conduct("1 h"),
    "save_interval": conduct("10 min"),
}
VASP = {
    "cutoff": energy("600 eV"),
    "hubbard_u": energy({"Fe": "4 eV"}),
    "kpoints": energy((2, 3, 4)),
    "kpoint_spacing": energy(0.25),
    "kpoint_density": energy(100.0),
    "metal_kpoint_density": energy(2000.0),
    "fixed_moment": energy(False),
    "moments": energy({"Fe3+": 4.2}),
    "total_moment": energy(0.0),
    "magnetic_order": energy("antiferromagnetic"),
    "potcar_functional": energy("PBE_54"),
    "potcars": energy({"Fe": "Fe"}),
    "verify_potcars": energy(False),
    "incar": energy({"LASPH": False}),
    "relax": conduct("cell"),
    "fmax": conduct("0.01 eV/A"),
    "max_steps": conduct(50),
    "shell_distortion": conduct("0.1 A"),
    "shell_contrast": conduct("0.2 A"),
    "tries": conduct(1),
    "moment_windows": conduct(WINDOWS),
    "bader": conduct(False),
    "explore_spin": conduct(False),
    "explore_runs": conduct(2),
    "command": conduct("srun vasp_std"),
    "gamma_command": conduct("srun vasp_gam"),
    "timeout": conduct("1 h"),
    "keep_wavecar": conduct(True),
}
ENGINES: dict[type[BaseModel], dict[str, Setting]] = {
    BornSettings: BORN,
    GpawSettings: GPAW,
    VaspSettings: VASP,
}
EVERY = [
    pytest.param(kind, name, setting, id=f"{kind.__name__}.{name}")
    for kind, table in ENGINES.items()
    for name, setting in table.items()
]

PHYSICAL_TAGS = {
    "ADDGRID": True,
    "EDIFF": 1e-4,
    "ENAUG": 900,
    "GGA": "PS",
    "ISMEAR": 1,
    "IVDW": 11,
    "LASPH": False,
    "LHFCALC": True,
    "LMAXTAU": 8,
    "LREAL": "Auto",
    "METAGGA": "R2SCAN",
    "NGXF": 300,
    "PREC": "Normal",
    "SIGMA": 0.1,
}
TAGS_OF_CONDUCT = {
    "ALGO": "Normal",
    "AMIX": 0.1,
    "KPAR": 2,
    "LVTOT": True,
    "NCORE": 4,
    "NELM": 500,
    "SYSTEM": "mine",
}


@pytest.fixture(autouse=True)
def no_engine_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give GPAW a version and datasets, installed or not."""
    monkeypatch.setattr("al_charge.labelers.gpaw.labeler.gpaw_version", lambda: "26.7.0")
    monkeypatch.setattr(
        "al_charge.labelers.gpaw.labeler.datasets_identity", lambda: "gpaw-data 1.2.1"
    )


def hash_of(kind: type[BaseModel], values: dict[str, Any]) -> str:
    settings: Any = kind.model_validate(values)
    return settings_hash(make_labeler(settings))


@pytest.mark.parametrize("kind", ENGINES)
def test_every_setting_is_in_the_table(kind: type[BaseModel]) -> None:
    assert set(ENGINES[kind]) == set(kind.model_fields) - {"kind"}


@pytest.mark.parametrize(("kind", "name", "setting"), EVERY)
def test_the_hash_changes_with_what_energies_depend_on_and_nothing_else(
    kind: type[BaseModel], name: str, setting: Setting
) -> None:
    before, after = setting.given, setting.given | {name: setting.other}
    assert getattr(kind.model_validate(before), name) != getattr(kind.model_validate(after), name)
    changed = hash_of(kind, before) != hash_of(kind, after)
    assert changed is setting.physical


@pytest.mark.parametrize("kind", [GpawSettings, VaspSettings])
def test_no_two_physical_changes_have_one_hash(kind: type[BaseModel]) -> None:
    hashes = [hash_of(kind, {})] + [
        hash_of(kind, setting.given | {name: setting.other})
        for name, setting in ENGINES[kind].items()
        if setting.physical
    ]
    assert all(one != other for one, other in combinations(hashes, 2))


def test_engines_never_share_a_hull() -> None:
    assert len({hash_of(kind, {}) for kind in ENGINES}) == len(ENGINES)


@pytest.mark.parametrize("kind", ENGINES)
def test_the_same_settings_have_the_same_hash(kind: type[BaseModel]) -> None:
    written_out = kind().model_dump(mode="json")
    assert hash_of(kind, written_out) == hash_of(kind, {})
    settings: Any = kind()
    physical = make_labeler(settings).settings()
    assert json.loads(json.dumps(physical)) == physical


NAFEPO4 = ("Na", "Fe", "P", "O")


def hash_for(kind: type[EngineSettings], elements: Collection[str], **values: Any) -> str:
    """Return the hash of settings for a material of some elements."""
    return settings_hash(make_labeler(kind.model_validate(values).of_elements(elements)))


@pytest.mark.parametrize("kind", [GpawSettings, VaspSettings])
@pytest.mark.parametrize("of_iron", [{"Fe": "5.3 eV"}, {"Fe": "4 eV"}, {}])
def test_u_of_absent_elements_is_not_in_the_hash(
    kind: type[EngineSettings], of_iron: dict[str, str]
) -> None:
    tables = [of_iron, *(of_iron | more for more in ({"Mn": "3 eV"}, {"Ni": "1 eV", "P": "0 eV"}))]
    assert len({hash_for(kind, NAFEPO4, hubbard_u=table) for table in tables}) == 1
    assert len({hash_for(kind, ("Na", *table), hubbard_u=table) for table in tables}) > 1


def test_datasets_of_absent_elements_are_not_in_the_hash() -> None:
    tables: list[dict[str, str]] = [{}, {"Mn": "Mn"}, {"Fe": "Fe"}, {"Fe": "Fe", "Mn": "Mn"}]
    first, second, third, fourth = (
        hash_for(VaspSettings, NAFEPO4, potcars=table) for table in tables
    )
    assert first == second != third == fourth


@pytest.mark.parametrize("kind", [GpawSettings, VaspSettings])
@pytest.mark.parametrize("element", NAFEPO4)
def test_u_of_every_element_that_is_there_is_in_the_hash(
    kind: type[EngineSettings], element: str
) -> None:
    table = {"Fe": "5.3 eV", "Mn": "3.9 eV"}
    changed = table | {element: "2 eV"}
    assert hash_for(kind, NAFEPO4, hubbard_u=table) != hash_for(kind, NAFEPO4, hubbard_u=changed)


GAMMA = {"kpoints": (1, 1, 1)}
"""What GPAW's grid was in version 0.1, unless a file gave another."""
DENSE = {"kpoint_density": 64.0}
"""What VASP's density was."""


@pytest.mark.parametrize(
    ("kind", "elements", "values", "known"),
    [
        (BornSettings, NAFEPO4, {}, "860a66b866fbd989"),
        (GpawSettings, NAFEPO4, GAMMA, "eef9f75f3e107b94"),
        (
            GpawSettings,
            ("Na", "Mn", "O"),
            GAMMA | {"hubbard_u": {"Fe": "5.3 eV"}},
            "eef9f75f3e107b94",
        ),
        (
            GpawSettings,
            ("Na", "Mn", "O"),
            GAMMA | {"hubbard_u": {"Mn": "3.9 eV"}},
            "72ce055c9a3cf0ef",
        ),
        (VaspSettings, NAFEPO4, DENSE, "f5d8e2dd7361349f"),
        (VaspSettings, ("Na", "V", "P", "O"), DENSE, "f5d8e2dd7361349f"),
        (VaspSettings, NAFEPO4, DENSE | {"hubbard_u": {"Fe": "4 eV"}}, "e27f4c3a97b404c1"),
    ],
)
def test_labels_of_version_0_1_keep_their_hash(
    kind: type[EngineSettings], elements: tuple[str, ...], values: dict[str, Any], known: str
) -> None:
    assert hash_of(kind, values) == known
    assert hash_for(kind, elements, **values) == known


@pytest.mark.parametrize(
    ("file", "known"),
    [
        ("nafepo4_born", "860a66b866fbd989"),
        ("nafepo4_born_small", "860a66b866fbd989"),
        ("nafepo4_gpaw", "47a32094d252cfff"),
        ("nafepo4_gpaw_round", "eef9f75f3e107b94"),
        ("nafepo4_vasp", "8bbd8fb7d63e7ebb"),
    ],
)
def test_labels_of_shipped_campaign_files_keep_their_hash(file: str, known: str) -> None:
    spec = load_spec(WORKFLOWS / f"{file}.yaml")
    assert settings_hash(labeler_of(spec)) == known


@pytest.mark.parametrize("name", ["gpaw_version", "datasets_identity"])
def test_another_version_or_dataset_of_gpaw_is_another_hull(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    before = hash_of(GpawSettings, {})
    monkeypatch.setattr(f"al_charge.labelers.gpaw.labeler.{name}", lambda: "another")
    assert hash_of(GpawSettings, {}) != before


def test_another_born_model_is_another_hull(monkeypatch: pytest.MonkeyPatch) -> None:
    before = hash_of(BornSettings, {})
    monkeypatch.setattr("al_charge.labelers.born.labeler.VERSION", 99)
    versioned = hash_of(BornSettings, {})
    monkeypatch.setattr("al_charge.labelers.born.labeler.parameter_hash", lambda: "another")
    assert len({before, versioned, hash_of(BornSettings, {})}) == 3


def test_other_usual_datasets_of_vasp_are_another_hull(monkeypatch: pytest.MonkeyPatch) -> None:
    before = hash_of(VaspSettings, {})
    monkeypatch.setattr("al_charge.labelers.vasp.potcars.usual_identity", lambda: "another")
    assert hash_of(VaspSettings, {}) != before


@pytest.mark.parametrize(("tag", "value"), [*PHYSICAL_TAGS.items(), *TAGS_OF_CONDUCT.items()])
def test_incar_tags(tag: str, value: Any) -> None:
    changed = hash_of(VaspSettings, {"incar": {tag: value}}) != hash_of(VaspSettings, {})
    assert changed is (tag in PHYSICAL_TAGS)


@pytest.mark.parametrize("tag", ["ROPT", "LMODELHF"])
def test_an_incar_tag_that_nobody_has_classified_counts_as_physical(tag: str) -> None:
    assert hash_of(VaspSettings, {"incar": {tag: 1}}) != hash_of(VaspSettings, {})
