"""A campaign's labels as extended XYZ, for other programs, with a small JSON file beside it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io.extxyz import key_val_dict_to_str, key_val_str_to_dict, write_extxyz
from ase.stress import full_3x3_to_voigt_6_stress

from al_charge.crystal.species import TOKEN_DTYPE
from al_charge.errors import AlChargeError, InputError
from al_charge.labelers.plugin import LABELERS
from al_charge.loop.campaign import Campaign
from al_charge.report.names import host_formula, labeler_name, labeler_remark
from al_charge.report.rounding import rounding_of
from al_charge.store.documents import LabelDoc, ReferenceDoc
from al_charge.store.fields import plain
from al_charge.store.labels import ALL_FRAMES, SUMMARY, LabelSummary
from al_charge.store.mongo import Store
from al_charge.thermo.hull import pretty_formula

RECORDED = frozenset(
    {
        "attempts",
        "bader_centres",
        "campaign",
        "cores",
        "created",
        "datasets",
        "details",
        "imported",
        "round",
        "unusable",
        "wall_time",
        "windows",
    }
)
"""Fields of a label that the JSON file holds because its frames have no place for them. The folder
of the engine's files stays out: it is of use on one machine, and tells who owns it."""
UNITS = {
    "energy": "eV per cell",
    "forces": "eV/angstrom",
    "stress": "eV/angstrom^3, ASE's sign",
    "magmoms": "Bohr magnetons",
    "bader_charges": "e, net, cations positive",
    "bader_electrons": "electrons of the neutral atom that the charge was taken from",
    "x": "working ions per formula unit",
    "metal.energy": "eV/atom",
}
"""What the numbers of both files are."""
LABELS_IN_MEMORY = 64
"""Labels whose frames are read together."""


def export(
    campaign: Campaign, path: Path, *, last: bool, usable_only: bool, force: bool
) -> dict[str, Any]:
    """Write every label of a campaign to an extended XYZ file and describe it in a JSON file.

    Parameters
    ----------
    campaign
        Whose labels to write.
    path
        Ends in ``.extxyz``; the JSON file has the same name with ``.json``.
    last
        Whether to write only the last frame of each label, which is its result.
    usable_only
        Whether to leave out labels that no hull may hold: ambiguous, unusable, not converged.
    force
        Whether to replace files that exist.

    Returns
    -------
    dict
        The content of the JSON file.

    Raises
    ------
    InputError
        If a file already exists or cannot be written.
    AlChargeError
        If the campaign has no labels yet.
    """
    beside = _check_path(path, force)
    cells = campaign.cells
    labels = sorted_labels(campaign, usable_only=usable_only)
    if not labels:
        raise AlChargeError("it has no labels to export yet", where=f"campaign '{campaign.name}'")
    summary = _Summary()

    def images() -> Iterator[Atoms]:
        for label in in_order(campaign.store, [label.key for label in labels]):
            frames = frames_of(label, cells.of(label).formula_units, last=last)
            summary.add(label, len(frames))
            yield from frames

    return _write(path, beside, images(), lambda: _document(campaign, summary))


class _Summary:
    """What the JSON file says of the labels, gathered while they are written."""

    def __init__(self) -> None:
        self.records: dict[str, Any] = {}
        self.counts: Counter[str] = Counter()
        self.by_x: Counter[str] = Counter()
        self.engines: set[str] = set()
        self.datasets: dict[str, str] = {}
        self.settings: dict[str, Any] = {}
        self.windows: dict[str, Any] = {}
        self._newest: datetime | None = None

    def add(self, label: LabelDoc, frames: int) -> None:
        """Add a label of which so many frames are written."""
        facts = {
            "usable": label.refusal is None,
            "ambiguous": label.resolved is None and not label.delocalised,
            "delocalised": label.delocalised,
            "unusable": bool(label.unusable),
            "not_converged": not label.converged,
            "as_requested": label.as_requested,
        }
        self.records[label.key] = _record(label)
        self.counts.update({"labels": 1, "frames": frames})
        self.counts.update({name: int(holds) for name, holds in facts.items()})
        self.by_x[label.composition] += 1
        self.engines.add(label.engine)
        self.datasets |= label.datasets
        self.settings = self.settings or label.settings
        if self._newest is None or label.created > self._newest:
            self._newest, self.windows = label.created, label.windows


