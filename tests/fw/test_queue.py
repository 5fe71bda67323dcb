"""Jobs in a queue: how they are counted by name, and how many are submitted."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from fireworks import FWorker, LaunchPad

from al_charge.errors import AlChargeError, InputError
from al_charge.fw.launchpad import store_of
from al_charge.fw.queue_adapter import LONGEST_NAME, Jobs, NamedJobsAdapter, QueueError, job_name
from al_charge.fw.queue_folder import write_launchers
from al_charge.fw.queue_launch import IDLE_LOOKS, Launcher, plan_jobs
from al_charge.fw.queue_systems import QUEUE_SYSTEMS, WORKSTATION
from al_charge.fw.tasks import CATEGORIES, ensure_round
from al_charge.fw.worker_registry import host_of, worker_name
from al_charge.loop.campaign import open_campaign
from al_charge.loop.resources import ResourcesSettings
from al_charge.loop.spec import load_spec
from al_charge.loop.submit import new_document
from al_charge.store.documents import CampaignState

ROOT = Path(__file__).parents[2]
SPEC = ROOT / "workflows" / "nafepo4_born_small.yaml"
SGE = """
job-ID  prior   name       user         state submit/start at     queue           slots ja-task-ID
---------------------------------------------------------------------------------------------------
      7 0.55500 dft-sulpha me           r     11/21/2026 10:00:00 all.q@node1        16
       Full jobname:     dft-sulphates
       Hard Resources:   h_rt=86400 (0.000000)
      8 0.55500 dft-sulpha me           qw    11/21/2026 10:01:00                    16
       Full jobname:     dft-sulphates
      9 0.55500 dft-sulpha me           qw    11/21/2026 10:01:00                    16
       Full jobname:     dft-sulphates-2
"""
ANSWERS = {
    "slurm": {"squeue": "printf 'PENDING\\nRUNNING\\n'"},
    "lsf": {"bjobs": "printf 'PEND\\nRUN\\n'"},
    "pbs": {"qselect": "[[ $* == *'-s QHW' ]] && echo 8.host || printf '7.host\\n8.host\\n'"},
    "sge": {"qstat": f"cat <<'END'\n{SGE}\nEND"},
}
QUEUE = """
file="$QUEUE/jobs"
case ${0##*/} in
    sbatch)
        [[ -e $QUEUE/away ]] && { echo 'sbatch: error: invalid partition' >&2; exit 1; }
        sed -n 's/#SBATCH --job-name=//p' "$1" >> "$file"
        echo "Submitted batch job $(wc -l < "$file")" ;;
    squeue)
        [[ -e $QUEUE/away ]] && { echo 'slurm_load_jobs error: no answer' >&2; exit 1; }
        while [[ $1 != -n ]]; do shift; done
        grep -x -- "$2" "$file" 2>/dev/null | sed 's/.*/PENDING/'; exit 0 ;;
