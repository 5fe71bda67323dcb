"""Hull, voltage, capacity and volume change against pymatgen, on random and on real data."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import pytest
from ase.io import read
from pymatgen.analysis.phase_diagram import PDEntry, PhaseDiagram
from pymatgen.apps.battery.insertion_battery import InsertionElectrode
from pymatgen.core.composition import Composition
from pymatgen.core.periodic_table import Element
from pymatgen.entries.computed_entries import ComputedEntry

from al_charge.errors import AlChargeError
from al_charge.thermo.electrode import electrode, mass
from al_charge.thermo.hull import Entry, Hull, build_hull
from al_charge.thermo.voltage import voltage_profile

DATA = Path(__file__).parents[2] / "examples" / "data"
REAL = sorted(path.stem for path in DATA.glob("*.json"))
FRAMEWORKS = ("FePO4", "MnO2", "TiS2", "V2P3O12", "CoO2", "Fe2S3O12", "Mn2O4", "Ni0.5Mn0.5O2")
IONS = {"Na": 1, "Li": 1, "K": 1, "Mg": 2, "Ca": 2, "Zn": 2, "Al": 3}
CLOSE = {"rel": 1e-9, "abs": 1e-9}


@dataclass
class Case:
    """Energies (eV) and volumes (cubic angstrom) of a formula unit, by key."""

    hull: Hull
    volumes: dict[str, float]


def random_case(seed: int) -> Case:
    """Return a hull of some host: every third has a window of x, every third a divalent ion."""
    rng = random.Random(seed)
    ion = list(IONS)[seed % len(IONS)]
    framework = FRAMEWORKS[seed % len(FRAMEWORKS)]
    units = rng.choice([2, 4, 6, 9])
    low = Fraction(1) if seed % 3 == 0 else Fraction(0)
    high = low + rng.choice([Fraction(1, 2), Fraction(1), Fraction(2)])
    zero = -6.5 * float(Composition(framework).num_atoms)
    entries, volumes = [], {}
    n = 0
    for step in range(int(high * units) - int(low * units) + 1):
        x = Fraction(step + int(low * units), units)
        ends = step in (0, int(high * units) - int(low * units))
        for _ in range(rng.randint(1, 4) if ends else rng.randint(0, 4)):
            bowl = 0.4 * float((x - low) * (high - x)) * rng.uniform(-1.0, 0.3)
            energy = zero - float(x) * rng.uniform(3.9, 4.1) * IONS[ion] + bowl
            entries.append(Entry(f"k{n}", f"h{n}", x, energy))
            volumes[f"k{n}"] = 60.0 + 8.0 * float(x) + rng.uniform(-4, 4)
            n += 1
    present = sorted({entry.x for entry in entries})
    hull = build_hull(
        entries,
        framework=framework,
        working_ion=ion,
        metal_energy=rng.uniform(-3.0, -1.0),
        working_ion_charge=IONS[ion],
        ends=(present[0], present[-1]),
    )
    return Case(hull, volumes)


def real_case(name: str) -> Case:
    """Return the labels of a file of ours, at a metal energy of -1.5 eV."""
    told = json.loads((DATA / f"{name}.json").read_text())
    units = told["formula_units"]
    entries, volumes = [], {}
    for atoms in read(DATA / f"{name}.extxyz", ":"):
        info = atoms.info
        if info["frame"] + 1 < info["frames"] or info["unusable"] or not info["converged"]:
            continue
        x = Fraction(int(info["n_ions"]), units)
        entries.append(
            Entry(info["label"], info["config_hash"], x, atoms.get_potential_energy() / units)
        )
        volumes[info["label"]] = atoms.get_volume() / units
    symbols = Composition(atoms.get_chemical_formula())
    ion = told["working_ion"]
    framework = "".join(
        f"{el}{round(n / units)}" for el, n in symbols.as_dict().items() if el != ion
    )
    hull = build_hull(entries, framework=framework, working_ion=ion, metal_energy=-1.5)
    return Case(hull, volumes)


def computed(hull: Hull, entry: Entry, volume: float, shift: float = 0.0) -> ComputedEntry:
    """Return an entry as pymatgen's, of a whole number of atoms; ``shift`` eV per framework."""
    units = 36
    amounts = {el: n * units for el, n in Composition(hull.framework).items()}
    composition = Composition({**amounts, Element(hull.working_ion): int(entry.x * units)})
    reduced = Composition(amounts).get_reduced_composition_and_factor()[1]
    data = {"volume": volume * units / reduced}
    return ComputedEntry(composition, (entry.energy + shift) * units, data=data, entry_id=entry.key)


def pymatgens(case: Case, shift: float = 0.0) -> InsertionElectrode:
    hull = case.hull
    entries = [computed(hull, one, case.volumes[one.key], shift) for one in hull.entries]
    metal = ComputedEntry(hull.working_ion, hull.metal_energy)
    return InsertionElectrode.from_entries(entries, metal)


