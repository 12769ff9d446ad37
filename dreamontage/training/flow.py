"""Flow matching: x_t = (1 - t) x0 + t noise, and the model predicts the velocity noise - x0.

Shapes: B windows, Z latent channels, C = mask + Z condition channels, L latent frames, H W height
and width of the latents, S tokens, D width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dreamontage.training.windows import Windows

TIMESTEPS = 1000  # the model is told t * 1000, as diffusers' schedulers tell it


def draw_times(batch: int, *, shift: float, uniform: float, generator: torch.Generator) -> Tensor:
    """Times (B,) in (0, 1): logit-normal, shifted as the scheduler's `flow_shift` shifts sampling.

    A fraction `uniform` is drawn evenly instead: the shifted logit-normal hardly ever visits the
    low noise levels at which the sampler makes its last steps.
    """
    normal = torch.randn(batch, generator=generator, device=generator.device)
    even = torch.rand(batch, generator=generator, device=generator.device)
    choice = torch.rand(batch, generator=generator, device=generator.device)
    bell = torch.sigmoid(normal)
    bell = shift * bell / (1 + (shift - 1) * bell)
    return torch.where(choice < uniform, even, bell).clamp(1e-3, 1 - 1e-3)


def velocity_loss(
    model: Any, windows: Windows, prompts_BSD: Tensor, *, times_B: Tensor, noise_BZLHW: Tensor
) -> Tensor:
    """Mean squared error of the velocity for each window, (B,)."""
    t = times_B[:, None, None, None, None]
    clean = windows.latents_BZLHW
    noisy_BZLHW = torch.lerp(clean, noise_BZLHW, t)
    (velocity_BZLHW,) = model(
        hidden_states=torch.cat((noisy_BZLHW, windows.condition_BCLHW), 1),
        timestep=times_B * TIMESTEPS,
        encoder_hidden_states=prompts_BSD,
        return_dict=False,
    )
    return (velocity_BZLHW.float() - (noise_BZLHW - clean)).square().flatten(1).mean(1)
