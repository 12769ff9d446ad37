"""A linear causal video codec with `AutoencoderKLWan`'s interface, fitted in closed form.

Each latent holds 4 frames of 8x8 pixels as their leading principal components; decoding predicts a
4x8x8 patch from the 3x3 latents around it (ridge regression), which softens the patch borders. A
still, and frame 0 of a video, is encoded as that frame shown four times, so its latent looks like a
frozen whole latent. Small, quick and honest rather than good: EXPERIMENTS.md has its figures.

A `Finish`, where the codec has one, is added to what the linear decoder paints: a small network
that has learnt (`training.decoder`) what steps between patches and latents look like when a model
has made the latents. The latents are the same with it and without.

Latents here are raw; models see `(latents - latents_mean) / latents_std` from the config, as in
diffusers' Wan pipelines.

Shapes: B batch, C channel, T frames, H height, W width, L latent frames, Z latent channels,
N patches, P values of one patch, h and w latent height and width.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, Self

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.autoencoders.vae import DecoderOutput, DiagonalGaussianDistribution
from diffusers.models.modeling_outputs import AutoencoderKLOutput
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

STRIDE = 4  # frames in a latent
PATCH = 8  # pixels to a latent, each way
STILL_VALUES = 3 * PATCH * PATCH
VALUES = STRIDE * STILL_VALUES
_RIDGE = 1e-4  # of the mean latent variance: keeps the decoder's 9Z x 9Z system well posed


def patches_of(frames_BCTHW: Tensor) -> Tensor:
    """Groups of T frames of 8x8 pixels as vectors, (B, L, h, w, P); T of the input = 4 L."""
    b, c, t, height, width = frames_BCTHW.shape
    h, w = height // PATCH, width // PATCH
    split = frames_BCTHW.reshape(b, c, t // STRIDE, STRIDE, h, PATCH, w, PATCH)
    return split.permute(0, 2, 4, 6, 1, 3, 5, 7).reshape(b, t // STRIDE, h, w, VALUES)


class Finish(nn.Module):
    """A correction of a whole latent's frames, from 7x7 latents and those before them in time.

    Every layer sees its neighbours, the last one too, so that patches may agree where they meet.
    Untrained it corrects nothing.
    """

    def __init__(self, z_dim: int, width: int) -> None:
        super().__init__()
        self.enter = nn.Conv2d(2 * z_dim, width, 3)
        self.hidden = nn.Conv2d(width, width, 3)
        self.leave = nn.Conv2d(width, VALUES, 3)
        for parameter in self.leave.parameters():
            nn.init.zeros_(parameter)

    def forward(self, latents_NZhw: Tensor, before_NZhw: Tensor) -> Tensor:
        """Latents at their models' scale -> corrections (N, P, h, w)."""
        x = self.enter(_bordered(torch.cat((latents_NZhw, before_NZhw), 1)))
        x = x + self.hidden(_bordered(F.gelu(x)))
        made_NPhw: Tensor = self.leave(_bordered(F.gelu(x)))
        return made_NPhw


