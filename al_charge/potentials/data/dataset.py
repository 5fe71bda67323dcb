"""Labelled structures of a file, from al-charge or elsewhere, as frames to train and test on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray
from pymatgen.core.periodic_table import Element

from al_charge.crystal.configuration import set_species
from al_charge.crystal.structure_file import is_isolated_atom, read_structures, tell_species
from al_charge.errors import InputError, did_you_mean
from al_charge.potentials.data.frames import TrainingFrame, last_indices
from al_charge.potentials.data.grouping import derive_groups
from al_charge.potentials.data.nearest_states import nearest_states
from al_charge.potentials.data.result_keys import missing, remarks, stress_of

Array = NDArray[np.float64]

GROUP_KEY = "config_hash"
"""Entry of a frame's info that names its group, where nothing else is said."""
CHARGE_ARRAYS = ("bader_charges", "bader_charge")
"""Arrays that may hold Bader charges, in the order in which they are tried."""
_UNCERTAIN = ("ambiguous", "delocalised")
"""Why frames are left out that potentials which read moments may learn from."""
NEUTRAL = 0.05
"""Largest sum of net charges in a cell, e per atom; numbers of electrons sum to more."""


@dataclass(frozen=True)
class Dataset:
    """Labelled structures of a file, or of a database.

    Attributes
    ----------
    frames
        In the order of the file; a list, or read when they are needed.
    formula_units
        Of every frame; None where the file does not give them.
    left_out
        Number of frames left out, by reason.
    groups_from
        In a few words, what frames are grouped by.
    states_from
        Number of frames by where their charge states come from, in a few words.
    remarks
        What was converted, and keys of the file that look like results and are not read.
    """

    frames: Sequence[TrainingFrame]
    formula_units: list[int | None]
    left_out: dict[str, int]
    groups_from: str
    states_from: dict[str, int]
    remarks: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Reading:
    """How a file of labelled structures is read.

    Attributes
    ----------
    need_states
        Whether charge states that cannot be determined are refused; otherwise such frames have
        elements only, and delocalised labels are not left out.
    states
        Charge states that the user gives; see `al_charge.crystal.structure_file.load_structure`.
    group
        Entry of every frame's info to group by; None for ``config_hash``, or by structure where
        there is none.
    flip_charges
        Whether the file's Bader charges are negative for cations, and change their sign here.
    share_moments
        Whether all frames of one exported label get the moments of its last frame, and structures
        an array ``moments``, as potentials need that have moments as an input. Ambiguous labels
        with moments are then not left out: `al_charge.potentials.data.nearest_states`.
    """

    need_states: bool = True
    states: tuple[str, ...] = ()
    group: str | None = None
    flip_charges: bool = False
    share_moments: bool = False


def read_dataset(path: Path, reading: Reading) -> Dataset:
    """Read labelled structures from an extended XYZ file, or any other that ASE reads.

    Isolated atoms, and frames that ``al-charge export`` marked as not usable on a hull, are left
    out. Moments, charges and stress, also from a virial, are taken where a frame has them; energies
    and forces it must have.

    Parameters
    ----------
    path
        The file.
    reading
        How it is read.

    Returns
    -------
    Dataset
        With its frames in the order of the file.

    Raises
    ------
    InputError
        If a frame is invalid, none can be used, or labels have different settings.
    """
    frames: list[TrainingFrame] = []
    kept: list[Atoms] = []
    left_out: Counter[str] = Counter()
    states_from: Counter[str] = Counter()
    from_virial = 0
    images = read_structures(path)
    nearest = nearest_states(images) if reading.share_moments else {}
    for number, image in enumerate(images):
        refused = _refused(image)
        if refused == "delocalised" and not reading.need_states and number not in nearest:
            refused = ""
        if refused and not (refused in _UNCERTAIN and number in nearest):
            left_out[refused] += 1
            continue
        where = f"{path}, frame {number}"
        if refused:
            atoms, how = _as(nearest[number], image), "nearest to uncertain moments"
        else:
            atoms, how = with_species(image, reading, where)
        states_from[how] += 1
        stress, converted = stress_of(image, where)
        from_virial += converted
        frames.append(_frame(image, atoms, stress, reading, where))
        kept.append(image)
    if not frames:
        raise InputError("none of its frames can be used", where=str(path), remedy=_why(left_out))
    _refuse_mixed(kept, path)
    if reading.share_moments:
        frames = _shared_moments(frames, kept)
    names, groups_from = _groups([f.atoms for f in frames], kept, reading.group, path)
    return Dataset(
        frames=[replace(f, group=name) for f, name in zip(frames, names, strict=True)],
        formula_units=_formula_units(kept),
        left_out=dict(left_out),
        groups_from=groups_from,
        states_from=dict(states_from),
        remarks=remarks(kept, from_virial),
    )


