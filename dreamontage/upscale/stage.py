"""The super-resolution stage: base latents of a shot, refined at 1.5, 2 or 2.25 times the size.

The paper has an SR DiT, tuned on Interm-Cond like the base DiT, with Shared-RoPE on top. How the
small film enters it, and how a large one is cut up, it leaves open; all of this is ours:

* *The small film* is decoded, enlarged (bicubic) and encoded again, latent by latent. It is the
  start of denoising, noised to ``strength``, and stands beside the noise as channels at every step.
  The DiT's input is ``[noisy Z | mask 4 | condition Z | enlarged film Z]``: the base DiT's own
  layout first, so an SR DiT is a base DiT grown by ``grow_input(sr_channels(z))`` and tuned.
* *Shared-RoPE*: for each still, and each clip's first frame, in the window one latent frame is
  appended. It is a frame with nothing left to denoise: the still's latent as noisy latent, as
  condition and as enlarged film, and the mask that the still has at its place.
* *Time*: windows as SAR cuts them, with the SR model's own geometry: each is given the last latents
  of the window before, and overlaps fade into each other at the end (``sar.fuse``), so memory does
  not grow with the film. A latent's noise depends on its place in the shot, not on the window, so
  overlapping windows start from the same picture.
* *Space*: tiles of one size, overlapping, whose velocities are blended at every step (``tiling``).

Shape legend: B batch, Z latent channels, C input channels, M = 4 mask channels, T pixel frames,
L latent frames, N appended frames, H W height and width, in latents unless T is beside them.
"""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor

from dreamontage.conditioning import (
    MASK_CHANNELS,
    Clip,
    IntermTrack,
    Keyframe,
    head_again,
    with_pictures,
)
from dreamontage.models import autoencoder
from dreamontage.pipeline import DreaMontagePipeline
from dreamontage.plan import Segment
from dreamontage.sampling import DenoiseState, Sampler, denoise, entered, entry
from dreamontage.sar import fuse, head_of, tail_of
from dreamontage.seeds import derive
from dreamontage.upscale.enlarge import cut, enlarge, met_again, pad
from dreamontage.upscale.tiling import TiledDenoiser, tiles

SCALES = (1.5, 2.0, 2.25)


def sr_channels(z_dim: int) -> int:
    """Input channels of an SR DiT: noisy latents, mask, condition, enlarged film."""
    return z_dim + MASK_CHANNELS + z_dim + z_dim


def patch_of(pipe: DreaMontagePipeline) -> tuple[int, int]:
    """Height and width, in latents, of one of the DiT's tokens."""
    _, height, width = pipe.transformer.config.patch_size
    return int(height), int(width)