class LinearCodec(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """See the module. Build one with `fit`, or load one with `from_pretrained`.

    Args:
        z_dim: latent channels.
        latents_mean, latents_std: what a model's normalised latents were shifted and divided by.
            The spread is tempered, not whitened: components that matter more to the eye keep a
            larger variance, so that a model's loss counts them more.
        noise_logvar: log variance of the posterior around its mean, the codec's own squared error.
        finish_width: of its `Finish`; 0 for none.
    """

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self,
        z_dim: int = 48,
        latents_mean: tuple[float, ...] = (0.0,) * 48,
        latents_std: tuple[float, ...] = (1.0,) * 48,
        noise_logvar: float = -7.0,
        scale_factor_spatial: int = PATCH,
        scale_factor_temporal: int = STRIDE,
        patch_size: int | None = None,
        finish_width: int = 0,
    ) -> None:
        super().__init__()
        self.mean_P = nn.Parameter(torch.zeros(VALUES), requires_grad=False)
        self.basis_PZ = nn.Parameter(torch.zeros(VALUES, z_dim), requires_grad=False)
        self.whole_decoder = nn.Conv2d(z_dim, VALUES, 3).requires_grad_(False)
        self.still_decoder = nn.Conv2d(z_dim, STILL_VALUES, 3).requires_grad_(False)
        self.finish = Finish(z_dim, finish_width).requires_grad_(False) if finish_width else None

    @classmethod
    def fit(cls, clips: Sequence[Tensor], *, z_dim: int = 48) -> Self:
        """Fit to batches of clips_BCTHW in [-1, 1], all with 1 + 4k frames."""
        first = clips[0]
        count = 0
        total = torch.zeros(VALUES, dtype=torch.float64, device=first.device)
        product = torch.zeros(VALUES, VALUES, dtype=torch.float64, device=first.device)
        for clips_BCTHW in clips:
            patches_NP = patches_of(_grouped(clips_BCTHW)).reshape(-1, VALUES)
            count += len(patches_NP)
            total += patches_NP.sum(0, dtype=torch.float64)
            product += patches_NP.T @ patches_NP
        mean_P = total / count
        covariance_PP = product / count - mean_P[:, None] * mean_P
        values_P, vectors_PP = torch.linalg.eigh(covariance_PP)
        basis_PZ = vectors_PP.flip(1)[:, :z_dim]
        # An eigenvector's sign is arbitrary; fix it so that a fit is the same everywhere.
        basis_PZ = basis_PZ * basis_PZ.sum(0).sign().where(basis_PZ.sum(0) != 0, 1)
        # Halfway between raw and white (the square root of each spread), at mean variance 1.
        std_Z = values_P.flip(0)[:z_dim].clamp_min(1e-12).sqrt()
        divisor_Z = std_Z.sqrt() * std_Z.mean().sqrt()
        codec = cls(
            z_dim=z_dim,
            latents_mean=(0.0,) * z_dim,  # the patches' mean is taken off before projecting
            latents_std=tuple(divisor_Z.tolist()),
        )
        codec.mean_P.copy_(mean_P)
        codec.basis_PZ.copy_(basis_PZ)
        codec = codec.to(first.device)
        error = codec._fit_decoder(codec.whole_decoder, clips, _whole_targets)
        codec._fit_decoder(codec.still_decoder, clips, _still_targets)
        codec.register_to_config(noise_logvar=math.log(error))
        return codec

    def _fit_decoder(
        self,
        decoder: nn.Conv2d,
        clips: Sequence[Tensor],
        targets: Callable[[LinearCodec, Tensor], tuple[Tensor, Tensor]],
    ) -> float:
        """Ridge regression of patches from their 3x3 latents; returns the mean squared error."""
        size = 9 * self.config.z_dim + 1
        values = decoder.out_channels
        gram = torch.zeros(size, size, dtype=torch.float64, device=self.mean_P.device)
        cross = torch.zeros(size, values, dtype=torch.float64, device=self.mean_P.device)
        count, power = 0, 0.0
        for clips_BCTHW in clips:
            latents_NZhw, patches_NP = targets(self, clips_BCTHW)
            near = F.unfold(_bordered(latents_NZhw), 3).transpose(1, 2).flatten(0, 1)
            near = F.pad(near, (0, 1), value=1.0)
            gram += near.T @ near
            cross += near.T @ patches_NP
            count += len(near)
            power += float(patches_NP.double().square().sum())
        ridge = _RIDGE * gram.diagonal().mean()
        penalty = torch.full_like(gram[0], float(ridge))
        penalty[-1] = 0
        weights = torch.linalg.solve(gram + penalty.diag(), cross)
        decoder.weight.copy_(weights[:-1].T.reshape(decoder.weight.shape))
        assert decoder.bias is not None
        decoder.bias.copy_(weights[-1])
        squared = (
            power - 2 * float((weights * cross).sum()) + float((weights * (gram @ weights)).sum())
        )
        return squared / (count * values)

    @torch.no_grad()
    def encode(self, x: Tensor, return_dict: bool = True) -> Any:
        """video_BCTHW in [-1, 1], T = 1 + 4k -> posterior over latents (B, Z, 1 + k, h, w).

        Raises ValueError when T is not 1 + 4k, or height or width are no multiples of 8.
        """
        _, _, frames, height, width = x.shape
        if frames % STRIDE != 1:
            raise ValueError(f"frames = {frames} is not 1 + 4k")
        if height % PATCH or width % PATCH:
            raise ValueError(f"{width}x{height} is not a multiple of {PATCH} each way")
        # The stills of a clip and a clip's frame 0 go through the same code: alike to the bit.
        groups = _grouped(x).split(STRIDE, dim=2)
        posterior = self._posterior([self._project(group) for group in groups])
        return AutoencoderKLOutput(latent_dist=posterior) if return_dict else (posterior,)

    @torch.no_grad()
    def encode_group(self, x: Tensor) -> DiagonalGaussianDistribution:
        """The posterior over one latent, (B, Z, 1, h, w), of a shot's first frame or of four more.

        No latent depends on other frames than its own, so that is all there is to streaming.
        """
        return self._posterior([self._project(_grouped(x)[:, :, -STRIDE:])])

    def _project(self, group_BCTHW: Tensor) -> Tensor:
        return (patches_of(group_BCTHW) - self.mean_P) @ self.basis_PZ

    def _posterior(self, latents: Sequence[Tensor]) -> DiagonalGaussianDistribution:
        mean_BZLhw = torch.cat(tuple(latents), 1).movedim(-1, 1)
        logvar_BZLhw = torch.full_like(mean_BZLhw, self.config.noise_logvar)
        return DiagonalGaussianDistribution(torch.cat((mean_BZLhw, logvar_BZLhw), 1))

    def with_finish(self, width: int) -> Self:
        """A copy whose `Finish` has this width, none for 0: this codec's own if it has that, else
        an untrained one."""
        options = {name: v for name, v in self.config.items() if not name.startswith("_")}
        made = type(self)(**{**options, "finish_width": width})
        same = self.config.finish_width == width
        held = {name: v for name, v in self.state_dict().items() if same or "finish." not in name}
        made.load_state_dict(held, strict=same)
        return made.to(self.device)

    @torch.no_grad()
    def decode_latent(self, z: Tensor, first: bool, before: Tensor | None = None) -> Tensor:
        """One latent (B, Z, 1, h, w) -> 1 frame if it is a shot's `first`, else 4; in [-1, 1].

        before: the latent before it; where nobody knows that, time is taken to have stood still.
        """
        assert z.shape[2] == 1
        z_BZhw = z[:, :, 0]
        if first:
            values_BPhw = self.still_decoder(_bordered(z_BZhw))
        else:
            values_BPhw = self.paint(z_BZhw, z_BZhw if before is None else before[:, :, 0])
        return frames_of(values_BPhw, 1 if first else STRIDE).clamp(-1, 1)

    def paint(self, latents_NZhw: Tensor, before_NZhw: Tensor) -> Tensor:
        """Whole latents, and those before them -> patches (N, P, h, w)."""
        values_NPhw: Tensor = self.whole_decoder(_bordered(latents_NZhw))
        if self.finish is not None:
            scale_Z11 = values_NPhw.new_tensor(self.config.latents_std)[:, None, None]
            values_NPhw = values_NPhw + self.finish(
                latents_NZhw / scale_Z11, before_NZhw / scale_Z11
            )
        return values_NPhw

    @torch.no_grad()
    def decode(self, z: Tensor, return_dict: bool = True) -> Any:
        """Latents (B, Z, L, h, w) -> video_BCTHW of 1 + 4(L - 1) frames in [-1, 1]."""
        latents = z.split(1, dim=2)
        runs = [self.decode_latent(latents[0], True)]
        runs += [self.decode_latent(z, False, before) for before, z in pairwise(latents)]
        video_BCTHW = torch.cat(runs, 2)
        return DecoderOutput(sample=video_BCTHW) if return_dict else (video_BCTHW,)


