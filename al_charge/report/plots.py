"""Every plot: PNG files by matplotlib, interactive HTML files by plotly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from al_charge.errors import InputError
from al_charge.report.interactive import hull_html, voltage_html
from al_charge.report.static import hull_png, voltage_png

__all__ = [
    "by_ending",
    "check_ending",
    "hull_html",
    "hull_png",
    "voltage_html",
    "voltage_png",
]


def check_ending(path: Path) -> None:
    """Refuse a plot that is neither a PNG nor an HTML file.

    Raises
    ------
    InputError
        With the endings that there are.
    """
    if path.suffix not in (".png", ".html"):
        raise InputError(
            f"unknown ending '{path.suffix}'", where=str(path), remedy="use .png or .html"
        )


def by_ending(path: Path, png: Any, html: Any) -> Any:
    """Return what draws a plot, by the ending of its file."""
    check_ending(path)
    return png if path.suffix == ".png" else html
