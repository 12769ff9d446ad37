"""Devices by the names that users write, what models run in there, and moving tensors to one that
is busy."""

from __future__ import annotations

import torch
from torch import Tensor

from dreamontage.models.machine import machine_kind


def check(name: str) -> None:
    """Raises `ValueError` for a device that there is not, or that torch here cannot use."""
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ValueError(
            f"device = {name!r} must be cpu, cuda or one of several, as cuda:1"
        ) from None
    try:
        torch.empty(0, device=device)
    # A torch built without CUDA asserts.
    except (AssertionError, RuntimeError, NotImplementedError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f"device = {name!r} cannot be used here: {reason}") from None


def ship(tensor: Tensor, device: torch.device) -> Tensor:
    """To the device, without waiting until it has done what it was given: a plain copy would."""
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def precision(device: str) -> torch.dtype:
    """What models run in there, as `machine_kind` names it."""
    dtype: torch.dtype = getattr(torch, machine_kind(device).split()[1])
    return dtype