def frames_of(values_NPhw: Tensor, frames: int = STRIDE) -> Tensor:
    """Patches put together: frames_NCTHW."""
    n, _, h, w = values_NPhw.shape
    split = values_NPhw.reshape(n, 3, frames, PATCH, PATCH, h, w)
    return split.permute(0, 1, 2, 5, 3, 6, 4).reshape(n, 3, frames, h * PATCH, w * PATCH)


def _grouped(video_BCTHW: Tensor) -> Tensor:
    """Frame 0 four times, then the others: every latent is four frames."""
    return torch.cat((video_BCTHW[:, :, :1].expand(-1, -1, STRIDE - 1, -1, -1), video_BCTHW), 2)


def _bordered(latents_NZhw: Tensor) -> Tensor:
    return F.pad(latents_NZhw, (1, 1, 1, 1), mode="replicate")


def _whole_targets(codec: LinearCodec, clips_BCTHW: Tensor) -> tuple[Tensor, Tensor]:
    patches = patches_of(_grouped(clips_BCTHW)[:, :, STRIDE:])
    latents_BLhwZ = (patches - codec.mean_P) @ codec.basis_PZ
    return latents_BLhwZ.flatten(0, 1).movedim(-1, 1), patches.reshape(-1, VALUES)


def _still_targets(codec: LinearCodec, clips_BCTHW: Tensor) -> tuple[Tensor, Tensor]:
    """Stills from all over the clip: every fourth frame."""
    frames = clips_BCTHW[:, :, ::STRIDE]
    patches = patches_of(frames.repeat_interleave(STRIDE, dim=2))
    latents_BLhwZ = (patches - codec.mean_P) @ codec.basis_PZ
    b, length, h, w, _ = patches.shape
    one_frame = patches.reshape(b, length, h, w, 3, STRIDE, -1)[..., 0, :].reshape(-1, STILL_VALUES)
    return latents_BLhwZ.flatten(0, 1).movedim(-1, 1), one_frame
