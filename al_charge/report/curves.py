"""How trainings went, epoch by epoch: what `curve_plots` draws, the tables, the JSON document."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Group

History = Sequence[Mapping[str, float]]
"""One entry per epoch, as in `al_charge.potentials.training.train.TrainingResult`."""


@dataclass(frozen=True)
class Quantity:
    """A number that each epoch has.

    Attributes
    ----------
    key
        Its name in a history.
    name, unit
        As shown; a loss has no unit.
    factor
        Converts from the package's unit to that one.
    form
        Format of the number in a table.
    """

    key: str
    name: str
    unit: str
    factor: float
    form: str

    @property
    def title(self) -> str:
        """Name and unit."""
        return f"{self.name} ({self.unit})" if self.unit else self.name


QUANTITIES = (
    Quantity("loss", "training loss", "", 1.0, ".3g"),
    Quantity("held_out_loss", "held-out loss", "", 1.0, ".3g"),
    Quantity("energy", "energy", "meV/atom", 1e3, ".2f"),
    Quantity("force", "forces", "meV/A", 1e3, ".1f"),
    Quantity("stress", "stress", "meV/A^3", 1e3, ".2f"),
    Quantity("moment", "moments", "Bohr magnetons", 1.0, ".3f"),
    Quantity("charge", "charges", "e", 1.0, ".3f"),
)
"""What is shown; errors are root mean squares on frames held out, weighted as in training."""
UNITS = {
    "loss": "squared errors of frames trained on, weighted, in units of the potential's scale "
    "(the forces in eV/angstrom that are left to the network) squared",
    "held_out_loss": "squared errors of frames held out, weighted",
    "energy": "eV/atom, root mean square over frames held out, weighted as in training",
    "force": "eV/angstrom, likewise",
    "stress": "eV/angstrom^3, likewise",
    "moment": "Bohr magnetons, likewise; zero where the potential has no such head",
    "charge": "e, likewise; zero where the potential has no such head",
}


@dataclass(frozen=True)
class Curve:
    """One training.

    Attributes
    ----------
    member
        Of the committee, from zero.
    history
        One entry per epoch.
    round
        Of the campaign; None outside one.
    """

    member: int
    history: History
    round: int | None = None


@dataclass(frozen=True)
class Line:
    """One quantity of one training as it is drawn.

    Attributes
    ----------
    curve
        Which training.
    x, y
        Epochs, counted on from round to round, and values in the quantity's unit.
    best
        Point of the epoch whose weights were kept.
    """

    curve: Curve
    x: list[int]
    y: list[float]
    best: tuple[int, float]


@dataclass(frozen=True)
class Panel:
    """Everything that is drawn of one quantity.

    Attributes
    ----------
    quantity
        Which one.
    lines
        One for each training that has it.
    """

    quantity: Quantity
    lines: list[Line]


def best_entry(history: History) -> Mapping[str, float]:
    """Return the epoch whose weights were kept.

    Parameters
    ----------
    history
        One entry for each epoch.

    Returns
    -------
    mapping
        The entry with the lowest held-out loss; the last one if nothing was held out.
    """
    return min(history, key=lambda entry: entry.get("held_out_loss", -entry["epoch"]))


def round_starts(curves: Sequence[Curve]) -> dict[int | None, int]:
    """Return how many epochs come before each round.

    Parameters
    ----------
    curves
        The trainings of all rounds.

    Returns
    -------
    dict
        By round (None outside a campaign), the sum of the longest trainings of the rounds before
        it.
    """
    longest: dict[int | None, int] = {}
    for curve in sorted(curves, key=lambda curve: -1 if curve.round is None else curve.round):
        longest[curve.round] = max(longest.get(curve.round, 0), len(curve.history))
    starts = accumulate(longest.values(), initial=0)
    return dict(zip(longest, starts, strict=False))


def panels(curves: Sequence[Curve]) -> list[Panel]:
    """Return what there is to draw.

    Parameters
    ----------
    curves
        Trainings of one round or of several, each of which continues where the one before ended.

    Returns
    -------
    list of Panel
        One for each quantity; those that are missing or zero everywhere are left out.
    """
    starts = round_starts(curves)
    found = []
    for quantity in QUANTITIES:
        lines = [_line(curve, quantity, starts[curve.round]) for curve in curves]
        drawn = [line for line in lines if line is not None]
        if any(any(line.y) for line in drawn):
            found.append(Panel(quantity, drawn))
    return found


def _line(curve: Curve, quantity: Quantity, start: int) -> Line | None:
    entries = [entry for entry in curve.history if quantity.key in entry]
    if not entries:
        return None

    def point(entry: Mapping[str, float]) -> tuple[int, float]:
        return start + int(entry["epoch"]), quantity.factor * entry[quantity.key]

    points = [point(entry) for entry in entries]
    return Line(curve, [x for x, _ in points], [y for _, y in points], point(best_entry(entries)))


def curves_document(source: str, curves: Sequence[Curve]) -> dict[str, Any]:
    """Return trainings as a JSON document, in the package's units.

    Parameters
    ----------
    source
        Model file or campaign that they come from.
    curves
        The trainings.

    Returns
    -------
    dict
        ``trainings``, each with its history and best epoch, and ``units``.
    """
    return {
        "source": source,
        "trainings": [
            {
                "round": curve.round,
                "member": curve.member,
                "epochs": len(curve.history),
                "best_epoch": int(best_entry(curve.history)["epoch"]),
                "history": [dict(entry) for entry in curve.history],
            }
            for curve in curves
        ],
        "units": dict(UNITS),
    }


def curves_table(curves: Sequence[Curve]) -> Any:
    """Return a table of each training's best epoch.

    Parameters
    ----------
    curves
        The trainings.

    Returns
    -------
    Table
        One row for each training.
    """
    from rich.table import Table

    shown = [panel.quantity for panel in panels(curves) if panel.quantity.key != "loss"]
    rounds = any(curve.round is not None for curve in curves)
    columns = ["round"] * rounds + ["member", "best"]
    table = Table(
        *columns,
        *(quantity.title.replace(" (", "\n(") for quantity in shown),
        caption="Figures of the epoch whose weights were kept.",
    )
    for curve in curves:
        best = best_entry(curve.history)
        table.add_row(
            *([str(curve.round)] * rounds),
            str(curve.member + 1),
            f"{best['epoch']:.0f} of {len(curve.history)}",
            *(format(q.factor * best[q.key], q.form) if q.key in best else "" for q in shown),
        )
    return table


def training_table(document: dict[str, Any]) -> Group:
    """Return the table of a training: one line for each member.

    Parameters
    ----------
    document
        What ``al-charge train --json`` prints.

    Returns
    -------
    Group
        The table, and where groups and charge states come from.
    """
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table("member", "epochs", "loss", "energy (meV/atom)", "forces (meV/A)", "held out")
    for number, (history, held) in enumerate(
        zip(document["history"], document["held_out"], strict=True)
    ):
        best = best_entry(history)
        errors = [f"{1e3 * best[n]:.2f}" if n in best else "" for n in ("energy", "force")]
        table.add_row(
            str(number + 1), str(len(history)), f"{best['loss']:.3g}", *errors, str(len(held))
        )
    states = ", ".join(f"{how}: {n} frames" for how, n in document["states_from"].items())
    return Group(
        table,
        Text(
            f"{document['frames']} frames of {document['groups']} configurations (by "
            f"{document['groups_from']}); errors of the best epoch on those held out"
        ),
        Text(f"charge states {states}"),
        Text(f"{document['kind']} written to {document['model']}"),
    )
