"""What `al-charge export` wrote, read back: labels as documents, each checked and audited again.

Nothing here trusts a file: hashes and keys are computed from what they stand for, and the charge
states are told from moments and Bader charges, like those of a label that was just made.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.stress import voigt_6_to_full_3x3_stress
from numpy.typing import NDArray
from pydantic import ValidationError
from pymatgen.core.structure import Structure

from al_charge.crystal import compressed
from al_charge.crystal.bounded import limited
from al_charge.crystal.configuration import Configuration, composition, ion_count
from al_charge.crystal.host import Host
from al_charge.crystal.host_spec import HostSpec
from al_charge.crystal.identity import identity
from al_charge.crystal.parent import LARGEST_SUPERCELL
from al_charge.crystal.species import parse
from al_charge.crystal.structure_file import read_structures
from al_charge.crystal.supercells import Supercells, hosts_of
from al_charge.crystal.symmetry import canonical, canonical_hash
from al_charge.errors import AlChargeError, InputError
from al_charge.labelers.protocol import hash_of_settings
from al_charge.loop.campaign import key_of
from al_charge.report.audit_again import Auditor, Disagreement, configuration_with, on_its_sites
from al_charge.report.export import RECORDED
from al_charge.report.rounding import checked_geometry
from al_charge.store.documents import FrameDoc, ImportedDoc, LabelDoc, ReferenceDoc

_UNREADABLE = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""What the parts of a file raise that are not as an export writes them."""
_PER_ATOM = ("numbers", "host_site", "resolved_species", "requested_species")
_PER_LABEL = (
    "config_hash", "requested_hash", "n_ions", "settings_hash", "engine", "relax", "frames",
    "converged", "ambiguous", "unusable",
)  # fmt: skip


