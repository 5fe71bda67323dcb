"""Where networks compute: the rule, and that a GPU trains as a CPU; the rest is in the contract."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode

from al_charge.errors import InputError
from al_charge.potentials import load
from al_charge.potentials.chgnet import ChgnetSettings
from al_charge.potentials.committee import Committee
from al_charge.potentials.device import choose_device
from al_charge.potentials.mace import MaceSettings
from al_charge.potentials.model_file import write_model
from al_charge.potentials.networks.architecture import evaluate
from al_charge.potentials.networks.neighbours import find_neighbours
from al_charge.potentials.painn import CpainnSettings
from al_charge.potentials.potential import Potential
from al_charge.potentials.relaxation.batched_committee import BatchedCommittee
from al_charge.potentials.settings import PotentialSettings, TrainingSettings
from al_charge.potentials.training.loss import errors, prepare
from al_charge.potentials.training.train import TrainingResult, train
from al_charge.testing.potentials import small_salt, teacher_frames, untrained

SMALL = CpainnSettings(cutoff="4 A", channels=8, radial=6)
KINDS: dict[str, PotentialSettings] = {
    "cpainn": SMALL,
    "mace": MaceSettings(cutoff="3.5 A", channels=4, max_ell=1, radial=4, spin=True),
    "chgnet": ChgnetSettings(
        cutoff="4 A", channels=8, layers=2, radial=5, angular=5, pretrained=False
    ),
}
GPU = torch.device("cuda", 0)
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")


def _gpus(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: number > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: number)


@pytest.mark.parametrize(
    ("gpus", "name", "local_rank", "chosen"),
    [
        (0, None, None, "cpu"),
        (0, "cpu", None, "cpu"),
        (2, None, None, "cuda:0"),
        (2, "cuda", None, "cuda:0"),
        (2, "cuda:1", None, "cuda:1"),
        (2, "cpu", "1", "cpu"),
        (2, None, "1", "cuda:1"),  # the second process of torchrun
    ],
)
def test_a_gpu_is_taken_unless_told_otherwise(
    gpus: int,
    name: str | None,
    local_rank: str | None,
    chosen: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _gpus(monkeypatch, gpus)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    if local_rank is not None:
        monkeypatch.setenv("LOCAL_RANK", local_rank)
    assert str(choose_device(name)) == chosen


@pytest.mark.parametrize(
    ("gpus", "name", "what"),
    [
        (0, "cuda", "torch finds no GPU"),
        (2, "cuda:2", "torch finds 2 GPUs, so there is no number 2"),
        (0, "meta", "networks cannot run on 'meta'"),
        (0, "gpu", "there is no device 'gpu'"),
    ],
)
def test_a_device_that_is_not_there_is_refused(
    gpus: int, name: str, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _gpus(monkeypatch, gpus)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    with pytest.raises(InputError, match=what) as refused:
        choose_device(name)
    assert "give cpu, cuda, or one GPU" in refused.value.remedy


def _trained(settings: PotentialSettings, folder: Path, device: str | None) -> TrainingResult:
    return train(
        settings,
        TrainingSettings(epochs=2, learning_rate=0.01, precision="float64"),
        teacher_frames(4),
        seed=2,
        fold=0,
        n_folds=3,
        checkpoint=folder / f"checkpoint-{device}",
        device=None if device is None else torch.device(device),
    )


def test_the_rule_is_asked_where_no_device_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By training and by loading; and the CPU is one device like any other."""
    asked: list[str | None] = []

    def rule(name: str | None = None) -> torch.device:
        asked.append(name)
        return torch.device("cpu")

    monkeypatch.setattr("al_charge.potentials.training.train.choose_device", rule)
    monkeypatch.setattr("al_charge.potentials.model_file.choose_device", rule)
    by_rule, told = (_trained(SMALL, tmp_path, device) for device in (None, "cpu"))
    assert asked == [None]
    assert by_rule.history == told.history
    write_model(tmp_path / "m", [told.potential])
    for device in (None, "cpu"):
        model = load(tmp_path / "m", device=device)
        assert isinstance(model, Potential) and model.device == torch.device("cpu")
    assert asked == [None, None, "cpu"]


def test_moved_and_back_it_is_the_same(tmp_path: Path) -> None:
    potential = untrained(SMALL)
    other = potential.to(device=torch.device("cpu"))
    (first,), (second,) = (p.predict([small_salt()]) for p in (potential, other))
    assert first.energy == second.energy
    assert other.module is not potential.module
    assert other.dtype == torch.float64


