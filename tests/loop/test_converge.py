"""`al-charge converge` proposes the cheapest settings whose errors are within the tolerance.

The engine of these tests has energies whose errors are known functions of its settings.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Sequence
from io import StringIO
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pytest
from ase import Atoms
from jsonschema import Draft202012Validator
from pymatgen.analysis.ewald import EwaldSummation
from rich.console import Console
from typing_extensions import override

from al_charge.api.convergence import ConvergeResult, converge
from al_charge.crystal.configuration import to_atoms, to_structure
from al_charge.crystal.enumeration import enumerate_distinct
from al_charge.crystal.symmetry import canonical_hash
from al_charge.crystal.valence import Audit, Windows
from al_charge.errors import AlChargeError, InputError, UnfinishedError
from al_charge.labelers.convergence import ConvergenceParameter, Step, around, series
from al_charge.labelers.files import read_json, write_json
from al_charge.labelers.gpaw import GpawPlugin
from al_charge.labelers.gpaw.settings import GpawSettings
from al_charge.labelers.plugin import LABELERS, EngineSettings, LabelerPlugin
from al_charge.labelers.protocol import Frame, Labeler, Reading, Relax
from al_charge.labelers.vasp import VaspPlugin
from al_charge.labelers.vasp.settings import VaspSettings
from al_charge.loop.spec import load_spec
from al_charge.loop.trial import RESULTS, STRUCTURES, trial_structures
from al_charge.plugins import Found
from al_charge.units import Energy, Force

ROOT = Path(__file__).parents[2]
CASES = ROOT / "tests" / "cases" / "hosts"
JSON_SCHEMA = Draft202012Validator(json.loads((ROOT / "docs" / "json.schema.json").read_text()))


class AnalyticSettings(EngineSettings):
    """Settings that energies converge with."""

    kind: Literal["analytic"] = "analytic"
    relax: Relax = Relax.NONE
    fmax: Force = 0.05
    cutoff: Energy = 500.0
    density: float = 64.0
    smearing: Energy = 0.05
    metal_density: float = 100.0


def error(settings: AnalyticSettings) -> float:
    """Return the error in eV per formula unit of a structure whose coefficient is 1."""
    density = max(settings.density, AnalyticPlugin.coarsest)
    k = 0.02 * math.cos(math.pi * density / 64) / density
    return math.exp(-settings.cutoff / 60) + k + settings.smearing**2 / 10


def metal_error(settings: AnalyticSettings) -> float:
    return 0.2 / settings.metal_density


class Engine(Labeler):
    """Energies with known errors."""

    gives_stress = False
    tries = 1
    relax = Relax.NONE

    def __init__(self, settings: AnalyticSettings) -> None:
        self._settings = settings

    @override
    def settings(self) -> dict[str, Any]:
        return {"engine": "analytic", **self._settings.model_dump(mode="json")}

    @override
    def check(self, species: Sequence[str], ion: str) -> None:
        pass

    @override
    def prepare(self, atoms: Atoms, directory: Path, *, relax: Relax, attempt: int) -> None:
        assert relax is Relax.NONE
        directory.mkdir(parents=True, exist_ok=True)
        name = AnalyticPlugin.name_of(atoms)
        write_json(directory / "input.json", {"name": name, "n": len(atoms)})

    @override
    def run(self, directory: Path) -> None:
        AnalyticPlugin.ran.append((read_json(directory / "input.json")["name"], self._settings))
        AnalyticPlugin.before_run(len(AnalyticPlugin.ran), self._settings)

    @override
    def read(self, directory: Path) -> Reading:
        job = read_json(directory / "input.json")
        name, units = job["name"], AnalyticPlugin.units
        exact, coefficient = AnalyticPlugin.energies[name]
        energy = units * (exact + coefficient * error(self._settings))
        frame = Frame(np.zeros((job["n"], 3)), np.eye(3), energy, np.zeros((job["n"], 3)), None)
        unusable = AnalyticPlugin.unusable(self._settings)
        return Reading((frame,), None, None, True, "analytic 1", 2.0, unusable=unusable)

    @override
    def audit(self, reading: Reading, species: Sequence[str], windows: Windows | None) -> Audit:
        return Audit(tuple(species))

    @override
    def metal_energy(self, ion: str, directory: Path) -> float:
        AnalyticPlugin.ran.append(("metal", self._settings))
        return -1.5 + metal_error(self._settings)


class AnalyticPlugin(LabelerPlugin):
    """An engine of another package, which says what it converges with."""

    kind = "analytic"
    title = "Analytic"
    summary = "known errors"
    settings = AnalyticSettings
    names: ClassVar[dict[bytes, str]] = {}
    energies: ClassVar[dict[str, tuple[float, float]]] = {}
    units: ClassVar[int] = 0
    coarsest: ClassVar[float] = 0.0  # every density below it means the same grid
    ran: ClassVar[list[tuple[str, AnalyticSettings]]] = []
    before_run: ClassVar[Callable[[int, AnalyticSettings], None]]
    unusable: ClassVar[Callable[[AnalyticSettings], str]]

    @staticmethod
    def name_of(atoms: Atoms) -> str:
        return AnalyticPlugin.names[key_of(atoms)]

    @override
    def make(self, settings: Any) -> Labeler:
        return Engine(settings)

    @override
    def convergence_parameters(self, settings: Any) -> Sequence[ConvergenceParameter]:
        return (
            series("cutoff", "cutoff", around(settings.cutoff, (0.7, 0.85, 1, 1.2, 1.5), 0), "eV"),
            series(
                "density", "density", around(settings.density, (0.5, 1, 2, 3, 64), 1), discrete=True
            ),
            series("smearing", "smearing", around(settings.smearing, (4, 2, 1, 0.5), 4), "eV"),
            series(
                "metal",
                "metal_density",
                around(settings.metal_density, (0.2, 1, 10, 1000), 1),
                metal_only=True,
            ),
        )


def key_of(atoms: Atoms) -> bytes:
    return bytes(np.round(atoms.positions, 4)) + "".join(atoms.arrays["species"]).encode()


EXACT = {"first": -20.0, "second": -19.9, "least": -18.0, "most": -21.0}


@pytest.fixture
def campaign(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Return a function that makes a campaign of the engine, with coefficients of its errors."""
    plugin = AnalyticPlugin()
    monkeypatch.setitem(LABELERS.found, "analytic", Found("analytic", "tests", plugin))
    AnalyticPlugin.before_run = staticmethod(lambda *_: None)
    AnalyticPlugin.unusable = staticmethod(lambda *_: "")

    file = CASES / "licoo2.yaml"

    def write(**coefficients: float) -> Path:
        spec = load_spec(file).model_copy(update={"labeler": AnalyticSettings()})
        monkeypatch.setattr("al_charge.api.convergence.load_spec", lambda _: spec)
        trial = trial_structures(spec, own_cell=False)
        AnalyticPlugin.names = {key_of(atoms): name for name, atoms in trial.atoms.items()}
        AnalyticPlugin.energies = {n: (EXACT[n], coefficients.get(n, 0.0)) for n in STRUCTURES}
        AnalyticPlugin.units = trial.host.formula_units
        AnalyticPlugin.ran = []
        return file

    return write


