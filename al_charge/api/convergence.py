"""Before paying: which cutoff, k-points and smearing a material needs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from al_charge.api.results import Result
from al_charge.errors import InputError
from al_charge.loop.converge import QUANTITIES, Converged, Proposal
from al_charge.loop.converge import converge as try_settings
from al_charge.loop.spec import load_spec

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

ENERGY_TOLERANCE = 0.002
"""eV per formula unit."""
VOLTAGE_TOLERANCE = 0.010
"""V."""


@dataclass(frozen=True)
class ConvergeResult(Result):
    """Which values of the engine's settings are accurate enough.

    Attributes
    ----------
    proposal
        Every value that was tried, with energies and errors.
    document
        What ``al-charge converge --json`` prints.
    """

    proposal: Proposal
    document: dict[str, Any] = field(repr=False)

    @property
    def converged(self) -> bool:
        """Whether every setting has a value within its share of the tolerances."""
        return self.proposal.converged

    @property
    def fields(self) -> dict[str, Any]:
        """What to write into the section ``labeler`` of the campaign file."""
        return self.proposal.fields

    def table(self) -> RenderableType:
        """Return what `al-charge converge` prints.

        Returns
        -------
        rich renderable
            A table for each setting, and what to write.
        """
        from rich.console import Group
        from rich.text import Text

        head = Text(_about(self.document))
        tables = [_table(one) for one in self.proposal.settings]
        return Group(head, *tables, *(Text(line) for line in _lines(self.document)))


def converge(
    file: Path | str,
    *,
    folder: Path | str | None = None,
    energy_tolerance: float = ENERGY_TOLERANCE,
    voltage_tolerance: float = VOLTAGE_TOLERANCE,
    progress: Callable[[int, int, str], None] | None = None,
) -> ConvergeResult:
    """Try cheaper and tighter settings of an engine on a few structures, and propose some.

    Parameters
    ----------
    file
        A campaign file. One setting is varied at a time, around its value there.
    folder
        Where the engine's files and all energies go; a second call goes on there. By default
        ``NAME-converge`` in the working folder.
    energy_tolerance
        Largest error of energy differences, eV per formula unit.
    voltage_tolerance
        Largest error of the mean voltage, V.
    progress
        Called with the calculations done, their number, and what comes next.

    Returns
    -------
    ConvergeResult
        Prints as a table for each setting.

    Raises
    ------
    InputError
        If a field is invalid, or the engine has no settings that converge.
    NotInstalledError
        If the engine cannot run on this machine.
    UnfinishedError
        If a calculation was stopped; called again, it goes on.

    Examples
    --------
    >>> import al_charge as ac
    >>> ac.converge("workflows/nafepo4_born.yaml")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    al_charge.errors.InputError: ...the labeler 'born' has no settings to converge...
    """
    for tolerance, name in (
        (energy_tolerance, "energy_tolerance"),
        (voltage_tolerance, "voltage_tolerance"),
    ):
        if not 0 < tolerance < float("inf"):
            raise InputError(
                f"{tolerance:g} is not a tolerance", where=name, remedy="give a positive number"
            )
    spec = load_spec(Path(file))
    found = try_settings(
        spec,
        Path(folder or f"{spec.name}-converge"),
        energy_tolerance=energy_tolerance,
        voltage_tolerance=voltage_tolerance,
        progress=progress or (lambda *_: None),
    )
    return ConvergeResult(found, _document(found, str(file), spec.labeler.kind))


def _document(found: Proposal, file: str, engine: str) -> dict[str, Any]:
    trial = found.trial
    return {
        "file": file,
        "engine": engine,
        "formula_unit": trial.host.unit,
        "formula_units": trial.host.formula_units,
        "atoms": len(trial.atoms["most"]),
        "x": str(trial.x),
        "end_members": [str(trial.x_least), str(trial.x_most)],
        "configurations": [trial.hashes["first"], trial.hashes["second"]],
        "tolerance": {"energy": found.energy_tolerance, "voltage": found.voltage_tolerance},
        "settings": [
            {
                "name": one.parameter.name,
                "proposed": None if one.proposed is None else one.tried[one.proposed].step.value,
                "tried": [
                    {
                        "value": row.step.value,
                        "fields": dict(row.step.fields),
                        **row.values,
                        "errors": dict(row.errors),
                        "seconds": row.seconds,
                        "remark": row.remark,
                    }
                    for row in one.tried
                ],
            }
            for one in found.settings
        ],
        "proposal": found.fields,
        "error_left": {
            "energy": found.error_left("difference", "formation"),
            "voltage": found.error_left("voltage"),
        },
        "converged": found.converged,
    }


def _about(document: dict[str, Any]) -> str:
    first, second = document["configurations"]
    least, most = document["end_members"]
    tolerance = document["tolerance"]
    return (
        f"{document['file']}: {document['engine']}, configurations {first} and {second} of x = "
        f"{document['x']} and the end members x = {least} and {most}, in a cell of "
        f"{document['atoms']} atoms\n"
        f"tolerance {_milli(tolerance['energy'])} meV per formula unit and "
        f"{_milli(tolerance['voltage'])} mV, in equal parts for each of the "
        f"{len(document['settings'])} settings"
    )


def _table(one: Converged) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(f"{one.parameter.name}, all else as in the file"))
    table.add_column("value", no_wrap=True)
    for heading in ("difference (meV)", "formation (meV)", "voltage (V)"):
        table.add_column(heading, justify="right")
    for heading in ("error (meV)", "error (mV)", "time (s)"):
        table.add_column(heading, justify="right")
    for number, row in enumerate(one.tried):
        difference, formation, voltage = (row.values[quantity] for quantity in QUANTITIES)
        energies = (row.errors["difference"], row.errors["formation"])
        energy = None if None in energies else max(error or 0.0 for error in energies)
        cells = (
            row.step.value + ", proposed" * (number == one.proposed),
            _milli(difference),
            _milli(formation),
            "" if voltage is None else f"{voltage:.4f}",
            _milli(energy),
            _milli(row.errors["voltage"]),
            f"{row.seconds:.0f}",
        )
        table.add_row(*map(Text, cells))
    return table


def _lines(document: dict[str, Any]) -> list[str]:
    """Return what to write, and how far it may be off."""
    written = yaml.safe_dump(
        {"labeler": document["proposal"]}, sort_keys=False, default_flow_style=None
    )
    open_ones = [one["name"] for one in document["settings"] if one["proposed"] is None]
    left = document["error_left"]
    lines = [
        f"{one['name']} {row['value']}: {row['remark']}"
        for one in document["settings"]
        for row in one["tried"]
        if row["remark"]
    ]
    lines += [f"write into {document['file']}:", *(f"  {line}" for line in written.splitlines())]
    if not open_ones:
        return [
            *lines,
            f"error left: {_milli(left['energy'])} meV per formula unit, "
            f"{_milli(left['voltage'])} mV (all settings together)",
        ]
    return [
        *lines,
        f"not converged: {', '.join(open_ones)}; the tightest value is off by an unknown amount. "
        "Write this, and run the command again, which then tries tighter values",
    ]


def _milli(value: float | None) -> str:
    return "" if value is None else f"{1000 * value:.2f}".rstrip("0").rstrip(".")