def sorted_labels(campaign: Campaign, *, usable_only: bool) -> list[LabelSummary]:
    """Return the labels that a campaign uses in the order in which they are written.

    Parameters
    ----------
    campaign
        Whose labels are wanted.
    usable_only
        Whether to leave out labels that no hull may hold.

    Returns
    -------
    list of LabelSummary
        By x, then by energy.
    """
    cells = campaign.cells
    wanted = campaign.store.labels.read(
        SUMMARY, campaign=campaign.name, refused=False if usable_only else None
    )
    return sorted(
        wanted, key=lambda one: (Fraction(one.composition), cells.energy_of(one), one.key)
    )


def in_order(store: Store, keys: Sequence[str]) -> Iterator[LabelDoc]:
    """Yield labels with their frames, some in memory at a time.

    Parameters
    ----------
    store
        Where they are.
    keys
        Of the labels.

    Yields
    ------
    LabelDoc
        In the order of the keys.
    """
    for start in range(0, len(keys), LABELS_IN_MEMORY):
        some = keys[start : start + LABELS_IN_MEMORY]
        found = {label.key: label for label in store.labels.read(ALL_FRAMES, keys=some)}
        yield from (found[key] for key in some)


def frames_of(label: LabelDoc, formula_units: int, *, last: bool = False) -> list[Atoms]:
    """Return the frames of a label as Atoms with energy, forces and stress.

    Moments and Bader charges belong to the result, so that only the last frame has them. A site
    whose charge state is uncertain has a question mark for it, as in ``Fe?``.

    Parameters
    ----------
    label
        A label with its frames.
    formula_units
        In the supercell; x is the number of working ions divided by it.
    last
        Whether to return only the last frame.

    Returns
    -------
    list of Atoms
        In the order of the relaxation.
    """
    frames = list(enumerate(label.frames))
    return [_atoms(label, index, formula_units) for index, _ in (frames[-1:] if last else frames)]


def _atoms(label: LabelDoc, index: int, formula_units: int) -> Atoms:
    frame = label.frames[index]
    atoms = Atoms(label.numbers, frame.positions, cell=frame.cell, pbc=True)
    atoms.set_array("host_site", np.array(label.host_site))
    # The format itself calls the column of elements "species".
    atoms.set_array("resolved_species", np.array(label.states_found, dtype=TOKEN_DTYPE))
    atoms.set_array("requested_species", np.array(label.requested, dtype=TOKEN_DTYPE))
    results: dict[str, Any] = {"energy": frame.energy, "forces": np.array(frame.forces)}
    if frame.stress is not None:
        results["stress"] = full_3x3_to_voigt_6_stress(np.array(frame.stress))
    if index == len(label.frames) - 1:
        if label.moments is not None:
            results["magmoms"] = np.array(label.moments)
        if label.bader is not None:
            atoms.set_array("bader_charges", np.array(label.bader))
        if label.bader_electrons is not None:
            atoms.set_array("bader_electrons", np.array(label.bader_electrons))
    atoms.calc = SinglePointCalculator(atoms, **results)
    atoms.info = _info(label, index, formula_units)
    return atoms


def _info(label: LabelDoc, index: int, formula_units: int) -> dict[str, Any]:
    info: dict[str, Any] = {
        "label": label.key,
        "config_hash": label.config_hash,
        "requested_hash": label.requested_hash,
        "x": label.n_ions / formula_units,
        "n_ions": label.n_ions,
        "settings_hash": label.settings_hash,
        "engine": label.engine,
        "relax": label.relax,
        "frame": index,
        "frames": len(label.frames),
        "converged": label.converged,
        "ambiguous": label.resolved is None,
        "delocalised": label.delocalised,
        "unusable": bool(label.unusable),
        "as_requested": label.as_requested,
    }
    if label.refused:
        info["refused"] = label.refused
    if label.bader_refused:
        info["bader_refused"] = label.bader_refused
    return info


def _check_path(path: Path, force: bool) -> Path:
    """Return the JSON file's path, or refuse to write."""
    if path.suffix != ".extxyz":
        raise InputError(f"unknown ending '{path.suffix}'", where=str(path), remedy="use .extxyz")
    if not path.parent.is_dir():
        raise InputError("no such folder", where=str(path.parent), remedy="make it first")
    beside = path.with_suffix(".json")
    for file in (path, beside):
        if file.exists() and not (force and file.is_file()):
            raise InputError(
                "it is already there",
                where=str(file),
                remedy="use --force to replace it" if file.is_file() else "choose another name",
            )
    return beside


