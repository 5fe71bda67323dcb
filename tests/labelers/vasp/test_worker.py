"""A label of VASP made by a FireWorks worker, as in a campaign, with a stand-in for VASP."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fireworks import Firework, FWorker, LaunchPad
from fireworks.core.rocket_launcher import launch_rocket
from pymatgen.core.lattice import Lattice
from pymatgen.core.structure import Structure
from pymongo.database import Database

from al_charge.crystal.configuration import configuration, to_atoms
from al_charge.crystal.host import VACANCY
from al_charge.crystal.symmetry import canonical_hash
from al_charge.errors import AlChargeError, UnfinishedError
from al_charge.fw.launchpad import store_of
from al_charge.fw.tasks import LabelTask
from al_charge.labelers.dft import process
from al_charge.labelers.vasp import run
from al_charge.loop.campaign import Campaign, geometry_of, label_key, open_campaign
from al_charge.loop.label import label
from al_charge.loop.spec import parse_spec
from al_charge.loop.submit import submit
from al_charge.stopping import SIGNALS
from al_charge.store.documents import CandidateDoc, RoundDoc

pytestmark = [
    pytest.mark.mongod,
    # pymatgen, inside custodian, about POTCARs that are headers only, and about runs that fail.
    pytest.mark.filterwarnings("ignore::Warning"),
]
ENERGY = -4.52549041


@pytest.fixture
def launchpad(
    database: Database[dict[str, Any]],
    launchpad_on: Callable[[Database[dict[str, Any]]], LaunchPad],
) -> LaunchPad:
    """A LaunchPad on the test's database."""
    return launchpad_on(database)


