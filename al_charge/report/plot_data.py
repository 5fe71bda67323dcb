"""What plots of a hull and of voltages show, whatever draws them: points, plateaus and bands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from html import escape
from typing import Any

from al_charge.report import style
from al_charge.report.names import html

Document = Mapping[str, Any]


@dataclass(frozen=True)
class Band:
    """Where the true hull or voltage lies with some probability.

    Attributes
    ----------
    share
        The probability, per cent.
    x
        Compositions.
    lower, upper
        meV per formula unit, or V.
    """

    share: int
    x: list[float]
    lower: list[float]
    upper: list[float]

    def outline(self) -> tuple[list[float], list[float]]:
        """Return x and heights of its edge, along the lower side and back along the upper.

        Returns
        -------
        tuple of list
            Twice as many as there are compositions.
        """
        return [*self.x, *reversed(self.x)], [*self.lower, *reversed(self.upper)]


def hull_bands(band: Sequence[Document]) -> list[Band]:
    """Return where the true hull lies.

    Parameters
    ----------
    band
        ``band`` of `al_charge.report.documents.hull_document`.

    Returns
    -------
    list of Band
        Formation energies in meV per formula unit, the widest band first; empty if none is known.
    """
    return _bands([float(Fraction(one["x"])) for one in band], band, 1e3)


def voltage_bands(band: Sequence[Document]) -> list[Band]:
    """Return where the true voltages lie, with two points for each step.

    Parameters
    ----------
    band
        ``band`` of `al_charge.report.documents.voltage_document`.

    Returns
    -------
    list of Band
        V, the widest band first; empty if none is known.
    """
    x = [float(Fraction(one[end])) for one in band for end in ("x_from", "x_to")]
    return _bands(x, [one for one in band for _ in range(2)], 1.0)


def _bands(x: list[float], rows: Sequence[Document], factor: float) -> list[Band]:
    return [
        Band(
            share,
            x,
            [factor * one[f"lower_{share}"] for one in rows],
            [factor * one[f"upper_{share}"] for one in rows],
        )
        for share, _ in (style.BANDS if rows else ())
    ]


def entry_points(entries: Sequence[Document]) -> dict[str, list[Any]]:
    """Return labelled or predicted configurations as points that plotly draws.

    Parameters
    ----------
    entries
        Of `al_charge.report.documents.hull_document`.

    Returns
    -------
    dict
        ``x``; ``y``, formation energies in meV per formula unit; ``text`` in HTML.
    """
    texts = []
    for one in entries:
        first, *others = map(escape, entry_lines(one))
        texts.append("<br>".join([html(first), *others]))
    return {
        "x": [float(Fraction(one["x"])) for one in entries],
        "y": [1e3 * one["formation_energy"] for one in entries],
        "text": texts,
    }


def entry_lines(entry: Document) -> list[str]:
    """Return what a plot says of a configuration when it is pointed at.

    Parameters
    ----------
    entry
        One of `al_charge.report.documents.hull_document`, labelled or predicted.

    Returns
    -------
    list of str
        Its formula, and lines of plain text.
    """
    above = round(1e3 * entry["distance_to_hull"], 1)
    side = "above" if above > 0 else "below"
    lines = [
        entry["formula"],
        f"x = {entry['x']}",
        f"formation energy {1e3 * entry['formation_energy']:.1f} meV/f.u.",
        f"{abs(above):.1f} meV {side} the hull" if above else "on the hull",
    ]
    if entry.get("error_bar") is not None:
        lines.append(f"error bar {1e3 * entry['error_bar']:.1f} meV/f.u.")
    if "label" in entry:
        lines.append(f"label {entry['label'][:8]}")
    lines.append(f"configuration {entry['hash']}")
    if entry.get("remark"):
        lines.append(entry["remark"])
    return lines


def plateaus(steps: Sequence[Document]) -> dict[str, list[Any]]:
    """Return the corners of a voltage profile as plotly draws them, two for each plateau.

    Parameters
    ----------
    steps
        ``steps`` of `al_charge.report.documents.voltage_document`.

    Returns
    -------
    dict
        ``x``; ``y`` in V; ``text`` in HTML.
    """
    found: dict[str, list[Any]] = {"x": [], "y": [], "text": []}
    for step in steps:
        bar = "" if step["error_bar"] is None else f" ± {step['error_bar']:.3f}"
        text = f"x = {step['x_from']} to {step['x_to']}<br>{step['voltage']:.3f}{bar} V"
        for end in ("x_from", "x_to"):
            found["x"].append(float(Fraction(step[end])))
            found["y"].append(step["voltage"])
            found["text"].append(text)
    return found
