"""The denoise loop as a generator of immutable, storable states.

Whoever drives the loop decides when to store a state; a loop resumed from one, in another process
even, gives the same bits as the loop that never stopped. States are stored as safetensors, never as
pickles.

Shape legend: B batch, C channels, L latent frames, H W latent height and width, S tokens, D width.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as tensors_from_bytes
from safetensors.torch import save as tensors_to_bytes
from torch import Tensor

# What a diffusers scheduler rebuilds from its config and set_timesteps, and so need not be stored.
_REBUILT = frozenset(
    {
        *("_internal_dict", "betas", "alphas", "alphas_cumprod", "alpha_t", "sigma_t", "lambda_t"),
        *("timesteps", "sigmas", "config"),
    }
)


@dataclass(frozen=True, kw_only=True)
class DenoiseState:
    """What the loop knows after ``step`` of ``total`` steps."""

    step: int
    total: int
    latents_BCLHW: Tensor
    scheduler: Mapping[str, Any]  # the multistep history

    @property
    def done(self) -> bool:
        return self.step == self.total


@dataclass(frozen=True, kw_only=True)
class Sampler:
    """How a segment is denoised. The model is asked once a step, once more if the prompt guides
    (``guidance`` above 1), and once more if the conditions do (``image_guidance`` other than 1).
    """

    steps: int
    guidance: float
    guidance_low_noise: float | None = None  # for the second expert; None: the same
    image_guidance: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Given:
    """Latents that stand clean among the noisy ones, at time 0 of their own (Wan 2.2 TI2V-5B)."""

    latents_BCLHW: Tensor
    slots_L: Tensor  # bool

    def over(self, latents_BCLHW: Tensor) -> Tensor:
        """The latents, with the given ones in their places."""
        return torch.where(self.slots_L[:, None, None], self.latents_BCLHW, latents_BCLHW)


@dataclass(frozen=True, kw_only=True)
class Unled:
    """What a window is told without the shot's conditions: no more than the film itself hands over
    (and what a CLIP encoder sees, of them all).

    The conditions then lead ``guidance`` times as far away from what the model would make of that
    as they do by themselves, as a picture does in Brooks et al., "InstructPix2Pix", 2023.
    """

    guidance: float
    condition_BCLHW: Tensor | None
    given: Given | None
    pure_noise: float  # the timestep of it


@dataclass(frozen=True, kw_only=True)
class Denoiser:
    """The DiT with everything that stays the same over a segment: noisy latents and a timestep in,
    velocity out.

    Two experts (Wan 2.2 A14B): ``experts[0]`` from high noise down to ``boundary``, ``experts[1]``
    below it. With ``given``, every token has a time of its own, and the given ones 0.
    """

    experts: Sequence[Any]
    guidance: Sequence[float]  # per expert; 1 means no guidance
    prompt_BSD: Tensor
    negative_prompt_BSD: Tensor | None
    image_BSD: Tensor | None = None  # CLIP tokens, Wan 2.1 image-to-video only
    condition_BCLHW: Tensor | None = None  # mask and latents, joined to the noise along channels
    given: Given | None = None
    unled: Unled | None = None  # None: the conditions lead as far as they do by themselves
    boundary: float | None = None

    def __call__(self, latents_BCLHW: Tensor, t: Tensor) -> Tensor:
        low_noise = self.boundary is not None and bool(t < self.boundary)
        model, guidance = self.experts[low_noise], self.guidance[low_noise]

        def velocity(branch: str, prompt_BSD: Tensor, told: Denoiser | Unled) -> Tensor:
            hidden_BCLHW, times = latents_BCLHW, t.expand(latents_BCLHW.shape[0])
            if told.condition_BCLHW is not None:
                hidden_BCLHW = torch.cat([latents_BCLHW, told.condition_BCLHW], dim=1)
            if told.given is not None:
                hidden_BCLHW = told.given.over(latents_BCLHW)
                times = self._times(told.given, hidden_BCLHW, t)
            with model.cache_context(branch):
                (sample_BCLHW,) = model(
                    hidden_states=hidden_BCLHW.to(model.dtype),
                    timestep=times,
                    encoder_hidden_states=prompt_BSD,
                    encoder_hidden_states_image=self.image_BSD,
                    return_dict=False,
                )
            return sample_BCLHW

        led_BCLHW = found_BCLHW = velocity("cond", self.prompt_BSD, self)
        if self.negative_prompt_BSD is not None:
            free_BCLHW = velocity("uncond", self.negative_prompt_BSD, self)
            found_BCLHW = free_BCLHW + guidance * (led_BCLHW - free_BCLHW)
        if self.unled is not None:
            unled_BCLHW = velocity("unled", self.prompt_BSD, self.unled)
            found_BCLHW = found_BCLHW + (self.unled.guidance - 1) * (led_BCLHW - unled_BCLHW)
            if self.given is not None:
                # What is given stands clean in the one call; for the other it has to be as noisy
                # as the rest, and so comes straight out of the noise.
                straight_BCLHW = (latents_BCLHW - self.given.latents_BCLHW) / (
                    t / self.unled.pure_noise
                )
                found_BCLHW = torch.where(
                    self.given.slots_L[:, None, None], straight_BCLHW, found_BCLHW
                )
        return found_BCLHW

    def _times(self, given: Given, latents_BCLHW: Tensor, t: Tensor) -> Tensor:
        """The time of every token, in the model's order: frame by frame."""
        batch, _, _, height, width = latents_BCLHW.shape
        _, patch_height, patch_width = self.experts[0].config.patch_size
        times_L = (~given.slots_L).float() * t
        tokens = (height // patch_height) * (width // patch_width)
        return times_L.repeat_interleave(tokens).expand(batch, -1)


@torch.no_grad()
def denoise(
    denoiser: Denoiser,
    scheduler: Any,
    *,
    noise_BCLHW: Tensor,
    steps: int,
    state: DenoiseState | None = None,
) -> Iterator[DenoiseState]:
    """Yield the state after every step, from pure noise or from a stored ``state`` on.

    Args:
        scheduler: a diffusers flow scheduler (UniPC, Euler, ...); a copy is used, the argument is
            left alone.
        noise_BCLHW: where the loop starts; with ``state`` only its device matters.
        state: resume after this one; it must come from the same denoiser, scheduler and number of
            steps.
    """
    assert state is None or state.total == steps, (
        "a state belongs to the number of steps it was made with"
    )
    device = noise_BCLHW.device
    scheduler = type(scheduler).from_config(scheduler.config)
    scheduler.set_timesteps(steps, device=device)
    latents_BCLHW, done = noise_BCLHW, 0
    if state is not None:
        latents_BCLHW, done = state.latents_BCLHW.to(device), state.step
        scheduler.__dict__.update(_copied(dict(state.scheduler), device))
    for step, t in enumerate(scheduler.timesteps[done:], start=done + 1):
        velocity_BCLHW = denoiser(latents_BCLHW, t)
        latents_BCLHW = scheduler.step(velocity_BCLHW, t, latents_BCLHW, return_dict=False)[0]
        if step == steps and denoiser.given is not None:
            latents_BCLHW = denoiser.given.over(latents_BCLHW)
        history = {
            name: value for name, value in scheduler.__dict__.items() if name not in _REBUILT
        }
        yield DenoiseState(
            step=step, total=steps, latents_BCLHW=latents_BCLHW, scheduler=_copied(history, device)
        )


def entry(scheduler: Any, steps: int, strength: float) -> tuple[int, float]:
    """The first of the ``steps`` whose noise level is at most ``strength``, and that level.

    Raises:
        ValueError: if ``strength`` is not in (0, 1], or the schedule has no step that low.
    """
    if not 0 < strength <= 1:
        raise ValueError(f"strength = {strength} must lie above 0 and be at most 1")
    scheduler = type(scheduler).from_config(scheduler.config)
    scheduler.set_timesteps(steps)
    levels = scheduler.sigmas[:-1].tolist()
    for step, level in enumerate(levels):
        if level <= strength:
            return step, level
    raise ValueError(
        f"strength = {strength} is below the last noise level of {steps} steps, {levels[-1]:.3f}: "
        "raise it, or the steps"
    )


def entered(
    scheduler: Any, *, steps: int, strength: float, film_BCLHW: Tensor, noise_BCLHW: Tensor
) -> DenoiseState:
    """The state from which a film, noised to ``strength``, is denoised. Raises as `entry`."""
    step, level = entry(scheduler, steps, strength)
    return DenoiseState(
        step=step,
        total=steps,
        latents_BCLHW=torch.lerp(film_BCLHW, noise_BCLHW, level),
        scheduler={},  # no history: a multistep solver begins here as it does at the first step
    )


def _copied(value: Any, device: torch.device) -> Any:
    """A copy whose containers are new; tensors are shared, since schedulers replace and never write
    into them.
    """
    if isinstance(value, dict):
        return {key: _copied(item, device) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_copied(item, device) for item in value]
    # Timesteps stay where the scheduler put them; histories follow the latents.
    return value.to(device) if isinstance(value, Tensor) else value


def state_to_bytes(state: DenoiseState) -> bytes:
    """A state as one safetensors file; numbers and structure travel in its header."""
    tensors: dict[str, Tensor] = {"latents": state.latents_BCLHW.detach().cpu().contiguous()}

    def flatten(value: Any) -> Any:
        if isinstance(value, Tensor):
            name = f"scheduler.{len(tensors)}"
            # A clone each: safetensors refuses tensors that share memory.
            tensors[name] = value.detach().cpu().clone().contiguous()
            return {"tensor": name}
        if isinstance(value, Mapping):
            return {"dict": {key: flatten(item) for key, item in value.items()}}
        if isinstance(value, (list, tuple)):
            return [flatten(item) for item in value]
        assert value is None or isinstance(value, (bool, int, float, str)), (
            f"{type(value)} in a scheduler's state"
        )
        return value

    header = {"step": state.step, "total": state.total, "scheduler": flatten(state.scheduler)}
    return tensors_to_bytes(tensors, metadata={"denoise_state": json.dumps(header)})


def state_from_bytes(data: bytes) -> DenoiseState:
    """The inverse of :func:`state_to_bytes`; tensors land on the CPU.

    Raises:
        ValueError: if ``data`` is no stored state.
    """
    try:
        length = int.from_bytes(data[:8], "little")
        header = json.loads(json.loads(data[8 : 8 + length])["__metadata__"]["denoise_state"])
        tensors = tensors_from_bytes(data)
    except (KeyError, ValueError, SafetensorError) as error:
        raise ValueError("these bytes are no stored denoise state") from error

    def build(value: Any) -> Any:
        if isinstance(value, list):
            return [build(item) for item in value]
        if isinstance(value, dict):
            if "tensor" in value:
                return tensors[value["tensor"]]
            return {key: build(item) for key, item in value["dict"].items()}
        return value

    return DenoiseState(
        step=header["step"],
        total=header["total"],
        latents_BCLHW=tensors["latents"],
        scheduler=build(header["scheduler"]),
    )
