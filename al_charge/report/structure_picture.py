"""Draw a label's structure with its order of ions and of charge, for print.

The structure is seen along its shortest cell vector. Around each redox ion the anions that are
bound to it span a polyhedron in the colour of its charge state; vacant sites of the working ion are
dashed circles.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Polygon
from numpy.typing import NDArray

from al_charge.crystal.host import Host
from al_charge.crystal.species import element_of
from al_charge.report import canvas, style
from al_charge.report.names import ion
from al_charge.store.documents import LabelDoc

if TYPE_CHECKING:
    Array = NDArray[np.float64]

BOUND = 1.3
"""Anions count as bound to an ion that are at most so much farther from it than the nearest."""
EDGE = 0.02
"""What lies so near to a face of the cell, in parts of it, is drawn on the opposite face too."""
OXYGEN, OTHER, WORKING = "#C8C8C8", "#6E6E6E", "#F0E442"
"""Colours of anions, of ions that never change, and of the working ion."""
_OUTLINE = "#333333"


@dataclass(frozen=True)
class View:
    """A structure as it is seen.

    Attributes
    ----------
    species
        Species token of each atom, or ``vacancy``.
    fractional
        Coordinates in units of the cell, shape (n_atoms, 3); within the cell.
    flat
        What takes them to the plane of the picture and the depth, angstrom, shape (3, 3).
    axes
        The two cell vectors in that plane.
    """

    species: tuple[str, ...]
    fractional: Array
    flat: Array
    axes: tuple[int, int]


VACANCY = "vacancy"


def view_of(label: LabelDoc, host: Host) -> View:
    """Return a label's last geometry as it is seen along its shortest cell vector.

    Parameters
    ----------
    label
        The label, with its last frame.
    host
        The supercell that it is in.

    Returns
    -------
    View
        Atoms in the label's order, then the vacant sites of the working ion.
    """
    last = label.frames[-1]
    cell = np.array(last.cell)
    along = int(np.argmin(np.linalg.norm(cell, axis=1)))
    right, up = (axis for axis in range(3) if axis != along)
    normal = np.cross(cell[right], cell[up])
    basis = np.array([cell[right], np.cross(normal, cell[right]), normal])
    basis /= np.linalg.norm(basis, axis=1, keepdims=True)
    vacant = [int(site) for site in host.ion_sites if site not in set(label.host_site)]
    atoms = np.linalg.solve(cell.T, np.array(last.positions).T).T
    empty = host.structure.frac_coords[vacant].reshape(-1, 3)
    inside = np.concatenate([atoms, empty])
    return View(
        species=(*label.states_found, *[VACANCY] * len(vacant)),
        fractional=inside - np.floor(inside + 1e-6),
        flat=cell @ basis.T,
        axes=(right, up),
    )


def structure_figure(
    label: LabelDoc, host: Host, *, title: str, width: style.Width = "single"
) -> Figure:
    """Draw a label's structure.

    Parameters
    ----------
    label
        The label, with its last frame.
    host
        The supercell that it is in.
    title
        What it is, above the picture.
    width
        Of one column, or of the page.

    Returns
    -------
    Figure
        With the numbers of ions in the cell in its legend.
    """
    view = view_of(label, host)
    flat = view.flat[list(view.axes), :2]
    corners = np.array([[0, 0], [1, 0], [1, 1], [0, 1]]) @ flat
    size = np.ptp(corners, axis=0) + 3.0
    height = min(0.92 * style.WIDTHS[width] * size[1] / size[0], 160.0) + 22
    with canvas.journal():
        figure = canvas.new_figure(width, height)
        axes = figure.add_subplot()
        axes.set_aspect("equal")
        axes.set_axis_off()
        axes.add_patch(
            Polygon(corners, fill=False, edgecolor=_OUTLINE, linewidth=0.6, linestyle="--")
        )
        _draw_polyhedra(axes, view, host)
        _draw_atoms(axes, view, host)
        _name_axes(axes, view)
        axes.margins(0.04)
        canvas.heading(axes, title)
        canvas.legend(figure, axes)
    return figure


def _states(view: View, host: Host) -> dict[str, int]:
    """Return the states of redox ions, numbered for colours and shapes."""
    redox = set(host.redox_elements)
    found = {one for one in view.species if one != VACANCY and _element(one) in redox}
    return {state: number for number, state in enumerate(sorted(found))}


def _element(species: str) -> str:
    return species[:-1] if species.endswith("?") else element_of(species)


def _is_anion(species: str) -> bool:
    return species != VACANCY and "-" in species.partition(",")[0]


def _images(view: View, atom: int) -> list[Array]:
    """Return an atom, and its images on the opposite faces where it lies on one."""
    shifts = []
    for axis, place in enumerate(view.fractional[atom]):
        seen = axis in view.axes
        shifts.append([0.0, *([1.0] if seen and place < EDGE else [])])
        shifts[-1] += [-1.0] if seen and place > 1.0 - EDGE else []
    return [(view.fractional[atom] + np.array(shift)) @ view.flat for shift in product(*shifts)]


def _draw_polyhedra(axes: Axes, view: View, host: Host) -> None:
    from scipy.spatial import ConvexHull, QhullError

    anions = view.fractional[[_is_anion(one) for one in view.species]]
    shifts = np.array(list(product((-1, 0, 1), repeat=3)))
    around = ((anions[:, None] + shifts[None]).reshape(-1, 3)) @ view.flat
    for state, number in _states(view, host).items():
        for atom in (i for i, one in enumerate(view.species) if one == state):
            for centre in _images(view, atom):
                apart = np.linalg.norm(around - centre, axis=1)
                bound = around[apart < BOUND * apart.min()][:, :2]
                try:
                    outline = bound[ConvexHull(bound).vertices]
                except (QhullError, ValueError):
                    continue  # a chain or a dumbbell spans nothing
                axes.plot(*bound.T, "o", markersize=2.2, color=OXYGEN, mec=OTHER, mew=0.6)
                axes.add_patch(
                    Polygon(
                        outline,
                        facecolor=style.SERIES[number % len(style.SERIES)],
                        edgecolor="none",
                        alpha=0.25,
                        zorder=1,
                    )
                )


def _draw_atoms(axes: Axes, view: View, host: Host) -> None:
    states = _states(view, host)
    numbers = Counter(view.species)
    for species in sorted(numbers, key=lambda one: _order(one, states, host)):
        points = np.array(
            [
                image[:2]
                for atom, one in enumerate(view.species)
                if one == species
                for image in _images(view, atom)
            ]
        )
        marker, size, face, edge = _look(species, states, host)
        axes.plot(
            points[:, 0],
            points[:, 1],
            linestyle="none",
            marker=marker,
            markersize=size,
            markerfacecolor=face,
            markeredgecolor=edge,
            markeredgewidth=0.6,
            label=f"{species if species == VACANCY else ion(species)} ({numbers[species]})",
            zorder=2 + size / 100 if species in states else 2,
        )


def _order(species: str, states: dict[str, int], host: Host) -> tuple[int, str]:
    """Return the place in the legend: redox ions, working ions, vacancies, others, anions."""
    if species in states:
        return 0, species
    if species == VACANCY:
        return 2, species
    if _element(species) == host.working_ion:
        return 1, species
    return (4 if _is_anion(species) else 3), species


def _look(species: str, states: dict[str, int], host: Host) -> tuple[str, float, str, str]:
    """Return marker, size in points, and colours of face and edge."""
    if species in states:
        number = states[species]
        colour = style.SERIES[number % len(style.SERIES)]
        return style.MARKERS[number % len(style.MARKERS)], 6.0, colour, _OUTLINE
    if species == VACANCY:
        return "$\u25cc$", 7.0, _OUTLINE, "none"
    if _element(species) == host.working_ion:
        return "h", 7.5, WORKING, _OUTLINE
    return ("o", 2.2, OXYGEN, OTHER) if _is_anion(species) else ("*", 4.0, OTHER, OTHER)


def _name_axes(axes: Axes, view: View) -> None:
    for axis in view.axes:
        across, up = (float(part) for part in view.flat[axis, :2])
        axes.annotate(
            f"${'abc'[axis]}$",
            (0.5 * across, 0.5 * up),
            xytext=(0, -9) if abs(across) > abs(up) else (-9, 0),
            textcoords="offset points",
            ha="center" if abs(across) > abs(up) else "right",
            va="top" if abs(across) > abs(up) else "center",
        )
