"""Packing the folder of a label's files into one archive, and bringing it back.

Safe against a kill at any moment: the archive is whole before it has its name, and nothing is
removed before that. As long as the archive is there, it is what counts.
"""

from __future__ import annotations

import logging
import os
import stat
import tarfile
import zlib
from collections.abc import Callable, Iterator
from enum import StrEnum
from pathlib import Path

from al_charge.errors import AlChargeError

ENDING = ".tar.gz"
"""What is added to the name of a folder that is packed."""
LEVEL = 6
"""Of gzip: a higher one takes twice as long for a hundredth."""

_CHUNK = 2**20
_DAMAGED = (tarfile.TarError, EOFError, zlib.error, ValueError)

_log = logging.getLogger("al_charge.loop")


class Keep(StrEnum):
    """What is left of the files of a label's run when they are packed."""

    EVERYTHING = "everything"
    DENSITIES = "densities"
    OUTPUTS = "outputs"


def archive_of(folder: Path) -> Path:
    """Return where a folder is packed.

    Parameters
    ----------
    folder
        The folder.

    Returns
    -------
    Path
        Beside it.
    """
    return folder.with_name(folder.name + ENDING)


def packed(path: Path) -> Path | None:
    """Return the archive that holds a path, which is not there itself.

    Parameters
    ----------
    path
        A file or folder.

    Returns
    -------
    Path or None
        None if there is no archive of any folder that it would be in.
    """
    return next(
        (a for f in (path, *path.parents) if f.name and (a := archive_of(f)).is_file()), None
    )


def pack(folder: Path, drop: Callable[[Path], bool]) -> None:
    """Pack a folder into its archive, compare the two, and remove the folder.

    Called again after a kill, it completes that.

    Parameters
    ----------
    folder
        The folder; nobody else writes in it.
    drop
        Tells whether a file, by its path in the folder, is removed without being packed.

    Raises
    ------
    AlChargeError
        If the folder has what its archive has not, or holds other things than files; nothing is
        removed then.
    """
    archive = archive_of(folder)
    draft = archive.with_name(archive.name + ".new")
    seen, fresh = dict(_files(folder)), not archive.exists()
    try:
        if fresh:
            _write(draft, folder, [path for path in seen if not drop(path.relative_to(folder))])
        held = _same(draft if fresh else archive, folder)
        left = [path.relative_to(folder) for path in seen if path not in held]
        if odd := [path for path in left if not drop(path)]:
            raise AlChargeError(
                f"{len(odd)} of its files differ from the archive or are not in it, "
                f"such as {odd[0]}",
                where=str(folder),
                remedy=f"move them elsewhere, or remove {archive.name} if the folder is complete",
            )
        if fresh:
            draft.replace(archive)
            _flush(archive.parent)
    finally:
        draft.unlink(missing_ok=True)
    for path, before in seen.items():
        if _stamp(path) != before:
            raise AlChargeError("it was changed while it was packed", where=str(path))
    _remove(folder, sorted(seen, key=lambda path: path in held))


def unpack(folder: Path) -> bool:
    """Bring a folder back from its archive, and remove that.

    An archive that cannot be read is put aside.

    Parameters
    ----------
    folder
        The folder; nobody else writes in it.

    Returns
    -------
    bool
        Whether it was packed.
    """
    archive = archive_of(folder)
    if not archive.is_file():
        return False
    try:
        with tarfile.open(archive, "r:gz") as tar:
            links = [entry for entry in tar if entry.issym()]
            files = [entry for entry in tar if not entry.issym()]
            tar.extractall(folder.parent, files, filter="data")
        for link in links:  # which may lead out of the folder, as they did
            path = folder.parent / link.name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)
            path.symlink_to(link.linkname)
    except _DAMAGED as error:
        _log.warning("%s cannot be read and is put aside: %s", archive, error)
        archive.replace(archive.with_name(archive.name + ".damaged"))
        return False
    os.sync()
    archive.unlink()
    return True