def tried(file: Path, folder: Path, energy: float = 2.0, voltage: float = 10.0) -> ConvergeResult:
    found = converge(
        file, folder=folder, energy_tolerance=energy / 1000, voltage_tolerance=voltage / 1000
    )
    head = {"schema": "al-charge/converge/1", "time": "2026-11-30T00:00:00+00:00"}
    JSON_SCHEMA.validate(json.loads(json.dumps(head | found.document)))
    return found


def proposed(found: ConvergeResult) -> dict[str, str | None]:
    return {one["name"]: one["proposed"] for one in found.document["settings"]}


def test_values_are_those_of_the_energies(campaign: Callable[..., Path], tmp_path: Path) -> None:
    found = tried(campaign(), tmp_path / "out").document
    assert AnalyticPlugin.units > 1
    assert (found["x"], found["end_members"]) == ("1/3", ["0", "1"])
    for one in found["settings"]:
        for row in one["tried"]:
            assert row["difference"] == pytest.approx(0.1)
            assert row["formation"] == pytest.approx(-20.0 + 19.0)
            metal = 100.0 if one["name"] != "metal" else row["fields"]["metal_density"]
            assert row["voltage"] == pytest.approx(-1.5 + 0.2 / metal + 3.0)
            assert row["seconds"] == 8.0


def expected(name: str, values: Sequence[float], coefficient: float, share: float) -> int | None:
    """Return the cheapest step from which all deviate by less than their share."""
    field = {"cutoff": "cutoff", "density": "density", "smearing": "smearing"}[name]
    whole = AnalyticSettings()
    errors = [error(whole.model_copy(update={field: value})) for value in values]
    off = [coefficient * abs(one - errors[-1]) for one in errors]
    fits = [i for i in range(len(off) - 1) if all(one <= share for one in off[i:])]
    return fits[0] if fits else None


