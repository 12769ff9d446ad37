"""The super-resolution stage: base latents of a shot, refined at 1.5, 2 or 2.25 times the size.

The paper has an SR DiT, tuned on Interm-Cond like the base DiT, with Shared-RoPE on top. How the
small film enters it, and how a large one is cut up, it leaves open; all of this is ours:

* *The small film* is decoded, enlarged (bicubic) and encoded again, latent by latent. It is the
  start of denoising, noised to ``strength``, and is beside the noise, as channels, at every step.
  The DiT's input is ``[noisy Z | mask 4 | condition Z | enlarged film Z]``: the base DiT's own
  layout first, so an SR DiT is a base DiT grown by ``grow_input(sr_channels(z))`` and tuned.
* *Shared-RoPE*: for each still, and each clip's first frame, in the window one latent frame is
  appended. It is a frame with nothing left to denoise: the still's latent as noisy latent, as
  condition and as enlarged film, and the mask that the still has at its place.
* *Time*: windows as SAR cuts them, with the SR model's own geometry: each is given the last latents
  of the window before, and overlaps fade into each other at the end (``sar.fuse``), so memory does
  not grow with the film. A latent's noise depends on its place in the shot, not on the window, so
  overlapping windows start from the same picture.
* *Space*: tiles of one size, overlapping, whose velocities are blended at every step
  (``families.wan_sr``).

Shape legend: B batch, Z latent channels, C input channels, M = 4 mask channels, T pixel frames,
L latent frames, N appended frames, H W height and width, in latents unless T is beside them.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Sequence
from typing import Unpack

import torch
from torch import Tensor

from dreamontage.families.tiling import tiles
from dreamontage.families.wan_sr import WanSrTask
from dreamontage.models import autoencoder
from dreamontage.pipeline.pipeline import DreaMontagePipeline
from dreamontage.pipeline.sar import chain, fuse, head_of, tail_of
from dreamontage.pipeline.upscale.enlarge import append_loop_head, enlarge, pad, split_windows
from dreamontage.pipeline.upscale.model import SrModel
from dreamontage.pipeline.window import TextOptions, window_model
from dreamontage.planning.segments import Segment
from dreamontage.planning.upscale_settings import Upscaler, channel_error
from dreamontage.sampling.conditioning.conditions import (
    Clip,
    Keyframe,
    loop_head_placement,
    map_pictures,
)
from dreamontage.sampling.conditioning.interm import IntermTrack
from dreamontage.sampling.denoise import Sampler, denoise
from dreamontage.sampling.schedulers import check_scheduler, with_timesteps
from dreamontage.sampling.start import noised_state, start_step
from dreamontage.sampling.state import DenoiseState
from dreamontage.storyboard.seeds import derive


def patch_of(pipe: DreaMontagePipeline) -> tuple[int, int]:
    """Height and width, in latents, of one of the DiT's tokens."""
    _, height, width = pipe.transformer.config.patch_size
    return int(height), int(width)


def grid_of(pipe: DreaMontagePipeline) -> tuple[int, int]:
    """What the heights and widths that the model works at are multiples of, in pixels."""
    height, width = patch_of(pipe)
    scale = int(pipe.vae.config.scale_factor_spatial)
    return height * scale, width * scale


def sr_model(pipe: DreaMontagePipeline, name: str = "the model") -> SrModel:
    """A loaded model as planning needs it."""
    return SrModel(
        name=name,
        channels=pipe.transformer.config.in_channels,
        z_dim=pipe.vae.config.z_dim,
        patch=patch_of(pipe),
        spatial_scale=pipe.vae.config.scale_factor_spatial,
        geometry=pipe.geometry,
        settings=pipe.config.superres or {},
        autoencoder=autoencoder.revision(pipe.vae),
    )


