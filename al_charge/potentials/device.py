"""Where networks compute: one rule for training and prediction."""

from __future__ import annotations

import os

import torch

from al_charge.errors import InputError


def choose_device(name: str | None = None) -> torch.device:
    """Return the device to compute on: the one that is named, or else a GPU if there is one.

    Processes that ``torchrun`` started have a GPU each, in their order on the machine.

    Parameters
    ----------
    name
        ``cpu``, ``cuda``, or one GPU of several, such as ``cuda:1``.

    Returns
    -------
    torch.device
        A CPU, or a GPU with its number.

    Raises
    ------
    InputError
        If there is no such device.
    """
    name = name or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise _refused(f"there is no device '{name}'") from error
    if device.type == "cpu":
        return torch.device("cpu")
    if device.type != "cuda":
        raise _refused(f"networks cannot run on '{device.type}'")
    index = int(os.environ.get("LOCAL_RANK", "0")) if device.index is None else device.index
    if not torch.cuda.is_available():
        raise _refused("torch finds no GPU")
    if index >= torch.cuda.device_count():
        raise _refused(
            f"torch finds {torch.cuda.device_count()} GPUs, so there is no number {index}"
        )
    return torch.device("cuda", index)


def _refused(what: str) -> InputError:
    return InputError(what, where="--device", remedy="give cpu, cuda, or one GPU such as cuda:0")
