"""`al-charge demo`: a small real campaign, from nothing to a converged hull."""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from al_charge.cli.output import json_option, print_json
from al_charge.cli.target import PROCESSES, Target

if TYPE_CHECKING:
    from al_charge.loop.spec import CampaignSpec

TEMPLATE = "nafepo4_born"


@click.command("demo")
@click.option(
    "--seed",
    type=click.IntRange(0, 2**31 - 1),
    default=1,
    show_default=True,
    help="Seed of all random choices.",
)
@click.option("--blind", is_flag=True, help="Potentials that do not see charge states.")
@click.option(
    "--workers", default=2, show_default=True, type=PROCESSES, help="Number of worker processes."
)
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    default=Path("al-charge-demo"),
    show_default=True,
    help="Folder for the plots.",
)
@json_option
def command(seed: int, blind: bool, workers: int, output: Path, as_json: bool) -> None:
    """Run olivine NaxFePO4 (8 Fe, nine compositions) to its converged hull on this machine.

    Everything is real but the energies: MongoDB (the embedded server), FireWorks, a committee of
    three potentials, the search; labels come from Born, an analytic ionic model, so that it takes
    minutes. After an interruption, the same command continues.
    """
    from al_charge.cli.running import run_here

    started = time.monotonic()
    output.mkdir(parents=True, exist_ok=True)
    spec = demo_spec(seed, blind=blind)
    target = Target(spec.name, None)
    submit_or_resume(target, spec)
    run_here(target, workers)
    document = result(target) | {"wall_seconds": round(time.monotonic() - started, 1)}
    plots = write_plots(target, output)
    if as_json:
        print_json(document)
    else:
        _tell(target, document, plots)


def demo_spec(seed: int, *, blind: bool = False) -> CampaignSpec:
    """Return the demo's campaign: the shipped campaign file with another name and seed.

    Parameters
    ----------
    seed
        Seed of every random choice; part of the name.
    blind
        Whether charge states are hidden from the potentials.

    Returns
    -------
    CampaignSpec
        The campaign ``demo-SEED``, or ``demo-SEED-blind``.
    """
    from al_charge.cli.campaign_file import template
    from al_charge.loop.spec import load_spec

    spec = load_spec(template(TEMPLATE))
    name = f"demo-{seed}-blind" if blind else f"demo-{seed}"
    potential = spec.potential.model_copy(update={"charge_aware": not blind})
    return spec.model_copy(update={"name": name, "seed": seed, "potential": potential})


def submit_or_resume(target: Target, spec: CampaignSpec) -> None:
    """Store the campaign, or repair what an interrupted run of it left behind.

    Parameters
    ----------
    target
        Its name and database.
    spec
        The campaign.
    """
    from al_charge.fw.repair import repair
    from al_charge.loop.campaign import open_campaign
    from al_charge.loop.submit import submit

    store = target.store()
    submit(store, spec)
    repair(target.launchpad(), open_campaign(store, spec.name))


def result(target: Target) -> dict[str, Any]:
    """Return the document that ``al-charge demo --json`` prints, apart from the time it took.

    Parameters
    ----------
    target
        The campaign.

    Returns
    -------
    dict
        The document of ``al-charge hull``, with the voltage's document, the campaign's state,
        labels used, rounds, and seconds by stage.
    """
    from collections import Counter

    from al_charge.api.hull import hull_result
    from al_charge.api.voltage import voltage_result

    campaign = target.campaign()
    seconds: Counter[str] = Counter()
    for record in campaign.store.rounds.all(campaign.name):
        seconds.update(record.stage_seconds)
    return hull_result(campaign).document | {
        "state": campaign.store.campaigns.get(campaign.name).state.value,
        "voltage": voltage_result(campaign).document,
        "labels_used": len(campaign.store.labels.uses(campaign.name)),
        "rounds": len(campaign.store.rounds.all(campaign.name)),
        "stage_seconds": {stage: round(value, 1) for stage, value in seconds.items()},
    }


def write_plots(target: Target, folder: Path) -> list[Path]:
    """Write hull and voltage, each as PNG and as interactive HTML.

    Parameters
    ----------
    target
        The campaign.
    folder
        Folder to write to, which exists.

    Returns
    -------
    list of Path
        The four files.
    """
    campaign = target.opened()
    written = []
    for name, found in (("hull", campaign.hull()), ("voltage", campaign.voltage())):
        for ending in (".png", ".html"):
            found.plot(folder / f"{name}{ending}")
            written.append(folder / f"{name}{ending}")
    return written


def _tell(target: Target, document: dict[str, Any], plots: list[Path]) -> None:
    from rich.console import Group

    from al_charge.report.tables import hull_table, voltage_table
    from al_charge.report.terminal import console_of_output, print_whole

    tables = Group(hull_table(document), voltage_table(document["voltage"]))
    print_whole(console_of_output(), tables)
    number = document["rounds"]
    click.echo(
        f"{document['state']} after {number} round{'s' * (number != 1)} and "
        f"{document['labels_used']} labels in {document['wall_seconds'] / 60:.1f} min; "
        f"plots: {plots[0].parent}/"
    )
    activate = "" if shutil.which("al-charge") else f"  source {sys.prefix}/bin/activate\n"
    click.echo(
        f"\nWhat to try next:\n{activate}"
        f"  al-charge campaign status {target.name}     what held, round by round\n"
        f"  al-charge hull {target.name} --json         every labelled configuration\n"
        "  al-charge demo --blind               the same with potentials blind to charge\n"
        "  al-charge init my-campaign           a campaign file of your own"
    )