@dataclass(frozen=True, kw_only=True)
class Upscaler:
    """How a film is enlarged.

    Args:
        scale: 1.5, 2 or 2.25.
        tile_latents: height and width of a tile; a picture no larger is one tile.
        overlap_latents: how far neighbouring tiles overlap at least; 0 leaves seams to be seen.
        strength: the noise level, in (0, 1], at which refining starts; 1 keeps of the enlarged film
            only what the channels beside the noise tell.
        shared_rope: append the stills as tokens (Shared-RoPE); False is plain channel concat.

    Raises:
        ValueError: naming the field and its rule.
    """

    scale: float
    tile_latents: tuple[int, int] = (60, 104)
    overlap_latents: int = 16
    strength: float = 0.7
    shared_rope: bool = True

    def __post_init__(self) -> None:
        if self.scale not in SCALES:
            raise ValueError(f"scale = {self.scale} must be one of {', '.join(map(str, SCALES))}")
        if not 0 <= self.overlap_latents < min(self.tile_latents):
            raise ValueError(
                f"overlap_latents = {self.overlap_latents} must be at least 0 and less than a "
                f"tile's shorter side, {min(self.tile_latents)}"
            )
        if not 0 < self.strength <= 1:
            raise ValueError(f"strength = {self.strength} must lie above 0 and be at most 1")

    def size(self, height: int, width: int) -> tuple[int, int]:
        """The film's height and width in pixels: what is shown, and what conditions have to have.

        Raises:
            ValueError: if that is no whole number of pixels.
        """
        enlarged = []
        for field, side in (("height", height), ("width", width)):
            exact = side * Fraction(self.scale)
            if exact.denominator != 1:
                raise ValueError(
                    f"{field} = {side} times {self.scale} is {float(exact):g}, no whole number of "
                    f"pixels: it must be a multiple of {Fraction(self.scale).denominator}"
                )
            enlarged.append(int(exact))
        return enlarged[0], enlarged[1]

    def padded(self, height: int, width: int, *, pipe: DreaMontagePipeline) -> tuple[int, int]:
        """The height and width in pixels that the model works at: `size`, made up to its grid.

        480 lines times 2.25 are 1080, which is no multiple of 16: the picture's last row and
        column are repeated up to 1088, and of the frames that come of it `size` is shown.
        """
        scale = int(pipe.vae.config.scale_factor_spatial)
        rows, columns = (
            -(-side // (patch * scale)) * patch * scale
            for side, patch in zip(self.size(height, width), patch_of(pipe), strict=True)
        )
        return rows, columns


def upscale(
    latents: Iterable[Tensor],
    *,
    pipe: DreaMontagePipeline,
    upscaler: Upscaler,
    segments: Sequence[Segment],
    height: int,
    width: int,
    conditions: Sequence[Keyframe | Clip] = (),
    sampler: Sampler | None = None,
    negative_prompt: str = "",
    seed: int = 0,
) -> Iterator[Tensor]:
    """Enlarge and refine a shot; yields its latents at the target size, each once, in order.

    Memory holds two windows at the target size, whatever the film's length; a call of the model
    sees one tile of one window. ``autoencoder.decode`` turns what comes out into frames, of
    ``upscaler.padded`` pixels: cut them to ``upscaler.size``, from the top left.

    Args:
        latents: the base film as runs of latents_BZLHW, as ``sar.fuse`` or the pipeline yield them;
            from the same autoencoder as ``pipe.vae``.
        pipe: the SR model: a folder like any other, its DiT with ``sr_channels(z)`` channels.
        segments: ``plan_shot(..., geometry=pipe.geometry)``: the SR model's own windows, those of a
            loop for a loop.
        height, width: of the base film, in pixels.
        conditions: the shot's stills and clips, with pictures of ``upscaler.size``.
        sampler: the SR model's own settings, if not given.

    Raises:
        ValueError: at once, for a size, tile or model that does not fit; while running, for base
            latents that are not as many as the segments cover.
    """
    z = int(pipe.vae.config.z_dim)
    if pipe.transformer.config.in_channels != sr_channels(z):
        raise ValueError(
            f"transformer.in_channels = {pipe.transformer.config.in_channels}, and an SR DiT for "
            f"{z} latent channels has {sr_channels(z)}"
        )
    patch = patch_of(pipe)
    for field, side, step in zip(("height", "width"), upscaler.tile_latents, patch, strict=True):
        if side % step or upscaler.overlap_latents % step:
            raise ValueError(
                f"tile_latents' {field}, {side}, and overlap_latents = {upscaler.overlap_latents} "
                f"must be multiples of the model's patch, {step}"
            )
    size = upscaler.size(height, width)
    grid = upscaler.padded(height, width, pipe=pipe)
    sampler = sampler or pipe.sampler()
    entry(pipe.scheduler, sampler.steps, upscaler.strength)
    encode = functools.partial(autoencoder.encode, pipe.vae)
    padded = (with_pictures(each, lambda picture: pad(picture, size, grid)) for each in conditions)
    track = IntermTrack(condition.place(encode, *grid) for condition in padded)

    def windows() -> Iterator[tuple[Segment, Tensor]]:
        refined_BZLHW: Tensor | None = None
        first_BZLHW: Tensor | None = None
        film = met_again(enlarge(pipe.vae, latents, size, grid), segments[-1].head)
        for segment, enlarged_BZLHW in cut(film, segments):
            states = refine(
                segment,
                pipe=pipe,
                upscaler=upscaler,
                enlarged_BZLHW=enlarged_BZLHW,
                track=track,
                previous_BZLHW=refined_BZLHW,
                head_BZLHW=first_BZLHW,
                sampler=sampler,
                negative_prompt=negative_prompt,
                seed=seed,
            )
            refined_BZLHW = deque(states, maxlen=1)[0].latents_BCLHW
            if segments[-1].head and first_BZLHW is None:
                first_BZLHW = refined_BZLHW
            yield segment, refined_BZLHW

    return fuse(windows())


@torch.no_grad()
def refine(
    segment: Segment,
    *,
    pipe: DreaMontagePipeline,
    upscaler: Upscaler,
    enlarged_BZLHW: Tensor,
    track: IntermTrack,
    previous_BZLHW: Tensor | None,
    head_BZLHW: Tensor | None = None,
    sampler: Sampler,
    negative_prompt: str = "",
    seed: int = 0,
) -> Iterator[DenoiseState]:
    """Denoise one window of the enlarged film. The last state holds the window's latents.

    Args:
        enlarged_BZLHW: the window's part of the enlarged film, at the target's size.
        track: the conditions, placed at the target's size.
        previous_BZLHW: the refined latents of the window before; None for the first.
        head_BZLHW: the refined latents of the first window, for the closing one of a loop.
        seed: the shot's; a latent's noise comes from it and from its place in the shot.
    """
    device = pipe._execution_device
    enlarged_BZLHW = enlarged_BZLHW.to(device)
    shape = enlarged_BZLHW[:, :, :1].shape
    noise_BZLHW = torch.cat(
        [
            torch.randn(
                shape, generator=torch.Generator().manual_seed(derive(seed, "upscale", latent))
            )
            for latent in range(segment.start, segment.stop)
        ],
        dim=2,
    ).to(device)
    tail_BZLHW = None if previous_BZLHW is None else tail_of(segment, previous_BZLHW)
    if segment.head:
        assert head_BZLHW is not None, "a loop is closed with what it began with"
        again = head_again(segment.stop - segment.head, head_of(segment, head_BZLHW))
        track = IntermTrack([*track.placements, again])
    given_BCLHW = track.window(segment.start, segment.stop, tail_BZLHW, noise_BZLHW)
    shared_BCNHW, shared_frames = None, list[int]()
    if upscaler.shared_rope:
        shared_BCNHW, shared_frames = appended_frames(
            track, segment.start, segment.stop, noise_BZLHW
        )
    prompt_BSD, negative_prompt_BSD = pipe.encode_prompt(
        prompt=segment.prompt,
        negative_prompt=negative_prompt,
        do_classifier_free_guidance=sampler.guidance > 1,
        max_sequence_length=pipe.config.max_sequence_length,
        device=device,
        dtype=pipe.transformer.dtype,
    )
    denoiser = TiledDenoiser(
        experts=[pipe.transformer],
        guidance=[sampler.guidance],
        prompt_BSD=prompt_BSD,
        negative_prompt_BSD=negative_prompt_BSD,
        condition_BCLHW=torch.cat([given_BCLHW, enlarged_BZLHW], dim=1),
        tiles=tiles(
            *(shape[3], shape[4]),
            size=upscaler.tile_latents,
            overlap=upscaler.overlap_latents,
            patch=patch_of(pipe),
        ),
        shared_BCNHW=shared_BCNHW,
        shared_frames=shared_frames,
    )
    state = entered(
        pipe.scheduler,
        steps=sampler.steps,
        strength=upscaler.strength,
        film_BCLHW=enlarged_BZLHW,
        noise_BCLHW=noise_BZLHW,
    )
    yield from denoise(
        denoiser, pipe.scheduler, noise_BCLHW=noise_BZLHW, steps=sampler.steps, state=state
    )


def appended_frames(
    track: IntermTrack, start: int, stop: int, like_BZLHW: Tensor
) -> tuple[Tensor | None, list[int]]:
    """What Shared-RoPE appends in the window [start, stop), (B, C, N, H, W), and the latent of the
    window that each of the N stands for; None where nothing begins in the window.

    A clip that began earlier appends nothing: its first frame has no place in this window.
    """
    inside = [each for each in track.placements if start <= each.start < stop]
    frames = []
    for each in inside:
        still_BZ1HW = each.latents_BCLHW[:, :, :1].to(like_BZLHW)
        mask_M1HW = (
            each.mask_ML[:, :1, None, None].to(like_BZLHW).expand(-1, -1, *still_BZ1HW.shape[3:])
        )
        frames.append(torch.cat([still_BZ1HW, mask_M1HW[None], still_BZ1HW, still_BZ1HW], dim=1))
    places = [each.start - start for each in inside]
    return (torch.cat(frames, dim=2) if frames else None), places
