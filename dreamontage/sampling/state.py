"""The state of a denoise loop: immutable, and stored as one safetensors file, never as a pickle.

A state holds everything that the loop cannot make again: the latents, the scheduler's history and
the state of the random generator. So a loop resumed from a stored state, in another process even,
gives the same bits as a loop that never stopped.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load as tensors_from_bytes
from safetensors.torch import save as tensors_to_bytes
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class DenoiseState:
    """The loop after ``step`` of ``total`` steps.

    ``latents``: of the shape that the task's family denoises: (B, C, L, H, W) for a window of
        video, (B, S, C) for a family that denoises tokens, with or without appended references.
    ``scheduler``: the scheduler's multistep history.
    ``generator``: the state of the task's random generator, uint8; None where the task has none,
        and in states that were stored before states held it.
    """

    step: int
    total: int
    latents: Tensor
    scheduler: Mapping[str, Any]
    generator: Tensor | None = None

    @property
    def done(self) -> bool:
        return self.step == self.total

    @property
    def latents_BCLHW(self) -> Tensor:  # noqa: N802
        """The latents of a window of video: batch, channels, latent frames, height, width."""
        assert self.latents.ndim == 5, f"latents of shape {tuple(self.latents.shape)} are no video"
        return self.latents


def state_to_bytes(state: DenoiseState) -> bytes:
    """A state as one safetensors file; numbers and structure are in the file's header."""
    tensors: dict[str, Tensor] = {"latents": state.latents.detach().cpu().contiguous()}

    def flatten(value: Any) -> Any:
        if isinstance(value, Tensor):
            name = f"scheduler.{len(tensors)}"
            # A clone each: safetensors refuses tensors that share memory.
            tensors[name] = value.detach().cpu().clone().contiguous()
            return {"tensor": name}
        if isinstance(value, Mapping):
            return {"dict": {key: flatten(item) for key, item in value.items()}}
        if isinstance(value, (list, tuple)):
            return [flatten(item) for item in value]
        assert value is None or isinstance(value, (bool, int, float, str)), (
            f"{type(value)} in a scheduler's state"
        )
        return value

    header = {"step": state.step, "total": state.total, "scheduler": flatten(state.scheduler)}
    if state.generator is not None:
        tensors["generator"] = state.generator.cpu().clone()
    return tensors_to_bytes(tensors, metadata={"denoise_state": json.dumps(header)})


def state_from_bytes(data: bytes) -> DenoiseState:
    """The inverse of :func:`state_to_bytes`; tensors are on the CPU.

    Raises:
        ValueError: if ``data`` is no stored state.
    """
    try:
        length = int.from_bytes(data[:8], "little")
        header = json.loads(json.loads(data[8 : 8 + length])["__metadata__"]["denoise_state"])
        tensors = tensors_from_bytes(data)
    except (KeyError, ValueError, SafetensorError) as error:
        raise ValueError("these bytes are no stored denoise state") from error

    def build(value: Any) -> Any:
        if isinstance(value, list):
            return [build(item) for item in value]
        if isinstance(value, dict):
            if "tensor" in value:
                return tensors[value["tensor"]]
            return {key: build(item) for key, item in value["dict"].items()}
        return value

    return DenoiseState(
        step=header["step"],
        total=header["total"],
        latents=tensors["latents"],
        scheduler=build(header["scheduler"]),
        generator=tensors.get("generator"),
    )
