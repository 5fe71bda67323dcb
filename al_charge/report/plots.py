"""Every plot: PNG files by matplotlib, interactive HTML files by plotly."""

from __future__ import annotations

from al_charge.report.interactive import hull_html, voltage_html
from al_charge.report.static import hull_png, voltage_png

__all__ = ["hull_html", "hull_png", "voltage_html", "voltage_png"]
