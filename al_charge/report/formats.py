"""A campaign's labels in the formats of other programs."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.io.extxyz import write_extxyz
from numpy.typing import NDArray

from al_charge.errors import AlChargeError, InputError, NotInstalledError
from al_charge.loop.campaign import Campaign
from al_charge.report.entries import entry_of, metal_entry
from al_charge.report.export import frames_of, in_order, sorted_labels, with_texts
from al_charge.store.documents import LabelDoc, Refusal

_NOT_TO_LEARN = frozenset({Refusal.UNUSABLE, Refusal.NOT_CONVERGED})
"""Why labels are left out where a program trains on whatever it reads."""
PROVIDER = "al_charge"
"""Prefix of our own fields in OPTIMADE documents."""


@dataclass(frozen=True)
class _Labels:
    """The labels that are written."""

    campaign: Campaign
    keys: Sequence[str]
    last: bool

    def __iter__(self) -> Iterator[tuple[LabelDoc, int]]:
        """Yield each label with the formula units of its cell."""
        for label in in_order(self.campaign.store, self.keys):
            yield label, self.campaign.cells.of(label).formula_units

    def images(self) -> Iterator[tuple[LabelDoc, Atoms]]:
        """Yield each frame, as `al_charge.report.export.frames_of` returns it."""
        for label, units in self:
            for atoms in frames_of(label, units, last=self.last):
                yield label, atoms


def export_as(
    campaign: Campaign, path: Path, name: str, *, last: bool, usable_only: bool, force: bool
) -> dict[str, Any]:
    """Write a campaign's labels in the format of another program.

    Parameters
    ----------
    campaign
        Whose labels to write.
    path
        With an ending of the format.
    name
        Of the format, one of `FORMATS`.
    last
        Whether to write only the last frame of each label; formats with one row or structure for a
        label have no other.
    usable_only
        Whether to leave out labels that no hull may hold.
    force
        Whether to replace a file that exists.

    Returns
    -------
    dict
        What was written.

    Raises
    ------
    InputError
        If the ending is another, or the file exists already or cannot be written.
    NotInstalledError
        If the format needs a package that is not installed.
    AlChargeError
        If there is no label to write.
    """
    chosen = FORMATS[name]
    _check(path, chosen, name, force)
    summaries = sorted_labels(campaign, usable_only=usable_only)
    keys = [one.key for one in summaries if not (chosen.learnt and one.refusal in _NOT_TO_LEARN)]
    if not keys:
        raise AlChargeError("it has no labels to export", where=f"campaign '{campaign.name}'")
    draft = path.with_name(f"{path.name}.part")
    draft.unlink(missing_ok=True)
    try:
        written = chosen.write(draft, _Labels(campaign, keys, last))
        draft.replace(path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise InputError(f"cannot write it: {error.strerror or error}", where=str(path)) from error
    return {
        "campaign": campaign.name,
        "file": str(path),
        "format": name,
        "labels": len(keys),
        "written": written,
        "left_out": len(summaries) - len(keys),
        "settings_hash": campaign.settings_hash,
    }


def _check(path: Path, chosen: _Format, name: str, force: bool) -> None:
    """Refuse a file of another ending, one that is there, and a format without its package."""
    if chosen.package and find_spec(chosen.package) is None:
        raise NotInstalledError(
            f"{chosen.package} is not installed",
            where=f"--format {name}",
            remedy=f"pip install {chosen.package}, or use --format csv",
        )
    if path.suffix not in chosen.endings:
        raise InputError(
            f"unknown ending '{path.suffix}' for {name}",
            where=str(path),
            remedy=f"use {' or '.join(chosen.endings)}",
        )
    if not path.parent.is_dir():
        raise InputError("no such folder", where=str(path.parent), remedy="make it first")
    if path.exists() and not (force and path.is_file()):
        raise InputError(
            "it is already there",
            where=str(path),
            remedy="use --force to replace it" if path.is_file() else "choose another name",
        )


def _write_mace(draft: Path, labels: _Labels) -> int:
    """Write frames under the keys that ``mace_run_train`` reads by default."""
    written = 0
    with draft.open("w", encoding="utf-8") as file:
        for label, atoms in labels.images():
            write_extxyz(file, with_texts(_for_mace(label, atoms)))
            written += 1
    return written


def _for_mace(label: LabelDoc, image: Atoms) -> Atoms:
    """Return a frame with MACE's keys alone: ASE would take others for results of a calculator."""
    results = image.calc.results
    atoms = Atoms(image.numbers, image.positions, cell=image.cell, pbc=True)
    atoms.info = {"REF_energy": results["energy"]}
    if "stress" in results:
        atoms.info["REF_stress"] = image.get_stress(voigt=False)
    atoms.info |= {
        name: image.info[name]
        for name in ("label", "config_hash", "settings_hash", "x", "frame", "frames")
    }
    atoms.set_array("REF_forces", results["forces"])
    if "magmoms" in results:
        atoms.set_array("REF_magmoms", results["magmoms"])
    if "bader_charges" in image.arrays:
        atoms.set_array("REF_charges", image.arrays["bader_charges"])
    atoms.set_array("resolved_species", image.arrays["resolved_species"])
    return atoms


