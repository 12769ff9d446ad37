"""Guidance by the conditions: how far stills and clips lead a film, over how far they would; and
the temperature of the noise that it begins with."""

from __future__ import annotations

from collections import deque
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from torch import Tensor

from dreamontage import DreaMontagePipeline, Keyframe
from dreamontage.plan import Geometry, plan_shot
from dreamontage.request import placed
from dreamontage.sampling import Denoiser, Given, Unled, denoise

HEIGHT, WIDTH = 32, 64
WEIGHT = 2.5
ONCE: dict[str, Any] = {"height": HEIGHT, "width": WIDTH, "num_inference_steps": 1, "seed": 3}
"""After one step the latents are linear in the velocity, so films show what was made of it."""


def still(frame: int) -> Keyframe:
    pixels = np.random.default_rng(frame).integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    return Keyframe(image=pixels, frame=frame)


def latents(pipe: DreaMontagePipeline, *conditions: Keyframe, **how: Any) -> Tensor:
    made: Tensor = pipe(
        "a cat",
        conditions=conditions,
        num_frames=9,
        output_type="latent",
        **{**ONCE, "guidance_scale": 1.0, "max_sequence_length": 32} | how,
    ).frames
    return made


@pytest.fixture(params=["tiny_ours", "tiny_i2v", "tiny_ti2v", "tiny_a14b"])
def pipe(request: pytest.FixtureRequest) -> DreaMontagePipeline:
    """Conditions encoded alone, in a grey film, as clean latents, and for two experts."""
    return DreaMontagePipeline.from_pretrained(request.getfixturevalue(request.param))


def test_a_film_goes_as_many_times_as_far_where_its_conditions_lead_it(
    pipe: DreaMontagePipeline,
) -> None:
    free, led = latents(pipe), latents(pipe, still(4))
    farther = latents(pipe, still(4), image_guidance_scale=WEIGHT)
    expected = free + WEIGHT * (led - free)
    if pipe.config.expand_timesteps:  # the given latent stands as it was given
        expected[:, :, 1] = led[:, :, 1]
    assert not torch.allclose(free, led, atol=1e-2)
    assert torch.allclose(farther, expected, atol=1e-4)


@pytest.mark.parametrize("folder", ["tiny_i2v_clip", "tiny_flf2v"])
def test_a_model_with_an_image_encoder_is_led_too(
    request: pytest.FixtureRequest, folder: str
) -> None:
    """Its encoder sees the conditions in both calls, so what is led away from is no film of its
    own; but the way is the same, and the farther the heavier it weighs."""
    pipe = DreaMontagePipeline.from_pretrained(request.getfixturevalue(folder))
    once, twice, thrice = (
        latents(pipe, still(4), image_guidance_scale=weight, max_sequence_length=512)
        for weight in (1.0, 2.0, 3.0)
    )
    assert not torch.allclose(once, twice, atol=1e-2)
    assert torch.allclose(thrice - once, 2 * (twice - once), atol=1e-4)


def test_each_guidance_leads_in_its_own_direction(tiny_ours: Path) -> None:
    pipe = DreaMontagePipeline.from_pretrained(tiny_ours)
    led, free = latents(pipe, still(4)), latents(pipe)
    by_prompt = latents(pipe, still(4), guidance_scale=3.0)
    both = latents(pipe, still(4), guidance_scale=3.0, image_guidance_scale=WEIGHT)
    assert torch.allclose(both, by_prompt + (WEIGHT - 1) * (led - free), atol=1e-4)


def test_a_model_says_how_it_likes_to_be_led(tiny_ours: Path) -> None:
    pipe = DreaMontagePipeline.from_pretrained(tiny_ours)
    asked = latents(pipe, still(4), image_guidance_scale=WEIGHT)
    assert torch.equal(latents(pipe, still(4)), latents(pipe, still(4), image_guidance_scale=1.0))
    pipe.register_to_config(default_image_guidance=WEIGHT)
    assert torch.equal(latents(pipe, still(4)), asked)