class Exported:
    """An export, read back.

    Parameters
    ----------
    path
        The extended XYZ file; its JSON file lies beside it.
    cells
        Supercells of the labels, for an export that does not tell its host.
    fmax
        Force limit of relaxed labels in eV/angstrom, for an export that does not tell it.

    Attributes
    ----------
    document
        The JSON file.
    source
        Where the labels come from.
    cells
        The supercells that labels may be in.

    Raises
    ------
    InputError
        If one of the files is missing or cannot be read, or the JSON file lacks what an import
        needs, or contradicts itself.
    """

    def __init__(
        self, path: Path, cells: Supercells | None = None, fmax: float | None = None
    ) -> None:
        self.path = path
        beside = path.with_suffix(".json")
        if path.suffix != ".extxyz":
            raise InputError(
                f"unknown ending '{path.suffix}'", where=str(path), remedy="give the .extxyz file"
            )
        self._images = read_structures(path)
        self.document = _json_of(beside)
        with path.open("rb") as content:
            sha256 = hashlib.file_digest(content, "sha256").hexdigest()
        try:
            with limited(beside):
                self.source = ImportedDoc(
                    file=path.name, sha256=sha256, campaign=self.document["campaign"]
                )
                self.settings: dict[str, Any] = dict(self.document["settings"])
                self.settings_hash = str(self.document["settings_hash"])
                self.cells = cells or _cells_of(self.document, beside)
                self._records: dict[str, Any] = dict(self.document.get("labels", {}))
                self._auditor = Auditor(self.document, self.host)
                self._counts = tuple(int(self.document["counts"][n]) for n in ("labels", "frames"))
        except InputError as error:
            where = error.where if str(beside) in error.where else f"{beside}: {error.where}"
            raise InputError(error.what, where=where, remedy=error.remedy) from error
        except _UNREADABLE as error:
            raise _malformed(error, str(beside)) from error
        self._fmax = fmax if fmax is not None else self.document.get("fmax")
        if hash_of_settings(self.settings) != self.settings_hash:
            raise InputError(
                f"its settings do not have the hash {self.settings_hash}, so they are not those "
                "that the labels were made with",
                where=str(beside),
                remedy="export the labels again",
            )

    @property
    def host(self) -> Host:
        """The supercell that names the campaign's host; species are the same in all."""
        return self.cells.widest

    def labels(self) -> Iterator[LabelDoc | Disagreement]:
        """Yield every label of the file, audited again.

        Yields
        ------
        LabelDoc or Disagreement
            The label as it is stored, or why it cannot be what the file says.

        Raises
        ------
        InputError
            If a label is incomplete, contradicts itself, or is not of this host and these settings.
        """
        for key, images in self._by_label():
            where = f"{self.path}, label {key}"
            try:
                with limited(self.path):
                    label = self._label(key, images)
                yield label
            except AlChargeError as error:
                raise InputError(error.what, where=where, remedy=error.remedy) from error
            except _UNREADABLE as error:
                raise _malformed(error, where) from error

    def metal(self) -> ReferenceDoc | None:
        """Return the energy of the working-ion metal.

        Returns
        -------
        ReferenceDoc or None
            None if the export has none.

        Raises
        ------
        InputError
            If it is incomplete, or of another element.
        """
        found, where = self.document.get("metal"), str(self.path.with_suffix(".json"))
        if found is None:
            return None
        try:
            metal = ReferenceDoc(
                settings_hash=self.settings_hash,
                ion=found["element"],
                energy=found["energy"],
                settings=self.settings,
                engine=found["engine"],
                wall_time=None,
                directory="",
                imported=self.source,
            )
        except _UNREADABLE as error:
            raise _malformed(error, f"{where}: metal") from error
        if metal.ion != self.host.working_ion:
            what = f"it has the metal {metal.ion}, the working ion is {self.host.working_ion}"
            raise InputError(what, where=where)
        return metal

    def _by_label(self) -> Iterator[tuple[str, list[Atoms]]]:
        """Yield the images of each label; they follow each other."""
        images: dict[str, list[Atoms]] = {}
        last = None
        for number, atoms in enumerate(self._images):
            where = f"{self.path}, frame {number}"
            if "label" not in atoms.info:
                raise InputError(
                    "it has no 'label'", where=where, remedy="give a file of 'al-charge export'"
                )
            key = str(atoms.info["label"])
            if key != last and key in images:
                raise InputError(f"label {key} appears twice", where=where)
            images.setdefault(key, []).append(atoms)
            last = key
        there = (len(images), len(self._images))
        if there != self._counts:
            (labels, frames), (other, others) = there, self._counts
            raise InputError(
                f"it has {labels} labels with {frames} frames, its JSON file describes {other} "
                f"with {others}",
                where=str(self.path),
                remedy="export the labels again",
            )
        yield from images.items()

    def _label(self, key: str, images: list[Atoms]) -> LabelDoc | Disagreement:
        """Return a label as it is stored, or what its audit finds instead."""
        _check_frames(images, int(images[0].info["frames"]))
        first, last = images[0], images[-1]
        info, record = last.info, self._record(key, last)
        requested = [parse(str(word)) for word in last.arrays["requested_species"]]
        told = [
            None if str(word).endswith("?") else parse(str(word))
            for word in last.arrays["resolved_species"]
        ]
        if info["settings_hash"] != self.settings_hash:
            raise InputError(
                f"it has the settings {info['settings_hash']}, its JSON file describes "
                f"{self.settings_hash}",
                remedy="import labels of different settings from files of their own",
            )
        try:
            host, configuration = self._requested(last, requested, str(info["requested_hash"]))
        except (InputError, LookupError) as error:
            raise InputError(
                f"it is not a configuration of this host: {error}",
                remedy="give the campaign that made it with --campaign, or export it again",
            ) from error
        positions = self._checked_positions(key, first, record)
        windows = self._auditor.windows(record)
        found = self._auditor.audit(host, last, requested, told, windows)
        if isinstance(found, str):
            return Disagreement(key, found)
        if found.species is not None:
            configuration = configuration_with(host, last, list(found.species))
        if canonical_hash(host, configuration) != info["config_hash"]:
            raise InputError("its charge states are not those of its config_hash")
        if not on_its_sites(host, last, requested):
            return Disagreement(key, "its ions are on other sites than it says")
        frames = [_frame(atoms) for atoms in images]
        frames[0].positions = positions.tolist()
        known = {name: record[name] for name in RECORDED & record.keys()}
        described: dict[str, Any] = {
            "windows": {s: list(w) for s, w in windows.ranges.items()},
            "datasets": {e: n for e, n in self.document["datasets"].items() if e in last.symbols},
            "attempts": [],
            "wall_time": None,
            "cores": None,
            "campaign": self.source.campaign,
            "round": None,
            "unusable": str(info.get("refused", "unknown")) if info["unusable"] else "",
        }
        return LabelDoc(
            **described
            | known
            | {
                "key": key,
                "config_hash": str(info["config_hash"]),
                "identity": identity(host, configuration),
                "requested_hash": str(info["requested_hash"]),
                "colours": list(canonical(host, configuration).occupation),
                "composition": composition(host, configuration),
                "n_ions": ion_count(host, configuration),
                "host_fingerprint": host.fingerprint,
                "settings_hash": self.settings_hash,
                "settings": self.settings,
                "requested": requested,
                "resolved": found.species,
                # Exports of earlier releases know nothing of it.
                "delocalised": bool(info.get("delocalised", False)) and found.delocalised,
                "sites": found.sites,
                "audit": found.describe(),
                "relax": str(info["relax"]),
                "numbers": last.numbers,
                "host_site": last.arrays["host_site"],
                "frames": frames,
                "energy": frames[-1].energy,
                "moments": last.calc.results.get("magmoms"),
                "bader": last.arrays.get("bader_charges"),
                "bader_electrons": last.arrays.get("bader_electrons"),
                "bader_refused": str(info.get("bader_refused", "")),
                "converged": bool(info["converged"]),
                "engine": str(info["engine"]),
                "directory": "",
                "imported": self.source,
            }
        )

    def _record(self, key: str, atoms: Atoms) -> dict[str, Any]:
        """Return what the JSON file holds of a label; nothing in exports of version 0.2."""
        if not self._records:
            return {}
        record: dict[str, Any] = self._records[key]
        if bool(record["unusable"]) != bool(atoms.info["unusable"]):
            raise InputError("the two files disagree on whether it is unusable")
        return record

    def _requested(
        self, atoms: Atoms, species: list[str], expected: str
    ) -> tuple[Host, Configuration]:
        """Return the supercell and the configuration that have the hash of what was requested."""
        refused: Exception = InputError("it has another hash")
        for host in self.cells.hosts:
            try:
                found = configuration_with(host, atoms, species)
                if canonical_hash(host, found) == expected:
                    return host, found
            except (InputError, LookupError) as error:
                refused = error
        raise refused

    def _checked_positions(
        self, key: str, atoms: Atoms, record: dict[str, Any]
    ) -> NDArray[np.float64]:
        """Return the first geometry, with the decimals that the label's key was made from."""
        config_hash, relax = str(atoms.info["requested_hash"]), str(atoms.info["relax"])
        if relax == "none":
            told = record["rounding"] if record else None
            return checked_geometry(key, config_hash, self.settings_hash, atoms, told)
        if self._fmax is None:
            raise InputError(
                "the file does not tell the force limit that it was relaxed to",
                remedy="give the campaign that made it with --campaign",
            )
        if key_of(config_hash, self.settings_hash, [relax, float(self._fmax)]) != key:
            raise InputError("its key is not that of its configuration, settings and force limit")
        return np.array(atoms.positions)


