"""Whole campaigns, step by step in one process, on a host whose truth is known.

Told are, round by round, labels, relaxations and the CPU time of each step, and in the end the
state and how far the hull is wrong. Labels are those of the Born labeler; the truth is a file of
``born_truth.py``. Databases and results are in FOLDER: started again with the same folder, what is
complete is kept and what was interrupted goes on.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from born_truth import DATA, Outcome, Truth
from exhaustive_hull import CAMPAIGN
from rich.console import Console
from rich.table import Table

from al_charge.loop.assess import assess
from al_charge.loop.campaign import Campaign, open_campaign
from al_charge.loop.energies import labelled_hull
from al_charge.loop.label import label
from al_charge.loop.propose import propose
from al_charge.loop.rounds import current_round, label_slots, open_round
from al_charge.loop.select import select_candidates
from al_charge.loop.spec import CampaignSpec, load_spec
from al_charge.loop.submit import submit
from al_charge.loop.train import train_member
from al_charge.loop.verify import is_verification
from al_charge.store.connection import connect
from al_charge.store.documents import CampaignState
from al_charge.store.embedded import HOME_ENV, EmbeddedServer
from al_charge.store.mongo import Store
from al_charge.thermo.hull import Entry, build_hull, max_hull_shift

ROUNDING = 1e-5
"""eV per formula unit; true energies are Newton steps, within 0.004 meV of the labeler's."""
STEPS = ("propose", "select", "label", "train", "assess")
Run = dict[str, Any]
Keep = Callable[[], None]


def spec_of(supercell: tuple[int, ...], seed: int, max_labels: int) -> CampaignSpec:
    """Return the olivine campaign on another supercell."""
    spec = load_spec(CAMPAIGN)
    changes = {
        "name": f"whole-{seed}",
        "seed": seed,
        "host": spec.host.model_copy(update={"supercell": supercell}),
        "convergence": spec.convergence.model_copy(update={"max_labels": max_labels}),
    }
    return spec.model_copy(update=changes)


def play_round(
    campaign: Campaign, number: int, folder: Path, seconds: dict[str, float], keep: Keep
) -> None:
    """Run every task of a round that is not done yet; CPU time is added to what a step took."""

    @contextmanager
    def timed(step: str) -> Iterator[None]:
        began = time.process_time()
        yield
        seconds[step] = round(seconds.get(step, 0.0) + time.process_time() - began, 1)
        keep()

    open_round(campaign, number)
    if not is_verification(campaign, number):
        for n_ions in campaign.host.ion_counts:
            with timed("propose"):
                propose(campaign, number, n_ions)
        with timed("select"):
            select_candidates(campaign, number)
    with timed("label"):
        for slot in range(label_slots(campaign, number)):
            label(campaign, number, slot, folder / f"label-{slot}", spool=folder / "spool")
    with timed("train"):
        cache = folder.parent / "cache"
        for member in range(campaign.spec.committee.size):
            train_member(campaign, number, member, folder / f"train-{member}", cache)
    with timed("assess"):
        assess(campaign, number, folder / "metal")


def play(campaign: Campaign, folder: Path, run: Run, keep: Keep, most: float) -> None:
    """Play a campaign to its end, or until there are as many rounds as wanted."""
    rounds, states = run["rounds"], campaign.store.campaigns
    while states.state(campaign.name) is CampaignState.RUNNING:
        number = current_round(campaign)
        if number >= most:
            break
        while len(rounds) <= number:
            rounds.append({"seconds": {}})
        play_round(campaign, number, folder / f"round-{number}", rounds[number]["seconds"], keep)
        for earlier, one in enumerate(rounds):
            if "labels" not in one:
                one |= tell(campaign, earlier)
        keep()
        print(f"seed {run['seed']}, round {number}: {json.dumps(rounds[number])}", flush=True)
    run["state"] = states.state(campaign.name).value


def tell(campaign: Campaign, number: int) -> dict[str, Any]:
    """Return what a round has come to."""
    store, record = campaign.store, campaign.store.rounds.get(campaign.name, number)
    assert record is not None and record.assessment is not None
    proposals = [one.statistics for one in store.proposals.all(campaign.name, number)]
    return {
        "labels": len(store.labels.uses(campaign.name, number)),
        "relaxed": sum(one.evaluated for one in proposals),
        "evaluations": sum(one.steps for one in proposals),
        "p_below_hull": record.assessment.p_below_hull,
        "vertices": [str(x) for x in labelled_hull(campaign, up_to=number).hull.compositions],
    }


