"""The table of the proof at x = 2/3: eight potentials and three null models against DFT.

    python benchmarks/two_thirds_table.py CAMPAIGN FOLDER TRUTH --json table.json

FOLDER is that of `two_thirds_arms`, TRUTH has the first labels and those of the picks, of one
method. Energies are compared as formation energies, each against its own end members, so that TRUTH
may be of another method than the labels that arms were trained on. Every arm relaxes the labelled
orders itself, from sites. Columns:

- *tau*: Kendall's tau of the labelled orders at x = 2/3; *unseen*, of those alone that are not
  among the first labels. Orders that a blind arm cannot tell apart are ties, neither right nor
  wrong.
- *rank*: place of the lowest label of any arm among the labelled orders; of ties the worst.
- *error*: its formation energy less DFT's.
- *hull*: mean distance of the hull of all labelled orders from DFT's.
- *found*: how far, in DFT, the lowest of the three that the arm's own search ends with lies above
  the lowest label; of a blind arm's ions the lowest label counts.
- *drifted*: share of Fe sites whose Fe-O shell is that of the other charge state.

Null models are fitted to the first labels and see no geometry: see `awareness_nulls`.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from awareness_data import Target, Trial
from awareness_nulls import NULLS
from awareness_report import KINDS, cell, interval
from charge_awareness import TIE, iron_states, judged, middle_length, order, shell_lengths
from numpy.typing import NDArray
from rich.progress import track
from superstructure import home
from two_thirds_arms import COMPOSITIONS, LABELS, PICKED, Runner, runners_of
from two_thirds_data import Known, orders_of, read_labels

from al_charge.crystal.identity import identity
from al_charge.loop.campaign import Campaign
from al_charge.potentials.data.dataset import Dataset

Array = NDArray[np.float64]
HULL_LOWEST = 4
"""Labelled orders of every other composition that arms relax for their hull."""
COLUMNS = {
    "tau": "tau",
    "unseen": "tau of unseen orders",
    "rank": "rank",
    "error": "error, meV/f.u.",
    "hull": "hull, meV/f.u.",
    "found": "found, meV/f.u.",
    "drifted": "drifted, % of sites",
}


def judged_orders(truth: Sequence[Known], x: Fraction) -> list[Known]:
    """Return the labelled orders that are judged: all at x, and the lowest of the others."""
    found = []
    for other in sorted({one.x for one in truth}):
        some = [one for one in truth if one.x == other]  # the lowest first
        found += some if other == x else some[:HULL_LOWEST]
    return found


def judgement(
    targets: Sequence[Known], first: set[str], x: Fraction, energies: Array
) -> dict[str, float | None]:
    """Return the columns that energies of the targets alone decide, eV per formula unit.

    ``first`` are the orders of the first labels.
    """
    true = formation(targets, np.array([one.energy for one in targets]))
    found = formation(targets, energies)
    here = np.array([one.x == x for one in targets])
    unseen = here & np.array([one.order not in first for one in targets])
    lowest = int(np.flatnonzero(here)[np.argmin(true[here])])
    others = here.copy()
    others[lowest] = False
    trial = Trial(
        labelled=[],
        test=Dataset([], [], {}, "", {}),
        targets=[
            Target(one.order, one.x, one.relaxed, energy, one.relaxed, held_out=False)
            for one, energy in zip(targets, true.tolist(), strict=True)
        ],
        metal_energy=0.0,  # of voltages, which formation energies do not give
        formula_units=min(targets, key=lambda one: one.x).host.formula_units,
    )
    return {
        "tau": _tau(true[here], found[here]),
        "unseen": _tau(true[unseen], found[unseen]),
        "rank": 1.0 + float(np.sum(found[others] < found[lowest] + TIE)),
        "error": 1e3 * float(found[lowest] - true[lowest]),
        "hull": 1e3 * judged(trial, found.tolist())["hull_error"],
    }


def _tau(true: Array, found: Array) -> float | None:
    return order(true, found) if len(true) > 2 else None


def formation(targets: Sequence[Known], energies: Array) -> Array:
    """Return formation energies against the lowest end members, eV per formula unit."""
    x = np.array([float(one.x) for one in targets])
    empty, full = (energies[x == end].min() for end in (0.0, 1.0))
    return energies - (1 - x) * empty - x * full


def relaxed_energies(runner: Runner, targets: Sequence[Known]) -> tuple[Array, list[Atoms]]:
    """Return an arm's energies of targets, eV per formula unit, and its geometries.

    Geometries are by the sites of a target's own cell and in its own orientation, so that charge
    states can be told site by site. Targets that a blind arm cannot tell apart are relaxed once.
    """
    energies, geometries = [], []
    same: dict[str, float] = {}
    for one in targets:
        host, config = runner.view.seen(one.host, one.config)
        atoms, found = runner.relaxed(host, config)
        energy = same.setdefault(identity(host, config), found.energy / host.formula_units)
        energies.append(energy)
        geometries.append(atoms)
    return np.array(energies), geometries


def drifted(targets: Sequence[Known], geometries: Sequence[Atoms], middle: float) -> float:
    """Return the share of Fe sites whose shell belongs to the other charge state, %."""
    states = np.concatenate([iron_states(one.relaxed) for one in targets])
    lengths = np.concatenate([shell_lengths(atoms) for atoms in geometries])
    return 100 * float(np.mean((lengths > middle) != (states == "Fe2+")))


def found_above(runner: Runner, truth: Sequence[Known], x: Fraction) -> float | None:
    """Return how far the best of the arm's own three lowest lies above the lowest label, meV.

    None where none of them has a label.
    """
    energies: dict[str, float] = {}
    for one in truth:  # the lowest first
        energies.setdefault(identity(*runner.view.seen(one.host, one.config)), one.energy)
    mine = [energies.get(one["order"], math.inf) for one in runner.search(x)[:PICKED]]
    lowest = min(one.energy for one in truth if one.x == x)
    above = 1e3 * (min(mine, default=math.inf) - lowest)
    return above if math.isfinite(above) else None


def rows_of(
    runners: Sequence[Runner], truth: Sequence[Known], first: Sequence[Known], x: Fraction
) -> list[dict[str, Any]]:
    """Return the columns of every arm and seed, then those of the null models."""
    targets = judged_orders(truth, x)
    seen = {one.order for one in first}
    here = [number for number, one in enumerate(targets) if one.x == x]
    middle = middle_length([one.relaxed for one in targets])
    rows: list[dict[str, Any]] = []
    for runner in track(runners, "arms"):
        energies, geometries = relaxed_energies(runner, targets)
        mixed = [targets[i] for i in here]
        rows.append(
            vars(runner.arm)
            | judgement(targets, seen, x, energies)
            | {
                "found": found_above(runner, truth, x),
                "drifted": drifted(mixed, [geometries[i] for i in here], middle),
            }
        )
    known = [(one.host, one.config) for one in first]
    asked = [(one.host, one.config) for one in targets]
    energies = np.array([one.energy for one in first])
    for name, null in NULLS.items():
        rows.append({"null": name} | judgement(targets, seen, x, null(known, energies, asked)))
    return rows


def _name(row: dict[str, Any]) -> str:
    if "null" in row:
        return str(row["null"])
    return f"{KINDS[row['kind']]}, {'aware' if row['charge_aware'] else 'blind'}"


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Return a table of means over seeds, and which arms do not order better than null models."""
    names = list(dict.fromkeys(map(_name, rows)))
    lines = [["", "seeds", *COLUMNS.values()], ["---"] * (len(COLUMNS) + 2)]
    for name in names:
        mine = [row for row in rows if _name(row) == name]
        values = {key: [r[key] for r in mine if r.get(key) is not None] for key in COLUMNS}
        told = [cell(interval(np.array(v)) if v else None) for v in values.values()]
        lines.append([name, "" if "null" in mine[0] else str(len(mine)), *told])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + f"\n\n{sentence(rows)}\n"


