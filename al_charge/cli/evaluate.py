"""`al-charge evaluate`: the errors of a model on labelled structures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from al_charge.cli.datafile import data_options, read_data
from al_charge.cli.output import json_option, show
from al_charge.cli.progress import counting

ROWS = {
    "energy_per_atom": ("energy (meV/atom)", 2),
    "energy_per_formula": ("energy (meV/f.u.)", 1),
    "forces": ("forces (meV/A)", 1),
    "stress": ("stress (meV/A^3)", 2),
    "moments_of_redox_sites": ("moments, redox sites (Bohr magnetons)", 3),
    "moments": ("moments, all sites (Bohr magnetons)", 3),
    "charges_of_redox_sites": ("charges, redox sites (e)", 3),
    "charges": ("charges, all sites (e)", 3),
}
"""What is compared, with its heading and its decimals."""


@click.command("evaluate")
@click.argument("model", metavar="MODEL", type=click.Path(path_type=Path))
@data_options
@json_option
def command(model: Path, data: Path, as_json: bool, **reading: Any) -> None:
    """Compare MODEL with the labels of DATA: errors, and the order of energies.

    DATA is a file, or labels of the database as in 'al-charge train'. Energies per formula unit are
    given where DATA gives x, as the database and files of 'al-charge export' do.
    Kendall's tau compares the energies at one composition, by each configuration's last frame.
    """
    from al_charge.api.relaxation import is_charge_aware, members_of, refuse_unknown
    from al_charge.potentials.accuracy import accuracy
    from al_charge.potentials.data.frames import species_of
    from al_charge.potentials.model_file import load_model

    predictor = load_model(model)
    spin = any(member.spin_aware for member in members_of(predictor))
    found = read_data(data, need_states=is_charge_aware(predictor), share_moments=spin, **reading)
    refuse_unknown(predictor, species_of(found.frames), str(data))
    with counting("predicting", "frames") as report:
        document: dict[str, Any] = {"model": str(model), "data": str(data)}
        document |= accuracy(predictor, found, report)
    show(document, as_json, lambda: _tables(document))


def _tables(document: dict[str, Any]) -> Any:
    from rich.console import Group
    from rich.table import Table

    errors = Table("error of", "RMSE", "MAE", "mean", "values")
    for key, (heading, digits) in ROWS.items():
        if (found := document["all"][key]) is not None:
            numbers = (f"{found[name]:.{digits}f}" for name in ("rmse", "mae", "mean"))
            errors.add_row(heading, *numbers, str(found["values"]))
    table = Table(
        "composition", "frames", "configs", "meV/atom", "meV/f.u.", "meV/A", "Kendall",
        caption="Root mean square errors of energies and forces; Kendall's tau of the energies' "
        "order, one frame for each configuration.",
    )  # fmt: skip
    for row in document["compositions"]:
        table.add_row(
            row["formula"], str(row["frames"]), str(row["configurations"]),
            *(_rmse(row[key], ROWS[key][1]) for key in list(ROWS)[:3]),
            "" if row["kendall"] is None else f"{row['kendall']:.2f}",
        )  # fmt: skip
    return Group(errors, table)


def _rmse(found: dict[str, float] | None, digits: int) -> str:
    return "" if found is None else f"{found['rmse']:.{digits}f}"