def check(case: Case, theirs: InsertionElectrode) -> None:
    hull, ours = case.hull, electrode(case.hull, case.volumes)
    assert [e.entry_id for e in theirs.stable_entries] == [v.key for v in hull.vertices]
    steps = [step.voltage for step in voltage_profile(hull).steps]
    assert steps == pytest.approx([pair.voltage for pair in theirs.voltage_pairs], **CLOSE)
    assert ours.average_voltage == pytest.approx(theirs.get_average_voltage(), **CLOSE)
    assert ours.capacity == pytest.approx(theirs.get_capacity_grav(), **CLOSE)
    assert ours.volume_capacity == pytest.approx(theirs.get_capacity_vol(), **CLOSE)
    assert ours.specific_energy == pytest.approx(theirs.get_specific_energy(), **CLOSE)
    assert ours.energy_density == pytest.approx(theirs.get_energy_density(), **CLOSE)
    assert ours.volume_change == pytest.approx(theirs.max_delta_volume, **CLOSE)


def check_hull(case: Case) -> None:
    """Distances to the hull, in the space of all elements."""
    hull = case.hull
    entries = [computed(hull, one, 1.0) for one in hull.entries]
    high = max(one.energy_per_atom for one in entries) + 10.0
    elements = sorted({el for one in entries for el in one.composition})
    diagram = PhaseDiagram([*entries, *(PDEntry(Composition({el: 1}), high) for el in elements)])
    frame = Composition(hull.framework).num_atoms
    for ours, theirs in zip(hull.entries, entries, strict=True):
        above = diagram.get_e_above_hull(theirs) * (frame + float(ours.x))
        assert hull.distance(ours) == pytest.approx(above, **CLOSE)


@pytest.mark.parametrize("seed", range(42))
def test_random_hosts_are_as_pymatgen_says(seed: int) -> None:
    case = random_case(seed)
    check(case, pymatgens(case))
    check_hull(case)


@pytest.mark.parametrize("name", REAL)
def test_real_data_are_as_pymatgen_says(name: str) -> None:
    case = real_case(name)
    assert len(case.hull.entries) >= 3
    check(case, pymatgens(case, shift=shift_of(case)))


def shift_of(case: Case) -> float:
    """Return what brings total energies near those of VASP, for which pymatgen's hull is made."""
    atoms = Composition(case.hull.framework).num_atoms
    return -6.5 * float(atoms) - case.hull.vertices[0].energy


def test_random_cases_are_of_all_kinds() -> None:
    cases = [random_case(seed).hull for seed in range(42)]
    assert sum(hull.working_ion_charge > 1 for hull in cases) > 12
    assert sum(hull.vertices[0].x > 0 for hull in cases) > 10
    assert sum(len(hull.vertices) > 3 for hull in cases) > 10
    assert sum(len(hull.entries) > len(hull.vertices) for hull in cases) > 30


def test_where_pymatgen_raises_ours_answers() -> None:
    """Its hull is one against elements 10 eV above; Born's energies lie deeper."""
    case = random_case(5)
    deep = [Entry(e.key, e.config_hash, e.x, e.energy - 300.0) for e in case.hull.entries]
    moved = build_hull(
        deep,
        framework=case.hull.framework,
        working_ion=case.hull.working_ion,
        metal_energy=case.hull.metal_energy,
        working_ion_charge=case.hull.working_ion_charge,
    )
    with pytest.raises(IndexError):
        pymatgens(Case(moved, case.volumes))
    found, same = electrode(moved, case.volumes), electrode(case.hull, case.volumes)
    assert found.average_voltage == pytest.approx(same.average_voltage)
    assert found.capacity == same.capacity


def test_silver_brings_one_electron() -> None:
    """Where pymatgen divides by 3, the largest oxidation state of silver."""
    hull = build_hull(
        [Entry("a", "a", Fraction(0), -20.0), Entry("b", "b", Fraction(1), -25.0)],
        framework="CrS2",
        working_ion="Ag",
        metal_energy=-2.7,
    )
    grams = 107.8682 + 51.9961 + 2 * 32.065
    found = electrode(hull, {"a": 1.0, "b": 1.0})
    assert found.capacity == pytest.approx(96485.33212 / 3.6 / grams, rel=1e-9)
    assert found.average_voltage == pytest.approx(2.3)


def test_olivine_by_hand() -> None:
    """LiFePO4: 170 mAh/g, 3.4 V, 578 Wh/kg; 587 mAh/cm3 at 72.8 cubic angstrom."""
    hull = build_hull(
        [Entry("a", "a", Fraction(0), -40.0), Entry("b", "b", Fraction(1), -45.3)],
        framework="FePO4",
        working_ion="Li",
        metal_energy=-1.9,
    )
    found = electrode(hull, {"a": 68.0, "b": 72.8})
    assert found.capacity == pytest.approx(169.9, abs=0.05)
    assert found.average_voltage == pytest.approx(3.4)
    assert found.specific_energy == pytest.approx(577.7, abs=0.2)
    assert found.volume_capacity == pytest.approx(96485.33 / 3.6 / 6.02214e23 / 72.8e-24, rel=1e-5)
    assert found.volume_change == pytest.approx(72.8 / 68.0 - 1)
    assert mass("FePO4", "Li", 1.0) == pytest.approx(157.757, abs=0.01)
    with pytest.raises(AlChargeError, match="label 'b': its volume is not known"):
        electrode(hull, {"a": 68.0})