def _refuse_mixed(images: Sequence[Atoms], path: Path) -> None:
    """Refuse labels that were made with settings of which energies are not comparable."""
    found = Counter(str(i.info["settings_hash"]) for i in images if "settings_hash" in i.info)
    if len(found) > 1:
        kinds = ", ".join(f"{name[:8]} ({number} frames)" for name, number in found.most_common())
        raise InputError(
            f"labels of different settings are not comparable: {kinds}",
            where=str(path),
            remedy="keep the frames of one settings_hash",
        )


def with_species(image: Atoms, reading: Reading, where: str) -> tuple[Atoms, str]:
    """Return a structure with its charge states, and where they come from.

    Where charge states are neither needed nor known, every atom is its neutral element.

    Parameters
    ----------
    image
        Structure as ASE read it.
    reading
        How its file is read.
    where
        File and frame, for errors.

    Returns
    -------
    atoms : Atoms
        Periodic copy with an array ``species``.
    source : str
        In a few words, where the charge states come from.

    Raises
    ------
    InputError
        If charge states are needed and cannot be determined.
    """
    try:
        tokens, how = tell_species(image, reading.states, where=where)
    except InputError as error:
        if reading.need_states or reading.states:
            place = error.where if where in error.where else f"{where}: {error.where}"
            raise InputError(error.what, where=place, remedy=error.remedy) from error
        tokens, how = [f"{symbol}0+" for symbol in image.symbols], "not told"
    return _as(tokens, image), how


def _as(tokens: Sequence[str], image: Atoms) -> Atoms:
    atoms = Atoms(image.numbers, image.positions, cell=image.cell, pbc=True)
    set_species(atoms, list(tokens))
    return atoms


def last_of_groups(frames: Sequence[TrainingFrame]) -> list[int]:
    """Return the indices of the last frame of every group.

    Parameters
    ----------
    frames
        Labelled geometries.

    Returns
    -------
    list of int
        Ascending.
    """
    return sorted(last_indices(frames))


def _refused(image: Atoms) -> str:
    """Return why a frame is left out; empty where it is not."""
    info = image.info
    if is_isolated_atom(image):
        return "isolated atoms"
    if info.get("unusable") is True:
        return "unusable"
    if info.get("converged") is False:
        return "not converged"
    if info.get("ambiguous") is True:
        return "delocalised" if info.get("delocalised") is True else "ambiguous"
    return "refused" if info.get("refused") else ""


def _why(left_out: Counter[str]) -> str:
    return ", ".join(f"{number} {reason}" for reason, number in left_out.items())