def judge(campaign: Campaign, truth: Truth) -> dict[str, Any]:
    """Return by how much a campaign's hull is wrong, and where its bounds do not hold.

    A hull is exact within the campaign's own tolerance. The truth leaves out configurations whose
    ions have left their sites, as campaigns do.
    """
    lowest = [
        Entry(str(n), str(n), campaign.host.composition(n), float(np.nanmin(energies[kept])))
        for n, energies in truth.energies.items()
        if (kept := truth.outcomes[n] == Outcome.RELAXED).any()
    ]
    found = labelled_hull(campaign).hull
    exact = build_hull(
        lowest,
        framework=found.framework,
        working_ion=found.working_ion,
        metal_energy=found.metal_energy,
    )
    error, tolerance = max_hull_shift(exact, found), campaign.spec.convergence.hull_tolerance
    return {
        "vertices": [str(x) for x in found.compositions],
        "true_vertices": [str(x) for x in exact.compositions],
        "hull_error": error,
        "exact": found.compositions == exact.compositions and error < tolerance,
        "below_bound": below_bound(
            campaign, {str(one.x): found.formation_energy(one) for one in lowest}
        ),
    }


def below_bound(campaign: Campaign, truth: dict[str, float]) -> dict[str, float]:
    """Return how far ground states lie below the bounds that the last assessment has told.

    Of 20 compositions one may, for `lower_by` is a bound of 95 %; in eV per formula unit.
    """
    record = campaign.store.rounds.last(campaign.name, assessed=True)
    assert record is not None and record.assessment is not None
    bounds = {
        one.x: one.lowest_labelled - one.lower_by
        for one in record.assessment.compositions or ()
        if one.lowest_labelled is not None and one.lower_by is not None
    }
    return {x: b - truth[x] for x, b in bounds.items() if b > truth[x] + ROUNDING}


def table(runs: Iterable[Run]) -> Table:
    """Return a row for each campaign."""
    result = Table(title="Whole campaigns; CPU minutes of each step")
    for heading in ("seed", "state", "hull", "labels", "rounds", "relaxed", *STEPS):
        result.add_column(heading, justify="right")
    for run in runs:
        rounds = run["rounds"]
        minutes = (sum(one["seconds"].get(step, 0.0) for one in rounds) / 60 for step in STEPS)
        result.add_row(
            str(run["seed"]),
            run["state"],
            "exact" if run["exact"] else f"{1e3 * run['hull_error']:.1f} meV",
            str(rounds[-1]["labels"]),
            str(len(rounds)),
            str(sum(one["relaxed"] for one in rounds)),
            *(f"{one:.1f}" for one in minutes),
        )
    return result


def main() -> None:
    """Begin or go on, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--supercell", type=int, nargs=3, default=(1, 3, 1))
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(10)))
    parser.add_argument("--max-labels", type=int, default=400)
    parser.add_argument(
        "--rounds", type=float, default=np.inf, help="end each campaign after so many rounds"
    )
    arguments = parser.parse_args()
    folder, supercell = arguments.folder.resolve(), tuple(arguments.supercell)
    folder.mkdir(parents=True, exist_ok=True)
    truth = Truth.read(DATA / f"nafepo4_born_{'x'.join(map(str, supercell))}.npz")
    os.environ[HOME_ENV] = str(folder / "home")
    runs: list[Run] = []
    try:
        for seed in arguments.seeds:
            file = folder / f"seed-{seed}.json"
            run = json.loads(file.read_text()) if file.is_file() else {"seed": seed, "rounds": []}
            runs.append(run)
            if "exact" in run and run["state"] != CampaignState.RUNNING.value:
                continue  # also where its database is gone
            store = Store(connect(None))
            submit(store, spec_of(supercell, seed, arguments.max_labels))
            campaign = open_campaign(store, f"whole-{seed}")

            def keep(run: Run = run, file: Path = file) -> None:
                file.write_text(json.dumps(run, indent=1) + "\n", encoding="utf-8")

            play(campaign, folder / str(seed), run, keep, arguments.rounds)
            run |= judge(campaign, truth)
            keep()
            store.close()
    finally:
        EmbeddedServer(folder / "home").stop()
    Console(width=140).print(table(runs))


if __name__ == "__main__":
    main()