def _write(
    path: Path, beside: Path, images: Iterable[Atoms], describe: Callable[[], dict[str, Any]]
) -> dict[str, Any]:
    """Write both files so that each is complete whenever it is there; return the JSON file's.

    Parameters
    ----------
    describe
        Returns it, once all images are written.
    """
    drafts = [file.with_name(f"{file.name}.part") for file in (path, beside)]
    try:
        with drafts[0].open("w", encoding="utf-8") as file:
            for atoms in images:
                write_extxyz(file, with_texts(atoms))
        document = describe()
        drafts[1].write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
        for draft, target in zip(drafts, (path, beside), strict=True):
            draft.replace(target)
    except OSError as error:
        for draft in drafts:
            draft.unlink(missing_ok=True)
        what = f"cannot write it: {error.strerror or error}"
        raise InputError(what, where=str(path)) from error
    return document


def with_texts(atoms: Atoms) -> Atoms:
    """Return a frame whose texts an extended XYZ file gives back as they are.

    Parameters
    ----------
    atoms
        A frame, not modified.

    Returns
    -------
    Atoms
        With the same results.
    """
    written: Atoms = atoms.copy()
    written.calc = atoms.calc
    written.info = {name: _kept(value) for name, value in atoms.info.items()}
    return written


def _kept(value: Any) -> Any:
    """Return a text so that it is read back as it is, even one of digits or ``T``."""
    if not isinstance(value, str):
        return value
    text = " ".join(value.replace("\\", "/").split())
    same = key_val_str_to_dict(key_val_dict_to_str({"k": text})) == {"k": text}
    return text if same else f"_JSON {json.dumps(text)}"


def _record(label: LabelDoc) -> dict[str, Any]:
    """Return what an import needs of a label beside its frames."""
    record = label.model_dump(mode="json", include=set(RECORDED))
    if label.relax == "none":
        record["rounding"] = rounding_of(np.array(label.frames[0].positions))
    return record


def _host(campaign: Campaign) -> dict[str, Any]:
    """Return what the host is built from."""
    spec = campaign.spec.host
    return {
        "spec": spec.model_dump(mode="json", exclude={"empty_structure"}),
        "structure": plain(campaign.structure.as_dict(verbosity=0)),
        "fingerprint": campaign.host.fingerprint,
    }


def _engine_windows(campaign: Campaign) -> dict[str, Any]:
    """Return the windows that stand where none are calibrated, or before those that are."""
    settings = campaign.spec.labeler
    found = LABELERS.of(settings).windows(settings)
    return {
        "ranges": {} if found is None else {s: list(w) for s, w in found.ranges.items()},
        "given": getattr(settings, "moment_windows", None) is not None,
        "users": getattr(settings, "moment_windows", None) or {},
    }


def _document(campaign: Campaign, summary: _Summary) -> dict[str, Any]:
    store, ion = campaign.store, campaign.spec.host.working_ion
    stored = store.campaigns.get(campaign.name)
    metal = store.references.get(campaign.name, stored.settings_hash, ion)
    return {
        "campaign": campaign.name,
        "formula": host_formula(pretty_formula(campaign.framework, ion), ion),
        "formula_units": campaign.host.formula_units,
        "working_ion": ion,
        "labeler": labeler_name(campaign.spec.labeler.kind),
        "labeler_remark": labeler_remark(campaign.spec.labeler),
        "settings_hash": stored.settings_hash,
        "settings": summary.settings,
        "engines": sorted(summary.engines),
        "datasets": summary.datasets,
        "moment_windows": summary.windows,
        "engine_windows": _engine_windows(campaign),
        "fmax": getattr(campaign.spec.labeler, "fmax", None),
        "host": _host(campaign),
        "metal": _metal(metal),
        "counts": {
            **summary.counts,
            "quarantined": len(store.failures.all(campaign.name)),
            "by_x": dict(summary.by_x),
        },
        "units": dict(UNITS),
        "labels": summary.records,
    }


def _metal(reference: ReferenceDoc | None) -> dict[str, Any] | None:
    if reference is None:
        return None
    return {"element": reference.ion, "energy": reference.energy, "engine": reference.engine}
