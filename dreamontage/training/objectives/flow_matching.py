"""Flow matching: x_t = (1 - t) x0 + t noise, and the model predicts the velocity noise - x0.

Shapes: B windows, Z latent channels, C input channels, L latent frames, H W height and width of the
latents, S tokens, D width.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from diffusers import UniPCMultistepScheduler
from torch import Tensor

TIMESTEPS = 1000  # the model's input is t * 1000, as of diffusers' schedulers


def draw_times(
    batch: int,
    *,
    shift: float,
    uniform: float,
    generator: torch.Generator,
    between: tuple[float, float] = (0.0, 1.0),
) -> Tensor:
    """Times (B,) in (0, 1): logit-normal, shifted as the scheduler's `flow_shift` shifts sampling.

    A fraction `uniform` is drawn evenly instead, because the shifted logit-normal hardly ever gives
    the low noise levels of the sampler's last steps. `between`: the times of one expert of several;
    all times are scaled to them.
    """
    normal = torch.randn(batch, generator=generator, device=generator.device)
    even = torch.rand(batch, generator=generator, device=generator.device)
    choice = torch.rand(batch, generator=generator, device=generator.device)
    bell = torch.sigmoid(normal)
    bell = shift * bell / (1 + (shift - 1) * bell)
    low, high = between
    times = torch.where(choice < uniform, even, bell).clamp(1e-3, 1 - 1e-3)
    return low + (high - low) * times


def velocity_errors(
    model: Any,
    clean_BZLHW: Tensor,
    condition_BCLHW: Tensor,
    prompts_BSD: Tensor,
    *,
    times_B: Tensor,
    noise_BZLHW: Tensor,
    **extra: Any,
) -> Tensor:
    """Mean squared error of the velocity for each window, (B,). `extra` goes to the model."""
    noisy_BZLHW = torch.lerp(clean_BZLHW, noise_BZLHW, times_B[:, None, None, None, None])
    (velocity_BZLHW,) = model(
        hidden_states=torch.cat((noisy_BZLHW, condition_BCLHW), 1),
        timestep=times_B * TIMESTEPS,
        encoder_hidden_states=prompts_BSD,
        return_dict=False,
        **extra,
    )
    return (velocity_BZLHW.float() - (noise_BZLHW - clean_BZLHW)).square().flatten(1).mean(1)


@torch.no_grad()
def resample_last_steps(
    model: Any,
    clean_BZLHW: Tensor,
    condition_BCLHW: Tensor,
    prompts_BSD: Tensor,
    *,
    noise_BZLHW: Tensor,
    last: int,
    steps: int,
    shift: float,
) -> Tensor:
    """True windows whose last steps the model makes again: noised to that level, then denoised.

    `last` of `steps` steps are made, by Euler's method. The windows still show what the true ones
    do, and have the errors of a model's.
    """
    scheduler = make_scheduler(steps, shift)
    sigmas = scheduler.sigmas[-last - 1 :].tolist()
    latents_BZLHW = torch.lerp(clean_BZLHW, noise_BZLHW, sigmas[0])
    for t, (here, below) in zip(scheduler.timesteps[-last:], pairwise(sigmas), strict=True):
        velocity_BZLHW = _velocity(model, latents_BZLHW, condition_BCLHW, prompts_BSD, t)
        latents_BZLHW = latents_BZLHW + (below - here) * velocity_BZLHW
    return latents_BZLHW


@torch.no_grad()
def sample(
    model: Any,
    condition_BCLHW: Tensor,
    prompts_BSD: Tensor,
    *,
    noise_BZLHW: Tensor,
    steps: int,
    shift: float,
    **extra: Any,
) -> Tensor:
    """Denoise a batch of windows as the pipeline does, without guidance; normalised latents.

    Sampling starts from `noise_BZLHW` at full strength.

    `extra` goes to the model.
    """
    scheduler = make_scheduler(steps, shift)
    latents_BZLHW = noise_BZLHW
    for t in scheduler.timesteps:
        velocity_BZLHW = _velocity(model, latents_BZLHW, condition_BCLHW, prompts_BSD, t, **extra)
        latents_BZLHW = scheduler.step(velocity_BZLHW, t, latents_BZLHW, return_dict=False)[0]
    return latents_BZLHW


def make_scheduler(steps: int, shift: float) -> UniPCMultistepScheduler:
    """The scheduler of training's samples, which is the exported pipeline's."""
    scheduler = UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=shift
    )
    scheduler.set_timesteps(steps)
    return scheduler


def _velocity(
    model: Any,
    latents_BZLHW: Tensor,
    condition_BCLHW: Tensor,
    prompts_BSD: Tensor,
    t: Tensor,
    **extra: Any,
) -> Tensor:
    (made_BZLHW,) = model(
        hidden_states=torch.cat((latents_BZLHW, condition_BCLHW), 1),
        timestep=t.to(latents_BZLHW.device).expand(len(latents_BZLHW)),
        encoder_hidden_states=prompts_BSD,
        return_dict=False,
        **extra,
    )
    velocity_BZLHW: Tensor = made_BZLHW.float()
    return velocity_BZLHW
