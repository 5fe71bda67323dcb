"""The folders of a campaign's runs on this machine: how much there is, and packing them."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fireworks import LaunchPad

from al_charge.crystal.compressed import bare_name
from al_charge.errors import AlChargeError
from al_charge.fw.database_locks import COLLECTION, hold_lock
from al_charge.fw.worker_registry import is_alive
from al_charge.labelers.dft.job_folder import LOCK, is_in_use
from al_charge.labelers.files import BADER
from al_charge.labelers.plugin import LABELERS
from al_charge.loop.campaign import Campaign
from al_charge.loop.packed_folder import ENDING, Keep, archive_of, pack
from al_charge.store.attempts import METAL
from al_charge.store.documents import ModelDoc, ReferenceDoc

_TRAINING = "train-"
LONGEST_COUNT = 5.0
"""Seconds after which counting a campaign's files is given up: there may be a million."""


@dataclass(frozen=True)
class Usage:
    """How much lies in a folder.

    Attributes
    ----------
    files
        Files.
    size
        Bytes in them.
    complete
        Whether all were counted; otherwise there are more.
    """

    files: int = 0
    size: int = 0
    complete: bool = True


@dataclass(frozen=True)
class RunFolder:
    """The folder of the files of a label, a metal or a training, and what is to become of it.

    Attributes
    ----------
    path
        The folder.
    key
        Of its label, its metal or its model; empty if that is not in the store.
    stays
        Why it stays as it is; empty if it can be packed, or was.
    before, after
        Of the folder; of its archive, once it is packed. That of a training has none: its
        checkpoint has led to a model, and is removed.
    failed
        Whether it stays because packing it failed.
    """

    path: Path
    key: str
    stays: str
    before: Usage
    after: Usage | None = None
    failed: bool = False

    @property
    def label(self) -> str:
        """Key of its label; empty if it has none."""
        return "" if self.is_training or self.key.startswith(METAL) else self.key

    @property
    def is_training(self) -> bool:
        """Whether it holds the checkpoint of a training."""
        return self.path.name.startswith(_TRAINING)


def usage(folder: Path, seconds: float = float("inf")) -> Usage:
    """Count the files in a folder and in those inside.

    Parameters
    ----------
    folder
        The folder; it may be missing, and change meanwhile.
    seconds
        Time after which what has been counted is returned.

    Returns
    -------
    Usage
        Links count by themselves.
    """
    end, files, size, left = time.monotonic() + seconds, 0, 0, [folder]
    while left:
        try:
            with os.scandir(left.pop()) as entries:
                for entry in entries:
                    if time.monotonic() > end:
                        return Usage(files, size, complete=False)
                    if entry.is_dir(follow_symlinks=False):
                        left.append(Path(entry.path))
                    else:
                        files, size = files + 1, size + entry.stat(follow_symlinks=False).st_size
        except (FileNotFoundError, NotADirectoryError):
            continue
    return Usage(files, size)


def files_document(files: Path) -> dict[str, Any] | None:
    """Return how much a campaign has on this machine, as ``campaign status --json`` prints it.

    Parameters
    ----------
    files
        Folder of the campaign's files.

    Returns
    -------
    dict or None
        None if there is no such folder.
    """
    if not files.is_dir():
        return None
    found = usage(files, LONGEST_COUNT)
    packed = sum(1 for _ in files.glob(f"round-*/*-*{ENDING}"))  # without the metal
    return {
        "folder": str(files),
        "files": found.files,
        "bytes": found.size,
        "complete": found.complete,
        "labels_packed": packed,
    }


def run_folders(
    launchpad: LaunchPad, campaign: Campaign, files: Path, keep: Keep
) -> Iterator[RunFolder]:
    """Yield the folders of a campaign's runs that are on this machine and not packed.

    Parameters
    ----------
    launchpad
        LaunchPad of the campaign's database.
    campaign
        The campaign.
    files
        Folder of its files.
    keep
        What is kept; with everything, trainings are left out.

    Yields
    ------
    RunFolder
        Also those that stay, with the reason.
    """
    files = files.resolve()
    keys = _keys(campaign, files)
    kinds = ["label-*", "explore-*", "metal"]
    if keep is not Keep.EVERYTHING:
        kinds.append(f"{_TRAINING}*")
    for path in sorted(path for kind in kinds for path in files.glob(f"round-*/{kind}")):
        if path.is_dir() and not path.is_symlink():
            key = keys.get(path, "")
            yield RunFolder(path, key, _why_it_stays(launchpad, path, key), usage(path))