def placed(
    conditions: Iterable[Keyframe | Clip],
    *,
    pipe: DreaMontagePipeline,
    size: tuple[int, int],
    grid: tuple[int, int],
) -> IntermTrack:
    """Conditions placed at the size that the SR model works at.

    Args:
        size: height and width of the conditions' pictures, ``Upscaler.size``.
        grid: those that the model works at, ``Upscaler.padded``.
    """
    encode = functools.partial(autoencoder.encode, pipe.vae)
    padded = (map_pictures(each, lambda picture: pad(picture, size, grid)) for each in conditions)
    return IntermTrack(condition.place(encode, *grid) for condition in padded)


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
    if problem := channel_error(pipe.transformer.config.in_channels, z_dim=pipe.vae.config.z_dim):
        raise ValueError(problem)
    upscaler.check(patch_of(pipe))
    size = upscaler.size(height, width)
    grid = upscaler.padded(height, width, multiple=grid_of(pipe))
    sampler = sampler or pipe.sampler()
    start_step(pipe.scheduler, sampler.steps, upscaler.strength)
    track = placed(conditions, pipe=pipe, size=size, grid=grid)

    film = append_loop_head(enlarge(pipe.vae, latents, size, grid), segments[-1].head)
    enlarged = split_windows(film, segments)

    def states(
        segment: Segment, previous_BZLHW: Tensor | None, first_BZLHW: Tensor | None
    ) -> Iterator[DenoiseState]:
        _, enlarged_BZLHW = next(enlarged)
        return refine(
            segment,
            pipe=pipe,
            upscaler=upscaler,
            enlarged_BZLHW=enlarged_BZLHW,
            track=track,
            previous_BZLHW=previous_BZLHW,
            head_BZLHW=first_BZLHW,
            sampler=sampler,
            negative_prompt=negative_prompt,
            seed=seed,
        )

    def windows() -> Iterator[tuple[Segment, Tensor]]:
        yield from chain(segments, states)
        for _ in enlarged:  # raises if the film is longer than the segments
            raise AssertionError("one window a segment")

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
    seed: int = 0,
    state: DenoiseState | None = None,
    **text: Unpack[TextOptions],
) -> Iterator[DenoiseState]:
    """Denoise one window of the enlarged film, resumably. The last state holds the window's
    latents.

    Args:
        enlarged_BZLHW: the window's part of the enlarged film, at the target's size.
        track: the conditions, placed at the target's size.
        previous_BZLHW: the refined latents of the window before; None for the first.
        head_BZLHW: the refined latents of the first window, for the closing one of a loop.
        seed: the shot's; a latent's noise comes from it and from its place in the shot.
        state: a stored state of this very window to go on from.
        text: negative prompt and embeddings, as `TextOptions` has them.

    Raises:
        ValueError: for a scheduler whose noise cannot be repeated.
    """
    check_scheduler(pipe.scheduler)
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
        head_placement = loop_head_placement(
            segment.stop - segment.head, head_of(segment, head_BZLHW)
        )
        track = IntermTrack([*track.placements, head_placement])
    condition_BCLHW = track.window(segment.start, segment.stop, tail_BZLHW, noise_BZLHW)
    shared_BCNHW, shared_frames = None, list[int]()
    if upscaler.shared_rope:
        shared_BCNHW, shared_frames = appended_frames(
            track, segment.start, segment.stop, noise_BZLHW
        )
    if state is None:
        source_BZLHW = noise_BZLHW
        if upscaler.spread is not None:
            source_BZLHW = enlarged_BZLHW + upscaler.spread * noise_BZLHW
        state = noised_state(
            pipe.scheduler,
            steps=sampler.steps,
            strength=upscaler.strength,
            film=enlarged_BZLHW,
            noise=source_BZLHW,
        )
    task = WanSrTask(
        model=window_model(pipe, segment, sampler=sampler, text=text),
        latents=noise_BZLHW,
        scheduler=with_timesteps(pipe.scheduler, sampler.steps, device),
        # What a scheduler draws in its steps depends on the window, too.
        generator=torch.Generator().manual_seed(derive(seed, "upscale steps", segment.start)),
        channels_BCLHW=torch.cat([condition_BCLHW, enlarged_BZLHW], dim=1),
        tiles=tiles(
            *(shape[3], shape[4]),
            size=upscaler.tile_latents,
            overlap=upscaler.overlap_latents,
            patch=patch_of(pipe),
        ),
        shared_BCNHW=shared_BCNHW,
        shared_frames=shared_frames,
    )
    return denoise(task, state)


def appended_frames(
    track: IntermTrack, start: int, stop: int, like_BZLHW: Tensor
) -> tuple[Tensor | None, list[int]]:
    """What Shared-RoPE appends in the window [start, stop), (B, C, N, H, W), and the latent of the
    window whose position each of the N has; None where nothing begins in the window.

    A clip that began earlier appends nothing: its first frame is not in this window.
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