@pytest.mark.parametrize(
    ("energy", "cutoff", "density", "smearing"),
    [
        # exp(-c/60) eV: 2.93, 0.84, 0.24, 0.045 and 0.0037 meV; w^2/10: 4, 1, 0.25, 0.0625 meV;
        # the density's error has both signs: 0, -0.31, +0.16, -0.10 and 0.005 meV.
        (40.0, "350 eV", "32", "0.2 eV"),
        (12.0, "350 eV", "32", "0.1 eV"),
        (11.0, "425 eV", "32", "0.1 eV"),
        (3.3, "500 eV", "32", "0.05 eV"),
        (1.2, "500 eV", "128", "0.05 eV"),
        (0.8, "600 eV", "128", "0.05 eV"),
        (0.7, "600 eV", "128", None),
        (0.5, "600 eV", "192", None),
        (0.1, None, None, None),
    ],
)
def test_the_cheapest_settings_within_the_tolerance_are_proposed(
    energy: float,
    cutoff: str | None,
    density: str | None,
    smearing: str | None,
    campaign: Callable[..., Path],
    tmp_path: Path,
) -> None:
    found = tried(campaign(second=1.0), tmp_path / "out", energy)
    assert proposed(found) == {
        "cutoff": cutoff,
        "density": density,
        "smearing": smearing,
        "metal": "100",
    }
    for one in found.document["settings"][:3]:
        values = [float(row["value"].split()[0]) for row in one["tried"]]
        number = expected(one["name"], values, 1.0, energy / 4000)
        assert one["proposed"] == (None if number is None else one["tried"][number]["value"])
    out = StringIO()
    Console(file=out, width=80).print(found.table())
    marked = re.findall(r"│ (\S+(?: eV)?), proposed ", out.getvalue())
    assert marked == [one for one in (cutoff, density, smearing, "100") if one is not None]
    assert found.converged is (None not in (cutoff, density, smearing))
    if found.converged:
        left = found.document["error_left"]["energy"]
        assert 0 < left <= energy / 1000
        assert f"error left: {left * 1000:.2f}"[:14] in str(found)
    else:
        assert "not converged: " in str(found)
        assert found.document["error_left"]["energy"] is None


def test_voltages_and_formation_energies_count_as_differences_do(
    campaign: Callable[..., Path], tmp_path: Path
) -> None:
    """An error of the filled end member is one of the voltage, and half one of the formation."""
    file = campaign(most=2.0)
    loose = tried(file, tmp_path / "out", energy=1e3, voltage=1e3)
    for one in loose.document["settings"][:3]:
        whole = error(AnalyticSettings())
        for row in one["tried"]:
            settings = AnalyticSettings.model_validate(row["fields"])
            assert row["difference"] == pytest.approx(0.1)
            assert row["formation"] == pytest.approx(-1.0 - 2 * error(settings) / 3)
            assert row["voltage"] == pytest.approx(1.502 - 2 * error(settings))
        assert one["tried"][0]["errors"]["voltage"] == pytest.approx(
            2
            * max(
                abs(
                    error(AnalyticSettings.model_validate(one["tried"][i]["fields"]))
                    - error(AnalyticSettings.model_validate(one["tried"][-1]["fields"]))
                )
                for i in range(len(one["tried"]))
            )
        )
        assert whole > 0
    assert proposed(tried(file, tmp_path / "out", energy=1e3, voltage=11.0))["cutoff"] == "425 eV"
    assert proposed(tried(file, tmp_path / "out", energy=1e3, voltage=30.0))["cutoff"] == "350 eV"
    assert proposed(tried(file, tmp_path / "out", energy=2.0, voltage=1e3))["cutoff"] == "500 eV"


