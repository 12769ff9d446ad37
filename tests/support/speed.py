"""A segment of a tiny model with speed options, and how far its latents are off."""

from __future__ import annotations

import importlib.util
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from dreamontage import DreaMontagePipeline, Keyframe
from dreamontage.pipeline.acceleration import FirstBlock, Mag, SpeedOptions, TaylorSeer, apply
from dreamontage.planning.segments import Segment
from dreamontage.sampling.state import DenoiseState

STEPS = 8
SIDE = 64
STILL = Image.fromarray(np.random.default_rng(0).integers(0, 255, (SIDE, SIDE, 3), dtype=np.uint8))

FIRST_BLOCK = FirstBlock(threshold=0.2)
MAG = Mag(ratios=(1.0,) * STEPS)
TAYLOR = TaylorSeer(interval=3, warmup=2)
StepCache = FirstBlock | Mag | TaylorSeer
CACHES: list[StepCache] = [FIRST_BLOCK, MAG, TAYLOR]

EXACT = [
    SpeedOptions(),
    SpeedOptions(attention="native"),
    SpeedOptions(group_offload="leaf"),
    SpeedOptions(group_offload="block"),
    SpeedOptions(compile="aot_eager"),
]
# Options, and the largest relative error of their latents on the tiny model.
APPROXIMATE = [
    (SpeedOptions(step_cache=FIRST_BLOCK), 0.05),
    (SpeedOptions(step_cache=MAG), 0.05),
    (SpeedOptions(step_cache=TAYLOR), 0.02),
    (SpeedOptions(fp8_storage=True), 0.03),
    (SpeedOptions(fp8_storage=True, group_offload="leaf", step_cache=FIRST_BLOCK), 0.06),
]
torchao = importlib.util.find_spec("torchao")


def loaded(folder: Path, options: SpeedOptions | None = None) -> DreaMontagePipeline:
    pipe = DreaMontagePipeline.from_pretrained(folder)
    if options is not None:
        apply(pipe, options)
    return pipe


def states_of(
    pipe: DreaMontagePipeline,
    latents: int = 3,
    *,
    steps: int = STEPS,
    image_guidance: float = 1.0,
    state: DenoiseState | None = None,
) -> Iterator[DenoiseState]:
    """A segment of so many latents. Its prompt and its noise follow from its length."""
    segment = Segment(
        index=0,
        start=0,
        stop=latents,
        tail=0,
        prompt=f"{latents} cats",
        conditions=(0,),
        seed=latents,
        has_image_condition=True,
    )
    return pipe.denoise_segment(
        segment,
        track=pipe.track([Keyframe(image=STILL, frame=0)], SIDE, SIDE),
        previous_BCLHW=None,
        height=SIDE,
        width=SIDE,
        sampler=pipe.sampler(steps, 3.0, image_guidance=image_guidance),
        state=state,
    )


def latents_of(
    pipe: DreaMontagePipeline,
    latents: int = 3,
    *,
    image_guidance: float = 1.0,
    state: DenoiseState | None = None,
) -> Tensor:
    """The latents of that segment's last state."""
    states = states_of(pipe, latents, image_guidance=image_guidance, state=state)
    return deque(states, maxlen=1)[0].latents_BCLHW


def relative_error(latents: Tensor, reference: Tensor) -> float:
    return float((latents - reference).norm() / reference.norm())


def option_id(value: object) -> str:
    """An id for a parameter: an option's name and, where it is short, its setting."""
    if not isinstance(value, SpeedOptions):
        return "says"
    chosen = (f"{key}={str(setting).split('(')[0]}" for key, setting in value.chosen.items())
    return "+".join(chosen) or "none"


def cache_id(cache: StepCache) -> str:
    return type(cache).__name__


@pytest.fixture(scope="module")
def plain_latents(tiny_i2v: Path) -> dict[int, Tensor]:
    """Latents without any option, of segments of 2 and of 3 latents."""
    pipe = loaded(tiny_i2v)
    return {length: latents_of(pipe, length) for length in (2, 3)}


def check_rank(folder: str) -> None:
    """What one of two processes checks that share a sequence."""
    torch.distributed.init_process_group("gloo")
    # diffusers takes the rank modulo the number of accelerators, which is none on a CPU.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.accelerator, "device_count", lambda: 1)
        _check_rank(Path(folder))


def _check_rank(folder: Path) -> None:
    whole = latents_of(loaded(folder))
    pipe = loaded(folder, SpeedOptions(context_parallel=2))
    assert torch.equal(latents_of(pipe), whole)
    with pytest.raises(ValueError, match="context_parallel = 3 needs as many processes"):
        loaded(folder, SpeedOptions(context_parallel=3))
    odd = Segment(index=0, start=0, stop=3, tail=0, prompt="", conditions=(), seed=0)
    with pytest.raises(
        ValueError, match="must divide a window's tokens; 3 latents of 48x48 are 27"
    ):
        pipe.denoise_segment(
            odd,
            track=pipe.track([], 48, 48),
            previous_BCLHW=None,
            height=48,
            width=48,
            sampler=pipe.sampler(),
        )
