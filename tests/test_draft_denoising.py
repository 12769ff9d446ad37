"""A draft start in the pipeline: where denoising begins, and what it begins from."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from dreamontage import Clip, DreaMontagePipeline, Keyframe
from dreamontage.models import autoencoder
from dreamontage.pipeline.acceleration import Mag, SpeedOptions, apply
from dreamontage.pipeline.interpolation import FrameInterpolation
from dreamontage.pipeline.sar import fuse
from dreamontage.planning.segments import plan_shot
from dreamontage.sampling.conditioning.pictures import pixels
from dreamontage.sampling.start import start_step
from dreamontage.sampling.state import DenoiseState, state_from_bytes, state_to_bytes
from tests.support.plans import FIVE, plan, still
from tests.support.scorer_films import camera, world

HEIGHT, WIDTH, FRAMES, STEPS = 32, 48, 21, 6
PICTURES = [
    np.asarray(each)[:HEIGHT, :WIDTH] for each in camera(world(2), FRAMES, size=(WIDTH, HEIGHT))
]
CONDITIONS: list[Keyframe | Clip] = [
    Keyframe(image=PICTURES[0], frame=0),
    Keyframe(image=PICTURES[20], frame=20),
]
CALL: dict[str, Any] = {
    "conditions": CONDITIONS,
    "height": HEIGHT,
    "width": WIDTH,
    "num_frames": FRAMES,
    "num_inference_steps": STEPS,
    "guidance_scale": 1.0,
    "output_type": "latent",
}


def film_of(pipe: DreaMontagePipeline, **overrides: Any) -> Tensor:
    output: Any = pipe("", **CALL | overrides)
    latents: Tensor = output.frames
    return latents


def relative_error(one: Tensor, other: Tensor) -> float:
    return float((one - other).norm() / other.norm())


def test_the_lower_the_strength_the_more_of_the_draft_stays(tiny_ours: Path) -> None:
    pipe = DreaMontagePipeline.from_pretrained(tiny_ours)
    whole = autoencoder.encode(pipe.vae, pixels(PICTURES, HEIGHT, WIDTH))
    errors = [
        relative_error(film_of(pipe, draft=PICTURES, strength=strength), whole)
        for strength in (0.55, 0.8, 1.0)
    ]
    assert errors == sorted(errors)
    without = film_of(pipe)
    assert errors[0] < relative_error(without, whole) / 2
    assert not torch.equal(film_of(pipe, draft="auto", strength=0.6), without)
    assert torch.equal(film_of(pipe, draft=None, strength=0.6), without), "never the default"


@torch.no_grad()
def test_each_window_starts_from_its_own_part_of_the_draft(tiny_ours: Path) -> None:
    """Written out: the draft is encoded from the window's first frame on, and the tail replaces its
    first latent."""
    pipe = DreaMontagePipeline.from_pretrained(tiny_ours)
    segments = plan_shot(
        frames=FRAMES,
        fps=Fraction(16),
        prompts=[],
        conditions=[still(0), still(20, 1)],
        seed=0,
        geometry=pipe.geometry,
    ).segments
    assert [(each.start, each.stop) for each in segments] == [(0, 4), (3, 6)]
    step, level = start_step(pipe.scheduler, STEPS, 0.8)
    assert 0 < step < STEPS
    track = pipe.track(CONDITIONS, HEIGHT, WIDTH)
    made: list[Tensor] = []
    text, _ = pipe.encode_prompt("", "", False, max_sequence_length=32)
    for segment in segments:
        pictures = PICTURES[4 * segment.start : 4 * segment.start + 4 * segment.latents - 3]
        drafted = autoencoder.encode(pipe.vae, pixels(pictures, HEIGHT, WIDTH))
        tail = made[-1][:, :, -1:] if made else None
        if tail is not None:
            drafted[:, :, :1] = tail
        generator = torch.Generator().manual_seed(segment.seed)
        latents = torch.lerp(drafted, torch.randn(drafted.shape, generator=generator), level)
        condition = track.channels(segment, tail, latents)
        scheduler = type(pipe.scheduler).from_config(pipe.scheduler.config)
        scheduler.set_timesteps(STEPS)
        for t in scheduler.timesteps[step:]:
            velocity = pipe.transformer(torch.cat([latents, condition], 1), t[None], text).sample
            latents = scheduler.step(velocity, t, latents).prev_sample
        made.append(latents)
    expected = torch.cat(list(fuse(zip(segments, made, strict=True))), dim=2)
    assert torch.equal(film_of(pipe, draft=PICTURES, strength=0.8), expected)


def test_an_automatic_draft_is_one_of_the_pictures_between_the_conditions(tiny_ours: Path) -> None:
    pipe = DreaMontagePipeline.from_pretrained(tiny_ours)
    drawn = FrameInterpolation({0: PICTURES[0], 20: PICTURES[20]})(range(FRAMES))
    auto = film_of(pipe, draft="auto", strength=0.7)
    assert torch.equal(auto, film_of(pipe, draft=drawn, strength=0.7))


def test_an_automatic_draft_of_a_loop_is_cyclic(tiny_ours: Path) -> None:
    pipe = DreaMontagePipeline.from_pretrained(tiny_ours)
    loop = {"conditions": CONDITIONS[:1], "num_frames": 20, "loop": True, "strength": 0.7}
    auto = film_of(pipe, draft="auto", **loop)
    assert torch.equal(auto, film_of(pipe, draft=[PICTURES[0]] * 20, **loop))


def test_a_drafted_segment_is_resumed_as_any_other(tiny_ours: Path) -> None:
    pipe = DreaMontagePipeline.from_pretrained(tiny_ours)
    segment = plan(17, geometry=FIVE, seed=0).segments[0]

    def states(state: DenoiseState | None = None) -> Iterator[DenoiseState]:
        return pipe.denoise_segment(
            segment,
            track=pipe.track([], HEIGHT, WIDTH),
            previous_BCLHW=None,
            draft=PICTURES[:17],
            strength=0.8,
            height=HEIGHT,
            width=WIDTH,
            sampler=pipe.sampler(STEPS, 1.0),
            state=state,
        )

    whole = list(states())
    assert whole[0].step > 1, "the steps above the strength are left out"
    stored = state_from_bytes(state_to_bytes(whole[0]))
    assert torch.equal(list(states(stored))[-1].latents_BCLHW, whole[-1].latents_BCLHW)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"draft": "auto", "conditions": []}, "draft = 'auto' needs a condition to make one of"),
        ({"draft": "best"}, "draft = 'best' must be 'auto', or a picture for every frame"),
        ({"draft": PICTURES[:20]}, "draft has 20 pictures, and the shot 21 frames"),
        ({"draft": "auto", "strength": 0.0}, r"strength = 0.0 must lie above 0 and be at most 1"),
        ({"draft": "auto", "strength": 0.01}, "strength = 0.01 is below the last noise level of 6"),
    ],
)
def test_a_wrong_draft_names_its_rule(
    tiny_ours: Path, overrides: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        film_of(DreaMontagePipeline.from_pretrained(tiny_ours), **overrides)


def test_a_cache_that_counts_steps_takes_no_draft(tiny_ours: Path) -> None:
    pipe = DreaMontagePipeline.from_pretrained(tiny_ours)
    apply(pipe, SpeedOptions(step_cache=Mag(ratios=(1.0,) * STEPS)))
    with pytest.raises(ValueError, match="a draft start has fewer"):
        film_of(pipe, draft="auto", strength=0.8)
