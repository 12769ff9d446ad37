"""Every speed option that runs here: how much faster, how far off, and what it says of itself."""

from __future__ import annotations

import importlib.util
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch

from bench.clock import DEVICE, in_turns, seconds
from bench.models import Size
from dreamontage import DreaMontagePipeline
from dreamontage.pipeline.acceleration import (
    FirstBlock,
    Mag,
    SpeedOptions,
    TaylorSeer,
    apply,
    describe,
    mag_ratios,
    resumable,
)
from dreamontage.planning.segments import Segment
from dreamontage.sampling.state import DenoiseState


@dataclass(frozen=True, kw_only=True)
class Row:
    options: SpeedOptions
    says: str
    resumable: bool
    ratio: float  # seconds of a segment with the options over seconds without
    error: float  # |with - without| / |without|, over the segment's latents


def table(
    load: Callable[[], DreaMontagePipeline],
    *,
    size: Size,
    latents: int,
    steps: int,
    turns: int,
    compile: bool,
) -> Iterator[Row]:
    """Yield a row an option, as soon as it is measured.

    Args:
        load: a new pipeline on the device; options are not undone.
        size: ``height`` and ``width``.
        compile: also torch's compiler, which takes minutes on a CPU.
    """
    plain = load()

    def states(pipe: DreaMontagePipeline) -> Iterator[DenoiseState]:
        prompt = "a red ball; pan left"
        segment = Segment(
            index=0, start=0, stop=latents, tail=0, prompt=prompt, conditions=(), seed=1
        )
        return pipe.denoise_segment(
            segment,
            track=pipe.track([], **size),
            previous_BCLHW=None,
            **size,
            sampler=pipe.sampler(steps),
        )

    def run(pipe: DreaMontagePipeline) -> torch.Tensor:
        return deque(states(pipe), maxlen=1)[0].latents_BCLHW

    reference_BCLHW = run(plain)
    ratios = mag_ratios(plain.transformer, states(plain))
    for options in _choices(ratios, compile):
        pipe = load()
        apply(pipe, options)
        off = (run(pipe) - reference_BCLHW).norm() / reference_BCLHW.norm()
        *_, ratio = in_turns(
            partial(seconds, partial(run, pipe)), partial(seconds, partial(run, plain)), turns
        )
        (effect,) = describe(options)
        yield Row(
            options=options,
            says=effect.exactness,
            resumable=resumable(options),
            ratio=ratio,
            error=float(off),
        )


def _choices(ratios: tuple[float, ...], compile: bool) -> Iterator[SpeedOptions]:
    yield SpeedOptions(attention="native")
    yield SpeedOptions(attention="_native_cudnn" if DEVICE.type == "cuda" else "_native_math")
    for threshold in (0.05, 0.15):
        yield SpeedOptions(step_cache=FirstBlock(threshold=threshold))
    yield SpeedOptions(step_cache=Mag(ratios=ratios))
    yield SpeedOptions(step_cache=TaylorSeer(interval=3, warmup=2))
    yield SpeedOptions(group_offload="block")
    yield SpeedOptions(group_offload="leaf")
    yield SpeedOptions(fp8_storage=True)
    if importlib.util.find_spec("torchao") is not None:
        yield SpeedOptions(quantise="int8")
    if compile:
        yield SpeedOptions(compile="inductor")
