"""POTCARs: which dataset each element takes, where its file is, and whether it is the right one."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from al_charge.errors import InputError, NotInstalledError
from al_charge.labelers.vasp.tags import pymatgen_file

PSP_DIR = "PMG_VASP_PSP_DIR"


@dataclass(frozen=True)
class Dataset:
    """One element's PAW dataset.

    Attributes
    ----------
    title
        Its own, such as ``PAW_PBE Fe_pv 06Sep2000``.
    sha256
        Hash of the file's contents.
    electrons
        In the valence of the neutral atom.
    """

    title: str
    sha256: str
    electrons: float

    @property
    def identity(self) -> str:
        """Title and hash, in one line."""
        return f"{self.title} sha256:{self.sha256[:16]}"


@cache
def usual_datasets() -> dict[str, str]:
    """Return the Materials Project's dataset of each element: its U was fitted with them.

    Returns
    -------
    dict
        Name of the dataset by element, such as ``Fe_pv``.
    """
    text = pymatgen_file("MPRelaxSet.yaml").read_text(encoding="utf-8")
    return dict(yaml.safe_load(text)["POTCAR"])


def usual_identity() -> str:
    """Return a name for the usual datasets that changes when the choice of any element does.

    Returns
    -------
    str
        Such as ``MPRelaxSet 1a2b3c4d``.
    """
    digest = hashlib.sha256(repr(sorted(usual_datasets().items())).encode())
    return f"MPRelaxSet {digest.hexdigest()[:8]}"


def dataset_name(element: str, chosen: Mapping[str, str], functional: str) -> str:
    """Return the name of an element's dataset.

    Parameters
    ----------
    element
        Its symbol.
    chosen
        The user's choices by element.
    functional
        Release of the datasets, by pymatgen's name.

    Returns
    -------
    str
        Such as ``Fe_pv``.

    Raises
    ------
    InputError
        If there is no usual one and none was chosen.
    """
    if element in chosen:
        return chosen[element]
    name = usual_datasets().get(element)
    if name is None:
        raise InputError(
            f"no default PAW dataset for {element}",
            where="labeler.potcars",
            remedy=f"choose one, such as {{{element}: {element}}}",
        )
    # The releases after the first one have no W_pv.
    return "W_sv" if name == "W_pv" and functional != "PBE" else name


def find(element: str, chosen: Mapping[str, str], functional: str, *, verify: bool) -> Dataset:
    """Return an element's dataset after checking its file.

    Parameters
    ----------
    element
        Its symbol.
    chosen
        The user's choices by element.
    functional
        Release of the datasets, by pymatgen's name.
    verify
        Whether the contents must be known as those of that release.

    Returns
    -------
    Dataset
        Its identity.

    Raises
    ------
    NotInstalledError
        If pymatgen is not told where the POTCARs are, or the file is not there.
    InputError
        If the file is not a POTCAR of the element, or not that of the release.
    """
    name = dataset_name(element, chosen, functional)
    folder = _folder(functional)
    tried = [folder / f"POTCAR.{name}", folder / name / "POTCAR"]
    files = [candidate for file in tried for candidate in (file, Path(f"{file}.gz"))]
    found = next((file for file in files if file.is_file()), None)
    if found is None:
        raise NotInstalledError(
            f"no POTCAR for {element} ({name}, {functional})",
            where="VASP",
            remedy=f"looked for {tried[0]} and {tried[1]}, each also with .gz; put it there or "
            "name another dataset in labeler.potcars",
        )
    single = _read(found)
    if single.element != element:
        raise InputError(f"this POTCAR is for {single.element}, not {element}", where=str(found))
    # pymatgen lists the files that carry a hash of themselves as releases of their own.
    if verify and not {functional, f"{functional}_W_HASH"} & set(single.identify_potcar("file")[0]):
        raise InputError(
            f"the contents are not those of {name} in the release {functional}",
            where=str(found),
            remedy="put the original file there, name its own release in potcar_functional, or "
            "set verify_potcars: false",
        )
    sha256 = hashlib.sha256(single.data.encode()).hexdigest()
    return Dataset(str(single.TITEL), sha256, float(single.ZVAL))


def find_all(
    elements: Sequence[str], chosen: Mapping[str, str], functional: str, *, verify: bool
) -> dict[str, Dataset]:
    """Return the dataset of each element.

    Parameters
    ----------
    elements
        Symbols, in any order.
    chosen
        The user's choices by element.
    functional
        Release of the datasets, by pymatgen's name.
    verify
        Whether the contents must be known as those of that release.

    Returns
    -------
    dict
        By element, in alphabetical order.

    Raises
    ------
    NotInstalledError
        If a file is not there; see `find`.
    InputError
        If a file is another one; see `find`.
    """
    return {
        element: find(element, chosen, functional, verify=verify)
        for element in sorted(set(elements))
    }


def _folder(functional: str) -> Path:
    """Return the folder of one release.

    pymatgen reads its settings from ``~/.config/.pmgrc.yaml`` and the environment.
    """
    from pymatgen.core import SETTINGS
    from pymatgen.io.vasp.inputs import PotcarSingle

    root = SETTINGS.get(PSP_DIR)
    if not root:
        raise NotInstalledError(
            f"{PSP_DIR} is not set, so there are no POTCARs",
            where="VASP",
            remedy=f"run 'pmg config --add {PSP_DIR} FOLDER'; see docs/vasp.md",
        )
    subfolders = PotcarSingle.functional_dir | SETTINGS.get("PMG_VASP_PSP_SUB_DIRS", {})
    folder = Path(str(root)).expanduser() / str(subfolders[functional])
    if not folder.is_dir():
        raise NotInstalledError(
            f"there is no folder {folder}",
            where=f"VASP ({PSP_DIR})",
            remedy="prepare it with 'pmg config -p YOUR_POTCARS FOLDER'; see docs/vasp.md",
        )
    return folder


def _read(file: Path) -> Any:
    from pymatgen.io.vasp.inputs import PotcarSingle

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # `find` judges unknown files itself
            single = PotcarSingle.from_file(str(file))
        _ = single.element, single.TITEL, single.ZVAL, single.VRHFIN
    except Exception as error:  # the parser raises whatever a broken file breaks
        raise InputError("this POTCAR cannot be read", where=str(file)) from error
    return single
