"""POTCARs: which dataset each element takes, where its file is, and whether it is the right one."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from al_charge.errors import InputError, NotInstalledError

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
    """Return the Materials Project's dataset of each element: its U was fitted with them."""
    from pymatgen.io.vasp.sets import MPRelaxSet

    return dict(MPRelaxSet.CONFIG["POTCAR"])


def usual_identity() -> str:
    """Return a name for the usual datasets that changes when the choice of any element does."""
    digest = hashlib.sha256(repr(sorted(usual_datasets().items())).encode())
    return f"MPRelaxSet {digest.hexdigest()[:8]}"


def dataset_name(element: str, chosen: Mapping[str, str], functional: str) -> str:
    """Return the name of an element's dataset, such as ``Fe_pv``.

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
            f"no usual PAW dataset for {element}",
            where="labeler.potcars",
            remedy=f"choose one, such as {{{element}: {element}}}",
        )
    # The releases after the first one have no W_pv.
    return "W_sv" if name == "W_pv" and functional != "PBE" else name


def find(element: str, chosen: Mapping[str, str], functional: str, *, verify: bool) -> Dataset:
    """Return an element's dataset after looking into its file.

    Parameters
    ----------
    verify
        Whether its contents must be known as those of the named release.

    Raises
    ------
    NotInstalledError
        If pymatgen is not told where the POTCARs are, or the file is not there.
    InputError
        If it is another one.
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
    """Return the dataset of each element; see `find`."""
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
            remedy=f"run 'pmg config --add {PSP_DIR} FOLDER'; docs/vasp.md tells more",
        )
    subfolders = PotcarSingle.functional_dir | SETTINGS.get("PMG_VASP_PSP_SUB_DIRS", {})
    folder = Path(str(root)).expanduser() / str(subfolders[functional])
    if not folder.is_dir():
        raise NotInstalledError(
            f"there is no folder {folder}",
            where=f"VASP ({PSP_DIR})",
            remedy="prepare it with 'pmg config -p YOUR_POTCARS FOLDER'; docs/vasp.md tells more",
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
        raise InputError("this is no readable POTCAR", where=str(file)) from error
    return single
