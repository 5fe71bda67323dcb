"""How accurate an engine's settings have to be: energies over each of them, and a proposal."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from al_charge.errors import InputError
from al_charge.labelers.convergence import ConvergenceParameter, Step
from al_charge.labelers.plugin import LABELERS, EngineSettings
from al_charge.loop.spec import CampaignSpec
from al_charge.loop.submit import elements_of
from al_charge.loop.trial import STRUCTURES, Bench, Energy, Trial, trial_structures

QUANTITIES = ("difference", "formation", "voltage")
"""What settings are judged by: the difference between the two configurations and the formation
energy of the first (eV per formula unit), and the mean voltage between the end members (V)."""

_SAME = 1e-7
"""eV."""


@dataclass(frozen=True)
class Tried:
    """One value of a setting, with all others as in the file.

    Attributes
    ----------
    step
        The value.
    values
        Of `QUANTITIES`; None where an energy is missing.
    errors
        Of `QUANTITIES`: the largest deviation from the tightest value, of this step and all tighter
        ones; None where it is not known, as that of the tightest.
    seconds
        Wall time of the four structures.
    remark
        What is wrong with a calculation; empty if nothing.
    """

    step: Step
    values: Mapping[str, float | None]
    errors: Mapping[str, float | None]
    seconds: float
    remark: str


@dataclass(frozen=True)
class Converged:
    """All values of one setting.

    Attributes
    ----------
    parameter
        The setting.
    tried
        From the cheapest to the tightest.
    proposed
        Number of the cheapest that is within its share of the tolerance, as are all tighter ones;
        None if that holds of the tightest at most, whose own error is not known.
    """

    parameter: ConvergenceParameter
    tried: tuple[Tried, ...]
    proposed: int | None


@dataclass(frozen=True)
class Proposal:
    """What was found.

    Attributes
    ----------
    trial
        The structures.
    settings
        One for each setting.
    energy_tolerance
        eV per formula unit, shared by the settings in equal parts.
    voltage_tolerance
        V, shared in the same way.
    """

    trial: Trial
    settings: tuple[Converged, ...]
    energy_tolerance: float
    voltage_tolerance: float

    @property
    def converged(self) -> bool:
        """Whether every setting has a proposal."""
        return all(one.proposed is not None for one in self.settings)

    @property
    def fields(self) -> dict[str, Any]:
        """Fields of ``labeler`` to write; of a setting without a proposal the tightest value."""
        fields: dict[str, Any] = {}
        for one in self.settings:
            fields |= one.tried[-1 if one.proposed is None else one.proposed].step.fields
        return fields

    def error_left(self, *quantities: str) -> float | None:
        """Return the sum over the settings of the largest error that the proposal leaves.

        Parameters
        ----------
        *quantities
            Some of `QUANTITIES`.

        Returns
        -------
        float or None
            eV per formula unit or V; None if a setting has no proposal.
        """
        total = 0.0
        for one in self.settings:
            if one.proposed is None:
                return None
            errors = one.tried[one.proposed].errors
            total += max(errors[quantity] or 0.0 for quantity in quantities)
        return total


def converge(
    spec: CampaignSpec,
    folder: Path,
    *,
    energy_tolerance: float,
    voltage_tolerance: float,
    progress: Callable[[int, int, str], None],
) -> Proposal:
    """Try cheaper and tighter values of every setting that results converge with.

    Parameters
    ----------
    spec
        The campaign file. One setting is varied at a time, around its value in the file.
    folder
        Where calculations are made and kept.
    energy_tolerance
        eV per formula unit.
    voltage_tolerance
        V.
    progress
        Called with the calculations done, their number, and what comes next.

    Returns
    -------
    Proposal
        The cheapest values within the tolerances.

    Raises
    ------
    InputError
        If the engine has no such settings, or cannot label the host.
    NotInstalledError
        If the engine cannot run on this machine.
    UnfinishedError
        If a calculation was stopped; called again, it goes on.
    """
    plugin = LABELERS.of(spec.labeler)
    base = spec.labeler.of_elements(elements_of(spec))
    if "bader" in type(base).model_fields:
        base = _with_fields(base, {"bader": False}) or base
    parameters = plugin.convergence_parameters(base)
    if not parameters:
        raise InputError(
            f"the labeler '{spec.labeler.kind}' has no settings to converge",
            where="labeler.kind",
            remedy="al-charge converge is for DFT engines",
        )
    trial = trial_structures(spec, own_cell=any(one.of_cell for one in parameters))
    plugin.check(trial.host, base)
    plugin.check_machine(base)
    steps = [
        (
            parameter,
            [(s, found) for s in parameter.steps if (found := _with_fields(base, s.fields))],
        )
        for parameter in parameters
    ]
    total = (len(STRUCTURES) + 1) * sum(len(some) for _, some in steps)
    done, now = 0, ""

    def count() -> None:
        nonlocal done
        done += 1
        progress(done, total, now)

    bench = Bench(folder, count)
    settled = []
    for parameter, some in steps:
        tried = []
        for step, settings in some:
            now = f"{parameter.name} {step.value}"
            progress(done, total, now)
            of_cells = base if parameter.metal_only else settings
            energies = {name: bench.cell(of_cells, trial.atoms[name]) for name in STRUCTURES}
            energies["metal"] = bench.metal(settings, trial.host.working_ion)
            tried.append((step, energies))
        share = len(parameters)
        settled.append(
            _judged(trial, parameter, tried, energy_tolerance / share, voltage_tolerance / share)
        )
    return Proposal(trial, tuple(settled), energy_tolerance, voltage_tolerance)


def _with_fields(settings: EngineSettings, fields: Mapping[str, Any]) -> EngineSettings | None:
    """Return settings with other values, None if the engine refuses these."""
    given = settings.model_dump(mode="json", round_trip=True) | dict(fields)
    try:
        return type(settings).model_validate(given)
    except ValidationError:
        return None


def _judged(
    trial: Trial,
    parameter: ConvergenceParameter,
    tried: Sequence[tuple[Step, Mapping[str, Energy]]],
    energy: float,
    voltage: float,
) -> Converged:
    """Return the values of one setting with their errors, and which of them is proposed."""
    values = [_values(trial, energies) for _, energies in tried]
    errors: list[dict[str, float | None]] = [{} for _ in tried]
    for quantity in QUANTITIES:
        known = [one[quantity] for one in values]
        tightest = known[-1]
        largest: float | None = None if tightest is None else 0.0
        for number in reversed(range(len(tried))):
            value = known[number]
            if largest is None or tightest is None or value is None:
                largest = None  # nothing is known of this step, nor of cheaper ones
            else:
                largest = max(largest, abs(value - tightest))
            errors[number][quantity] = largest
    last = tried[-1][1]
    for number, (_, energies) in enumerate(tried):
        if energies is last or (parameter.discrete and _same(energies, last)):
            errors[number] = dict.fromkeys(QUANTITIES)
    within = {"difference": energy, "formation": energy, "voltage": voltage}
    proposed = next(
        (
            number
            for number, one in enumerate(errors)
            if all((error := one[q]) is not None and error <= within[q] for q in QUANTITIES)
        ),
        None,
    )
    rows = tuple(
        Tried(
            step,
            value,
            error,
            sum(energies[name].seconds for name in STRUCTURES),
            "; ".join(f"{name}: {e.remark}" for name, e in energies.items() if e.remark),
        )
        for (step, energies), value, error in zip(tried, values, errors, strict=True)
    )
    return Converged(parameter, rows, proposed)


def _same(energies: Mapping[str, Energy], others: Mapping[str, Energy]) -> bool:
    """Return whether all energies agree to what runs of one calculation may differ by."""
    return all(
        one.energy is not None
        and (other := others[name].energy) is not None
        and abs(one.energy - other) < _SAME
        for name, one in energies.items()
    )


def _values(trial: Trial, energies: Mapping[str, Energy]) -> dict[str, float | None]:
    """Return what settings are judged by, from the energies at one value."""
    units = trial.host.formula_units
    cells = [energies[name].energy for name in STRUCTURES]
    metal = energies["metal"].energy
    if None in cells:
        return dict.fromkeys(QUANTITIES)
    first, second, least, most = (float(energy or 0.0) / units for energy in cells)
    share = float((trial.x - trial.x_least) / (trial.x_most - trial.x_least))
    slope = (most - least) / float(trial.x_most - trial.x_least)
    return {
        "difference": second - first,
        "formation": first - (1 - share) * least - share * most,
        "voltage": None if metal is None else (metal - slope) / trial.host.working_ion_charge,
    }
