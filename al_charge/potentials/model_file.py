"""Potentials in files: configuration, weights and how they were trained, never a pickle."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from al_charge.crystal.bounded import limited
from al_charge.errors import AlChargeError, InputError
from al_charge.potentials.checkpoint import read_checkpoint, write_checkpoint
from al_charge.potentials.committee import Committee
from al_charge.potentials.device import choose_device
from al_charge.potentials.plugin import POTENTIALS, NetworkSettings
from al_charge.potentials.potential import Potential
from al_charge.potentials.state import settings_of

TRAINING = "training"
"""Entry of a model file that says how it was trained."""
_MEMBERS = "members"


def write_model(
    path: Path, members: Sequence[Potential], training: Mapping[str, Any] | None = None
) -> None:
    """Write a potential, or several as a committee, to one safetensors file.

    A file with one potential is also a foundation model to start a campaign's potentials from.

    Parameters
    ----------
    path
        Replaced in one step if it is there.
    members
        At least one.
    training
        How they were trained; JSON-serialisable.
    """
    about = {TRAINING: dict(training)} if training else {}
    if len(members) == 1:
        config, weights = members[0].state()
        write_checkpoint(path, weights, config | about)
        return
    configs = []
    tensors: dict[str, Tensor] = {}
    for number, member in enumerate(members):
        config, weights = member.state()
        configs.append(config)
        tensors |= {f"{number}.{name}": value for name, value in weights.items()}
    write_checkpoint(path, tensors, {_MEMBERS: configs} | about)


def read_members(path: Path) -> tuple[list[Potential], dict[str, Any]]:
    """Return the potentials of a file, and how they were trained.

    Parameters
    ----------
    path
        File that ``write_model`` wrote.

    Returns
    -------
    members : list of Potential
        At least one, on the CPU.
    training : dict
        How they were trained; empty where the file does not say.

    Raises
    ------
    InputError
        If the file is missing, is not a model, or is one that this release cannot read.
    """
    if not path.is_file():
        raise InputError("no such file", where=str(path), remedy="give a file of 'al-charge train'")
    with limited(path):
        found = read_checkpoint(path)
    if found is None or not {"settings", _MEMBERS} & set(found[1]):
        raise InputError(
            "it is not a model of al-charge",
            where=str(path),
            remedy="give a file that 'al-charge train' wrote",
        )
    tensors, facts = found
    states = [(facts, tensors)]
    if _MEMBERS in facts:
        parts = _parts(tensors)
        states = [(c, parts.get(str(n), {})) for n, c in enumerate(facts[_MEMBERS])]
    damaged = InputError(
        "it is damaged, or from another release of al-charge",
        where=str(path),
        remedy="train it again",
    )
    if not states:
        raise damaged
    try:
        for settings in _kinds(path, [config for config, _ in states]):
            POTENTIALS.of(settings).architecture()  # MACE takes 300 MB, which are not the file's
        with limited(path), _on_one_thread(), _memory_of_torch():
            members = [Potential.from_state(config, weights) for config, weights in states]
    except InputError:
        raise
    except AlChargeError as error:
        raise InputError(error.what, where=str(path), remedy=error.remedy) from error
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RuntimeError) as error:
        raise damaged from error
    return members, dict(facts.get(TRAINING, {}))


def load_model(path: Path | str, device: str | None = None) -> Potential | Committee:
    """Return the potential of a file, or the committee if it holds several.

    Parameters
    ----------
    path
        File that ``write_model`` wrote.
    device
        Where it is to compute: `al_charge.potentials.device.choose_device`.

    Returns
    -------
    Potential or Committee
        On the device.

    Raises
    ------
    InputError
        See ``read_members``; or if there is no such device.
    """
    place = choose_device(device)
    members, training = read_members(Path(path))
    for member in members:
        member.module.to(place)
    if len(members) == 1:
        return members[0]
    return Committee(members, spread_scale=float(training.get("spread_scale", 1.0)))


def _kinds(path: Path, configs: Sequence[dict[str, Any]]) -> Iterable[NetworkSettings]:
    """Return settings of each kind of network."""
    with limited(path):
        return {one.kind: one for one in map(settings_of, configs)}.values()


@contextmanager
def _on_one_thread() -> Iterator[None]:
    """Let torch start no threads: each reserves addresses, by which memory is limited."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _memory_of_torch() -> Iterator[None]:
    """Tell a lack of memory as Python does."""
    try:
        yield
    except RuntimeError as error:
        if "allocate memory" in str(error):
            raise MemoryError from error
        raise


def _parts(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Return the tensors of each member, by its number."""
    parts: dict[str, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        number, _, rest = name.partition(".")
        parts.setdefault(number, {})[rest] = value
    return parts
