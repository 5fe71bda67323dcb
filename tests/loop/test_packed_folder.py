"""A folder of files is packed without a moment at which a kill loses any."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from al_charge.errors import AlChargeError
from al_charge.loop.packed_folder import archive_of, pack, packed, unpack

FILES = {
    "try-0/input.json": b"{}",
    "try-0/static/OUTCAR": b"moments\n" * 9000,
    "try-0/static/WAVECAR": bytes(range(256)) * 50,
    "try-1/engine.lock": b"",
}
DROPPED = "WAVECAR"


class KilledError(BaseException):
    """Nothing happens any more, not even what is done at the end of blocks."""


def drop(path: Path) -> bool:
    return path.name == DROPPED


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def without(files: dict[str, bytes]) -> dict[str, bytes]:
    return {name: data for name, data in files.items() if not name.endswith(DROPPED)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of files, one of them a link that leads out of it."""
    folder = tmp_path / "runs" / "label-000"
    for name, data in FILES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        os.utime(path, (1.7e9, 1.7e9))
    (folder / "try-0" / "kernel").symlink_to("/nowhere/vdw_kernel.bindat")
    return folder


def test_what_was_packed_comes_back(folder: Path) -> None:
    mode = (folder / "try-0/input.json").stat().st_mode
    pack(folder, drop)
    archive = archive_of(folder)
    assert [path.name for path in folder.parent.iterdir()] == [archive.name]
    assert packed(folder / "try-0") == archive
    with tarfile.open(archive) as tar:  # whoever unpacks it by hand has the folder
        assert all(name.startswith("label-000/try-") for name in tar.getnames())
    assert unpack(folder)
    assert contents(folder) == without(FILES)
    assert (folder / "try-0/kernel").readlink() == Path("/nowhere/vdw_kernel.bindat")
    found = (folder / "try-0/input.json").stat()
    assert (found.st_mtime, found.st_mode) == (1.7e9, mode)
    assert not archive.exists() and packed(folder / "try-0") is None
    assert not unpack(folder)


def kill_after(steps: int, patch: pytest.MonkeyPatch) -> list[str]:
    """Let so many changes of the disk happen and none after; return what has happened."""
    done: list[str] = []

    def counted(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any, **options: Any) -> Any:
            if len(done) >= steps:
                raise KilledError
            done.append(name)
            return real(*arguments, **options)

        return run

    for owner, name in (
        (Path, "unlink"),
        (Path, "rmdir"),
        (Path, "replace"),
        (Path, "symlink_to"),
        (os, "fsync"),
        (tarfile.TarFile, "addfile"),
        (tarfile.TarFile, "close"),
        (tarfile.TarFile, "_extract_one"),
    ):
        patch.setattr(owner, name, counted(name, getattr(owner, name)))
    return done


def whole(folder: Path) -> bool:
    """Return whether the folder or its archive has every file that is kept."""
    if without(FILES).items() <= contents(folder).items():
        return True
    copy = folder.parent.parent / "copy"
    with tarfile.open(archive_of(folder)) as tar:
        tar.extractall(copy, filter="fully_trusted")
    return contents(copy / folder.name) == without(FILES)


@pytest.mark.parametrize("steps", range(21))
def test_a_kill_at_any_moment_loses_nothing(folder: Path, steps: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        done = kill_after(steps, patch)
        try:
            pack(folder, drop)
        except KilledError:
            assert len(done) == steps
        else:
            assert len(done) <= steps
    assert whole(folder)
    if folder.exists():
        pack(folder, drop)
    assert [path.name for path in folder.parent.iterdir()] == [archive_of(folder).name]
    assert whole(folder)


@pytest.mark.parametrize("steps", range(9))
def test_a_kill_while_it_comes_back_loses_nothing(folder: Path, steps: int) -> None:
    pack(folder, drop)
    with pytest.MonkeyPatch.context() as patch:
        done = kill_after(steps, patch)
        try:
            unpack(folder)
        except KilledError:
            assert len(done) == steps
    assert whole(folder)
    unpack(folder)
    assert contents(folder) == without(FILES)


def test_a_folder_with_more_than_its_archive_stays(folder: Path) -> None:
    pack(folder, drop)
    with tarfile.open(archive_of(folder)) as tar:
        tar.extractall(folder.parent, filter="fully_trusted")
    note = folder / "try-0" / "note.txt"
    note.write_text("mine")
    before = contents(folder)
    with pytest.raises(AlChargeError, match=r"1 of its files .* such as try-0/note\.txt"):
        pack(folder, drop)
    note.unlink()
    (folder / "try-0/input.json").write_text("[]")  # as long as before
    with pytest.raises(AlChargeError, match=r"such as try-0/input\.json"):
        pack(folder, drop)
    assert contents(folder).keys() == before.keys() - {"try-0/note.txt"}


def test_a_file_that_changes_meanwhile_keeps_its_folder(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the archive was compared with it."""
    real = Path.replace

    def late(path: Path, target: Path) -> Path:
        (folder / "try-0/input.json").write_text('{"later": 1}')
        return real(path, target)

    monkeypatch.setattr(Path, "replace", late)
    with pytest.raises(AlChargeError, match="changed while it was packed"):
        pack(folder, drop)
    assert contents(folder).keys() == FILES.keys()


def test_an_archive_that_is_not_what_was_written_removes_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a disk that takes less than it says."""
    real = os.fsync

    def lossy(descriptor: int) -> None:
        os.ftruncate(descriptor, os.fstat(descriptor).st_size // 2)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", lossy)
    with pytest.raises(AlChargeError, match="cannot be read"):
        pack(folder, drop)
    assert contents(folder) == FILES
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_a_damaged_archive_is_put_aside(folder: Path) -> None:
    pack(folder, drop)
    archive = archive_of(folder)
    archive.write_bytes(archive.read_bytes()[:-40])
    assert not unpack(folder)
    assert not archive.exists()
    assert archive.with_name(archive.name + ".damaged").exists()


def test_what_is_no_file_is_not_packed(folder: Path) -> None:
    os.mkfifo(folder / "try-0" / "pipe")
    with pytest.raises(AlChargeError, match="neither a file nor a folder"):
        pack(folder, drop)
    assert contents(folder) == FILES
