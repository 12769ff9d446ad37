"""Guidance by the conditions: how far stills and clips move a film, over how far they would by
themselves; the scale of the noise that a film begins with; and the calls of a step in one batch.
"""

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
from dreamontage.families.wan import WanModel
from dreamontage.families.wan_text import WanTextTask
from dreamontage.families.wan_ti2v import WanTi2vTask
from dreamontage.pipeline.acceleration import SpeedOptions, apply
from dreamontage.pipeline.request import placed
from dreamontage.planning.geometry import Geometry
from dreamontage.planning.segments import plan_shot
from dreamontage.sampling.conditioning.model_inputs import CleanLatents
from dreamontage.sampling.denoise import denoise
from dreamontage.sampling.guiders import Branch, ImageGuidance
from dreamontage.sampling.schedulers import with_timesteps

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
def guided_pipe(request: pytest.FixtureRequest) -> DreaMontagePipeline:
    """Conditions encoded alone, in a grey film, as clean latents, and for two experts."""
    return DreaMontagePipeline.from_pretrained(request.getfixturevalue(request.param))


def test_conditions_move_a_film_as_many_times_as_far(
    guided_pipe: DreaMontagePipeline,
) -> None:
    without, conditioned = latents(guided_pipe), latents(guided_pipe, still(4))
    farther = latents(guided_pipe, still(4), image_guidance_scale=WEIGHT)
    expected = without + WEIGHT * (conditioned - without)
    if guided_pipe.config.expand_timesteps:  # the clean latent stays as it is
        expected[:, :, 1] = conditioned[:, :, 1]
    assert not torch.allclose(without, conditioned, atol=1e-2)
    assert torch.allclose(farther, expected, atol=1e-4)


@pytest.mark.parametrize("folder", ["tiny_i2v_clip", "tiny_flf2v"])
def test_conditions_guide_a_model_with_an_image_encoder_too(
    request: pytest.FixtureRequest, folder: str
) -> None:
    """Its encoder sees the conditions in both calls, so no film is made by the unconditional branch
    alone; but the direction is the same, and the distance grows with the scale."""
    pipe = DreaMontagePipeline.from_pretrained(request.getfixturevalue(folder))
    once, twice, thrice = (
        latents(pipe, still(4), image_guidance_scale=weight, max_sequence_length=512)
        for weight in (1.0, 2.0, 3.0)
    )
    assert not torch.allclose(once, twice, atol=1e-2)
    assert torch.allclose(thrice - once, 2 * (twice - once), atol=1e-4)


def test_each_guidance_has_its_own_direction(tiny_ours: Path) -> None:
    pipe = DreaMontagePipeline.from_pretrained(tiny_ours)
    conditioned, without = latents(pipe, still(4)), latents(pipe)
    by_prompt = latents(pipe, still(4), guidance_scale=3.0)
    both = latents(pipe, still(4), guidance_scale=3.0, image_guidance_scale=WEIGHT)
    assert torch.allclose(both, by_prompt + (WEIGHT - 1) * (conditioned - without), atol=1e-4)


def test_a_models_own_image_guidance_is_its_default(tiny_ours: Path) -> None:
    pipe = DreaMontagePipeline.from_pretrained(tiny_ours)
    inputs = latents(pipe, still(4), image_guidance_scale=WEIGHT)
    assert torch.equal(latents(pipe, still(4)), latents(pipe, still(4), image_guidance_scale=1.0))
    pipe.register_to_config(default_image_guidance=WEIGHT)
    assert torch.equal(latents(pipe, still(4)), inputs)