def sentence(rows: Sequence[dict[str, Any]]) -> str:
    """Return which arms order what nobody was trained on no better than the best null model."""
    if any(row["unseen"] is None for row in rows):
        return "Too few orders are unseen to tell an arm from a null model that knows the labels."
    means: dict[str, float] = {}
    for name in dict.fromkeys(map(_name, rows)):
        means[name] = float(np.mean([row["unseen"] for row in rows if _name(row) == name]))
    nulls = {_name(row) for row in rows if "null" in row}
    best = max(nulls, key=lambda name: means[name])
    beaten = [name for name in means if name not in nulls and means[name] <= means[best]]
    told = f"than the best null model ({best}, {means[best]:.2f})"
    if not beaten:
        return f"Every arm orders unseen orders better {told}."
    return f"These order unseen orders no better {told}: {'; '.join(beaten)}."


def known_superstructure(campaign: Campaign, truth: Sequence[Known]) -> dict[str, Any]:
    """Return how far the known superstructure lies above the lowest label, in DFT."""
    order = identity(*home(campaign))
    mine = [one for one in truth if one.order == order]
    if not mine:
        return {"order": order, "above": None, "lowest": None}
    here = [one for one in truth if one.x == mine[0].x]
    above = 1e3 * (mine[0].energy - here[0].energy)
    return {"order": order, "above": above, "lowest": here[0].order}


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table; write the numbers behind it."""
    import torch

    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("campaign", type=Path)
    parser.add_argument("folder", type=Path, help="of two_thirds_arms.py")
    parser.add_argument("truth", type=Path, help="labels, with those of the picks")
    parser.add_argument("--x", type=Fraction, default=COMPOSITIONS[0])
    parser.add_argument("--json", type=Path, help="file for the numbers")
    options = parser.parse_args(arguments)
    runners = runners_of(options.campaign, options.folder)
    campaign = runners[0].view.campaign
    truth = orders_of(read_labels(campaign, options.truth))
    first = orders_of(read_labels(campaign, options.folder / LABELS))
    rows = rows_of(runners, truth, first, options.x)
    known = known_superstructure(campaign, truth)
    if options.json:
        document = {"x": str(options.x), "rows": rows, "superstructure": known}
        options.json.write_text(json.dumps(document, indent=1))
    print(table(rows))
    told = "has no label"
    if known["above"] is not None:
        told = f"lies {known['above']:.1f} meV/f.u. above the lowest label of its composition"
    print(f"The known superstructure {told}.")


if __name__ == "__main__":
    main()
