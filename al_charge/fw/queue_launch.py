"""Keep jobs in a queue, through FireWorks' queue launcher, as long as there is work."""

from __future__ import annotations

import logging
import math
import os
import re
import shlex
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fireworks import FWorker, LaunchPad
from fireworks.queue.queue_launcher import launch_rocket_to_queue

from al_charge.errors import AlChargeError, InputError
from al_charge.fw.account import Settlement
from al_charge.fw.launchpad import store_of
from al_charge.fw.queue_adapter import Jobs, NamedJobsAdapter, QueueError, job_name
from al_charge.fw.queue_folder import queue_system_of, read_adapter
from al_charge.fw.queue_systems import settings_for
from al_charge.fw.status import blocking_failure, tasks_by_state
from al_charge.fw.watch import Watch
from al_charge.fw.workflow_states import BUSY
from al_charge.logs import FORMAT_ENV, LEVEL_ENV
from al_charge.loop.resources import ResourcesSettings
from al_charge.store.documents import CampaignState
from al_charge.store.embedded import HOME_ENV, default_home
from al_charge.store.settings import CREDENTIALS_ENV, URI_ENV

FRUITLESS = 3
"""Jobs in a row, for each that is kept queued, that may end without a change in any task."""
IDLE_LOOKS = 3
"""Checks in a row that may find nothing to do in a campaign that has not ended."""


@dataclass(frozen=True)
class Plan:
    """The jobs of one category.

    Attributes
    ----------
    category
        ``cpu``, ``dft`` or ``gpu``.
    adapter
        Submits and counts them.
    jobs
        How many are kept in the queue.
    """

    category: str
    adapter: NamedJobsAdapter
    jobs: int

    @property
    def processes(self) -> int:
        """Number of workers in a job."""
        found = re.search(r"--processes (\d+)", self.adapter["rocket_launch"])
        return int(found[1]) if found else 1


def plan_jobs(
    folder: Path,
    campaign: str,
    resources: ResourcesSettings,
    categories: Sequence[str],
    *,
    argument: str,
    jobs: int | None = None,
) -> list[Plan]:
    """Return the jobs of a campaign at a site.

    Parameters
    ----------
    folder
        Folder of the site.
    campaign
        Name of the campaign.
    resources
        What its jobs ask for; other settings are those of the folder.
    categories
        Which jobs: of ``cpu``, ``dft`` and ``gpu``.
    argument
        What ``al-charge worker`` is given: the campaign's name, or the full path of its file.
    jobs
        How many of each category are kept in the queue; None for what the files say.

    Returns
    -------
    list of Plan
        One for each category.

    Raises
    ------
    InputError
        If a file of the folder is invalid, or the site has no queue.
    """
    system = queue_system_of(folder)
    if system is None:
        raise InputError(
            "a workstation has no queue", where=str(folder), remedy="run its workers.sh"
        )
    environment = job_environment(folder, argument)
    plans = []
    for category in categories:
        settings = read_adapter(folder, category)
        settings |= settings_for(system, getattr(resources, category), settings)
        settings["job_name"] = job_name(category, campaign)
        settings["pre_rocket"] = "\n".join(filter(None, [environment, settings["pre_rocket"]]))
        adapter = NamedJobsAdapter.from_dict(settings)
        plans.append(Plan(category, adapter, jobs or settings["_jobs"]))
    return plans


def job_environment(folder: Path, argument: str) -> str:
    """Return the lines of a job script that set the environment, without secrets.

    Not every site passes on the environment that a job was submitted from.

    Parameters
    ----------
    folder
        Folder of the site.
    argument
        What ``al-charge worker`` is given.

    Returns
    -------
    str
        One ``export`` for each variable.
    """
    variables = {
        "AL_CHARGE_CAMPAIGN": argument,
        "AL_CHARGE_LAUNCHERS": str(folder.absolute()),
        HOME_ENV: str(default_home()),
    }
    # A URI with a password is refused wherever one is read.
    variables |= {
        name: os.environ[name]
        for name in (URI_ENV, CREDENTIALS_ENV, LEVEL_ENV, FORMAT_ENV)
        if name in os.environ
    }
    return "\n".join(f"export {name}={shlex.quote(value)}" for name, value in variables.items())


