"""The denoise loop: a generator of immutable states that knows no model family.

The caller decides when to store a state. A loop resumed from a stored one, in another process even,
gives the same bits as the loop that never stopped.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from dreamontage.sampling.schedulers import history_of, restore_history
from dreamontage.sampling.state import DenoiseState
from dreamontage.sampling.task import Task


@dataclass(frozen=True, kw_only=True)
class Sampler:
    """How a segment is denoised. The model is called once a step, once more if the prompt guides
    (``guidance`` above 1), and once more if the conditions do (``image_guidance`` other than 1).
    """

    steps: int
    guidance: float
    guidance_low_noise: float | None = None  # for the second expert; None: the same
    image_guidance: float = 1.0


@torch.no_grad()
def denoise(task: Task, state: DenoiseState | None = None) -> Iterator[DenoiseState]:
    """Yield the state after every step, from the task's latents or from a stored ``state`` on.

    Args:
        state: resume after this one; it must come from an equal task.

    Raises:
        ValueError: if the state's generator cannot be that of the task.
    """
    timesteps = task.scheduler.timesteps
    total = len(timesteps)
    latents, done = task.latents, 0
    if state is not None:
        assert state.total == total, "a state belongs to the number of steps it was made with"
        latents, done = state.latents.to(latents.device), state.step
        _restore(task, state)
    for step, t in enumerate(timesteps[done:], start=done + 1):
        latents = task.step(latents, t)
        if step == total:
            latents = task.finish(latents)
        yield DenoiseState(
            step=step,
            total=total,
            latents=latents,
            scheduler=history_of(task.scheduler, latents.device),
            generator=None if task.generator is None else task.generator.get_state(),
        )


def _restore(task: Task, state: DenoiseState) -> None:
    """Put the task where the loop was that made the state."""
    restore_history(task.scheduler, state.scheduler, task.latents.device)
    if task.generator is None or state.generator is None:
        return
    try:
        task.generator.set_state(state.generator)
    except RuntimeError as error:
        raise ValueError("the state's generator was on another kind of device") from error
