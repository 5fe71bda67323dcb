"""The null models that the tables of `charge_awareness` are read against.

They see no geometry. Each is fitted to the lowest energies of the configurations that a potential
of the same seed is trained on, and judged on the same targets: the straight line between the end
members; a multiple of the Ewald energy of formal charges, on a parabola in x; the surrogate, a pair
expansion with the Ewald energy among its features.

    python benchmarks/awareness_nulls.py born FOLDER
    python benchmarks/awareness_nulls.py gpaw FOLDER
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import numpy as np
from awareness_data import GPAW_CAMPAIGN, Labelled, Target, Trial, trial
from awareness_report import Record, cell, interval
from born_pool import SUPERCELLS, host_of
from charge_awareness import judged
from numpy.typing import NDArray

from al_charge.crystal.configuration import Configuration, composition
from al_charge.crystal.enumeration import enumerate_distinct
from al_charge.crystal.host import Host
from al_charge.crystal.symmetry import canonical_hash
from al_charge.loop.spec import load_spec
from al_charge.search.seeds import ewald_energies
from al_charge.surrogate.polynomial import occupations_of
from al_charge.surrogate.surrogate import Observation, fit_surrogate

Energies = NDArray[np.float64]
Known = list[tuple[Host, Configuration]]


@cache
def configurations(data: str) -> dict[str, tuple[Host, Configuration]]:
    """Return the cell and the configuration that belong to a canonical hash."""
    gpaw = load_spec(GPAW_CAMPAIGN).host
    hosts = [Host.from_spec(gpaw)] if data == "gpaw" else [host_of(cell) for cell in SUPERCELLS]
    return {
        canonical_hash(host, config): (host, config)
        for host in hosts
        for n_ions in host.ion_counts
        for config in enumerate_distinct(host, n_ions)
    }


def line(known: Known, energies: Energies, asked: Known) -> Energies:
    """Return the line between the lowest end members."""
    x, wanted = _x(known), _x(asked)
    empty, full = (energies[x == end].min() for end in (0.0, 1.0))
    return (1 - wanted) * empty + wanted * full


def ewald(known: Known, energies: Energies, asked: Known) -> Energies:
    """Return a least-squares fit of a parabola in x and the Ewald energy."""
    weights, *_ = np.linalg.lstsq(_with_ewald(known), energies, rcond=None)
    return _with_ewald(asked) @ weights


def surrogate(known: Known, energies: Energies, asked: Known) -> Energies:
    """Return the means of the surrogate with pairs."""
    observed = [
        Observation(*one, float(energy)) for one, energy in zip(known, energies, strict=True)
    ]
    fitted = fit_surrogate(observed, triplet_cutoff=0.0)
    return np.array(
        [fitted.predict(host, occupations_of([config], host)).mean[0] for host, config in asked]
    )


NULLS: dict[str, Callable[[Known, Energies, Known], Energies]] = {
    "straight line": line,
    "Ewald energy": ewald,
    "pair expansion": surrogate,
}
HEADS = ("order, Kendall", "missed, ground states", "hull, meV/f.u.", "voltage, mV")


def _x(known: Known) -> Energies:
    return np.array([float(composition(host, config)) for host, config in known])


def _with_ewald(known: Known) -> Energies:
    x = _x(known)
    energies = [ewald_energies(host, [config])[0] / host.formula_units for host, config in known]
    return np.stack([x**0, x, x**2, energies], axis=1)


def judged_nulls(data: str, own: Trial) -> dict[str, Record]:
    """Return how each null model orders the targets of a trial."""
    by_hash = configurations(data)
    names: Sequence[Labelled | Target] = [*own.labelled, *own.targets]
    known = [by_hash[one.name] for one in names]
    number = len(own.labelled)
    energies = np.array(
        [min(f.energy for f in one.frames) / one.formula_units for one in own.labelled]
    )
    return {
        name: judged(own, null(known[:number], energies, known[number:]).tolist())
        for name, null in NULLS.items()
    }


def main() -> None:
    """Print a table of means over seeds."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("data", choices=("born", "gpaw"))
    parser.add_argument("folder", type=Path, help="of charge_awareness.py")
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    found = [
        judged_nulls(options.data, trial(options.data, options.folder, seed))
        for seed in range(options.seeds)
    ]
    heads = ["null model", "seeds", *HEADS]
    print(f"| {' | '.join(heads)} |")
    print(f"| {' | '.join(['---'] * len(heads))} |")
    for name in NULLS:
        records = [one[name] for one in found]
        columns = [
            [float(np.mean(list(one["kendall"].values()))) for one in records],
            [float(len(one["missed"])) for one in records],
            [1e3 * one["hull_error"] for one in records],
            [1e3 * one["voltage_error"] for one in records],
        ]
        told = [cell(interval(np.array(values))) for values in columns]
        print(f"| {name} | {options.seeds} | {' | '.join(told)} |")


if __name__ == "__main__":
    main()