@pytest.mark.parametrize("loop", [False, True])
def test_the_tail_is_no_image_condition(tiny_ours: Path, loop: bool) -> None:
    """A later window moves away from what the model would make of its tail, and of a loop's head,
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
    assert window.has_image_condition
    assert window.tail
    assert bool(window.head) is loop
    handed_over = torch.ones(1, pipe.vae.config.z_dim, 6, HEIGHT // 8, WIDTH // 8)

    def film(*conditions: Keyframe, weight: float = 1.0) -> tuple[Tensor, int]:
        """The last window's latents, always after the same others; and how many calls it took."""
        calls = 0

        def count(*_: Any) -> None:
            nonlocal calls
            calls += 1

        hook = pipe.transformer.register_forward_hook(count)
        states = pipe.denoise_segment(
            replace(window, has_image_condition=bool(conditions)),
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

    without, _ = film()
    conditioned, calls = film(*stills)
    farther, guided_calls = film(*stills, weight=WEIGHT)
    assert not torch.allclose(without, conditioned, atol=1e-2)
    assert torch.allclose(farther, without + WEIGHT * (conditioned - without), atol=1e-4)
    assert (calls, guided_calls) == (1, 2)
    # Without a condition there is nothing to guide by.
    again, once = film(weight=WEIGHT)
    assert torch.equal(again, without)
    assert once == 1


def test_a_windows_image_conditions_reach_behind_its_tail() -> None:
    """The planner lets windows end on conditions, which the next one has in its tail."""
    plan = plan_shot(
        frames=41,
        fps=Fraction(16),
        prompts=(),
        conditions=placed([still(0), still(20)]),
        seed=3,
        geometry=Geometry(window_latents=6, tail_latents=2),
    )
    found = [
        (part.start, part.stop, part.conditions, part.has_image_condition) for part in plan.segments
    ]
    assert found == [(0, 6, (0, 1), True), (4, 10, (1,), False), (8, 11, (), False)]


@dataclass
class Expert:
    """A denoiser's model that remembers its inputs, and makes ones of it."""

    inputs: list[Tensor]
    dtype: torch.dtype = torch.float32
    config: SimpleNamespace = field(default_factory=lambda: SimpleNamespace(patch_size=(1, 1, 1)))

    def cache_context(self, _: str) -> AbstractContextManager[None]:
        return nullcontext()

    def __call__(self, *, hidden_states: Tensor, **_: Any) -> tuple[Tensor]:
        self.inputs.append(hidden_states)
        return (torch.ones_like(hidden_states),)


def model_of(*experts: Expert, boundary: float | None = None) -> WanModel:
    """Guided by the conditions alone."""
    prompt = torch.zeros(1, 1, 1)
    return WanModel(
        experts=experts,
        guiders=[[ImageGuidance(scale=WEIGHT)]] * len(experts),
        prompts={Branch.CONDITIONAL: prompt, Branch.IMAGE_UNCONDITIONAL: prompt},
        boundary=boundary,
    )


def test_both_calls_are_of_the_expert_of_their_time() -> None:
    high, low = Expert([]), Expert([])
    task = WanTextTask(
        model=model_of(high, low, boundary=900),
        latents=torch.zeros(1, 1, 2, 1, 1),
        scheduler=with_timesteps(FlowMatchEulerDiscreteScheduler(), 2),
        generator=None,
    )
    for time, expected in ((950, (2, 0)), (100, (2, 2))):
        task.velocity(task.latents, torch.tensor(time))
        assert (len(high.inputs), len(low.inputs)) == expected


def test_a_clean_latent_is_as_noisy_as_the_rest_in_the_unconditional_call() -> None:
    """TI2V: the latent is clean in one call; in the other it is noise that fades."""
    expert, slots_L = Expert([]), torch.tensor([False, True, False])
    clean, noise = torch.full((1, 1, 3, 1, 1), 5.0), torch.randn(1, 1, 3, 1, 1)
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    task = WanTi2vTask(
        model=model_of(expert),
        latents=noise,
        scheduler=with_timesteps(scheduler, 6),
        generator=None,
        clean=CleanLatents(latents_BCLHW=clean, slots_L=slots_L),
        unconditional=CleanLatents(
            latents_BCLHW=torch.zeros_like(clean), slots_L=torch.zeros_like(slots_L)
        ),
    )
    states = list(denoise(task))
    levels = with_timesteps(scheduler, 6).sigmas
    conditional, unconditional = expert.inputs[::2], expert.inputs[1::2]
    for level, sharp, noisy in zip(levels[:-1], conditional, unconditional, strict=True):
        assert torch.equal(sharp[:, :, 1], clean[:, :, 1])
        assert torch.allclose(noisy[:, :, 1], torch.lerp(clean, noise, level)[:, :, 1], atol=1e-5)
    assert torch.equal(states[-1].latents[:, :, 1], clean[:, :, 1])


@pytest.mark.parametrize("folder", ["tiny_ours", "tiny_flf2v", "tiny_ti2v"])
def test_the_calls_of_a_step_may_be_one_batch(request: pytest.FixtureRequest, folder: str) -> None:
    """Off by default, since another size of batch may round differently."""
    pipe = DreaMontagePipeline.from_pretrained(request.getfixturevalue(folder))
    how = {"guidance_scale": 3.0, "image_guidance_scale": WEIGHT, "num_inference_steps": 3}
    how["max_sequence_length"] = 512 if folder == "tiny_flf2v" else 32
    batches: list[int] = []
    pipe.transformer.register_forward_pre_hook(
        lambda _, __, inputs: batches.append(len(inputs["hidden_states"])), with_kwargs=True
    )
    apart, revision = latents(pipe, still(4), **how), pipe.revision
    assert batches == [1] * 9
    batches.clear()
    apply(pipe, SpeedOptions(batched_guidance=True))
    together = latents(pipe, still(4), **how)
    assert batches == [3] * 3
    assert torch.allclose(together, apart, atol=1e-4)
    assert pipe.revision != revision


def test_a_models_own_noise_scale_is_what_films_begin_with(tiny_ours: Path) -> None:
    pipe = DreaMontagePipeline.from_pretrained(tiny_ours)
    z = pipe.vae.config.z_dim
    begun: list[Tensor] = []
    pipe.transformer.register_forward_pre_hook(
        lambda _, __, inputs: begun.append(inputs["hidden_states"][:, :z].clone()),
        with_kwargs=True,
    )
    latents(pipe)
    for channels in (2, None):
        pipe.register_to_config(initial_noise_scale=0.5, initial_noise_scale_channels=channels)
        latents(pipe)
    whole, some, every = begun
    assert torch.equal(some[:, :2], whole[:, :2] / 2)
    assert torch.equal(some[:, 2:], whole[:, 2:])
    assert torch.equal(every, whole / 2)