@pytest.mark.parametrize("loop", [False, True])
def test_what_the_film_hands_over_is_no_condition(tiny_ours: Path, loop: bool) -> None:
    """A later window is led away from what the model would make of its tail, and of a loop's head,
    alone."""
    pipe = DreaMontagePipeline.from_pretrained(tiny_ours)
    pipe.register_to_config(window_latents=6)
    stills = [still(8), still(12)] if loop else [still(23)]
    plan = plan_shot(
        frames=24,
        fps=Fraction(16),
        prompts=(),
        conditions=placed(stills),
        seed=3,
        geometry=pipe.geometry,
        loop=loop,
    )
    window = plan.segments[-1]
    assert window.led
    assert window.tail
    assert bool(window.head) is loop
    handed_over = torch.ones(1, pipe.vae.config.z_dim, 6, HEIGHT // 8, WIDTH // 8)

    def film(*conditions: Keyframe, weight: float = 1.0) -> tuple[Tensor, int]:
        """The last window's latents, always after the same others; and how often it asked."""
        calls = 0

        def count(*_: Any) -> None:
            nonlocal calls
            calls += 1

        hook = pipe.transformer.register_forward_hook(count)
        states = pipe.denoise_segment(
            replace(window, led=bool(conditions)),
            track=pipe.track(conditions, HEIGHT, WIDTH),
            previous_BCLHW=handed_over,
            head_BCLHW=-handed_over if loop else None,
            height=HEIGHT,
            width=WIDTH,
            sampler=pipe.sampler(1, 1.0, image_guidance=weight),
        )
        made = deque(states, maxlen=1)[0].latents_BCLHW
        hook.remove()
        return made, calls

    free, _ = film()
    led, asked = film(*stills)
    farther, asked_twice = film(*stills, weight=WEIGHT)
    assert not torch.allclose(free, led, atol=1e-2)
    assert torch.allclose(farther, free + WEIGHT * (led - free), atol=1e-4)
    assert (asked, asked_twice) == (1, 2)
    # Where no condition leads there is nothing to be led by.
    again, once = film(weight=WEIGHT)
    assert torch.equal(again, free)
    assert once == 1


def test_a_window_is_led_by_what_reaches_behind_its_tail() -> None:
    """The planner lets windows end on conditions, which the next one has in its tail."""
    plan = plan_shot(
        frames=41,
        fps=Fraction(16),
        prompts=(),
        conditions=placed([still(0), still(20)]),
        seed=3,
        geometry=Geometry(window_latents=6, tail_latents=2),
    )
    found = [(part.start, part.stop, part.conditions, part.led) for part in plan.segments]
    assert found == [(0, 6, (0, 1), True), (4, 10, (1,), False), (8, 11, (), False)]


@dataclass
class Expert:
    """A denoiser's model that remembers what it was asked, and makes ones of it."""

    asked: list[Tensor]
    dtype: torch.dtype = torch.float32
    config: SimpleNamespace = field(default_factory=lambda: SimpleNamespace(patch_size=(1, 1, 1)))

    def cache_context(self, _: str) -> AbstractContextManager[None]:
        return nullcontext()

    def __call__(self, *, hidden_states: Tensor, **_: Any) -> tuple[Tensor]:
        self.asked.append(hidden_states)
        return (torch.ones_like(hidden_states),)


def test_both_calls_ask_the_expert_of_their_time() -> None:
    high, low = Expert([]), Expert([])
    denoiser = Denoiser(
        experts=[high, low],
        guidance=[1.0, 1.0],
        prompt_BSD=torch.zeros(1, 1, 1),
        negative_prompt_BSD=None,
        unled=Unled(guidance=WEIGHT, condition_BCLHW=None, given=None, pure_noise=1000),
        boundary=900,
    )
    for time, expected in ((950, (2, 0)), (100, (2, 2))):
        denoiser(torch.zeros(1, 1, 2, 1, 1), torch.tensor(time))
        assert (len(high.asked), len(low.asked)) == expected


def test_a_clean_latent_is_as_noisy_as_the_rest_where_it_is_not_given() -> None:
    """TI2V: the given latent stands clean in one call; to the other it is noise that fades."""
    expert, slots_L = Expert([]), torch.tensor([False, True, False])
    clean, noise = torch.full((1, 1, 3, 1, 1), 5.0), torch.randn(1, 1, 3, 1, 1)
    denoiser = Denoiser(
        experts=[expert],
        guidance=[1.0],
        prompt_BSD=torch.zeros(1, 1, 1),
        negative_prompt_BSD=None,
        given=Given(latents_BCLHW=clean, slots_L=slots_L),
        unled=Unled(guidance=WEIGHT, condition_BCLHW=None, given=None, pure_noise=1000),
    )
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    states = list(denoise(denoiser, scheduler, noise_BCLHW=noise, steps=6))
    levels = scheduler.from_config(scheduler.config)
    levels.set_timesteps(6)
    led, unled = expert.asked[::2], expert.asked[1::2]
    for level, sharp, noisy in zip(levels.sigmas[:-1], led, unled, strict=True):
        assert torch.equal(sharp[:, :, 1], clean[:, :, 1])
        assert torch.allclose(noisy[:, :, 1], torch.lerp(clean, noise, level)[:, :, 1], atol=1e-5)
    assert torch.equal(states[-1].latents_BCLHW[:, :, 1], clean[:, :, 1])


def test_a_model_says_how_much_noise_it_likes_to_begin_with(tiny_ours: Path) -> None:
    pipe = DreaMontagePipeline.from_pretrained(tiny_ours)
    z = pipe.vae.config.z_dim
    begun: list[Tensor] = []
    pipe.transformer.register_forward_pre_hook(
        lambda _, __, inputs: begun.append(inputs["hidden_states"][:, :z].clone()),
        with_kwargs=True,
    )
    latents(pipe)
    for channels in (2, None):
        pipe.register_to_config(temperature=0.5, tempered_channels=channels)
        latents(pipe)
    whole, some, every = begun
    assert torch.equal(some[:, :2], whole[:, :2] / 2)
    assert torch.equal(some[:, 2:], whole[:, 2:])
    assert torch.equal(every, whole / 2)