@pytest.mark.parametrize(
    ("coarsest", "density"), [(0.0, "32"), (128.0, "32"), (192.0, "32"), (4096.0, None)]
)
def test_a_value_that_means_the_tightest_calculation_has_no_known_error(
    coarsest: float,
    density: str | None,
    campaign: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(AnalyticPlugin, "coarsest", coarsest)
    found = tried(campaign(second=1.0), tmp_path / "out", energy=1e3, voltage=1e3)
    assert proposed(found)["density"] == density
    # A smearing that changes nothing, as in an insulator, is as good as the narrowest.
    again = tried(campaign(), tmp_path / "again")
    assert proposed(again)["smearing"] == "0.2 eV"


@pytest.mark.parametrize(("voltage", "metal"), [(100.0, "20"), (20.0, "100"), (7.0, "1000")])
def test_the_metal_has_k_points_of_its_own(
    voltage: float, metal: str, campaign: Callable[..., Path], tmp_path: Path
) -> None:
    """Errors of 10, 2, 0.2 and 0.002 mV; for them no cell is computed again."""
    found = tried(campaign(), tmp_path / "out", voltage=voltage)
    assert proposed(found)["metal"] == metal
    cells = [s for name, s in AnalyticPlugin.ran if name != "metal"]
    assert {settings.metal_density for settings in cells} == {100.0}


def test_nothing_is_computed_twice(campaign: Callable[..., Path], tmp_path: Path) -> None:
    file = campaign(second=1.0)
    first = tried(file, tmp_path / "out")
    seen = [(name, settings.model_dump_json()) for name, settings in AnalyticPlugin.ran]
    # The file's own values are in every series, and computed once.
    assert len(set(seen)) == len(seen) == 4 * (5 + 4 + 3) + (5 + 4 + 3) + 3
    assert len(json.loads((tmp_path / "out" / RESULTS).read_text())) == len(seen)
    assert tried(file, tmp_path / "out").document == first.document
    assert len(AnalyticPlugin.ran) == len(seen)


@pytest.mark.parametrize("stopped", [KeyboardInterrupt(), UnfinishedError("asked to stop")])
def test_a_stopped_call_goes_on(
    stopped: BaseException, campaign: Callable[..., Path], tmp_path: Path
) -> None:
    file = campaign(second=1.0)

    def stop(number: int, _: AnalyticSettings) -> None:
        if number == 19:
            raise stopped

    whole = tried(file, tmp_path / "whole").document
    total = len(AnalyticPlugin.ran)
    AnalyticPlugin.ran.clear()
    AnalyticPlugin.before_run = staticmethod(stop)
    with pytest.raises(type(stopped)):
        tried(file, tmp_path / "out")
    known = json.loads((tmp_path / "out" / RESULTS).read_text())
    assert len(known) == 18
    assert tried(file, tmp_path / "out").document == whole
    assert len(AnalyticPlugin.ran) == total + 1  # the one that was stopped ran again


def test_a_calculation_that_failed_is_told_and_tried_again(
    campaign: Callable[..., Path], tmp_path: Path
) -> None:
    file = campaign(second=1.0)

    def fail(_: int, settings: AnalyticSettings) -> None:
        if settings.cutoff == 500 and settings.density == 128:
            raise AlChargeError("the SCF has not converged")

    AnalyticPlugin.before_run = staticmethod(fail)
    found = tried(file, tmp_path / "out", energy=1.6)
    (density,) = [one for one in found.document["settings"] if one["name"] == "density"]
    row = density["tried"][2]
    assert (row["value"], row["difference"]) == ("128", None)
    assert "first: the SCF has not converged" in row["remark"]
    # Nothing is known of cheaper values than one that failed.
    assert density["proposed"] == "192"
    AnalyticPlugin.before_run = staticmethod(lambda *_: None)
    again = tried(file, tmp_path / "out", energy=1.6).document
    (density,) = [one for one in again["settings"] if one["name"] == "density"]
    assert density["proposed"] == "32"


def test_energies_that_cannot_be_compared_count_for_nothing(
    campaign: Callable[..., Path], tmp_path: Path
) -> None:
    file = campaign()
    AnalyticPlugin.unusable = staticmethod(lambda s: "spin" if s.smearing > 0.15 else "")
    found = tried(file, tmp_path / "out").document
    (smearing,) = [one for one in found["settings"] if one["name"] == "smearing"]
    assert smearing["tried"][0]["difference"] is None
    assert smearing["tried"][0]["remark"].startswith("first: spin; second: spin")
    assert smearing["proposed"] == "0.1 eV"
    assert "smearing 0.2 eV: first: spin; second: spin; least: spin; most: spin" in str(
        tried(file, tmp_path / "out")
    )


def test_a_folder_of_other_files_is_refused(campaign: Callable[..., Path], tmp_path: Path) -> None:
    file = campaign()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("x")
    with pytest.raises(InputError, match=r"mine: there is no results\.json of an earlier"):
        tried(file, tmp_path / "mine")
    (tmp_path / "mine" / RESULTS).write_text("{")
    with pytest.raises(InputError, match="it is damaged"):
        tried(file, tmp_path / "mine")
    assert not AnalyticPlugin.ran


@pytest.mark.parametrize("tolerances", [(0.0, 0.01), (0.002, -1.0), (float("nan"), 0.01)])
def test_tolerances_are_positive(
    tolerances: tuple[float, float], campaign: Callable[..., Path], tmp_path: Path
) -> None:
    energy, voltage = tolerances
    with pytest.raises(InputError, match="is not a tolerance"):
        converge(
            campaign(), folder=tmp_path / "out", energy_tolerance=energy, voltage_tolerance=voltage
        )
    assert not (tmp_path / "out").exists()


def test_what_to_write_is_yaml_that_a_file_takes(
    campaign: Callable[..., Path], tmp_path: Path
) -> None:
    found = tried(campaign(second=1.0), tmp_path / "out", energy=3.3)
    assert found.fields == {
        "cutoff": "500 eV",
        "density": 32,
        "smearing": "0.05 eV",
        "metal_density": 100,
    }
    AnalyticSettings.model_validate(found.fields)
    text = str(found)
    assert "  labeler: {cutoff: 500 eV, density: 32, smearing: 0.05 eV, metal_density: 100}" in text


@pytest.mark.parametrize(
    ("plugin", "settings"),
    [
        (GpawPlugin(), GpawSettings()),
        (GpawPlugin(), GpawSettings.model_validate({"mode": "pw", "kpoints": [3, 3, 2]})),
        (VaspPlugin(), VaspSettings()),
        (VaspPlugin(), VaspSettings.model_validate({"kpoints": [1, 1, 1]})),
        (VaspPlugin(), VaspSettings.model_validate({"kpoint_density": 64})),
        (VaspPlugin(), VaspSettings.model_validate({"incar": {"NCORE": 4, "SIGMA": 0.1}})),
    ],
)
def test_each_engine_varies_what_it_has_around_the_files_values(
    plugin: LabelerPlugin, settings: EngineSettings
) -> None:
    parameters = plugin.convergence_parameters(settings)
    assert len(parameters) == 4
    assert [one.metal_only for one in parameters] == [False, False, False, True]
    for one in parameters:
        valid = []
        for step in one.steps:
            given = settings.model_dump(mode="json", round_trip=True) | dict(step.fields)
            valid.append(type(settings).model_validate(given))
        assert settings in valid  # so that the file's own values are computed once
        assert len({v.model_dump_json() for v in valid}) == len(valid) >= 3
        assert valid.index(settings) < len(valid) - 1  # something tighter is tried


def test_the_tetrahedron_method_has_no_width() -> None:
    settings = VaspSettings.model_validate({"incar": {"ISMEAR": -5}})
    assert "smearing" not in [one.name for one in VaspPlugin().convergence_parameters(settings)]


def test_a_grid_is_for_the_campaigns_own_cell() -> None:
    grid = GpawPlugin().convergence_parameters(GpawSettings.model_validate({"kpoints": [2, 1, 1]}))[
        1
    ]
    assert grid.of_cell
    assert [step.fields["kpoints"] for step in grid.steps] == [[2, 1, 1], [3, 2, 2], [4, 3, 3]]
    vasp = VaspPlugin().convergence_parameters(VaspSettings())[1]
    assert not vasp.of_cell
    assert vasp.steps[0] == Step("0.38", {"kpoint_spacing": 0.38})
    dense = VaspPlugin().convergence_parameters(VaspSettings(kpoint_density=64.0))[1]
    assert dense.steps[0] == Step("32", {"kpoint_density": 32})
    spec = load_spec(CASES / "licoo2.yaml")
    own, small = (trial_structures(spec, own_cell=own) for own in (True, False))
    assert len(own.host.elements) == 48
    assert len(small.host.elements) < 48
    assert (str(own.x), str(small.x)) == ("1/2", "1/3")


def test_the_two_configurations_have_the_lowest_ewald_energies() -> None:
    """By pymatgen's own Ewald sums over every configuration of the composition."""
    trial = trial_structures(load_spec(ROOT / "workflows" / "nafepo4_born.yaml"), own_cell=False)
    host = trial.host
    assert len(host.elements) == 28
    assert trial.hashes["first"] != trial.hashes["second"]
    energies = {
        canonical_hash(host, config): EwaldSummation(
            to_structure(to_atoms(host, config))
        ).total_energy
        for config in enumerate_distinct(host, host.n_ions(trial.x))
    }
    lowest = sorted(energies.values())
    assert energies[trial.hashes["first"]] == pytest.approx(lowest[0])
    assert energies[trial.hashes["second"]] == pytest.approx(lowest[1])
    again = trial_structures(load_spec(ROOT / "workflows" / "nafepo4_born.yaml"), own_cell=False)
    assert again.hashes == trial.hashes


def test_an_engine_with_nothing_to_converge_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the labeler 'born' has no settings to converge"):
        converge(ROOT / "workflows" / "nafepo4_born.yaml", folder=tmp_path / "out")
    assert not (tmp_path / "out").exists()
