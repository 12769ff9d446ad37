"""Sample sheets: what the model makes of held-out windows, one row under each original.

Shapes: B windows, Z latent channels, L latent frames, H W height and width, T frames, C colours.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import UniPCMultistepScheduler
from PIL import Image
from torch import Tensor

from dreamontage.models.autoencoder import denormalise
from dreamontage.training import nano
from dreamontage.training.windows import Windows

_STEPS = 12
_ROWS = 4  # windows of each batch
_COLUMNS = 9


@torch.no_grad()
def sample(
    model: Any, windows: Windows, prompts_BSD: Tensor, *, steps: int = _STEPS, seed: int = 0
) -> Tensor:
    """Denoise a batch of windows with their conditions; normalised latents_BZLHW."""
    scheduler = UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=nano.FLOW_SHIFT
    )
    scheduler.set_timesteps(steps)
    like = windows.latents_BZLHW
    noise = torch.randn(like.shape, generator=torch.Generator().manual_seed(seed))
    latents_BZLHW = noise.to(like)
    for t in scheduler.timesteps:
        (velocity,) = model(
            hidden_states=torch.cat((latents_BZLHW, windows.condition_BCLHW), 1),
            timestep=t.to(like.device).expand(len(like)),
            encoder_hidden_states=prompts_BSD,
            return_dict=False,
        )
        latents_BZLHW = scheduler.step(velocity, t, latents_BZLHW, return_dict=False)[0]
    return latents_BZLHW


def _row(vae: Any, latents_BZLHW: Tensor) -> np.ndarray:
    """Frames of one window side by side, (H, columns * W, 3) uint8."""
    video_CTHW = vae.decode(denormalise(vae, latents_BZLHW)).sample[0].cpu()
    pick = torch.linspace(0, video_CTHW.shape[1] - 1, _COLUMNS).round().long()
    frames_HTWC = video_CTHW[:, pick].permute(2, 1, 3, 0)
    row = ((frames_HTWC + 1) * 127.5).round().byte().flatten(1, 2)
    return np.asarray(row.numpy())


@torch.no_grad()
def draw(
    path: Path, *, model: Any, frozen: nano.Frozen, batches: Sequence[tuple[Windows, Tensor]]
) -> None:
    """Write a PNG: each window as it was, its conditions as given, and as the model makes it."""
    rows: list[np.ndarray] = []
    for windows, prompts_BSD in batches:
        few = Windows(
            latents_BZLHW=windows.latents_BZLHW[:_ROWS],
            condition_BCLHW=windows.condition_BCLHW[:_ROWS],
            prompts=windows.prompts[:_ROWS],
        )
        made_BZLHW = sample(model, few, prompts_BSD[:_ROWS])
        for b in range(len(made_BZLHW)):
            given = few.condition_BCLHW[b : b + 1, -made_BZLHW.shape[1] :]
            rows += [
                _row(frozen.vae, latents)
                for latents in (few.latents_BZLHW[b : b + 1], given, made_BZLHW[b : b + 1])
            ]
    width = max(row.shape[1] for row in rows)
    padded = [np.pad(row, ((0, 4), (0, width - row.shape[1]), (0, 0))) for row in rows]
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.concatenate(padded)).save(path)
