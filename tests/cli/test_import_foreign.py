"""`al-charge labels import` of what other programs wrote: right, or refused with the reason."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.db import connect
from ase.io import read, ulm, write
from ase.io.trajectory import write_atoms
from ase.units import Bohr, GPa, Hartree, kcal, mol
from pymatgen.core.structure import Structure
from pymongo.database import Database

import al_charge as ac
from al_charge.api.imports import ImportResult, import_into
from al_charge.store.documents import LabelDoc
from al_charge.store.labels import ALL_FRAMES, SUMMARY
from al_charge.store.mongo import Store
from al_charge.thermo.hull import build_hull

ROOT = Path(__file__).parents[2]
CAMPAIGN = ROOT / "workflows" / "nafepo4_gpaw.yaml"
COMMITTED = ROOT / "examples" / "data" / "nafepo4_gpaw.extxyz"
Run = Callable[..., tuple[int, str, str]]
Change = Callable[[Atoms], None]


@pytest.fixture
def store(database: Database[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> Store:
    """An empty database; GPAW and its datasets are those of the committed labels."""
    where = "al_charge.labelers.gpaw.labeler"
    monkeypatch.setattr(f"{where}.gpaw_version", lambda: "26.7.0")
    monkeypatch.setattr(f"{where}.datasets_identity", lambda: "gpaw-data 1.2.1")
    monkeypatch.setattr("al_charge.store.connection.DEFAULT_NAME", database.name)
    # The files of the tests have no density that it could read.
    monkeypatch.setattr("al_charge.labelers.outputs.gpaw.find_spec", lambda name: None)
    store = Store(database)
    store.ensure_schema()
    return store


def committed() -> list[Atoms]:
    """Return the results of the committed labels: the last frame of each."""
    images = read(COMMITTED, index=":")
    assert isinstance(images, list)
    return [one for one in images if one.info["frame"] == one.info["frames"] - 1]


def bare(image: Atoms, **changed: Any) -> Atoms:
    """Return a frame as a stranger's file has it: geometry and results under ASE's keys."""
    atoms = Atoms(image.numbers, image.positions, cell=image.cell, pbc=True)
    known = image.calc.results
    kept = {name: known[name] for name in ("energy", "forces", "stress", "magmoms")}
    atoms.calc = SinglePointCalculator(atoms, **(kept | changed))
    return atoms


def written(folder: Path, images: list[Atoms], name: str = "others.xyz") -> Path:
    write(folder / name, images, format="extxyz")
    return folder / name


def imported(store: Store, path: Path, *, same_settings: bool = True) -> ImportResult:
    return import_into(store, path, CAMPAIGN, same_settings=same_settings)


def by_order(store: Store) -> dict[str, LabelDoc]:
    """Return the lowest label of each configuration."""
    labels = sorted(store.labels.read(ALL_FRAMES), key=lambda one: -one.energy)
    return {one.config_hash: one for one in labels}


def expected_orders() -> dict[str, float]:
    """Return the lowest energy of each configuration among the committed labels, eV."""
    lowest: dict[str, float] = {}
    for one in committed():
        if not one.info.get("refused"):
            key, energy = one.info["config_hash"], float(one.get_potential_energy())
            lowest[key] = min(energy, lowest.get(key, energy))
    return lowest


@pytest.mark.parametrize("name", ["mace", "ase"])
def test_what_is_exported_for_others_comes_back(
    name: str, run: Run, store: Store, tmp_path: Path
) -> None:
    """The committed labels of GPAW, through another format: the same hull and states."""
    assert run("labels", "import", str(COMMITTED))[0] == 0
    assert run("campaign", "submit", str(CAMPAIGN))[0] == 0
    from al_charge.loop.campaign import open_campaign
    from al_charge.loop.energies import label_entries, usable
    from al_charge.loop.select import _adopt_imported

    campaign = open_campaign(store, "nafepo4-gpaw-pw")
    _adopt_imported(campaign, 0)

    def vertices() -> list[tuple[str, str, float]]:
        labels = [one for one in store.labels.read(SUMMARY) if usable(one)]
        entries = label_entries(campaign, labels)
        hull = build_hull(entries, framework="FePO4", working_ion="Na", metal_energy=-1.25)
        return [(str(one.x), one.config_hash, one.energy) for one in hull.vertices]

    before = vertices()
    file = str(tmp_path / {"mace": "labels.xyz", "ase": "labels.db"}[name])
    assert run("export", "nafepo4-gpaw-pw", file, "--format", name, "--last")[0] == 0
    store.database.client.drop_database(store.database.name)
    store.ensure_schema()
    code, out, err = run("labels", "import", file, "--campaign", str(CAMPAIGN), "--json")
    document = json.loads(out)
    assert (code, err, document["left_out"]) == (0, "", {})
    found = by_order(store)
    assert {key: one.energy for key, one in found.items()} == pytest.approx(expected_orders())
    by_hash = {one.info["config_hash"]: one for one in committed()}
    for key, one in found.items():
        told = by_hash[key].arrays["resolved_species"].tolist()
        assert sorted(map(str, told)) == sorted(one.resolved or ())
    assert {run["outcome"] for run in document["runs"]} == {"imported"}
    after = vertices()
    assert [one[:2] for one in after] == [one[:2] for one in before]
    assert [one[2] for one in after] == pytest.approx([one[2] for one in before])
    # That of docs/results.md.
    assert [one[0] for one in after] == ["0", "1/2", "1"]


def test_a_file_that_tells_no_settings_needs_a_word(run: Run, store: Store, tmp_path: Path) -> None:
    file = written(tmp_path, [bare(one) for one in committed()[:3]])
    arguments = ("labels", "import", str(file), "--campaign", str(CAMPAIGN))
    code, out, _ = run(*arguments, "--json")
    document = json.loads(out)
    assert (code, document["imported"]) == (1, [])
    for reason in document["left_out"].values():
        assert reason == (
            "it does not record functional, U, cutoff, k-points and datasets; --same-settings "
            "declares them the same"
        )
    assert list(store.labels.read(ALL_FRAMES)) == []
    assert run(*arguments, "--same-settings")[0] == 0
    for one in store.labels.read(ALL_FRAMES):
        assert one.details["settings_told"].startswith("the user says, of functional, U")
    code, _, err = run("labels", "import", str(file))
    assert (code, err.count("\n")) == (2, 1)
    assert "give its name or file with --campaign" in err
    code, out, _ = run(*arguments, "--same-settings")
    assert code == 0
    assert "there already" in out


def test_settings_that_differ_are_refused_whatever_is_said(store: Store, tmp_path: Path) -> None:
    image = committed()[0]
    atoms = bare(image)
    atoms.info["settings_hash"] = "0123456789abcdef"
    found = imported(store, written(tmp_path, [atoms]))
    (reason,) = found.left_out.values()
    assert reason.startswith("its settings are 0123456789abcdef, not ")
    structure = Structure(atoms.cell.array, atoms.symbols, atoms.get_scaled_positions())
    entry = {
        "structure": structure.as_dict(),
        "energy": atoms.get_potential_energy(),
        "forces": atoms.get_forces().tolist(),
        "stress": (-10 / GPa * atoms.get_stress()).tolist(),
        "magmoms": image.calc.results["magmoms"].tolist(),
        "bader_charges": [6.0] * len(atoms),
        "functional": "PBE",
    }
    matpes = tmp_path / "matpes.json"
    matpes.write_text(json.dumps([entry]))
    (reason,) = imported(store, matpes).left_out.values()
    assert reason == "computed with U = 0 instead of 5.3 eV on Fe"
    matpes.write_text(json.dumps(entry | {"functional": "r2SCAN"}))
    (reason,) = imported(store, matpes).left_out.values()
    assert reason == "computed with r2SCAN instead of PBE, U = 0 instead of 5.3 eV on Fe"


def test_conventions_of_matpes_and_mptrj_are_converted(tmp_path: Path) -> None:
    from al_charge.report.foreign.find import find_runs

    image = committed()[-1]
    atoms = bare(image)
    structure = Structure(atoms.cell.array, atoms.symbols, atoms.get_scaled_positions())
    kilobar = -10 / GPa * atoms.get_stress(voigt=False)
    common = {"structure": structure.as_dict()}
    entry = {
        "energy": atoms.get_potential_energy(),
        "forces": atoms.get_forces().tolist(),
        "stress": kilobar[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]].tolist(),
        "bader_charges": [6.0] * len(atoms),
    }
    frame = {
        "uncorrected_total_energy": atoms.get_potential_energy(),
        "corrected_total_energy": -1.0,
        "energy_per_atom": -2.0,
        "force": atoms.get_forces().tolist(),
        "stress": kilobar.tolist(),
        "magmom": image.calc.results["magmoms"].tolist(),
    }
    file = tmp_path / "mptrj.json"
    file.write_text(json.dumps({"mp-1": {"mp-1-0-0": common | frame}, "entry": common | entry}))
    for found in find_runs(file):
        assert found.run is not None
        assert found.run.frame.energy == pytest.approx(atoms.get_potential_energy())
        stress = found.run.frame.stress
        np.testing.assert_allclose(stress, atoms.get_stress(voigt=False), atol=1e-9)
        np.testing.assert_allclose(found.run.frame.forces, atoms.get_forces())
        assert found.run.bader is None
    assert found.run.bader_refused == "MatPES gives electrons, not net charges"
    del frame["uncorrected_total_energy"]
    file.write_text(json.dumps(common | frame))
    (found,) = find_runs(file)
    assert found.reason.startswith("its energy is per atom, and may hold corrections")


def relaxation() -> list[Atoms]:
    """Return the frames of a relaxation of ions and cell by GPAW, all with the last moments."""
    images = read(COMMITTED, index=":")
    assert isinstance(images, list)
    names = [one.info["label"] for one in images]
    longest = max(set(names), key=names.count)
    frames = [one for one in images if one.info["label"] == longest]
    moments = frames[-1].calc.results["magmoms"]
    return [bare(_with(one, moments)) for one in frames]


def _with(image: Atoms, moments: Any) -> Atoms:
    image.calc.results["magmoms"] = moments
    return image


def test_an_honest_relaxation_does_not_contradict_itself(store: Store, tmp_path: Path) -> None:
    frames = relaxation()
    assert len(frames) > 4
    found = imported(store, written(tmp_path, frames))
    assert found.left_out == {}
    assert len(found.imported) == len(frames)


WRONG: dict[str, tuple[Callable[[dict[str, Any], Atoms], None], str]] = {
    "forces of the other sign": (
        lambda r, a: r.update(forces=-r["forces"]),
        "a sign or a unit is wrong",
    ),
    "forces in Hartree/Bohr": (
        lambda r, a: r.update(forces=r["forces"] * Bohr / Hartree),
        "a sign or a unit is wrong",
    ),
    "energies in Hartree": (lambda r, a: r.update(energy=r["energy"] / Hartree), "cohesive"),
    "energies in kcal/mol": (lambda r, a: r.update(energy=r["energy"] * mol / kcal), "cohesive"),
    "energies per atom": (lambda r, a: r.update(energy=r["energy"] / len(a)), "cohesive"),
    "energies of the other sign": (lambda r, a: r.update(energy=-r["energy"]), "cohesive"),
    "a force in another unit": (
        lambda r, a: r["forces"].__setitem__((0, 0), 500.0),
        "its forces sum to",
    ),
    "moments of nothing": (
        lambda r, a: r.update(magmoms=0.5 * r["magmoms"]),
        "its charge states are uncertain",
    ),
    "not a number": (lambda r, a: r.update(energy=float("nan")), "NaN|cannot read"),
}


@pytest.mark.parametrize("what", WRONG)
def test_wrong_signs_and_units_are_refused(what: str, tmp_path: Path, store: Store) -> None:
    """All frames of a relaxation that are wrong in one way; none of them gets in."""
    change, pattern = WRONG[what]
    frames = relaxation()
    for atoms in frames:
        results = {name: np.array(value) for name, value in atoms.calc.results.items()}
        results["energy"] = float(results["energy"])
        change(results, atoms)
        atoms.calc.results = results
    found = imported(store, written(tmp_path, frames))
    assert found.imported == ()
    assert len(found.left_out) == len(frames)
    assert all(re.search(pattern, reason) for reason in found.left_out.values()), found.left_out


def strained(scale: float) -> list[Atoms]:
    """Return a cell at four volumes, with the energies of a bulk modulus of 100 GPa.

    Their stress is theirs, times a number that should be one.
    """
    start, modulus, frames = committed()[0], 100 * GPa, []
    for strain in (-0.006, 0.0, 0.004, 0.01):
        atoms = bare(start)
        atoms.set_cell(start.cell.array * (1 + strain), scale_atoms=True)
        pressure = -modulus * 3 * strain
        energy = start.get_potential_energy() + modulus / 2 * (3 * strain) ** 2 * start.get_volume()
        results = dict(atoms.calc.results) | {
            "energy": energy,
            "forces": np.zeros((len(atoms), 3)),
            "stress": -scale * pressure * np.array([1.0, 1, 1, 0, 0, 0]),
        }
        atoms.calc = SinglePointCalculator(atoms, **results)
        frames.append(atoms)
    return frames


@pytest.mark.parametrize("scale", [1.0, -1.0, 1 / GPa, -10 / GPa], ids=["", "sign", "GPa", "kbar"])
def test_a_stress_of_the_wrong_sign_or_unit_is_refused(
    scale: float, store: Store, tmp_path: Path
) -> None:
    found = imported(store, written(tmp_path, strained(scale)))
    assert len(found.imported) == (4 if scale == 1 else 0)
    for reason in found.left_out.values():
        assert "a sign or a unit is wrong" in reason or "a stress of" in reason


def test_keys_of_mace(store: Store, tmp_path: Path) -> None:
    """Energies, forces and stress under REF_ keys, or a virial; two that disagree are refused."""
    atoms, image = bare(committed()[0]), committed()[0]
    plain = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True)
    plain.info["REF_energy"] = atoms.get_potential_energy()
    plain.info["REF_virials"] = -atoms.get_stress(voigt=False) * atoms.get_volume()
    plain.arrays["REF_forces"] = atoms.get_forces()
    plain.arrays["REF_magmoms"] = image.calc.results["magmoms"]
    found = imported(store, written(tmp_path, [plain]))
    (key,) = found.imported
    label = store.labels.get(key)
    assert label is not None
    assert label.energy == pytest.approx(atoms.get_potential_energy())
    np.testing.assert_allclose(label.frames[0].stress, atoms.get_stress(voigt=False), atol=1e-8)
    plain.info["REF_stress"] = atoms.get_stress(voigt=False) * 1.5 + 0.01
    (reason,) = imported(store, written(tmp_path, [plain])).left_out.values()
    assert reason.startswith("its stress and virial disagree")
    del plain.info["REF_stress"]
    plain.calc = SinglePointCalculator(plain, energy=atoms.get_potential_energy() - 1)
    (reason,) = imported(store, written(tmp_path, [plain])).left_out.values()
    assert reason.startswith("its energy and REF_energy differ")


def test_other_structures_are_refused(store: Store, tmp_path: Path) -> None:
    from ase.build import bulk

    sodium = bulk("Na", cubic=True)
    sodium.calc = SinglePointCalculator(
        sodium, energy=-2.6, forces=np.zeros((2, 3)), magmoms=np.zeros(2)
    )
    found = imported(store, written(tmp_path, [sodium]))
    (reason,) = found.left_out.values()
    assert reason == "it has nothing where the host has Fe4O16P4"
    with pytest.raises(ac.AlChargeError, match="no such file or folder"):
        import_into(store, tmp_path / "none", CAMPAIGN)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ac.AlChargeError, match="no run of VASP or GPAW"):
        import_into(store, tmp_path / "empty", CAMPAIGN)
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(ac.AlChargeError, match="not a JSON file"):
        import_into(store, tmp_path / "bad.json", CAMPAIGN)
    (tmp_path / "bad.db").write_text("no database")
    with pytest.raises(ac.AlChargeError, match="not a database of ASE"):
        import_into(store, tmp_path / "bad.db", CAMPAIGN)


def work_of(atoms: Atoms, forces: Any) -> list[float]:
    """Return each force times the way to every other atom: the same in all frames of reference."""
    ways = atoms.get_all_distances(mic=True, vector=True)
    return sorted(np.einsum("ik,ijk->ij", np.asarray(forces), ways).ravel().tolist())


@pytest.mark.parametrize("axes", [[0, 1, 2], [1, 2, 0], [2, 1, 0]])
def test_forces_stay_with_their_atoms(axes: list[int], store: Store, tmp_path: Path) -> None:
    """Of a crystal with other axes, another origin and its atoms in another order."""
    image = committed()[1]
    results = image.calc.results
    order = np.random.default_rng(2).permutation(len(image))
    hand = np.linalg.det(np.eye(3)[axes])  # of the axes; others mirror a cell that they swap
    other = Atoms(
        image.numbers[order],
        scaled_positions=image.get_scaled_positions()[order][:, axes] + [0.07, 0.21, 0.4],
        cell=hand * image.cell.array[axes],
        pbc=True,
    )
    kept = {"energy": results["energy"], "magmoms": results["magmoms"][order]}
    other.calc = SinglePointCalculator(other, forces=hand * results["forces"][order], **kept)
    (key,) = imported(store, written(tmp_path, [other])).imported
    label = store.labels.get(key)
    assert label is not None
    (frame,) = label.frames
    atoms = Atoms(label.numbers, frame.positions, cell=frame.cell, pbc=True)
    expected = work_of(image, image.get_forces())
    np.testing.assert_allclose(work_of(atoms, frame.forces), expected, atol=1e-5)


def test_rows_of_a_database_of_ase(store: Store, tmp_path: Path) -> None:
    atoms = bare(committed()[0])
    with connect(tmp_path / "runs.db") as database:
        database.write(atoms)
        database.write(bare(committed()[1]), converged=False)
    found = imported(store, tmp_path / "runs.db")
    assert len(found.imported) == 1
    (reason,) = found.left_out.values()
    assert "not converged" in reason


@pytest.mark.parametrize(
    ("calculator", "parameters", "reason"),
    [
        ("vasp", {"xc": "pbe"}, "computed with U = 0 instead of 5.3 eV on Fe"),
        (
            "vasp",
            {"gga": "PS", "ldau_luj": {"Fe": {"L": 2, "U": 5.3, "J": 0}}},
            "computed with PBEsol instead of PBE",
        ),
        ("gpaw", {"xc": "LDA", "setups": {"Fe": ":d,5.3"}}, "computed with LDA instead of PBE"),
        ("gpaw", {"xc": "PBE", "setups": {"Fe": ":d,5.3"}}, ""),
    ],
)
def test_a_calculator_in_a_database_of_ase_must_agree(
    calculator: str, parameters: dict[str, Any], reason: str, store: Store, tmp_path: Path
) -> None:
    atoms = bare(committed()[0])
    atoms.calc.name, atoms.calc.parameters = calculator, parameters
    with connect(tmp_path / "runs.db") as database:
        database.write(atoms)
    found = imported(store, tmp_path / "runs.db")
    assert list(found.left_out.values()) == ([reason] if reason else [])


def gpw(path: Path, image: Atoms, **changed: Any) -> Path:
    """Write a .gpw file of a committed label, with the parameters of its campaign."""
    parameters = {
        "mode": {"name": "pw", "ecut": 700.0},
        "xc": "PBE",
        "setups": {"Fe": ":d,5.3"},
        "occupations": {"name": "fermi-dirac", "width": 0.05},
        "kpts": {"size": [1, 1, 1], "gamma": True},
        "convergence": {"energy": 1e-6},
    }
    version = changed.pop("version", "26.7.0")
    found = image.calc.results
    with ulm.open(path, "w", tag="gpaw") as file:
        write_atoms(file.child("atoms"), bare(image))
        file.write(parameters=parameters | changed, gpaw_version=version)
        file.child("results").write(
            energy=found["energy"], **{n: found[n] for n in ("forces", "stress", "magmoms")}
        )
    return path


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"setups": {"Fe": ":d,4.0"}}, "U is 4 instead of 5.3 eV on Fe"),
        ({"setups": {"Fe": ":d,5.3", "O": ":p,5"}}, "U is 5 instead of 0 eV on O"),
        ({"setups": {}}, "U is 0 instead of 5.3 eV on Fe"),
        ({"xc": "LDA"}, "functional is LDA instead of PBE"),
        ({"mode": {"name": "pw", "ecut": 500.0}}, "cutoff is 500 eV instead of 700 eV"),
        ({"mode": {"name": "lcao"}}, "mode is lcao instead of pw; cutoff is 340 eV instead of 700"),
        ({"kpts": {"size": [2, 1, 1], "gamma": True}}, "k-point grid is 2 1 1 instead of 1 1 1"),
        ({"kpts": [2, 1, 1]}, "k-point grid is 2 1 1 off Gamma instead of 1 1 1"),
        (
            {"occupations": {"name": "fermi-dirac", "width": 0.2}},
            "smearing is fermi-dirac 0.2 eV instead of fermi-dirac 0.05 eV",
        ),
        (
            {"convergence": {}},
            "the energy is converged to 0.0005 instead of 1e-06 eV per electron",
        ),
        ({"version": "24.1.0"}, "version is 24.1.0 instead of 26.7.0"),
    ],
)
def test_a_run_of_gpaw_with_other_parameters_is_refused(
    changed: dict[str, Any], reason: str, store: Store, tmp_path: Path
) -> None:
    gpw(tmp_path / "run.gpw", committed()[0], **changed)
    (told,) = imported(store, tmp_path).left_out.values()
    assert told.startswith(reason)


def test_a_run_of_gpaw(store: Store, tmp_path: Path) -> None:
    image = committed()[0]
    (tmp_path / "deep" / "er").mkdir(parents=True)
    file = gpw(tmp_path / "deep" / "er" / "run.gpw", image)
    (reason,) = imported(store, tmp_path, same_settings=False).left_out.values()
    assert reason.startswith("it does not record its PAW datasets; --same-settings")
    (key,) = imported(store, file).imported
    label = store.labels.get(key)
    assert label is not None
    assert label.energy == image.get_potential_energy()
    np.testing.assert_allclose(label.frames[0].stress, image.get_stress(voigt=False))
    np.testing.assert_allclose(label.frames[0].forces, image.get_forces())
    assert label.engine == "GPAW 26.7.0, pw mode"


def test_another_database_of_al_charge(
    run: Run, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    from al_charge.loop.campaign import open_campaign
    from al_charge.loop.select import _adopt_imported

    assert run("labels", "import", str(COMMITTED))[0] == 0
    assert run("campaign", "submit", str(CAMPAIGN))[0] == 0
    _adopt_imported(open_campaign(store, "nafepo4-gpaw-pw"), 0)
    client = store.database.client
    other = Store(client[f"{store.database.name}-other"])
    other.ensure_schema()
    monkeypatch.setattr("al_charge.api.imports.connect", lambda settings: store.database)
    monkeypatch.setattr(Store, "close", lambda self: None)
    try:
        with pytest.raises(ac.AlChargeError, match="name it with --campaign"):
            import_into(other, "mongodb://there/al_charge")
        found = import_into(other, "mongodb://there/al_charge", "nafepo4-gpaw-pw")
        assert (len(found.imported), found.left_out) == (50, {})
        assert found.document["file"] == "mongodb://there/al_charge"
        before = {one.key: one.energy for one in store.labels.read(ALL_FRAMES)}
        assert {one.key: one.energy for one in other.labels.read(ALL_FRAMES)} == before
        monkeypatch.setattr("al_charge.api.imports.connect", lambda settings: client["nothing"])
        with pytest.raises(ac.AlChargeError, match="there is no database of al-charge"):
            import_into(other, "mongodb://there/nothing", "nafepo4-gpaw-pw")
    finally:
        client.drop_database(other.database.name)