esac
"""


def write_programs(folder: Path, lines: dict[str, str]) -> None:
    folder.mkdir(exist_ok=True)
    for name, line in lines.items():
        (folder / name).write_text(f"#!/bin/bash\n{line}\n")
        (folder / name).chmod(0o755)


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a folder for programs of a queue in front of PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


def adapter(name: str, job: str) -> NamedJobsAdapter:
    return NamedJobsAdapter.from_dict({"_fw_q_type": QUEUE_SYSTEMS[name].q_type, "job_name": job})


@pytest.mark.parametrize("name", QUEUE_SYSTEMS)
def test_jobs_are_counted_by_their_name(programs: Path, name: str) -> None:
    write_programs(programs, ANSWERS[name])
    assert adapter(name, "dft-sulphates").count() == Jobs(waiting=1, running=1)
    assert adapter(name, "dft-sulphates").get_njobs_in_queue() == 2


def test_lsf_says_that_there_are_none_as_an_error(programs: Path) -> None:
    write_programs(programs, {"bjobs": "echo 'Job <dft-a> is not found' >&2; exit 255"})
    assert adapter("lsf", "dft-a").count() == Jobs(0, 0)
    write_programs(programs, {"bjobs": "echo 'LSF is down' >&2; exit 255"})
    with pytest.raises(QueueError, match="bjobs: LSF is down"):
        adapter("lsf", "dft-a").count()


def test_script_goes_to_lsf_by_its_input(programs: Path, tmp_path: Path) -> None:
    write_programs(programs, {"bsub": 'read line; echo "Job <$line> is submitted to queue <q>."'})
    (tmp_path / "script").write_text("41\n")
    assert adapter("lsf", "dft-a").submit_to_queue(str(tmp_path / "script")) == "41"


def test_program_that_is_not_there_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(QueueError, match="squeue: there is no such program"):
        adapter("slurm", "dft-a").count()


def test_names_of_jobs_are_short_and_differ() -> None:
    campaigns = ["a", "sulphates", "a-very-long-campaign", "a-very-long-campaign-2"]
    names = [job_name(category, campaign) for category in CATEGORIES for campaign in campaigns]
    assert len(set(names)) == len(names)
    assert max(map(len, names)) <= LONGEST_NAME


def test_workstation_has_no_queue(tmp_path: Path) -> None:
    folder = tmp_path / "site"
    write(folder, WORKSTATION)
    with pytest.raises(InputError, match="has no queue"):
        plan_jobs(folder, "a", ResourcesSettings(), CATEGORIES, argument="a")


def write(folder: Path, name: str) -> None:
    write_launchers(
        ROOT / "launchers",
        name,
        folder,
        resources=ResourcesSettings(),
        campaign=None,
        pre_rocket="true",
    )


class Cluster:
    """A campaign in the database, a launcher for it, and a stand-in queue whose jobs never run."""

    def __init__(self, launchpad: LaunchPad, folder: Path, **resources: object) -> None:
        store = store_of(launchpad)
        store.ensure_schema()
        spec = load_spec(SPEC)
        store.campaigns.add(new_document(spec))
        self.campaign = open_campaign(store, spec.name)
        self.launchpad = launchpad
        ensure_round(launchpad, self.campaign, 0)
        write(folder / "site", "slurm")
        self.queue, self.jobs = folder / "queue", folder / "jobs"
        self.queue.mkdir()
        plans = plan_jobs(
            folder / "site",
            spec.name,
            ResourcesSettings.model_validate(resources),
            CATEGORIES,
            argument="campaign.yaml",
        )
        self.launcher = Launcher(launchpad, spec.name, plans, self.jobs)

    def queued(self) -> list[str]:
        """Return the names of all jobs in the queue."""
        file = self.queue / "jobs"
        return file.read_text().split() if file.exists() else []

    def finish(self, category: str) -> None:
        """Let all Fireworks of a category end."""
        where = {"spec._category": category}
        self.launchpad.fireworks.update_many(where, {"$set": {"state": "COMPLETED"}})


@pytest.fixture
def make_cluster(
    launchpad: LaunchPad, tmp_path: Path, programs: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Cluster]:
    """Make the site, with what jobs ask for."""
    monkeypatch.setenv("QUEUE", str(tmp_path / "queue"))
    write_programs(programs, dict.fromkeys(("sbatch", "squeue"), QUEUE))
    return lambda **resources: Cluster(launchpad, tmp_path, **resources)


def test_queue_is_filled_as_far_as_there_is_work(make_cluster: Callable[..., Cluster]) -> None:
    cluster = make_cluster(cpu={"jobs": 3, "processes": 2})
    ready = cluster.launchpad.fireworks.count_documents({"state": "READY"})
    assert ready > 3
    state, jobs = cluster.launcher.look()
    assert state is CampaignState.RUNNING
    assert jobs == {"cpu": Jobs(3, 0), "dft": Jobs(0, 0), "gpu": Jobs(0, 0)}
    assert cluster.queued() == [job_name("cpu", cluster.campaign.name)] * 3
    cluster.launcher.look()
    assert len(cluster.queued()) == 3
    script = (cluster.jobs / "cpu" / "FW_submit.script").read_text()
    assert "--processes 2 " in script
    assert "export AL_CHARGE_CAMPAIGN=campaign.yaml" in script


def test_no_more_jobs_than_there_is_work_for(make_cluster: Callable[..., Cluster]) -> None:
    cluster = make_cluster(cpu={"jobs": 100, "processes": 2})
    ready = cluster.launchpad.fireworks.count_documents({"state": "READY"})
    cluster.launcher.look()
    cluster.launcher.look()
    assert len(cluster.queued()) == (ready + 1) // 2


def test_refusal_of_a_job_is_one_line(make_cluster: Callable[..., Cluster]) -> None:
    cluster = make_cluster()
    (cluster.queue / "away").touch()
    with pytest.raises(QueueError, match="squeue: slurm_load_jobs error: no answer"):
        cluster.launcher.look()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(NamedJobsAdapter, "count", lambda self: Jobs(0, 0))
        with pytest.raises(QueueError) as caught:
            cluster.launcher.look()
    assert str(caught.value) == (
        "the queue refused a job of 'cpu': sbatch: error: invalid partition"
    )
    (cluster.queue / "away").unlink()
    cluster.launcher.look()
    assert cluster.queued()


def test_jobs_that_do_nothing_are_not_submitted_for_ever(
    make_cluster: Callable[..., Cluster],
) -> None:
    cluster = make_cluster(cpu={"jobs": 2})
    with pytest.raises(AlChargeError, match="ended without doing anything"):
        for _ in range(20):
            cluster.launcher.look()
            (cluster.queue / "jobs").unlink()


def test_campaign_that_has_nothing_to_do_is_told(make_cluster: Callable[..., Cluster]) -> None:
    cluster = make_cluster()
    for category in CATEGORIES:
        cluster.finish(category)
    for _ in range(IDLE_LOOKS - 1):
        cluster.launcher.look()
    with pytest.raises(AlChargeError, match="nothing is left to run"):
        cluster.launcher.look()


def test_nothing_is_submitted_for_a_campaign_that_has_ended(
    make_cluster: Callable[..., Cluster], monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = make_cluster()
    store = cluster.campaign.store
    store.campaigns.set_state(cluster.campaign.name, CampaignState.PAUSED, "later")
    ledger, worker = store.ledger, "7@elsewhere@1.00"
    ledger.open(cluster.campaign.name, worker=worker, job="slurm 11")
    ledger.close(worker, "done")
    (entry,) = ledger.all(cluster.campaign.name)
    end = entry.started + timedelta(seconds=3.0)
    monkeypatch.setattr("al_charge.fw.account.job_times", {"slurm 11": (entry.started, end)}.get)
    state, _ = cluster.launcher.look()
    assert state is CampaignState.PAUSED
    assert cluster.queued() == []
    assert [one.ended for one in ledger.all(cluster.campaign.name)] == [end]


def test_campaign_fails_with_the_task_that_failed(make_cluster: Callable[..., Cluster]) -> None:
    cluster = make_cluster()
    for category in CATEGORIES:
        cluster.finish(category)
    cluster.launchpad.fireworks.update_one(
        {"name": {"$regex": "select"}}, {"$set": {"state": "FIZZLED"}}
    )
    state, _ = cluster.launcher.look()
    assert state is CampaignState.FAILED


def test_what_a_dead_job_left_is_handed_back(make_cluster: Callable[..., Cluster]) -> None:
    cluster = make_cluster()
    dead = FWorker(name=f"{2**22}@{host_of(worker_name())}@1.00", category="cpu")
    firework, _ = cluster.launchpad.checkout_fw(dead, "/nowhere")
    cluster.launcher.look()
    found = cluster.launchpad.fireworks.find_one({"fw_id": firework.fw_id})
    assert found is not None
    assert found["state"] == "READY"