def _write_ase(draft: Path, labels: _Labels) -> int:
    """Write frames as rows of an SQLite database of ASE."""
    from ase.db import connect

    written = 0
    with connect(draft, type="db") as database:
        for label, atoms in labels.images():
            # ASE refuses texts that look like numbers, as hashes may: they go with the data.
            pairs = {
                name: value
                for name, value in atoms.info.items()
                if not isinstance(value, str) or name in ("engine", "relax")
            }
            data = {name: value for name, value in atoms.info.items() if name not in pairs}
            data |= {"settings": label.settings}
            names = atoms.arrays.keys() - {"numbers", "positions"}
            data |= {name: atoms.arrays[name].tolist() for name in sorted(names)}
            database.write(atoms, key_value_pairs=pairs, data=data)
            written += 1
    return written


def _write_csv(draft: Path, labels: _Labels) -> int:
    """Write one line for each label."""
    written = 0
    with draft.open("w", encoding="utf-8", newline="") as file:
        for label, units in labels:
            row = _row(label, units)
            writer = csv.DictWriter(file, list(row), lineterminator="\n")
            if not written:
                writer.writeheader()
            writer.writerow(row)
            written += 1
    return written


def _write_parquet(draft: Path, labels: _Labels) -> int:
    """Write the columns of the CSV file, and those of every atom as lists."""
    arrow, parquet = (import_module(name) for name in ("pyarrow", "pyarrow.parquet"))
    rows = [_row(label, units) | _arrays(label) for label, units in labels]
    parquet.write_table(arrow.Table.from_pylist(rows), draft)
    return len(rows)


def _row(label: LabelDoc, formula_units: int) -> dict[str, Any]:
    """Return what a table says of a label: eV, angstrom, seconds."""
    last = label.frames[-1]
    states = label.states_found
    forces = np.linalg.norm(np.array(last.forces), axis=1)
    return {
        "label": label.key,
        "config_hash": label.config_hash,
        "requested_hash": label.requested_hash,
        "identity": label.identity,
        "settings_hash": label.settings_hash,
        "x": label.n_ions / formula_units,
        "n_ions": label.n_ions,
        "formula_units": formula_units,
        "n_atoms": len(label.numbers),
        "energy": label.energy,
        "energy_per_formula_unit": label.energy / formula_units,
        "largest_force": float(forces.max()),
        "volume": float(abs(np.linalg.det(np.array(last.cell)))),
        "states": " ".join(f"{states.count(token)}x{token}" for token in sorted(set(states))),
        "usable": label.refusal is None,
        "refused": label.refused,
        "converged": label.converged,
        "ambiguous": label.resolved is None,
        "delocalised": label.delocalised,
        "as_requested": label.as_requested,
        "relax": label.relax,
        "frames": len(label.frames),
        "engine": label.engine,
        "campaign": label.campaign,
        "round": label.round,
        "wall_time": label.wall_time,
        "cores": label.cores,
        "created": label.created.isoformat(),
    }


