"""Plots of a potential's embeddings of redox sites, as PNG files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from al_charge.potentials.embedding import Embedding
from al_charge.report import style

WIDTH, HEIGHT = 2.9, 3.3
"""Of one panel, inches."""
MOST_IN_A_ROW = 4
RESOLUTION = 160
"""Dots per inch."""
_AXES = {"pca": "principal axis", "tsne": "t-SNE axis"}


def embedding_png(path: Path, embedding: Embedding, *, title: str) -> None:
    """Write one panel for each depth of the network, with sites coloured by charge state.

    Parameters
    ----------
    path
        The PNG file.
    embedding
        Sites in two dimensions.
    title
        Heading of the figure.
    """
    columns = min(len(embedding.layers), MOST_IN_A_ROW)
    rows = -(-len(embedding.layers) // columns)
    figure = Figure(figsize=(WIDTH * columns, HEIGHT * rows), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, x=0.01, ha="left", fontsize=13)
    states = np.asarray(embedding.states)
    for place, layer in enumerate(embedding.layers):
        axes = figure.add_subplot(rows, columns, place + 1)
        for index, state in enumerate(sorted(set(embedding.states))):
            points = layer.points[states == state]
            axes.scatter(
                points[:, 0],
                points[:, 1],
                s=14,
                alpha=0.7,
                linewidths=0,
                color=style.SERIES[index % len(style.SERIES)],
                label=f"{state} ({len(points)})",
            )
        axes.set_title("before layer 1" if place == 0 else f"after layer {place}", fontsize=10)
        axes.set_xlabel(f"{_AXES[embedding.method]} 1", fontsize=9)
        axes.set_ylabel(f"{_AXES[embedding.method]} 2", fontsize=9)
        axes.tick_params(labelsize=7, colors=style.FAINT)
        axes.spines[["top", "right"]].set_visible(False)
        axes.margins(0.15)
    handles, texts = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, texts, frameon=False, fontsize=9, ncols=6, loc="outside lower center")
    figure.savefig(path, dpi=RESOLUTION, facecolor="white")
