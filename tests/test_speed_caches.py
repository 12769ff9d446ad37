"""Step caches: where they start, which calls they separate, and what they refuse."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import MagCacheConfig

from dreamontage.pipeline.acceleration import (
    Mag,
    SpeedOptions,
    mag_ratios,
    resumable,
)
from tests.support.speed import (
    APPROXIMATE,
    CACHES,
    FIRST_BLOCK,
    MAG,
    SIDE,
    STEPS,
    StepCache,
    cache_id,
    latents_of,
    loaded,
    relative_error,
    states_of,
)


@pytest.mark.parametrize("cache", CACHES, ids=cache_id)
def test_caches_start_empty_at_every_segment(cache: StepCache, tiny_i2v: Path) -> None:
    options = SpeedOptions(step_cache=cache)
    alone = {length: latents_of(loaded(tiny_i2v, options), length) for length in (2, 3)}
    pipe = loaded(tiny_i2v, options)
    for length in (3, 2, 2, 3):
        assert torch.equal(latents_of(pipe, length), alone[length])
    interrupted = states_of(pipe)
    for _ in range(4):
        next(interrupted)
    assert torch.equal(latents_of(pipe, 3), alone[3])


@pytest.mark.parametrize("cache", CACHES, ids=cache_id)
def test_a_cache_separates_the_calls_of_each_guidance(cache: StepCache, tiny_i2v: Path) -> None:
    """With both guidances a step has three calls, each with a history of its own."""
    (bound,) = (most for options, most in APPROXIMATE if options.chosen == {"step_cache": cache})
    pipe = loaded(tiny_i2v, SpeedOptions(step_cache=cache))
    reference = latents_of(loaded(tiny_i2v), image_guidance=2.0)
    assert 0 < relative_error(latents_of(pipe, image_guidance=2.0), reference) < bound


def test_a_shot_of_segments_goes_through_a_cache(tiny_ours: Path) -> None:
    """The pipeline's own call, SAR and all, gives the same shot twice."""
    pipe = loaded(tiny_ours, SpeedOptions(step_cache=FIRST_BLOCK))
    call: dict[str, Any] = {
        "height": SIDE,
        "width": SIDE,
        "num_frames": 37,
        "output_type": "latent",
    }
    films: list[Any] = [each("a cat", **call) for each in (pipe, pipe, loaded(tiny_ours))]
    first, second, plain = films
    assert torch.equal(second.frames, first.frames)
    assert 0 < relative_error(first.frames, plain.frames) < 0.05


@pytest.mark.parametrize("cache", CACHES, ids=cache_id)
def test_a_cache_refuses_to_resume(cache: StepCache, tiny_i2v: Path) -> None:
    options = SpeedOptions(step_cache=cache)
    assert not resumable(options)
    pipe = loaded(tiny_i2v, options)
    state = next(states_of(pipe))
    with pytest.raises(ValueError, match=r"state: .* cannot go on from step 1 with step_cache"):
        states_of(pipe, state=state)


def test_mag_ratios_are_those_that_diffusers_measures(
    tiny_i2v: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pipe = loaded(tiny_i2v)
    ours = mag_ratios(pipe.transformer, states_of(pipe))
    pipe.transformer.enable_cache(
        MagCacheConfig(calibrate=True, num_inference_steps=STEPS, mag_ratios=None)
    )
    capsys.readouterr()
    latents_of(pipe)
    # It prints a list for each of the two calls of a step, the one with the prompt first.
    printed = [line for line in capsys.readouterr().out.splitlines() if line.startswith("[1.0")]
    assert ours == pytest.approx(ast.literal_eval(printed[0]), rel=1e-4)
    assert len(set(ours)) == STEPS
    assert latents_of(loaded(tiny_i2v, SpeedOptions(step_cache=Mag(ratios=ours)))).isfinite().all()


def test_mag_refuses_another_number_of_steps(tiny_i2v: Path) -> None:
    pipe = loaded(tiny_i2v, SpeedOptions(step_cache=MAG))
    with pytest.raises(ValueError, match=r"holds 8 numbers, one a step, and .* has 5 steps"):
        states_of(pipe, steps=5)
