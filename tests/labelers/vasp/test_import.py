"""Runs of VASP that other people have made become labels of a campaign, or are refused."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from pymongo.database import Database

from al_charge.api.imports import import_into
from al_charge.crystal.configuration import to_atoms
from al_charge.crystal.enumeration import enumerate_distinct
from al_charge.crystal.symmetry import canonical_hash
from al_charge.loop.campaign import Campaign
from al_charge.store.labels import ALL_FRAMES
from al_charge.store.mongo import Store

HOST = Path(__file__).parents[3] / "workflows" / "hosts" / "NaFePO4.cif"
DATA = Path(__file__).parents[4] / "shared" / "data" / "vasp_Na1Fe24P24O96"
# pymatgen, about POTCARs that are headers only.
pytestmark = pytest.mark.filterwarnings("ignore::Warning")
Change = Callable[[str], str]


@pytest.fixture
def store(database: Database[dict[str, Any]]) -> Store:
    """An empty database."""
    store = Store(database)
    store.ensure_schema()
    return store


def edit(file: Path, old: str, new: str, times: int = -1) -> None:
    text = file.read_text()
    assert old in text, file
    file.write_text(text.replace(old, new, times))


@pytest.fixture
def others(
    campaign_of: Any, compute: Any, store: Store, tmp_path: Path
) -> tuple[Campaign, Path, dict[str, float]]:
    """Fifteen runs that are labels, and the energy of each configuration, eV."""
    campaign = campaign_of(store)
    host, root, energies = campaign.host, tmp_path / "runs", {}
    for n_ions in host.ion_counts:
        for number, config in enumerate(enumerate_distinct(host, n_ions)):
            if len(energies) == 15:
                break
            energy = -178.3 - 4.3 * n_ions - 0.02 * number
            compute(to_atoms(host, config), root / f"x{n_ions}-{number}", energy)
            energies[canonical_hash(host, config)] = energy + 0.001  # without smearing
    assert len(energies) == 15
    return campaign, root, energies


def test_twenty_runs_of_which_five_are_wrong(
    compute: Any, others: tuple[Campaign, Path, dict[str, float]], store: Store
) -> None:
    campaign, root, energies = others
    (config, *_) = enumerate_distinct(campaign.host, 2)
    atoms = to_atoms(campaign.host, config)
    atoms.rattle(0.01, seed=1)
    wrong = {
        "other-u": {"hubbard_u": {"Fe": "4 eV"}},
        "pbesol": {"incar": {"GGA": "PS"}},
        "cutoff": {"cutoff": "400 eV"},
        "k-points": {"kpoints": [3, 3, 3]},
    }
    for name, settings in wrong.items():
        compute(atoms, root / name, -187.0, **settings)
    cut = compute(atoms, root / "truncated", -187.0) / "vasprun.xml"
    cut.write_text(cut.read_text()[:5000])
    found = import_into(store, root, "olivine")
    assert (len(found.imported), found.known) == (15, ())
    reasons = {Path(source).parent.name: reason for source, reason in found.left_out.items()}
    assert reasons.keys() == {*wrong, "truncated"}
    # In the order of the POSCAR: Na, Fe, P, O or another.
    assert "LDAUU is" in reasons["other-u"]
    assert "4" in reasons["other-u"].partition("instead of")[0]
    assert reasons["pbesol"] == "GGA is PS instead of PE"
    assert reasons["cutoff"] == "ENCUT is 400 instead of 520"
    assert reasons["k-points"].startswith("the k-point grid is 3 3 3 instead of ")
    assert "truncated" in reasons["truncated"]
    labels = list(store.labels.read(ALL_FRAMES))
    assert {one.config_hash: one.energy for one in labels} == pytest.approx(energies)
    for one in labels:
        assert one.settings_hash == campaign.settings_hash
        assert one.imported is not None
        assert one.refusal is None
        assert one.requested == one.resolved
        # VASP's pressure in kbar, with the other sign: 10 kbar on xx.
        assert np.array(one.frames[0].stress)[0, 0] == pytest.approx(-10 / 1602.1766208)
        assert one.details["settings_told"] == "compared"
    again = import_into(store, root, "olivine")
    assert (again.imported, len(again.known)) == ((), 15)
    shown = str(found)
    assert "refused" in shown
    assert "GGA is PS" in shown


def test_another_origin_order_and_axes(
    campaign_of: Any, compute: Any, store: Store, tmp_path: Path
) -> None:
    """The same crystal with axes in another order, shifted, and its atoms in another order."""
    campaign = campaign_of(store)
    host = campaign.host
    configs = enumerate_distinct(host, 1)
    for number, config in enumerate(configs):
        atoms = to_atoms(host, config)
        atoms.rattle(0.02, seed=number)
        places = atoms.get_scaled_positions()[:, [1, 2, 0]] + [0.11, 0.23, 0.41]
        other = Atoms(
            atoms.numbers, scaled_positions=places, cell=np.diag(atoms.cell.lengths()[[1, 2, 0]])
        )
        other.pbc = True
        for name in ("species", "initial_magmoms"):
            other.set_array(name, atoms.arrays[name])
        order = np.random.default_rng(number).permutation(len(atoms))
        compute(other[order], tmp_path / "runs" / str(number), -182.0 - 0.01 * number)
    found = import_into(store, tmp_path / "runs", "olivine")
    assert found.left_out == {}
    labels = list(store.labels.read(ALL_FRAMES))
    assert {one.config_hash for one in labels} == {canonical_hash(host, one) for one in configs}
    for label in labels:
        # The forces of the stand-in are along x, 0.001 eV/A times the place in its POSCAR; what
        # is inverted has the opposite ones.
        forces = np.abs(label.frames[0].forces)
        assert sorted(forces[:, 0]) == pytest.approx([0.001 * (i + 1) for i in range(len(forces))])
        assert forces[:, 1:].max() == 0
        assert len(set(np.sign(np.array(label.frames[0].forces)[:, 0]))) == 1


def refusal(store: Store, folder: Path) -> str:
    found = import_into(store, folder, "olivine")
    assert found.imported == ()
    (reason,) = found.left_out.values()
    return reason


def test_other_ways_to_be_wrong(
    campaign_of: Any, compute: Any, store: Store, tmp_path: Path
) -> None:
    campaign = campaign_of(store)
    config = enumerate_distinct(campaign.host, 2)[0]
    run = compute(to_atoms(campaign.host, config), tmp_path / "good", -187.0)

    def edited(name: str, file: str, old: str, new: str, times: int = -1) -> str:
        folder = shutil.copytree(run, tmp_path / "edited" / name)
        edit(folder / file, old, new, times)
        return refusal(store, folder)

    xml = "vasprun.xml"
    assert edited("potcar", xml, "PAW_PBE Fe_pv", "PAW_PBE Fe") == (
        "the POTCAR of Fe is PAW_PBE Fe 01Jan2000, not PAW_PBE Fe_pv"
    )
    reason = edited("lda", xml, "PAW_PBE O ", "PAW O ")
    assert reason.startswith("the POTCAR of O is PAW O ")
    reason = edited("moment", xml, '<i name="NUPDOWN"> 18.00000000', '<i name="NUPDOWN"> 16.0')
    assert reason == "NUPDOWN is 16 instead of 18"
    table = (run / "OUTCAR").read_text()
    assert "4.330" in table
    assert edited("moments", "OUTCAR", "4.330   4.330", "4.000   4.000").startswith(
        "its charge states are uncertain: "
    )
    reason = edited("order", "OUTCAR", "  4.330   4.330\n", " -4.330  -4.330\n", 1)
    assert reason == "its moments point both ways; the campaign's order is ferromagnetic"
    (tmp_path / "none").mkdir()
    shutil.copy(run / xml, tmp_path / "none")
    assert refusal(store, tmp_path / "none") == "it has no moments, which tell its charge states"
    # What only the campaign's own labels tell.
    assert len(import_into(store, run, "olivine").imported) == 1
    edit(run / xml, "-187.0", "-180.0")
    edit(run / xml, "-186.9", "-179.9")
    reason = refusal(store, run)
    assert reason.startswith("its energy is +0.27 eV per atom from that of the campaign's labels")


def test_a_relaxed_cell_is_no_label(
    campaign_of: Any, compute: Any, store: Store, tmp_path: Path
) -> None:
    """Its plane waves are those of the first cell."""
    campaign = campaign_of(store)
    config = enumerate_distinct(campaign.host, 4)[0]
    run = compute(to_atoms(campaign.host, config), tmp_path / "one", -195.5)
    text = (run / "vasprun.xml").read_text()
    start = text.index("<calculation>")
    first = text[start : text.index("</calculation>") + len("</calculation>")]
    grown = first.replace(first.split("<v> ")[1].split()[0], "11.0", 1)
    assert grown != first
    (run / "vasprun.xml").write_text(
        text[:start] + first + "\n" + grown + text[start + len(first) :]
    )
    reason = refusal(store, run)
    assert "its volume changed by" in reason
    assert "plane waves" in reason


def test_the_document_of_a_task(
    recorded_nickel_oxide: Path, task_document: Callable[[Path], Any], tmp_path: Path
) -> None:
    """As atomate2 writes it, and as jobflow keeps it: the same as from the folder."""
    from monty.json import jsanitize

    from al_charge.labelers.vasp.foreign import read_folder
    from al_charge.report.foreign.find import find_runs

    document = jsanitize(task_document(recorded_nickel_oxide), strict=True)
    whole = read_folder(recorded_nickel_oxide)
    file = tmp_path / "outputs.json"
    file.write_text(json.dumps([document, {"uuid": "1", "index": 1, "output": document}]))
    for found in find_runs(file):
        read = found.run
        assert read is not None, found.reason
        assert read.frame.energy == pytest.approx(-4.52549041, abs=1e-8)
        assert read.symbols == whole.symbols
        np.testing.assert_allclose(read.frame.positions, whole.frame.positions, atol=1e-7)
        np.testing.assert_allclose(read.frame.forces, whole.frame.forces, atol=1e-9)
        np.testing.assert_allclose(read.frame.stress, whole.frame.stress, atol=1e-9)
        assert read.moments is not None
        assert read.moments.tolist() == pytest.approx([1.122, 0.903])
        assert read.settings.kpoints == whole.settings.kpoints == "3 3 3"
        assert read.settings.hubbard_u["Ni"] == 6.2
        assert read.settings.titles == whole.settings.titles
        assert read.datasets["Ni"].startswith("PAW_PBE Ni_pv")
    document["calcs_reversed"][0]["output"]["ionic_steps"] = None  # by store_trajectory
    (elsewhere,) = find_runs(_written(tmp_path / "trajectory.json", document))
    assert elsewhere.run is None
    assert elsewhere.reason.startswith("its ionic steps are stored elsewhere")
    assert elsewhere.reason.endswith("give the folder of its run")
    (damaged,) = find_runs(_written(tmp_path / "damaged.json", {"calcs_reversed": []}))
    assert damaged.run is None
    assert damaged.reason.startswith("it is not a document of a VASP task")


def _written(file: Path, document: Any) -> Path:
    file.write_text(json.dumps(document))
    return file


@pytest.mark.skipif(not DATA.is_dir(), reason="the published runs are not here")
@pytest.mark.slow
def test_the_published_run(campaign_of: Any, store: Store, tmp_path: Path) -> None:
    """145 atoms, another origin, OUTCAR alone: one Fe2+ of 24, in the campaign it was made for."""
    settings: dict[str, Any] = {
        "kpoints": [3, 1, 3],
        "incar": {"LREAL": "Auto"},
        "potcar_functional": "PBE_54",
        "verify_potcars": True,
    }
    campaign = campaign_of(store, [1, 3, 2], **settings)
    found = import_into(store, DATA, "olivine")
    assert found.left_out == {}
    (key,) = found.imported
    label = store.labels.get(key)
    assert label is not None
    assert label.energy == pytest.approx(-1017.25848718)
    assert label.composition == "1/24"
    (resolved,) = [label.resolved]
    assert resolved is not None
    assert (resolved.count("Fe2+"), resolved.count("Fe3+")) == (1, 23)
    moments = np.array(label.moments)
    assert moments[resolved.index("Fe2+")] == pytest.approx(3.785)
    # -75.1, -52.0 and -32.9 kbar along the axes of the file, in whatever order they are here.
    stress = np.sort(np.diag(label.frames[0].stress))
    assert stress == pytest.approx(np.array([32.857, 51.956, 75.086]) / 1602.1766208, rel=1e-3)
    assert label.refusal is None
    assert campaign.settings_hash == label.settings_hash
    folder = shutil.copytree(DATA, tmp_path / "changed")
    text = gzip.decompress((folder / "OUTCAR.gz").read_bytes()).decode(errors="replace")
    (folder / "OUTCAR.gz").unlink()
    # What the INCAR says, and what VASP took, are both looked at.
    (folder / "OUTCAR").write_text(text.replace("ENCUT  =  520.0 eV", "ENCUT  =  400.0 eV"))
    (reason,) = import_into(store, folder, "olivine").left_out.values()
    assert reason == "ENCUT is 400 instead of 520"