def _frame(
    image: Atoms, atoms: Atoms, stress: Array | None, reading: Reading, where: str
) -> TrainingFrame:
    results: dict[str, Any] = image.calc.results if image.calc is not None else {}
    found: dict[str, Array] = {
        name: np.asarray(results[name], dtype=float)
        for name in ("energy", "forces", "magmoms")
        if name in results
    }
    if stress is not None:
        found["stress"] = stress
    found |= {"positions": image.positions, "cell": image.cell.array}
    if (charges := _charges(image, reading, where)) is not None:
        found["Bader charges"] = charges
    for name in ("energy", "forces"):
        if name not in found:
            raise missing(image, name, where)
    for name, values in found.items():
        if not np.isfinite(values).all():
            raise InputError(
                f"NaN or infinite values in its {name}", where=where, remedy="remove the frame"
            )
    moments = found.get("magmoms")
    if moments is not None and moments.shape != (len(atoms),):
        raise InputError("its moments are vectors; give collinear ones", where=where)
    return TrainingFrame(
        atoms=atoms,
        energy=float(found["energy"]),
        forces=found["forces"],
        stress=stress,
        group="",
        moments=moments,
        charges=charges,
    )


def _charges(image: Atoms, reading: Reading, where: str) -> Array | None:
    """Return net charges in e, cations positive; None where there are none.

    Raises
    ------
    InputError
        If they do not sum to zero, or cations are negative.
    """
    name = next((name for name in CHARGE_ARRAYS if name in image.arrays), None)
    if name is None:
        return None
    charges = np.asarray(image.arrays[name], dtype=float)
    charges = -charges if reading.flip_charges else charges
    if abs(total := float(charges.sum())) > NEUTRAL * len(image):
        raise InputError(
            f"its {name} sum to {total:+.2f} e, so they are not net charges",
            where=where,
            remedy="subtract each atom's electrons from those of the neutral atom",
        )
    if _cations_negative(image, charges):
        remedy = "leave --flip-charges out" if reading.flip_charges else "give --flip-charges"
        raise InputError(
            f"cations are negative in its {name}; here they must be positive",
            where=where,
            remedy=remedy,
        )
    return charges


def _cations_negative(image: Atoms, charges: Array) -> bool:
    """Tell whether more electronegative atoms have the larger charges."""
    attraction = np.array([Element(symbol).X for symbol in image.symbols])
    attraction = np.nan_to_num(attraction - np.nanmean(attraction))
    return bool(np.sum(attraction * charges) > 0.0)


def _groups(
    structures: Sequence[Atoms], images: Sequence[Atoms], key: str | None, path: Path
) -> tuple[list[str], str]:
    """Return the group of every frame, and what they are grouped by."""
    wanted = key or GROUP_KEY
    having = [wanted in image.info for image in images]
    if all(having):
        return [str(image.info[wanted]) for image in images], wanted
    if key is not None or any(having):
        number = having.index(False)
        known = set.intersection(*(set(image.info) for image in images))
        raise InputError(
            f"a frame has no '{wanted}' to group by",
            where=f"{path}, frame {number} of those used",
            remedy=did_you_mean(wanted, known) or "leave --group out",
        )
    return derive_groups(structures), "structure"


def _formula_units(images: Sequence[Atoms]) -> list[int | None]:
    """Return the formula units of exported cells; None where they are not known.

    Those of a cell without working ions follow from the framework, which other cells have too.
    """
    units: list[int | None] = []
    sizes = set()
    for image in images:
        n_ions, x = image.info.get("n_ions"), image.info.get("x")
        unit = round(n_ions / x) if n_ions and x else None
        units.append(unit)
        if n_ions and unit:
            sizes.add((len(image) - n_ions) / unit)
    if len(sizes) == 1:
        (size,) = sizes
        for index, image in enumerate(images):
            if image.info.get("n_ions") == 0:
                units[index] = round(len(image) / size)
    return units


def _shared_moments(frames: list[TrainingFrame], images: Sequence[Atoms]) -> list[TrainingFrame]:
    """Return frames with the moments of their label, which an engine gives for its last frame."""
    labels = [image.info.get("label") for image in images]
    known = {
        label: frame.moments
        for label, frame in zip(labels, frames, strict=True)
        if frame.moments is not None and label is not None
    }
    shared = []
    for label, frame in zip(labels, frames, strict=True):
        moments = known.get(label) if frame.moments is None else frame.moments
        if moments is not None:
            frame.atoms.set_array("moments", moments)
        shared.append(replace(frame, moments=moments))
    return shared
