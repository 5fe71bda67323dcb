"""What SIGTERM does to a worker: its training is saved first, then it ends."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from al_charge.errors import UnfinishedError
from al_charge.fw import worker
from al_charge.fw.tasks import TrainTask


class _LeftError(Exception):
    """Stands for the end of the process."""


def leave(_number: int, _frame: Any) -> None:
    raise _LeftError


@pytest.fixture
def leaving() -> Any:
    """Let SIGTERM raise an error."""
    before = signal.signal(signal.SIGTERM, leave)
    yield
    signal.signal(signal.SIGTERM, before)


def test_a_training_that_was_told_to_end_ends_its_worker(
    leaving: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a lost run, which resume finds, and not as a failed one."""

    def stopped(*_: Any) -> None:
        raise UnfinishedError("told to end by SIGTERM")

    monkeypatch.setattr(TrainTask, "campaign", lambda _: None)
    monkeypatch.setattr("al_charge.loop.train.train_member", stopped)
    task = TrainTask(campaign="c", round=0, member=0)
    with pytest.raises(_LeftError):
        task.run_task({"_fw_env": {"runs": str(tmp_path)}})


def test_told_to_end_the_command_lets_its_workers_save_first(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from al_charge.cli.worker import command

    calls = []

    class Pool:
        def __init__(self, *_: Any, **__: Any) -> None:
            pass

        def start(self) -> None:
            calls.append("start")

        def wait(self) -> None:
            os.kill(os.getpid(), signal.SIGTERM)

        def stop(self) -> None:
            calls.append("stop")

    monkeypatch.setattr(worker, "WorkerPool", Pool)
    campaign = SimpleNamespace(campaign=lambda _: None)
    target = SimpleNamespace(name="c", database=None, store=lambda: campaign)
    before = signal.getsignal(signal.SIGTERM)
    try:
        assert command.callback is not None
        with pytest.raises(SystemExit) as ended:
            command.callback(
                target=target, categories=(), processes=1, until_idle=False, runs=tmp_path
            )
    finally:
        signal.signal(signal.SIGTERM, before)
    assert ended.value.code == 128 + signal.SIGTERM
    assert calls == ["start", "stop"]