def _arrays(label: LabelDoc) -> dict[str, Any]:
    """Return what a label's result says of every atom."""
    last = label.frames[-1]
    return {
        "numbers": list(label.numbers),
        "species": list(label.states_found),
        "positions": _nested(last.positions),
        "cell": _nested(last.cell),
        "forces": _nested(last.forces),
        "stress": None if last.stress is None else _nested(last.stress),
        "moments": None if label.moments is None else list(label.moments),
        "bader_charges": None if label.bader is None else list(label.bader),
    }


def _nested(values: Any) -> list[list[float]]:
    array: NDArray[np.float64] = np.array(values, dtype=float)
    return array.tolist()  # type: ignore[no-any-return]


def _write_entries(draft: Path, labels: _Labels) -> int:
    """Write pymatgen's entries, that of the metal last."""
    from monty.json import MontyEncoder

    entries: list[Any] = [entry_of(label) for label, _ in labels]
    metal = metal_entry(labels.campaign)
    everything = [*entries, metal] if metal is not None else entries
    draft.write_text(json.dumps(everything, cls=MontyEncoder) + "\n", encoding="utf-8")
    return len(everything)


def _write_optimade(draft: Path, labels: _Labels) -> int:
    """Write the answer of an OPTIMADE server to a query for all structures."""
    data = [_structure(label, units) for label, units in labels]
    document = {
        "data": data,
        "meta": {
            "api_version": "1.2.0",
            "query": {"representation": "/structures"},
            "data_returned": len(data),
            "more_data_available": False,
            "provider": {
                "name": "al-charge",
                "description": f"labels of campaign {labels.campaign.name}",
                "prefix": PROVIDER,
            },
        },
    }
    draft.write_text(json.dumps(document) + "\n", encoding="utf-8")
    return len(data)


def _structure(label: LabelDoc, formula_units: int) -> dict[str, Any]:
    """Return the result of a label as a resource of OPTIMADE."""
    from pymatgen.io.optimade import OptimadeStructureAdapter

    structure = entry_of(label).structure
    document: Any = OptimadeStructureAdapter.get_optimade_structure(structure)
    attributes = document["attributes"]
    attributes["species"].sort(key=lambda species: species["name"])
    attributes["last_modified"] = label.created.isoformat(timespec="seconds").replace("+00:00", "Z")
    own = _row(label, formula_units) | _arrays(label)
    for known in ("numbers", "positions", "cell", "n_atoms", "label"):
        del own[known]
    attributes |= {f"_{PROVIDER}_{name}": value for name, value in own.items()}
    return {"id": label.key, "type": "structures", "attributes": attributes}


@dataclass(frozen=True)
class _Format:
    """One format.

    Attributes
    ----------
    endings
        Of its files.
    write
        Writes the labels and returns how many frames, rows or entries these are.
    package
        That it needs beside our own dependencies.
    learnt
        Whether a program learns from all that is in the file.
    """

    endings: tuple[str, ...]
    write: Callable[[Path, _Labels], int]
    package: str = ""
    learnt: bool = False


FORMATS: dict[str, _Format] = {
    "mace": _Format((".xyz", ".extxyz"), _write_mace, learnt=True),
    "ase": _Format((".db",), _write_ase),
    "csv": _Format((".csv",), _write_csv),
    "parquet": _Format((".parquet",), _write_parquet, package="pyarrow"),
    "entries": _Format((".json",), _write_entries),
    "optimade": _Format((".json",), _write_optimade),
}
"""By name, beside extended XYZ, which `al_charge.report.export` writes."""
