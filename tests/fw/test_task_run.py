"""What makes a worker process leave: a signal, or trouble that is none of its task's."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest
from pymongo.errors import (
    AutoReconnect,
    CursorNotFound,
    OperationFailure,
    ServerSelectionTimeoutError,
)

from al_charge.errors import AlChargeError, UnfinishedError
from al_charge.fw import worker
from al_charge.fw.tasks import TrainTask
from al_charge.stopping import EXIT_CODE, TOLD_TO_END


class _LeftError(BaseException):
    """Stands for the end of the process."""


@pytest.fixture
def exit_codes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Exit codes with which the process would have ended."""
    codes: list[int] = []

    def leave(code: int) -> None:
        codes.append(code)
        raise _LeftError

    monkeypatch.setattr("os._exit", leave)
    return codes


def train(error: Exception, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a training that raises."""

    def fail(*_: Any) -> None:
        raise error

    monkeypatch.setattr(TrainTask, "campaign", lambda _: None)
    monkeypatch.setattr("al_charge.fw.tasks.enter", lambda *_: lambda outcome, reason: None)
    monkeypatch.setattr("al_charge.loop.train.train_member", fail)
    TrainTask(campaign="c", round=0, member=0).run_task({"_fw_env": {"runs": str(folder)}})


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (UnfinishedError("stopped after 3 epochs"), "stopped after 3 epochs"),
        (AutoReconnect("connection closed"), "the database does not answer"),
        (ServerSelectionTimeoutError("no primary"), "the database does not answer"),
        (CursorNotFound("cursor id 7 not found", code=43), "the database does not answer"),
        (OperationFailure("no space", code=14031), "the database's disk is full"),
        (OSError(errno.ENOSPC, "No space left on device"), "the disk is full"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "the disk is full"),
    ],
)
def test_trouble_that_passes_ends_the_process_and_not_the_task(
    error: Exception,
    said: str,
    exit_codes: list[int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with pytest.raises(_LeftError):
        train(error, tmp_path, monkeypatch)
    assert exit_codes == [EXIT_CODE]
    record = caplog.records[-1]
    assert (record.name, record.levelname) == ("al_charge.fw", "WARNING")
    assert said in record.getMessage()
    told = vars(record)["details"]
    assert (told["event"], told["task"], told["outcome"]) == ("end", "train 0", "interrupted")
    assert said in told["reason"]


@pytest.mark.parametrize(
    "error", [AlChargeError("no usable label"), OperationFailure("no", code=13), ValueError("x")]
)
def test_a_failure_of_the_task_is_its_own(
    error: Exception,
    exit_codes: list[int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with pytest.raises(type(error)):
        train(error, tmp_path, monkeypatch)
    assert exit_codes == []
    told = vars(caplog.records[-1])["details"]
    assert (told["outcome"], told["key"]) == ("failed", None)
    assert str(error) in told["reason"]


def test_whatever_fails_on_a_full_disk_may_go_on_when_there_is_space(
    exit_codes: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A library tells a full disk in words of its own."""
    monkeypatch.setattr("al_charge.stopping.SMALLEST_FREE_SPACE", 2**62)
    with pytest.raises(_LeftError):
        train(ValueError("database or disk is full"), tmp_path, monkeypatch)
    assert exit_codes == [EXIT_CODE]


@pytest.mark.mongod
def test_a_worker_that_was_told_to_end_takes_no_next_task(
    patient: Any, monkeypatch: pytest.MonkeyPatch, exit_codes: list[int]
) -> None:
    """Its task has ended in time, after the signal."""
    taken = []

    def take(*_: Any, **__: Any) -> bool:
        assert not TOLD_TO_END.is_set()
        taken.append(True)
        TOLD_TO_END.set()
        return True

    monkeypatch.setattr(worker, "launch_rocket", take)
    arguments = (patient.launchpad, patient.campaign.name, patient.scene.runs, ["cpu"], True, 1)
    with pytest.raises(_LeftError):
        worker._work(*arguments)
    assert (taken, exit_codes) == ([True], [EXIT_CODE])
