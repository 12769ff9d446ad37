"""Measuring the magnitudes of a model's residuals, which MagCache needs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from dreamontage.sampling.state import DenoiseState


def mag_ratios(model: Any, states: Iterator[DenoiseState]) -> tuple[float, ...]:
    """Measure the ratios that :class:`Mag` needs, over one segment without a cache.

    Args:
        model: the pipeline's transformer.
        states: what ``pipe.denoise_segment`` returned; it is run to its end. The ratios hold for
            its number of steps and are good enough for other windows, prompts and seeds.
    """
    inputs: list[Tensor] = []
    residuals: list[Tensor] = []

    def enter(_: nn.Module, args: tuple[Any, ...]) -> None:
        inputs.append(args[0])

    def leave(_: nn.Module, __: tuple[Any, ...], output: Tensor) -> None:
        residuals.append(torch.linalg.norm((output - inputs.pop()).float(), dim=-1))

    ratios: list[float] = []
    before: Tensor | None = None
    hooks = [
        model.blocks[0].register_forward_pre_hook(enter),
        model.blocks[-1].register_forward_hook(leave),
    ]
    try:
        for _ in states:
            guided = residuals[0]  # the call without the prompt comes after it
            ratios.append(1.0 if before is None else (guided / (before + 1e-8)).mean().item())
            before = guided
            residuals.clear()
    finally:
        for hook in hooks:
            hook.remove()
    return tuple(ratios)