def read_packed(folder: Path, wanted: Callable[[Path], bool], last: int) -> dict[Path, bytes]:
    """Return the ends of files of a folder that is packed, by itself or in another.

    Parameters
    ----------
    folder
        The folder.
    wanted
        Tells whether a file is, by its path in the folder.
    last
        Bytes of each.

    Returns
    -------
    dict
        What they end with, by that path; empty if the folder is not packed.

    Raises
    ------
    AlChargeError
        If its archive cannot be read.
    """
    archive, found = packed(folder), {}
    if archive is None:
        return {}
    try:
        with tarfile.open(archive, "r:gz") as tar:
            for entry in tar:
                path = archive.parent / entry.name
                inside = path.is_relative_to(folder) and wanted(path.relative_to(folder))
                if inside and (content := tar.extractfile(entry) if entry.isfile() else None):
                    end = b""
                    while part := content.read(_CHUNK):
                        end = (end + part)[-last:]
                    found[path.relative_to(folder)] = end
    except _DAMAGED as error:
        raise AlChargeError(f"it cannot be read: {error}", where=str(archive)) from error
    return found


def _files(folder: Path) -> Iterator[tuple[Path, tuple[int, int]]]:
    """Yield the files of a folder and of those in it, in order, with what changes when they do."""
    for path in sorted(folder.rglob("*")):
        mode = path.lstat().st_mode
        if stat.S_ISREG(mode) or stat.S_ISLNK(mode):
            yield path, _stamp(path)
        elif not stat.S_ISDIR(mode):
            raise AlChargeError("it is neither a file nor a folder", where=str(path))


def _stamp(path: Path) -> tuple[int, int]:
    found = path.lstat()
    return found.st_size, found.st_mtime_ns


def _write(archive: Path, folder: Path, files: list[Path]) -> None:
    """Write an archive, and have it on the disk."""
    with archive.open("wb") as raw:
        with tarfile.open(fileobj=raw, mode="w:gz", compresslevel=LEVEL) as tar:
            for path in files:
                entry, found = tarfile.TarInfo(str(path.relative_to(folder.parent))), path.lstat()
                entry.mode, entry.mtime = stat.S_IMODE(found.st_mode), int(found.st_mtime)
                if path.is_symlink():
                    entry.type, entry.linkname = tarfile.SYMTYPE, str(path.readlink())
                    tar.addfile(entry)
                    continue
                entry.size = found.st_size
                with path.open("rb") as file:
                    tar.addfile(entry, file)
        raw.flush()
        os.fsync(raw.fileno())


def _same(archive: Path, folder: Path) -> set[Path]:
    """Return the files of a folder that are in an archive, byte by byte.

    Raises
    ------
    AlChargeError
        If the archive cannot be read.
    """
    same = set()
    try:
        with tarfile.open(archive, "r:gz") as tar:
            for entry in tar:
                path = folder.parent / entry.name
                if entry.issym():
                    alike = path.is_symlink() and str(path.readlink()) == entry.linkname
                else:
                    alike = _holds(path, tar, entry)
                if alike:
                    same.add(path)
    except _DAMAGED as error:
        raise AlChargeError(
            f"it cannot be read: {error}", where=str(archive), remedy="remove it"
        ) from error
    return same


def _holds(path: Path, tar: tarfile.TarFile, entry: tarfile.TarInfo) -> bool:
    """Return whether a file is what an archive has of it."""
    if path.is_symlink() or not path.is_file() or path.stat().st_size != entry.size:
        return False
    content = tar.extractfile(entry)
    if content is None:
        return False
    with path.open("rb") as file:
        while part := content.read(_CHUNK):
            if part != file.read(len(part)):
                return False
    return True


def _remove(folder: Path, files: list[Path]) -> None:
    """Remove the files of a folder in order, and then what is empty."""
    for path in files:
        path.unlink()
    for path in [*sorted(folder.rglob("*"), reverse=True), folder]:
        path.rmdir()
    _flush(folder.parent)


def _flush(folder: Path) -> None:
    """Have the names in a folder on the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
