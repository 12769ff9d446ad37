"""Draft starts: denoising that begins in the middle of the schedule, in a film that is noised."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dreamontage.sampling.schedulers import with_timesteps
from dreamontage.sampling.state import DenoiseState


def start_step(scheduler: Any, steps: int, strength: float) -> tuple[int, float]:
    """The first of the ``steps`` whose noise level is at most ``strength``, and that level.

    Raises:
        ValueError: if ``strength`` is not in (0, 1], or the schedule has no step that low; or for a
            second-order scheduler, in whose steps one cannot begin halfway.
    """
    if not 0 < strength <= 1:
        raise ValueError(f"strength = {strength} must lie above 0 and be at most 1")
    scheduler = with_timesteps(scheduler, steps)
    if len(scheduler.timesteps) != steps:
        raise ValueError(
            f"a draft start needs a scheduler of one timestep a step, and {steps} steps of "
            f"{type(scheduler).__name__} have {len(scheduler.timesteps)}"
        )
    levels = scheduler.sigmas[:-1].tolist()
    for step, level in enumerate(levels):
        if level <= strength:
            return step, level
    raise ValueError(
        f"strength = {strength} is below the last noise level of {steps} steps, {levels[-1]:.3f}: "
        "raise it, or the steps"
    )


def noised_state(
    scheduler: Any, *, steps: int, strength: float, film: Tensor, noise: Tensor
) -> DenoiseState:
    """The state from which a film's latents, noised to ``strength``, are denoised.

    Args:
        film, noise: of one shape.

    Raises:
        ValueError: as `start_step`.
    """
    step, level = start_step(scheduler, steps, strength)
    return DenoiseState(
        step=step,
        total=steps,
        latents=torch.lerp(film, noise, level),
        scheduler={},  # no history: a multistep solver begins here as it does at the first step
    )
