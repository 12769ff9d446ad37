"""Degradations of films without cuts: changes of light, fog, and the artefacts of weak models.

Clips with and without faults get the same degradations, so that a discriminator cannot recognise a
fault by its look: softness, noise, and the 8-pixel blocks of a codec and of a barely trained model.

Shapes: B clips, C channels, T frames, H height, W width, Z latent channels.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from dreamontage.models.codec import PATCH, STRIDE, LinearCodec

_NOISE = 0.7  # the strongest noise in normalised latents
_GRAIN = 0.08  # the strongest noise in the pixels, in [-1, 1]


def change_light(clips_BCTHW: Tensor, *, generator: torch.Generator, share: float = 0.3) -> Tensor:
    """One change of light, over 5 frames or more, in a share of the clips."""
    batch, channels, frames = clips_BCTHW.shape[:3]
    device = clips_BCTHW.device

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand((batch, *shape), generator=generator, device=device)

    length_B1 = uniform(5, max(6, frames / 2), 1)
    start_B1 = uniform(0, 1, 1) * (frames - length_B1)
    way_BT = ((torch.arange(frames, device=device) - start_B1) / length_B1).clamp(0, 1)
    gain_BC = (uniform(-0.6, 0.6, 1) + uniform(-0.2, 0.2, channels)).exp()
    gain_BC = gain_BC.where(uniform(0, 1, 1) < share, 1)
    gain_BCT = 1 + (gain_BC[..., None] - 1) * way_BT[:, None]
    return ((clips_BCTHW + 1) * gain_BCT[..., None, None]).clamp(0, 2) - 1


def reduce_contrast(clips_BCTHW: Tensor, *, generator: torch.Generator) -> Tensor:
    """Some of the clips in fog, in the dark, or pale."""
    size = (len(clips_BCTHW), 1, 1, 1, 1)

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(size, generator=generator, device=clips_BCTHW.device)

    contrast = uniform(0.2, 1).where(uniform(0, 1) < 0.4, 1)
    colour = uniform(0, 1).where(uniform(0, 1) < 0.4, 1)
    level = uniform(-1, 1) * (1 - contrast)
    grey = clips_BCTHW.mean(1, keepdim=True)
    return torch.lerp(grey.expand_as(clips_BCTHW), clips_BCTHW, colour) * contrast + level


def degrade(
    clips_BCTHW: Tensor,
    *,
    generator: torch.Generator,
    codec: LinearCodec | None = None,
    share: float = 0.6,
) -> Tensor:
    """A share of the clips through the codec, with noisy and smoothed latents; grain on some clips.

    The codec needs 1 + 4k frames, and multiples of 8 as height and width. Other clips do not go
    through it.
    """
    batch, _, frames, height, width = clips_BCTHW.shape
    device = clips_BCTHW.device

    def uniform() -> Tensor:
        return torch.rand((batch, 1, 1, 1, 1), generator=generator, device=device)

    out = clips_BCTHW
    fits = frames % STRIDE == 1 and height % PATCH == 0 and width % PATCH == 0
    if codec is not None and fits:
        latents_BZLHW = codec.encode(out.clamp(-1, 1), False)[0].mean
        std_Z111 = latents_BZLHW.new_tensor(codec.config.latents_std)[:, None, None, None]
        noise = torch.randn(latents_BZLHW.shape, generator=generator, device=device)
        smooth = F.avg_pool3d(latents_BZLHW, (1, 3, 3), 1, (0, 1, 1), count_include_pad=False)
        latents_BZLHW = torch.lerp(latents_BZLHW, smooth, uniform() ** 2)
        latents_BZLHW = latents_BZLHW + noise * std_Z111 * _NOISE * uniform() ** 2
        out = torch.where(uniform() < share, codec.decode(latents_BZLHW, False)[0], out)
    grain = torch.randn(out.shape, generator=generator, device=device) * uniform() ** 2 * _GRAIN
    return (out + grain * (uniform() < share)).clamp(-1, 1)