def _keys(campaign: Campaign, files: Path) -> dict[Path, str]:
    """Return what of a campaign is in the database, by the folder that it was made in."""
    store, name = campaign.store, campaign.name
    made = store.labels.folders(name)
    if (metal := _metal(campaign)) is not None:
        made[METAL + metal.doc_id] = metal.directory
    keys = {}
    for key, directory in made.items():
        path = Path(directory).resolve()
        if path.is_relative_to(files) and len(path.relative_to(files).parts) > 1:
            keys[files.joinpath(*path.relative_to(files).parts[:2])] = key
    for one in store.rounds.all(name):
        for member in range(campaign.spec.committee.size):
            if store.models.has(name, one.number, member):
                path = files / f"round-{one.number:03d}" / f"{_TRAINING}{member}"
                keys[path] = ModelDoc.id_of(name, one.number, member)
    return keys


def _metal(campaign: Campaign) -> ReferenceDoc | None:
    """Return the metal that a campaign's energies refer to, if it is in the database."""
    ion = campaign.spec.host.working_ion
    return campaign.store.references.get(campaign.name, campaign.stored_hash, ion)


def _why_it_stays(launchpad: LaunchPad, path: Path, key: str) -> str:
    if not key:
        return "nothing in the database was made in it"
    if path.name.startswith(_TRAINING):
        return ""
    lock = launchpad.db[COLLECTION].find_one({"_id": _lock_of(key)})
    if lock is not None and is_alive(lock["owner"]) is not False:
        what = "metal" if key.startswith(METAL) else "label"
        return f"{lock['owner']} is making its {what}"
    for engine in path.rglob(LOCK):
        if is_in_use(engine.parent):
            return f"an engine runs in {engine.parent.relative_to(path)}"
    return ""


def clean(launchpad: LaunchPad, campaign: Campaign, files: Path, keep: Keep) -> Iterator[RunFolder]:
    """Pack the folders of labels and metals that are in the store, each into an archive beside it.

    Checkpoints of models that are in the store are removed.

    Parameters
    ----------
    launchpad
        LaunchPad of the campaign's database.
    campaign
        The campaign.
    files
        Folder of its files.
    keep
        What is packed; the rest is removed.

    Yields
    ------
    RunFolder
        Each folder once it is packed, or with the reason why it stays.
    """
    for folder in run_folders(launchpad, campaign, files, keep):
        if folder.stays:
            yield folder
            continue
        if folder.is_training:
            shutil.rmtree(folder.path, ignore_errors=True)
            yield replace(folder, after=usage(folder.path))
            continue
        # A worker that wants the label again waits meanwhile.
        with hold_lock(launchpad, _lock_of(folder.key)):
            if not _is_stored(campaign, folder.key):
                yield replace(folder, stays="what was made in it is no longer in the database")
                continue
            try:
                pack(folder.path, _Dropped(campaign, folder.path, keep))
            except (AlChargeError, OSError) as error:
                yield replace(folder, stays=_reason(error), failed=True)
                continue
            size = archive_of(folder.path).stat().st_size
        yield replace(folder, after=Usage(1, size))


def _is_stored(campaign: Campaign, key: str) -> bool:
    return _metal(campaign) is not None if key.startswith(METAL) else campaign.store.labels.has(key)


def _lock_of(key: str) -> str:
    """Return the name of the lock under which a label or a metal is made."""
    return key if key.startswith(METAL) else f"label {key}"


def _reason(error: AlChargeError | OSError) -> str:
    if isinstance(error, OSError):
        return f"{error.strerror or error}: {error.filename}" if error.filename else str(error)
    return str(error)


class _Dropped:
    """Tells which files are removed without being packed."""

    def __init__(self, campaign: Campaign, folder: Path, keep: Keep) -> None:
        settings = campaign.spec.labeler
        plugin = LABELERS.of(settings)
        self._disposable = plugin.disposable(settings) if keep is not Keep.EVERYTHING else set()
        self._densities = plugin.densities if keep is Keep.OUTPUTS else set()
        # Without its charges a job would have to find them in its densities.
        self._told = {path.parent.relative_to(folder) for path in folder.rglob(BADER)}

    def __call__(self, path: Path) -> bool:
        name = bare_name(path)
        if name in self._densities:
            return not self._told.isdisjoint(path.parents)
        return name in self._disposable
