"""What it costs to store a denoise state, and to read it back."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import UniPCMultistepScheduler
from torch import Tensor

from bench import models
from bench.clock import DEVICE, between, now, seconds
from bench.models import SHAPE, Size
from bench.speed import GUIDANCE, PROMPT
from dreamontage.planning.segments import Segment
from dreamontage.sampling.denoise import denoise
from dreamontage.sampling.schedulers import scheduler_step, with_timesteps
from dreamontage.sampling.state import DenoiseState, state_from_bytes, state_to_bytes

_REPEATS = 9


@dataclass(frozen=True, kw_only=True)
class _Nothing:
    """A task without a model: for the state's size, only the shape of its velocity matters."""

    latents: Tensor
    scheduler: Any
    generator: torch.Generator | None = None

    def step(self, latents: Tensor, t: Tensor) -> Tensor:
        return scheduler_step(self.scheduler, torch.zeros_like(latents), t, latents)

    def finish(self, latents: Tensor) -> Tensor:
        return latents


def table(folder: Path) -> list[tuple[str, int, float, float, float | None]]:
    """What, bytes, seconds to write, seconds to read, seconds of one denoise step if measured.

    The history of UniPC is full from its second step on, so a later state is no larger.
    """
    pipe = models.ours(folder)
    size: Size = {"height": SHAPE.call["height"], "width": SHAPE.call["width"]}
    latents = 1 + (SHAPE.call["num_frames"] - 1) // 4
    segment = Segment(index=0, start=0, stop=latents, tail=0, prompt=PROMPT, conditions=(), seed=0)
    states = pipe.denoise_segment(
        segment,
        track=pipe.track([], **size),
        previous_BCLHW=None,
        **size,
        sampler=pipe.sampler(SHAPE.steps, GUIDANCE),
        max_sequence_length=SHAPE.call["max_sequence_length"],
    )
    step, state = _timed(states)
    scheduler: Any = UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
    )
    noise_BCLHW = torch.randn(1, 16, 21, 60, 104).to(DEVICE)
    scheduler = with_timesteps(scheduler, 4, noise_BCLHW.device)
    _, real = _timed(denoise(_Nothing(latents=noise_BCLHW, scheduler=scheduler)))
    return [
        (f"this bench's: {SHAPE.name.split('; ')[1]}", *_cost(state), step),
        ("Wan 480p: 81 frames of 832x480", *_cost(real), None),
    ]


def _timed(states: Iterator[DenoiseState]) -> tuple[float, DenoiseState]:
    """The median time of a step, and the third state."""
    seen, stamps = [], []
    for state in states:
        seen.append(state)
        stamps.append(now())
    return between(stamps), seen[2]


def _cost(state: DenoiseState) -> tuple[int, float, float]:
    data = state_to_bytes(state)
    write = statistics.median(seconds(lambda: state_to_bytes(state)) for _ in range(_REPEATS))
    read = statistics.median(seconds(lambda: state_from_bytes(data)) for _ in range(_REPEATS))
    return len(data), write, read
