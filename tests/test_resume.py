"""A denoise loop stopped after any step and resumed in a new process gives the same bits as one
never stopped; also with a scheduler that draws noise.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import (
    FlowMatchEulerDiscreteScheduler,
    FlowMatchHeunDiscreteScheduler,
    FlowMatchLCMScheduler,
    UniPCMultistepScheduler,
)
from safetensors.torch import load_file

from dreamontage import DreaMontagePipeline
from dreamontage.families.wan import WanModel
from dreamontage.families.wan_text import WanTextTask
from dreamontage.models.transformer import DreaMontageTransformer3DModel
from dreamontage.sampling.denoise import denoise
from dreamontage.sampling.guiders import Branch, PromptGuidance
from dreamontage.sampling.schedulers import check_scheduler, scheduler_step, with_timesteps
from dreamontage.sampling.start import start_step
from dreamontage.sampling.state import DenoiseState, state_from_bytes, state_to_bytes
from tests.support.tiny import TEXT, Z, tiny_transformer

STEPS = 6
SCHEDULERS: dict[str, Callable[[], Any]] = {
    "unipc": lambda: UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
    ),
    "euler": lambda: FlowMatchEulerDiscreteScheduler(shift=3.0),
    "stochastic euler": lambda: FlowMatchEulerDiscreteScheduler(
        shift=3.0, stochastic_sampling=True
    ),
    "lcm": lambda: FlowMatchLCMScheduler(shift=3.0),
    "heun": lambda: FlowMatchHeunDiscreteScheduler(shift=3.0),
}
STOCHASTIC = ("stochastic euler", "lcm")


def task_of(name: str) -> WanTextTask:
    """Two experts, so that a resumed loop also has to pick the right one."""
    experts = []
    for seed in (0, 1):
        stock = tiny_transformer(Z, seed)
        ours = DreaMontageTransformer3DModel.from_config(stock.config).eval()
        ours.load_state_dict(stock.state_dict())
        experts.append(ours)
    generator = torch.Generator().manual_seed(5)
    model = WanModel(
        experts=experts,
        guiders=[[PromptGuidance(scale=4.0)], [PromptGuidance(scale=3.0)]],
        prompts={
            branch: torch.randn(1, 5, TEXT, generator=generator)
            for branch in (Branch.CONDITIONAL, Branch.PROMPT_UNCONDITIONAL)
        },
        boundary=700.0,
    )
    return WanTextTask(
        model=model,
        latents=torch.randn(1, Z, 3, 4, 6, generator=generator),
        scheduler=with_timesteps(SCHEDULERS[name](), STEPS),
        generator=generator,
    )


def finish(name: str, stored: Path) -> torch.Tensor:
    state = state_from_bytes(stored.read_bytes())
    return list(denoise(task_of(name), state))[-1].latents


@pytest.mark.parametrize("name", SCHEDULERS)
def test_resumed_after_any_step(name: str, tmp_path: Path) -> None:
    stored = [state_to_bytes(state) for state in denoise(task_of(name))]
    whole = state_from_bytes(stored[-1]).latents
    for data in stored[:-1]:
        (tmp_path / "state").write_bytes(data)
        assert torch.equal(finish(name, tmp_path / "state"), whole)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_resumed_in_a_new_process(name: str, tmp_path: Path) -> None:
    states = list(denoise(task_of(name)))
    (tmp_path / "state").write_bytes(state_to_bytes(states[2]))
    script = (
        "import sys, pathlib, safetensors.torch; from tests.test_resume import finish\n"
        "folder = pathlib.Path(sys.argv[2])\n"
        "latents = finish(sys.argv[1], folder / 'state')\n"
        "safetensors.torch.save_file({'latents': latents}, folder / 'latents')"
    )
    subprocess.run(
        [sys.executable, "-c", script, name, tmp_path], check=True, cwd=Path(__file__).parents[1]
    )
    assert torch.equal(load_file(tmp_path / "latents")["latents"], states[-1].latents)


def test_a_state_stored_before_states_held_a_generator_is_resumed() -> None:
    """Written by an earlier version, after the fourth step of this very loop."""
    file = Path(__file__).parent / "support" / "state_before_generators.safetensors"
    state = state_from_bytes(file.read_bytes())
    assert (state.step, state.total, state.generator) == (4, STEPS, None)
    whole = list(denoise(task_of("unipc")))
    assert torch.allclose(state.latents, whole[3].latents, atol=1e-5)
    assert torch.allclose(
        list(denoise(task_of("unipc"), state))[-1].latents, whole[-1].latents, atol=1e-5
    )


def test_states_are_immutable() -> None:
    """Going on does not change a state already yielded: neither its latents nor its history."""
    loop = denoise(task_of("unipc"))
    next(loop)
    state = next(loop)
    before = state_to_bytes(state)
    for _ in loop:
        pass
    assert state_to_bytes(state) == before


@pytest.mark.parametrize("shape", [(1, 7, 12), (2, 3)])
def test_latents_of_any_shape_are_stored(shape: tuple[int, ...]) -> None:
    """A family may denoise tokens, or windows with references in front."""
    latents = torch.randn(shape)
    state = DenoiseState(step=1, total=2, latents=latents, scheduler={"_step_index": 1})
    again = state_from_bytes(state_to_bytes(state))
    assert torch.equal(again.latents, latents)
    with pytest.raises(AssertionError, match="are no video"):
        _ = again.latents_BCLHW


@dataclass(frozen=True, kw_only=True)
class TokenTask:
    """A family that is no Wan: tokens, one clean one among them, and timesteps of its own."""

    latents: torch.Tensor
    scheduler: Any
    clean: torch.Tensor
    generator: torch.Generator | None = None

    def step(self, latents: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        prediction = (latents * t / 1000).roll(1, dims=1)
        return scheduler_step(self.scheduler, prediction, t, latents, self.generator)

    def finish(self, latents: torch.Tensor) -> torch.Tensor:
        return torch.cat([self.clean, latents[:, 1:]], dim=1)


def token_task() -> TokenTask:
    scheduler = FlowMatchEulerDiscreteScheduler(stochastic_sampling=True)
    scheduler.set_timesteps(sigmas=[1.0, 0.99, 0.7, 0.4])
    tokens = torch.randn(1, 5, 3, generator=torch.Generator().manual_seed(1))
    generator = torch.Generator().manual_seed(2)
    clean = torch.full((1, 1, 3), 9.0)
    return TokenTask(latents=tokens, scheduler=scheduler, clean=clean, generator=generator)


def test_the_loop_knows_no_family() -> None:
    states = list(denoise(token_task()))
    assert [(state.step, state.total) for state in states] == [(n, 4) for n in (1, 2, 3, 4)]
    assert states[-1].latents.shape == (1, 5, 3)
    assert bool((states[-1].latents[:, 0] == 9).all())
    assert not bool((states[-2].latents[:, 0] == 9).any())
    for state in states[:-1]:
        stored = state_from_bytes(state_to_bytes(state))
        assert torch.equal(list(denoise(token_task(), stored))[-1].latents, states[-1].latents)


def test_rubbish_is_no_state() -> None:
    with pytest.raises(ValueError, match="no stored denoise state"):
        state_from_bytes(b"rubbish")
    data = state_to_bytes(next(denoise(task_of("euler"))))
    with pytest.raises(ValueError, match="no stored denoise state"):
        state_from_bytes(data[:-10])


def film_of(pipe: DreaMontagePipeline, **overrides: Any) -> torch.Tensor:
    call = {"height": 32, "width": 48, "num_frames": 21, "num_inference_steps": 4, "seed": 3}
    film: torch.Tensor = pipe("a cat", output_type="latent", **call | overrides).frames
    return film


@pytest.mark.parametrize("name", STOCHASTIC)
def test_a_scheduler_that_draws_noise_repeats_its_films(tiny_ours: Path, name: str) -> None:
    pipe = DreaMontagePipeline.from_pretrained(tiny_ours)
    pipe.scheduler = SCHEDULERS[name]()
    torch.manual_seed(0)
    film = film_of(pipe)
    torch.manual_seed(1)
    assert torch.equal(film_of(pipe), film)
    assert not torch.equal(film_of(pipe, seed=4), film)
    own = torch.Generator().manual_seed(7)
    drawn = film_of(pipe, generator=own)
    assert torch.equal(film_of(pipe, generator=own.manual_seed(7)), drawn)


def test_a_scheduler_whose_noise_no_generator_repeats_is_refused_by_name(tiny_ours: Path) -> None:
    class Restless(FlowMatchEulerDiscreteScheduler):  # type: ignore[misc]
        def step(
            self, model_output: Any, timestep: Any, sample: Any, return_dict: bool = True
        ) -> Any:
            noise = torch.randn_like(sample)
            return super().step(model_output + noise, timestep, sample, return_dict=return_dict)

    class Hoarder(FlowMatchEulerDiscreteScheduler):  # type: ignore[misc]
        def step(self, *args: Any, **kwargs: Any) -> Any:
            self._notes = object()
            return super().step(*args, **kwargs)

    pipe = DreaMontagePipeline.from_pretrained(tiny_ours)
    for kind, message in [
        (Restless, "scheduler Restless draws noise that no generator repeats"),
        (Hoarder, "scheduler Hoarder keeps a object in 'notes', which no stored state can hold"),
    ]:
        pipe.scheduler = kind(shift=3.0)
        with pytest.raises(ValueError, match=message):
            film_of(pipe)


def test_a_generator_of_another_kind_of_device_is_refused() -> None:
    state = next(denoise(task_of("lcm")))
    other = replace(state, generator=torch.zeros(16, dtype=torch.uint8))
    with pytest.raises(ValueError, match="generator was on another kind of device"):
        next(denoise(task_of("lcm"), other))


def test_a_second_order_scheduler_has_no_draft_start() -> None:
    with pytest.raises(ValueError, match=r"6 steps of FlowMatchHeunDiscreteScheduler have 11"):
        start_step(SCHEDULERS["heun"](), STEPS, 0.7)


def test_usual_schedulers_are_taken() -> None:
    for make in SCHEDULERS.values():
        check_scheduler(make())