class Homeless(TorchFunctionMode):
    """Notes functions that make a tensor and are not told where: on a GPU it would be elsewhere."""

    MAKERS = (
        *(torch.arange, torch.zeros, torch.ones, torch.full, torch.empty, torch.eye),
        *(torch.tensor, torch.as_tensor, torch.linspace),
    )

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        made = func(*args, **(kwargs or {}))
        # CHGNet writes single numbers of the CPU into its own tensors, which works.
        if func in self.MAKERS and "device" not in (kwargs or {}) and made.numel() > 1:
            self.found.append(func.__name__)
        return made


@pytest.mark.parametrize("kind", KINDS)
def test_everything_is_made_where_the_network_is(kind: str) -> None:
    """In predictions, losses and batches of structures."""
    potential = untrained(KINDS[kind])
    atoms = small_salt()
    graph = potential.graph(atoms, find_neighbours(atoms, potential.neighbour_cutoff))
    (batch, *_) = prepare(potential, teacher_frames(1))
    table = BatchedCommittee(Committee([potential]), [atoms], torch.device("cpu"))
    places, of = torch.arange(len(atoms)), torch.zeros(len(atoms), dtype=torch.int64)
    geometry = torch.as_tensor(atoms.positions), torch.as_tensor(atoms.cell.array)[None]
    with Homeless() as mode:
        evaluate(potential.module, graph)
        errors(potential.module, 1.0, batch, training=True)
        table.evaluate(places, *geometry, of)
        assert mode.found == []
        torch.zeros(2)
    assert mode.found == ["zeros"]


def test_constants_of_mace_go_to_the_device_once(monkeypatch: pytest.MonkeyPatch) -> None:
    potential = untrained(KINDS["mace"])
    potential.module.float()
    convolution = potential.module.convolutions[0]
    atoms = small_salt()
    for _ in range(2):
        potential.predict([atoms])
    first = convolution._cast[0]
    assert first.dtype == torch.float32 and convolution.couplings[0].dtype == torch.float64
    potential.predict([atoms])
    assert convolution._cast[0] is first
    (single,) = potential.predict([atoms])
    potential.module.double()
    (double,) = potential.predict([atoms])
    assert convolution._cast[0].dtype == torch.float64
    assert double.energy == pytest.approx(single.energy, abs=1e-4)


def test_a_batch_goes_to_a_gpu_from_pinned_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of its tensors, and the CPU does not wait for any of them."""
    potential = untrained(SMALL)
    (batch, *_) = prepare(potential, teacher_frames(1))
    pinned, sent, to = [], [], torch.Tensor.to

    def pin(self: torch.Tensor) -> torch.Tensor:
        pinned.append(self)
        return self

    def send(self: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        if args[:1] != (GPU,):
            return to(self, *args, **kwargs)
        sent.append(kwargs.get("non_blocking", False))
        return self

    monkeypatch.setattr(torch.Tensor, "pin_memory", pin)
    monkeypatch.setattr(torch.Tensor, "to", send)
    batch.to(GPU)
    assert len(pinned) == len(sent) == 17 and all(sent)


def test_a_fresh_potential_leaves_the_random_state_of_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    seeded: list[int] = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeded.append)
    torch.manual_seed(3)
    assert seeded == [3]  # that would have been told
    before = torch.random.get_rng_state()
    untrained(SMALL)
    assert seeded == [3]
    assert torch.equal(torch.random.get_rng_state(), before)


@needs_gpu
@pytest.mark.parametrize("kind", KINDS)
def test_a_gpu_trains_as_a_cpu(kind: str, tmp_path: Path) -> None:
    """Two epochs in double precision, and a checkpoint that either goes on from."""
    cpu, gpu = (_trained(KINDS[kind], tmp_path, device) for device in ("cpu", "cuda:0"))
    assert gpu.potential.device.type == "cuda"
    for ours, theirs in zip(gpu.history, cpu.history, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-5)
    (tmp_path / "checkpoint-cuda:0").rename(tmp_path / "checkpoint-cpu")
    again = _trained(KINDS[kind], tmp_path, "cpu")
    assert again.history == gpu.history  # it had ended
    assert again.potential.device.type == "cpu"