class Launcher:
    """Keeps the planned jobs of a campaign in the queue.

    Parameters
    ----------
    launchpad
        LaunchPad of the campaign's database.
    campaign
        Name of the campaign.
    plans
        One for each category.
    folder
        Where scripts and the output of jobs go: into one folder for each category.
    """

    def __init__(
        self, launchpad: LaunchPad, campaign: str, plans: Sequence[Plan], folder: Path
    ) -> None:
        self._launchpad = launchpad
        self._campaign = campaign
        self._plans = plans
        self._folder = folder
        self._tasks: dict[str, int] = {}
        self._fruitless = 0
        self._idle = 0
        self._watch = Watch(launchpad, campaign)
        self._settlement = Settlement(store_of(launchpad).ledger, campaign)

    def look(self) -> tuple[CampaignState, dict[str, Jobs]]:
        """Hand back lost runs, fill the queue, enter ends of jobs; return how the campaign stands.

        Returns
        -------
        CampaignState
            The campaign's state.
        dict
            Its jobs by category.

        Raises
        ------
        QueueError
            If the queue does not answer, or refuses a job.
        AlChargeError
            If jobs end without having done anything, or nothing is left for them to do.
        """
        # No job may be left to do it.
        self._watch.look()
        store = store_of(self._launchpad)
        if (reason := blocking_failure(self._launchpad, self._campaign)) is not None:
            store.campaigns.set_state(self._campaign, CampaignState.FAILED, reason)
        state = store.campaigns.get(self._campaign).state
        tasks = tasks_by_state(self._launchpad, self._campaign)
        if tasks != self._tasks:
            self._tasks, self._fruitless = tasks, 0
        if state is CampaignState.RUNNING:
            self._refuse_nothing_left(tasks)
            jobs = {plan.category: self._fill(plan) for plan in self._plans}
        else:
            jobs = {plan.category: plan.adapter.count() for plan in self._plans}
        self._settlement.look()
        return state, jobs

    def _fill(self, plan: Plan) -> Jobs:
        """Submit as many jobs of a category as there is work for, up to the number to keep."""
        jobs = plan.adapter.count()
        ready = self._launchpad.fireworks.count_documents(
            {
                "spec.campaign": self._campaign,
                "spec._category": plan.category,
                "state": "READY",
            }
        )
        useful = math.ceil(ready / plan.processes) - jobs.waiting
        for _ in range(min(plan.jobs - jobs.total, useful)):
            if self._fruitless >= FRUITLESS * max(plan.jobs, 2):
                raise AlChargeError(
                    f"{self._fruitless} jobs in a row ended without doing anything",
                    where=f"jobs {plan.adapter['job_name']}",
                    remedy=f"see their output in {self._folder / plan.category}",
                )
            if not self._submit(plan):
                break
            self._fruitless += 1
            jobs = Jobs(jobs.waiting + 1, jobs.running)
        return jobs

    def _submit(self, plan: Plan) -> bool:
        folder = self._folder / plan.category
        folder.mkdir(parents=True, exist_ok=True)
        fworker = FWorker(
            name=plan.adapter["job_name"],
            category=plan.category,
            query={"spec.campaign": self._campaign},
        )
        with _cause() as causes, warnings.catch_warnings():
            warnings.filterwarnings("ignore", "cd is deprecated", FutureWarning)  # FireWorks' own
            job = launch_rocket_to_queue(
                self._launchpad, fworker, plan.adapter, str(folder), strm_lvl="CRITICAL"
            )
        if job is False:
            cause = causes[0] if causes else "without a reason"
            raise QueueError(str(cause), where=f"the queue refused a job of '{plan.category}'")
        return job is not None

    def _refuse_nothing_left(self, tasks: Mapping[str, int]) -> None:
        """Raise an error if a campaign that has not ended has had nothing to do for a while."""
        self._idle = 0 if tasks.keys() & {"READY", *BUSY} else self._idle + 1
        if self._idle >= IDLE_LOOKS:
            raise AlChargeError(
                "it has not ended, but nothing is left to run",
                where=f"campaign '{self._campaign}'",
                remedy=f"run 'al-charge campaign resume {self._campaign}'",
            )


@contextmanager
def _cause() -> Iterator[list[BaseException]]:
    """Catch the errors that FireWorks' queue launcher logs and does not raise."""
    logger, handler = logging.getLogger("queue.launcher"), _Errors()
    logger.addHandler(handler)
    try:
        yield handler.errors
    finally:
        logger.removeHandler(handler)


class _Errors(logging.Handler):
    """Keeps the exceptions that are being handled while something is logged."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.errors: list[BaseException] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the exception."""
        if (error := sys.exc_info()[1]) is not None:
            self.errors.append(error)
