"""`al-charge predict`: a model's predictions for structures."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from al_charge.cli.datafile import (
    force_option,
    oxidation_option,
    split_states,
)
from al_charge.cli.output import json_option, show
from al_charge.cli.progress import counting
from al_charge.cli.target import PROCESSES
from al_charge.crystal.species import tokens_of

if TYPE_CHECKING:
    from ase import Atoms

    from al_charge.potentials.committee import CommitteePrediction
    from al_charge.potentials.data.dataset import Reading
    from al_charge.potentials.prediction import Prediction

_log = logging.getLogger("al_charge.cli")


@click.command("predict")
@click.argument("model", metavar="MODEL", type=click.Path(path_type=Path))
@click.argument(
    "structures", metavar="STRUCTURE...", nargs=-1, required=True, type=click.Path(path_type=Path)
)
@oxidation_option
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Also write an extxyz file.")
@force_option
@click.option("--relax", is_flag=True, help="Relax ions and cell first, with fixed charge states.")
@click.option(
    "--fmax",
    default="0.03 eV/A",
    show_default=True,
    metavar="FORCE",
    help="Largest force left by --relax; the stress counts as a force on the strain.",
)
@click.option("--processes", type=PROCESSES, help="Relax with this many processes.")
@click.option(
    "--batched",
    is_flag=True,
    help="Relax many at once with torch-sim, on a GPU if there is one (extra 'gpu').",
)
@json_option
def command(
    model: Path,
    structures: tuple[Path, ...],
    oxidation: str,
    output: Path | None,
    force: bool,
    relax: bool,
    fmax: str,
    processes: int | None,
    batched: bool,
    as_json: bool,
) -> None:
    """Predict energy, forces and stress of structures, and moments and charges where MODEL can.

    STRUCTURE is a CIF, a POSCAR, an extended XYZ file with one structure or many, or any other file
    that ASE reads. Its charge states are found as in 'al-charge label'; a blind model needs none.
    If MODEL predicts moments or charges, sites that these put in another state are listed.
    """
    from al_charge.api import relaxation, training
    from al_charge.potentials.data.dataset import Reading
    from al_charge.potentials.drift import drifted_sites
    from al_charge.potentials.model_file import load_model

    limit = _force(relax, fmax, processes, batched)
    if output is not None:
        training.refuse_existing(output, force)
    predictor = load_model(model)
    aware = relaxation.is_charge_aware(predictor)
    reading = Reading(need_states=aware, states=split_states(oxidation))
    names, images, sources = _read(structures, reading)
    for name, atoms in zip(names, images, strict=True):
        relaxation.refuse_unknown(predictor, set(tokens_of(atoms)), name)
    found = []
    if relax:
        method = "batched" if batched else "processes" if processes else "serial"
        with counting("relaxing", "structures") as report:
            found = relaxation.relax(
                images,
                predictor,
                method=method,
                fmax=limit,
                processes=processes,
                progress=report,
            )
        images = [each.atoms for each in found]
    predictions: list[Prediction | CommitteePrediction] = [*predictor.predict(images)]
    if output is not None:
        _write(output, images, predictions, aware)
    document = [_document(*each) for each in zip(names, images, sources, predictions, strict=True)]
    for row, atoms, prediction in zip(document, images, predictions, strict=True):
        sites = prediction.moments, prediction.charges
        row["drifted_sites"] = drifted_sites(predictor, atoms.arrays["species"], *sites)
    for row, end in zip(document, found, strict=False):
        row |= {"converged": end.converged, "steps": end.steps}
        row |= {"cell": end.atoms.cell.tolist(), "positions": end.atoms.positions.tolist()}
    show({"predictions": document}, as_json, lambda: _table(document))


def _force(relax: bool, fmax: str, processes: int | None, batched: bool) -> float:
    """Return the largest force in eV/angstrom; refuse options that do not go together."""
    from al_charge.errors import InputError
    from al_charge.units import parse_quantity

    try:
        limit = parse_quantity(fmax, "force")
    except ValueError as error:
        raise InputError(str(error), where="--fmax") from error
    if limit <= 0.0:
        raise InputError(
            "the largest force must be positive", where="--fmax", remedy="give '0.03 eV/A'"
        )
    if (processes or batched) and not relax:
        raise InputError(
            "there is nothing to relax",
            where="--processes" if processes else "--batched",
            remedy="add --relax",
        )
    if processes and batched:
        raise InputError(
            "a batch is relaxed by one process",
            where="--batched",
            remedy="leave --processes or --batched out",
        )
    return limit


def _read(
    structures: tuple[Path, ...], reading: Reading
) -> tuple[list[str], list[Atoms], list[str]]:
    """Return names, structures, and where charge states come from, of every structure there is."""
    from al_charge.crystal.structure_file import is_isolated_atom, read_structures
    from al_charge.errors import InputError
    from al_charge.potentials.data.dataset import with_species

    names: list[str] = []
    images: list[Atoms] = []
    sources: list[str] = []
    for path in structures:
        alone, found = 0, read_structures(path)
        for number, image in enumerate(found):
            if is_isolated_atom(image):
                alone += 1
                continue
            names.append(str(path) if len(found) == 1 else f"{path}, frame {number}")
            atoms, how = with_species(image, reading, names[-1])
            images.append(atoms)
            sources.append(how)
        if alone == len(found):
            raise InputError("it has isolated atoms only", where=str(path), remedy="give a crystal")
        if alone:
            _log.warning("%s: %d frames left out: isolated atoms", path, alone)
    return names, images, sources


def _document(
    name: str, atoms: Atoms, states_from: str, prediction: Prediction | CommitteePrediction
) -> dict[str, Any]:
    import numpy as np

    sites = {"moments": prediction.moments, "charges": prediction.charges}
    return {
        "structure": name,
        "formula": atoms.get_chemical_formula("metal"),
        "species": tokens_of(atoms),
        "states_from": states_from,
        "energy": prediction.energy,
        "energy_per_atom": prediction.energy / len(atoms),
        "spread": getattr(prediction, "spread", None),
        "largest_force": float(np.linalg.norm(prediction.forces, axis=1).max()),
        "forces": prediction.forces.tolist(),
        "stress": prediction.stress.tolist(),
        **{key: None if value is None else value.tolist() for key, value in sites.items()},
    }


def _write(path: Path, images: list[Atoms], predictions: list[Any], aware: bool) -> None:
    """Write structures with what was predicted, so that the file is complete when it is there."""
    from ase.calculators.singlepoint import SinglePointCalculator
    from ase.io.extxyz import write_extxyz
    from ase.stress import full_3x3_to_voigt_6_stress

    draft = path.with_name(f"{path.name}.part")
    with draft.open("w", encoding="utf-8") as file:
        for atoms, found in zip(images, predictions, strict=True):
            written = type(atoms)(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True)
            if aware:
                written.set_array("requested_species", atoms.arrays["species"])
            if found.charges is not None:
                written.set_array("bader_charges", found.charges)
            results = {
                "energy": found.energy,
                "forces": found.forces,
                "stress": full_3x3_to_voigt_6_stress(found.stress),
            }
            if found.moments is not None:
                results["magmoms"] = found.moments
            if (spread := getattr(found, "spread", None)) is not None:
                written.info["spread"] = spread
            written.calc = SinglePointCalculator(written, **results)
            write_extxyz(file, written)
    draft.replace(path)


def _table(document: list[dict[str, Any]]) -> Any:
    from rich.console import Group
    from rich.table import Table

    committee = document[0]["spread"] is not None
    headings = ["structure", "formula", "energy (eV)", "eV/atom"]
    headings += ["spread (eV)"] if committee else []
    headings += ["largest force (eV/A)", "pressure (eV/A^3)"]
    headings += ["steps"] if "steps" in document[0] else []
    sources = ", ".join(sorted({row["states_from"] for row in document}))
    table = Table(*headings, caption=f"charge states: {sources}")
    for row in document:
        ends = []
        if "steps" in row:
            ends.append(f"{row['steps']}{'' if row['converged'] else ', not converged'}")
        pressure = -sum(row["stress"][i][i] for i in range(3)) / 3.0
        table.add_row(
            row["structure"], row["formula"], f"{row['energy']:.4f}",
            f"{row['energy_per_atom']:.5f}", *([f"{row['spread']:.4f}"] if committee else []),
            f"{row['largest_force']:.4f}", f"{pressure:.6f}", *ends,
        )  # fmt: skip
    sites = [key for key in ("moments", "charges") if document[0][key] is not None]
    return Group(table, *(_sites(document, key) for key in sites), *_drifts(document))


def _drifts(document: list[dict[str, Any]]) -> list[Any]:
    """Return lines about sites that the model's own moments and charges put in another state."""
    from rich.text import Text

    relaxed_ones = [row for row in document if "steps" in row]
    if relaxed_ones and all(row["drifted_sites"] is None for row in relaxed_ones):
        return [Text("this model cannot tell whether sites keep their charge states")]
    lines = []
    for row in document:
        if sites := row["drifted_sites"]:
            named = ", ".join(f"{row['species'][site]} (atom {site})" for site in sites)
            line = f"{row['structure']}: predicted to be in another charge state: {named}"
            lines.append(Text(line, style="yellow"))
    return lines


def _sites(document: list[dict[str, Any]], key: str) -> Any:
    """Return the table of what is predicted for the sites of every species."""
    from rich.table import Table

    unit = {"moments": "Bohr magnetons", "charges": "e, net"}[key]
    table = Table("structure", "species", "sites", f"{key} ({unit})", "from", "to")
    for row in document:
        by_species: dict[str, list[float]] = {}
        for token, value in zip(row["species"], row[key], strict=True):
            by_species.setdefault(token, []).append(value)
        for token, values in sorted(by_species.items()):
            mean = sum(values) / len(values)
            numbers = (f"{value:.3f}" for value in (mean, min(values), max(values)))
            table.add_row(row["structure"], token, str(len(values)), *numbers)
    return table
