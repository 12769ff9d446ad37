"""Moving tensors to a device that is busy, and what models run in there."""

from __future__ import annotations

import torch
from torch import Tensor

from dreamontage.keys import machine_kind


def ship(tensor: Tensor, device: torch.device) -> Tensor:
    """To the device, without waiting until it has done what it was given: a plain copy would."""
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def precision(device: str) -> torch.dtype:
    """What models run in there, as `keys.machine_kind` names it."""
    dtype: torch.dtype = getattr(torch, machine_kind(device).split()[1])
    return dtype
