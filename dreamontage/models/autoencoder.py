"""Encoding conditions and decoding films with a causal video autoencoder, one latent at a time.

Works on diffusers' ``AutoencoderKLWan`` and on our ``LinearCodec``: both have its ``encode``,
``decode`` and config.

Shape legend: B batch, C channels, T pixel frames, L latent frames, H W height and width of either.
Pixels are floats in [-1, 1]; latents are normalised by the autoencoder's own statistics, as the DiT
sees them.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import patchify, unpatchify
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from torch import Tensor

from dreamontage.models.codec import LinearCodec


def _statistics(vae: Any, like: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and 1/std of the latents, (1, C, 1, 1, 1)."""
    mean, std = tuple(vae.config.latents_mean), tuple(vae.config.latents_std)
    return _statistics_on(mean, std, like.device, like.dtype)


@functools.lru_cache(maxsize=8)
def _statistics_on(
    mean: tuple[float, ...], std: tuple[float, ...], device: torch.device, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Computed as diffusers' pipelines do it, so that bits agree; cached."""
    mean_1C111, std_1C111 = (torch.tensor(each).view(1, -1, 1, 1, 1) for each in (mean, std))
    return mean_1C111.to(device, dtype), 1.0 / std_1C111.to(device, dtype)


def normalise(vae: Any, latents_BCLHW: Tensor) -> Tensor:
    mean, scale = _statistics(vae, latents_BCLHW)
    return (latents_BCLHW - mean) * scale


def denormalise(vae: Any, latents_BCLHW: Tensor) -> Tensor:
    mean, scale = _statistics(vae, latents_BCLHW)
    return latents_BCLHW / scale + mean


def revision(vae: Any) -> str:
    """Equal for two loaded autoencoders if their latents mean the same: the same kind, statistics
    and weights, in one precision.
    """
    config = [type(vae).__name__, list(vae.config.latents_mean), list(vae.config.latents_std)]
    total = hashlib.sha256(json.dumps(config).encode())
    for name, value in sorted(vae.state_dict().items()):
        total.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        total.update(value.cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return total.hexdigest()


@torch.no_grad()
def encode(vae: Any, video_BCTHW: Tensor) -> Tensor:
    """Encode whole: T = 1 + 4k frames -> 1 + k normalised float32 latents (the posterior's mode).

    ``AutoencoderKLWan.encode`` silently drops frames beyond 1 + 4k; here that is a broken
    invariant.
    """
    assert video_BCTHW.shape[2] % vae.config.scale_factor_temporal == 1, "frames must be 1 + 4k"
    posterior = vae.encode(video_BCTHW.to(vae.device, vae.dtype)).latent_dist
    return normalise(vae, posterior.mode().float())


class StreamingEncoder:
    """Encode a film run by run, holding the causal cache and nothing of the film.

    Equal to the autoencoder's own encode of the whole film, but for rounding; memory does not grow
    with length. Tiling, where an autoencoder is set to it, does not happen here.
    """

    def __init__(self, vae: Any) -> None:
        self.vae = vae
        self.first = True
        if not isinstance(vae, LinearCodec):
            self._cache: list[Any] = [None] * vae._cached_conv_counts["encoder"]

    @torch.no_grad()
    def __call__(self, video_BCTHW: Tensor) -> DiagonalGaussianDistribution:
        """The next frames' posterior, not normalised: 1 frame first, then four at a time."""
        vae, first, self.first = self.vae, self.first, False
        assert video_BCTHW.shape[2] == (1 if first else 4), "one frame, then four at a time"
        video_BCTHW = video_BCTHW.to(vae.device, vae.dtype)
        if isinstance(vae, LinearCodec):
            return vae.encode_group(video_BCTHW)
        if vae.config.patch_size is not None:
            video_BCTHW = patchify(video_BCTHW, patch_size=vae.config.patch_size)
        hidden = vae.encoder(video_BCTHW, feat_cache=self._cache, feat_idx=[0])
        return DiagonalGaussianDistribution(vae.quant_conv(hidden))


class StreamingDecoder:
    """Decode a film latent by latent, holding the causal cache and nothing of the film.

    Equal, bit for bit, to the autoencoder's decode of the whole film; memory does not grow with
    length.
    """

    def __init__(self, vae: Any) -> None:
        self.vae = vae
        self.first = True
        self._before: Tensor | None = None  # all that the linear codec remembers
        if not isinstance(vae, LinearCodec):
            # diffusers keeps this cache in private attributes that its public decode clears; ours
            # outlives a call.
            self._cache: list[Any] = [None] * vae._cached_conv_counts["decoder"]

    @torch.no_grad()
    def __call__(self, latent_BC1HW: Tensor) -> Tensor:
        """Decode the next latent: 1 frame for the first, 4 for every other. Returns video_BCTHW,
        float32, on the CPU.
        """
        assert latent_BC1HW.shape[2] == 1
        vae, first, self.first = self.vae, self.first, False
        z_BC1HW = denormalise(vae, latent_BC1HW.to(vae.device, vae.dtype))
        if isinstance(vae, LinearCodec):
            video_BCTHW = vae.decode_latent(z_BC1HW, first, self._before)
            self._before = z_BC1HW
        else:
            hidden = vae.post_quant_conv(z_BC1HW)
            video_BCTHW = vae.decoder(
                hidden, feat_cache=self._cache, feat_idx=[0], first_chunk=first
            )
            if vae.config.patch_size is not None:
                video_BCTHW = unpatchify(video_BCTHW, patch_size=vae.config.patch_size)
            video_BCTHW = video_BCTHW.clamp(-1.0, 1.0)
        return video_BCTHW.float().cpu()


def decode(vae: Any, latents: Iterable[Tensor]) -> Iterator[Tensor]:
    """Decode runs of latents_BCLHW, in order, into runs of frames, video_BCTHW."""
    decoder = StreamingDecoder(vae)
    for latents_BCLHW in latents:
        for latent_BC1HW in latents_BCLHW.split(1, dim=2):
            yield decoder(latent_BC1HW)


def to_uint8(video_BCTHW: Tensor) -> npt.NDArray[np.uint8]:
    """Pixels of one film for encoders and scorers: frames_THWC, uint8."""
    frames_THWC = (video_BCTHW[0].permute(1, 2, 3, 0) * 127.5 + 127.5).round().clamp(0, 255)
    return frames_THWC.to(torch.uint8).numpy()
