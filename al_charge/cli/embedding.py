"""`al-charge embedding`: a plot of a model's features of redox sites."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from al_charge.cli.datafile import data_options, force_option, read_data
from al_charge.cli.output import json_option, show, width_option
from al_charge.cli.progress import busy

if TYPE_CHECKING:
    from al_charge.report.style import Width


@click.command("embedding")
@click.argument("model", metavar="MODEL", type=click.Path(path_type=Path))
@data_options
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    required=True,
    help="Plot to write: .png, .svg or .pdf.",
)
@width_option
@click.option(
    "--method",
    type=click.Choice(["pca", "tsne"]),
    default="pca",
    show_default=True,
    help="Principal axes, or t-SNE if scikit-learn is installed.",
)
@force_option
@json_option
def command(
    model: Path,
    data: Path,
    output: Path,
    method: str,
    width: Width,
    force: bool,
    as_json: bool,
    **reading: Any,
) -> None:
    """Plot the features that MODEL computes for each redox site in DATA, layer by layer.

    DATA is a file, or labels of the database as in 'al-charge train'. Sites are coloured by the
    charge states in DATA, for a blind model too. Only the last frame of each configuration counts,
    and only the first member of a committee.
    """
    from al_charge.api.relaxation import members_of, refuse_unknown
    from al_charge.api.training import refuse_existing
    from al_charge.potentials.data.dataset import last_of_groups
    from al_charge.potentials.embedding import embed
    from al_charge.potentials.model_file import load_model
    from al_charge.report.canvas import write_figure
    from al_charge.report.embedding import embedding_figure
    from al_charge.report.style import check_image

    check_image(output)
    refuse_existing(output, force)
    predictor = load_model(model)
    potential = members_of(predictor)[0]
    found = read_data(data, need_states=True, share_moments=potential.spin_aware, **reading)
    structures = [found.frames[i].atoms for i in last_of_groups(found.frames)]
    species = {str(token) for atoms in structures for token in atoms.arrays["species"]}
    refuse_unknown(predictor, species, str(data))
    with busy(f"features of {len(structures)} structures"):
        picture = embed(potential, structures, method)
    sight = "charge-aware" if potential.vocabulary.charge_aware else "blind"
    figure = embedding_figure(picture, title=f"{potential.settings.kind}, {sight}", width=width)
    write_figure(figure, output)
    document = {
        "picture": str(output),
        "method": method,
        "sites": {state: picture.states.count(state) for state in sorted(set(picture.states))},
        "layers": [
            {"layer": e.number, "separation": e.separation, "explained": e.explained}
            for e in picture.layers
        ],
    }
    show(document, as_json, lambda: _table(document))


def _table(document: dict[str, Any]) -> Any:
    from rich.table import Table

    sites = ", ".join(f"{number} {state}" for state, number in document["sites"].items())
    table = Table(
        "after layer", "variance between charge states", "variance in the picture",
        caption=f"{sites}; drawn in {document['picture']}",
    )  # fmt: skip
    for row in document["layers"]:
        numbers = (row["separation"], row["explained"])
        table.add_row(
            str(row["layer"]), *("" if n is None else f"{100 * n:.1f} %" for n in numbers)
        )
    return table
