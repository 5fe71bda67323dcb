"""Fig. 2 of the proof at x = 2/3: Fe2+ and Fe3+ in four potentials as the superstructure relaxes.

    python benchmarks/two_thirds_embedding.py CAMPAIGN FOLDER figure.png --json figure.json

FOLDER is that of `two_thirds_arms`, whose committees of the first seed are taken. Each relaxes the
known superstructure (`superstructure`) from sites. The features of its Fe sites after the last
layer of the first member are drawn along their two principal axes, which are those of all steps
together; a line follows a site from its start (faint) to its end. Below is which fraction of the
features' variance lies between the two charge states at every step. A blind arm starts without
shells that fit a charge order, and its Fe are told apart in the figure alone.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from ase import Atoms
from awareness_report import KINDS
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from rich.progress import track
from superstructure import home
from two_thirds_arms import Runner, runners_of
from two_thirds_data import IonHost, ions_of

from al_charge.crystal.configuration import Configuration, set_species, species_of
from al_charge.crystal.host import Host
from al_charge.potentials.embedding import principal_axes, separation, site_features
from al_charge.potentials.relaxation.one_by_one import relax
from al_charge.report import style

COLOURS = {"Fe2+": style.HULL, "Fe3+": style.PREDICTED}


@dataclass(frozen=True)
class Trail:
    """The redox sites of one potential along a relaxation.

    Attributes
    ----------
    kind, charge_aware
        The arm.
    states
        Charge state of every site, shape (n_sites,).
    points
        Along the principal axes, shape (n_steps, n_sites, 2).
    explained
        Fraction of the variance along them.
    separation
        At every step; None where there is no variance.
    """

    kind: str
    charge_aware: bool
    states: list[str]
    points: list[list[list[float]]]
    explained: float | None
    separation: list[float | None]


def followed(runner: Runner, host: Host, config: Configuration) -> Trail:
    """Return how a potential's features change while its committee relaxes a configuration."""
    campaign, aware = runner.view.campaign, runner.arm.charge_aware
    seen = (host, config) if aware else (ions := IonHost.of(host), ions_of(ions, config))
    steps: list[Atoms] = []
    relax(
        runner.committee,
        [runner.view.start(*seen)],
        fmax=campaign.spec.relaxation.fmax,
        max_steps=campaign.spec.relaxation.max_steps,
        cell=campaign.committee_relaxes_cells,
        largest_displacement=campaign.largest_displacement,
        watch=lambda atoms, _: steps.append(cast(Atoms, atoms.copy())),
    )
    for atoms in steps:  # the potential of a blind arm does not read them
        set_species(atoms, list(species_of(host, config).values()))
    states, features = site_features(runner.committee.members[0], steps)
    points, explained = principal_axes(features[-1])
    number = len(host.redox_sites)
    values = features[-1].reshape(len(steps), number, -1)
    return Trail(
        runner.arm.kind,
        aware,
        states[:number],
        points.reshape(len(steps), number, 2).tolist(),
        explained,
        [separation(one, states[:number]) for one in values],
    )


def drawn(paths: Sequence[Trail]) -> Figure:
    """Return the figure: a column for each potential, blind above aware above separations."""
    kinds = list(dict.fromkeys(one.kind for one in paths))
    figure = Figure(figsize=(3.2 * len(kinds), 8.4), layout="constrained")
    FigureCanvasAgg(figure)
    panels: Any = figure.subplots(3, len(kinds), squeeze=False)
    for one in paths:
        column = kinds.index(one.kind)
        axes, name = panels[int(one.charge_aware)][column], _sight(one)
        points = np.array(one.points)
        for state, colour in COLOURS.items():
            for site in np.flatnonzero(np.array(one.states) == state):
                axes.plot(*points[:, site].T, "-", color=colour, alpha=0.3, linewidth=0.8)
            mine = points[:, np.array(one.states) == state]
            axes.plot(*mine[0].T, ".", color=colour, alpha=0.3, markersize=5)
            axes.plot(*mine[-1].T, "o", color=colour, markersize=5, label=state)
        axes.set_title(f"{KINDS[one.kind]}, {name}", fontsize=10)
        axes.set_xticks([])
        axes.set_yticks([])
        values = [np.nan if value is None else value for value in one.separation]
        curve = "-" if one.charge_aware else "--"
        panels[2][column].plot(values, curve, color=style.HULL, label=name)
    for axes in panels[2]:
        axes.set(ylim=(-0.03, 1.03), xlabel="step of the relaxation")
    panels[2][0].set_ylabel("variance between charge states")
    for axes in (panels[0][0], panels[2][0]):
        axes.legend(frameon=False)
    for axes in panels.flat:
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def _sight(one: Trail) -> str:
    return "charge-aware" if one.charge_aware else "blind"


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw the figure; write the numbers behind it."""
    import torch

    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("campaign", type=Path)
    parser.add_argument("folder", type=Path, help="of two_thirds_arms.py")
    parser.add_argument("output", type=Path, help="figure to write, .png or .svg")
    parser.add_argument("--json", type=Path, help="file for the numbers")
    options = parser.parse_args(arguments)
    runners = [one for one in runners_of(options.campaign, options.folder) if one.arm.seed == 0]
    host, config = home(runners[0].view.campaign)
    paths = [followed(runner, host, config) for runner in track(runners, "arms")]
    drawn(paths).savefig(options.output, dpi=150)
    if options.json:
        options.json.write_text(json.dumps([asdict(one) for one in paths], indent=1))
    for one in paths:
        first, last = one.separation[0], one.separation[-1]
        told = ["no variance" if value is None else f"{value:.2f}" for value in (first, last)]
        print(f"{KINDS[one.kind]}, {_sight(one)}: separation {told[0]} to {told[1]}")


if __name__ == "__main__":
    main()