@pytest.fixture
def campaign(launchpad: LaunchPad, potcars: Path, tmp_path: Path) -> Campaign:
    """NiO that takes up Li: without any, it is the published run; one label is selected."""
    structure = Structure(
        Lattice([[0, 3.52, 3.52], [1.76, 0, 1.76], [1.76, 1.76, 0]]),
        ["Li", "Ni", "O"],
        [[0.25, 0.25, 0.25], [0, 0, 0], [0.5, 0, 0]],
    )
    structure.to(filename=str(tmp_path / "POSCAR"))
    document = {
        "name": "nickel",
        "host": {
            "structure": str(tmp_path / "POSCAR"),
            "working_ion": "Li",
            "redox": {"Ni": [1, 2]},
            "fixed": {"O": -2},
        },
        "labeler": {
            "kind": "vasp",
            "incar": {"ISMEAR": -5, "EDIFF": 1e-4, "ALGO": "Fast", "NELM": 100},
            "kpoints": [3, 3, 3],
            "fixed_moment": False,
            "verify_potcars": False,
            "bader": False,
            "tries": 1,
            "timeout": "10 min",
            "moment_windows": {"Ni+": [0.2, 0.8], "Ni2+": [1.0, 1.9]},
        },
        "potential": {"kind": "painn"},
    }
    store = store_of(launchpad)
    store.ensure_schema()
    spec = parse_spec(document, source=tmp_path / "nickel.yaml")
    submit(store, spec)
    campaign = open_campaign(store, spec.name)
    config = configuration(campaign.host, [VACANCY, 2])
    candidate = CandidateDoc(
        campaign=campaign.name,
        round=0,
        n_ions=0,
        composition="0",
        config_hash=canonical_hash(campaign.host, config),
        colours=list(config.occupation),
        geometry=geometry_of(to_atoms(campaign.host, config)),
        origin="enumerated",
    )
    store.rounds.add(RoundDoc(campaign=campaign.name, number=0))
    store.proposals.put(campaign.name, 0, 0, [candidate])
    store.rounds.record_selection(campaign.name, 0, {candidate.doc_id: "end member"})
    return campaign


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run jobs where everything is imported already: of what follows from how they end."""

    def start(command: Sequence[str], directory: Path, timeout: float) -> None:
        assert command[-1] == run.__name__ and timeout == 600.0
        before = {number: signal.getsignal(number) for number in SIGNALS}
        (directory / process.STOP).unlink(missing_ok=True)
        try:
            with pytest.MonkeyPatch.context() as patch:
                patch.chdir(directory)
                run.main()
        except SystemExit as end:
            kind = UnfinishedError if end.code == process.STOPPED else AlChargeError
            raise kind(f"it ended ({end.code})", where=str(directory)) from end
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    monkeypatch.setattr(process, "run", start)


def work(launchpad: LaunchPad, campaign: Campaign, runs: Path) -> dict[str, Any]:
    """Let a worker run the label task of the first slot, and return its Firework."""
    ids = {"campaign": campaign.name, "round": 0}
    spec = ids | {"_category": "dft", "_add_launchpad_and_fw_id": True}
    launchpad.add_wf(Firework([LabelTask(slot=0, **ids)], spec=spec))
    launches = runs / "launches"
    launches.mkdir(parents=True)
    worker = FWorker(category="dft", env={"runs": str(runs)})
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(launches)
        assert launch_rocket(launchpad, worker, strm_lvl="CRITICAL")
    found = launchpad.fireworks.find_one()
    assert found is not None
    return dict(found)


def key_of(campaign: Campaign) -> str:
    (candidate,) = campaign.store.candidates.all(campaign.name, 0)
    return label_key(campaign, candidate)


def test_the_published_run_becomes_a_label(
    recorded_nickel_oxide: Path,
    standin: Any,
    launchpad: LaunchPad,
    campaign: Campaign,
    tmp_path: Path,
) -> None:
    standin.tell(
        copy=str(recorded_nickel_oxide),
        check={
            "static": {
                "ENCUT": "520.0",
                "GGA": "Pe",
                "LASPH": "True",
                "LDAUU": "6.2 0.0",
                "MAGMOM": "1*2.0 1*0.0",
                "LORBIT": "12",
                "LMAXMIX": "4",
                "ISYM": "0",
            }
        },
    )
    firework = work(launchpad, campaign, tmp_path / "runs")
    assert firework["state"] == "COMPLETED"
    label = campaign.store.labels.get(key_of(campaign))
    assert label is not None
    assert label.energy == pytest.approx(ENERGY, abs=1e-8)
    assert label.moments == [1.122, 0.903]
    assert label.details["hubbard_u"] == {"Ni": 6.2, "O": 0.0}
    assert label.resolved == ["Ni2+", "O2-"]
    assert label.unusable == ""
    assert label.engine == "VASP 6.4.1"
    assert label.datasets["Ni"].startswith("PAW_PBE Ni_pv 06Sep2000")
    # A Firework holds ids and no address, password or structure.
    assert set(firework["spec"]["_tasks"][0]) == {"_fw_name", "campaign", "round", "slot"}
    assert "mongodb" not in json.dumps(firework, default=str)


def test_a_label_and_where_its_files_are(
    in_this_process: None,
    standin: Any,
    launchpad: LaunchPad,
    campaign: Campaign,
    tmp_path: Path,
) -> None:
    standin.tell(energy=ENERGY - 0.001, moments=[1.7, 0.1])
    work(launchpad, campaign, tmp_path / "runs")
    label = campaign.store.labels.get(key_of(campaign))
    assert label is not None
    assert label.energy == pytest.approx(ENERGY)
    assert np.allclose(label.frames[0].forces, [[0.001, 0, 0], [0.002, 0, 0]])
    assert (Path(label.directory) / "static" / "vasprun.xml").is_file()
    assert [attempt.outcome for attempt in label.attempts] == ["converged"]


def test_a_failure_costs_its_own_label(
    in_this_process: None,
    standin: Any,
    launchpad: LaunchPad,
    campaign: Campaign,
    tmp_path: Path,
) -> None:
    standin.tell(faults={"static": ["no SCF"] * 9})
    firework = work(launchpad, campaign, tmp_path / "runs")
    assert firework["state"] == "COMPLETED"  # the round goes on
    assert campaign.store.labels.get(key_of(campaign)) is None
    failure = campaign.store.failures.get(key_of(campaign))
    assert failure is not None
    assert "UnconvergedErrorHandler: Unconverged" in failure.reason


@pytest.mark.parametrize(("fault", "outcome"), [("SIGTERM", "unfinished"), ("cut off", "crashed")])
def test_a_killed_vasp_costs_its_label_nothing(
    in_this_process: None,
    standin: Any,
    campaign: Campaign,
    tmp_path: Path,
    fault: str,
    outcome: str,
) -> None:
    standin.tell(moments=[1.7, 0.1], faults={"static": [fault]})
    with pytest.raises(UnfinishedError):
        label(campaign, 0, 0, tmp_path / "job", spool=tmp_path)
    assert label(campaign, 0, 0, tmp_path / "job", spool=tmp_path) == key_of(campaign)
    attempts = campaign.store.attempts.all(campaign.name)
    assert [one.outcome for one in attempts] == [outcome, "made"]
    made = campaign.store.labels.get(key_of(campaign))
    assert made is not None
    assert made.directory == str(tmp_path / "job" / "try-0")
