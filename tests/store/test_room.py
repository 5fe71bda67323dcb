"""What a machine must leave a server, told before one is started."""

from __future__ import annotations

import os
import resource
from pathlib import Path
from types import SimpleNamespace

import pytest

from al_charge.errors import InputError
from al_charge.store import room
from al_charge.store.room import check_room


@pytest.mark.parametrize(
    ("total", "free", "fits"), [(30, 12, False), (900, 200, True), (0, 0, True)]
)
def test_inodes(
    total: int, free: int, fits: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some file systems have no number of them, and say 0 of 0."""
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_files=total, f_favail=free))
    monkeypatch.setattr(room.shutil, "disk_usage", lambda _: SimpleNamespace(free=10**12))
    if fits:
        check_room(tmp_path)
    else:
        with pytest.raises(InputError, match=r"it takes 12 more files \(inodes\), 200 are needed"):
            check_room(tmp_path)


@pytest.mark.parametrize(
    ("kind", "most", "told", "cure"),
    [
        (
            resource.RLIMIT_NOFILE,
            64,
            r"only 64 files may be open at once \(ulimit -n\), 512",
            "-n 512",
        ),
        (
            resource.RLIMIT_FSIZE,
            102400,
            r"only 102400 bytes may be in a file \(ulimit -f\)",
            "-f unlimited",
        ),
    ],
)
def test_limits_of_the_shell(
    kind: int, most: int, told: str, cure: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = resource.getrlimit
    monkeypatch.setattr(
        resource, "getrlimit", lambda asked: (most, most) if asked == kind else given(asked)
    )
    with pytest.raises(InputError, match=told) as refused:
        check_room(tmp_path)
    assert refused.value.remedy.endswith(f"as by 'ulimit {cure}'")
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY,) * 2)
    check_room(tmp_path)
