"""What a model family prepares for the denoise loop."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor


class Task(Protocol):
    """One run of the denoise loop, prepared by a model family.

    A task is for one run: its scheduler gathers a history. The loop asks nothing of the latents'
    shape, so a family may denoise a window of video, tokens, or a window with references in front.
    """

    @property
    def latents(self) -> Tensor:
        """Where the loop starts, on the device on which it runs; with a state, only the device
        counts.
        """
        ...

    @property
    def scheduler(self) -> Any:
        """A diffusers scheduler of the task's own. Its timesteps, which the family has set, are the
        loop's.
        """
        ...

    @property
    def generator(self) -> torch.Generator | None:
        """Where a scheduler that draws noise draws it from. Its state is part of every state."""
        ...

    def step(self, latents: Tensor, t: Tensor) -> Tensor:
        """The latents after the step at timestep ``t``: the model is called, guided, and the
        scheduler's step is made.
        """
        ...

    def finish(self, latents: Tensor) -> Tensor:
        """The result, from the latents after the last step: clean latents put back, for example."""
        ...