def _json_of(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise InputError("no such file", where=str(path), remedy="keep it beside the .extxyz file")
    try:
        with limited(path):
            document = json.loads(compressed.read_text(path))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"it is not a JSON file: {error}", where=str(path)) from error
    if not isinstance(document, dict) or "settings_hash" not in document:
        raise InputError(
            "it does not describe labels", where=str(path), remedy="give a file of al-charge export"
        )
    return document


def _cells_of(document: dict[str, Any], path: Path) -> Supercells:
    """Return the supercells of the host that an export tells."""
    if "host" not in document:
        raise InputError(
            "it does not name the host of its labels, as in exports of version 0.2",
            where=str(path),
            remedy="give the campaign that made them with --campaign",
        )
    told = document["host"]
    # All ions were high spin, and none too near others, before exports said so.
    told["spec"].setdefault("spins", "high")
    told["spec"].setdefault("min_distance", "0 A")
    if (sites := len(told["structure"]["sites"])) > LARGEST_SUPERCELL:
        raise InputError(
            f"its host has {sites} sites, the largest have {LARGEST_SUPERCELL}", where=str(path)
        )
    structure = Structure.from_dict(told["structure"])
    cells = hosts_of(HostSpec.model_validate(told["spec"]), structure)
    if cells.widest.fingerprint != told["fingerprint"]:
        raise InputError(
            "its host does not have the fingerprint that the file gives", where=str(path)
        )
    return cells


def _check_frames(images: list[Atoms], count: int) -> None:
    """Refuse frames that are not all of a label's, or do not belong to one label."""
    numbers = [int(atoms.info["frame"]) for atoms in images]
    if len(numbers) != count or numbers != list(range(count)):
        raise InputError(
            f"it has {len(images)} of {count} frames, or not in order",
            remedy="export it without --last",
        )
    for atoms in images[1:]:
        same = all(np.array_equal(atoms.arrays[n], images[0].arrays[n]) for n in _PER_ATOM)
        if not same or any(atoms.info[n] != images[0].info[n] for n in _PER_LABEL):
            raise InputError("its frames disagree on what it is")


def _frame(atoms: Atoms) -> FrameDoc:
    results = atoms.calc.results
    stress = results.get("stress")
    return FrameDoc(
        positions=atoms.positions.tolist(),
        cell=atoms.cell.array.tolist(),
        energy=results["energy"],
        forces=results["forces"],
        stress=None if stress is None else voigt_6_to_full_3x3_stress(stress).tolist(),
    )


def _malformed(error: Exception, where: str) -> InputError:
    """Return the refusal of a file that lacks something, or holds what it may not."""
    if isinstance(error, ValidationError) and error.error_count() > 100:
        # pydantic describes all of them to whoever wants the first.
        what = f"{error.error_count()} of its values are not valid"
    elif isinstance(error, ValidationError):
        first = error.errors()[0]
        what = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    elif isinstance(error, KeyError):
        what = f"it has no '{error.args[0]}'"
    else:
        what = f"it is not as an export writes it ({type(error).__name__}: {error})"
    return InputError(what, where=where, remedy="export the labels again")
