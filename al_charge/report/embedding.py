"""Plots of a potential's embeddings of redox sites, for print."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from al_charge.potentials.embedding import Embedding
from al_charge.report import canvas, style

COLUMNS: dict[style.Width, int] = {"single": 2, "double": 4}
HEIGHT = 42.0
"""Of one row of panels, mm."""
_AXES = {"pca": "principal axis", "tsne": "t-SNE axis"}


def embedding_figure(embedding: Embedding, *, title: str, width: style.Width = "single") -> Figure:
    """Draw one panel for each depth of the network, with sites told apart by charge state.

    Parameters
    ----------
    embedding
        Sites in two dimensions.
    title
        Heading of the figure.
    width
        Of one column, or of the page.

    Returns
    -------
    Figure
        For print.
    """
    columns = min(len(embedding.layers), COLUMNS[width])
    rows = -(-len(embedding.layers) // columns)
    states = np.asarray(embedding.states)
    with canvas.journal():
        figure = canvas.new_figure(width, HEIGHT * rows + 12)
        for place, layer in enumerate(embedding.layers):
            axes = figure.add_subplot(rows, columns, place + 1)
            for index, state in enumerate(sorted(set(embedding.states))):
                points = layer.points[states == state]
                axes.scatter(
                    points[:, 0],
                    points[:, 1],
                    s=7,
                    alpha=0.7,
                    linewidths=0,
                    marker=style.MARKERS[index % len(style.MARKERS)],
                    color=style.SERIES[index % len(style.SERIES)],
                    label=f"{state} ({len(points)})",
                )
            axes.set_title("before layer 1" if place == 0 else f"after layer {place}")
            axes.set_xlabel(f"{_AXES[embedding.method]} 1")
            axes.set_ylabel(f"{_AXES[embedding.method]} 2")
            axes.margins(0.15)
        canvas.heading(figure, title)
        canvas.legend(figure, figure.axes[0])
    return figure
