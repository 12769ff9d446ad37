"""A shot's conditions, stills and clips, and the latents that each is placed on.

The paper names no mask and no alignment rule: these are ours, and INVARIANTS.md lists them.

Shape legend: B batch, C latent channels, M = 4 mask channels, T pixel frames, L latent frames, H W
height and width. Pixels are floats in [-1, 1].
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dreamontage.sampling.conditioning.pictures import Picture, pixels
from dreamontage.timeline import TEMPORAL_STRIDE, clip_start, latent_of, offset_in_latent

MASK_CHANNELS = TEMPORAL_STRIDE

Encode = Callable[[Tensor], Tensor]
"""video_BCTHW of 1 + 4k frames -> 1 + k normalised latents_BCLHW."""


@dataclass(frozen=True, kw_only=True)
class Placement:
    """One condition's latents on the shot's latent timeline, from latent ``start`` on."""

    start: int
    latents_BCLHW: Tensor
    mask_ML: Tensor  # 1 where a frame of the slot is given

    @property
    def stop(self) -> int:
        return self.start + self.latents_BCLHW.shape[2]

    def without_partial_slot(self) -> Placement:
        """Without the last slot of a clip that covers it only in part; a still stays as it is."""
        if self.stop - self.start == 1 or bool(self.mask_ML[:, -1].all()):
            return self
        return Placement(
            start=self.start,
            latents_BCLHW=self.latents_BCLHW[:, :, :-1],
            mask_ML=self.mask_ML[:, :-1],
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Keyframe:
    """A still at one frame: a PIL image, uint8 (H, W, 3), or float (3, H, W) in [-1, 1]."""

    image: Picture
    frame: int

    def place(self, encode: Encode, height: int, width: int) -> Placement:
        """The still's own latent in the slot of its frame; the mask marks that frame alone."""
        video_BCTHW = pixels([self.image], height, width)
        mask_ML = torch.zeros(MASK_CHANNELS, 1)
        mark(mask_ML, 0, self.frame)
        return Placement(
            start=latent_of(self.frame), latents_BCLHW=encode(video_BCTHW), mask_ML=mask_ML
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Clip:
    """A run of frames, the first of which is the shot's frame ``frame``. ``frames``: pictures as in
    :class:`Keyframe`.
    """

    frames: Sequence[Picture]
    frame: int

    def place(self, encode: Encode, height: int, width: int) -> Placement:
        """The clip's latents from its first grid frame on
        (:func:`dreamontage.timeline.clip_start`).

        The first is that frame encoded alone, as the paper has it, and the causal autoencoder
        yields it as its own first latent. A trailing part of a slot is filled by repeating the last
        frame, and the mask marks only what is given: no frame is dropped.
        """
        first = clip_start(self.frame, len(self.frames))
        if first is None:  # too short to reach the grid: a still
            return Keyframe(image=self.frames[0], frame=self.frame).place(encode, height, width)
        frames = self.frames[first - self.frame :]
        missing = -(len(frames) - 1) % TEMPORAL_STRIDE
        video_BCTHW = pixels([*frames, *[frames[-1]] * missing], height, width)
        latents_BCLHW = encode(video_BCTHW)
        mask_ML = torch.zeros(MASK_CHANNELS, latents_BCLHW.shape[2])
        for frame in range(first, first + len(frames)):
            mark(mask_ML, latent_of(frame) - latent_of(first), frame)
        return Placement(start=latent_of(first), latents_BCLHW=latents_BCLHW, mask_ML=mask_ML)


def loop_head_placement(start: int, head_BCLHW: Tensor) -> Placement:
    """A film's first latents as a loop meets them again: a clip whose first frame ends slot
    ``start``, though none that was encoded for it.
    """
    mask_ML = torch.ones(MASK_CHANNELS, head_BCLHW.shape[2])
    mask_ML[:, 0] = 0
    mark(mask_ML, 0, TEMPORAL_STRIDE * start)
    return Placement(start=start, latents_BCLHW=head_BCLHW, mask_ML=mask_ML)


def pictures_by_frame(conditions: Iterable[Keyframe | Clip]) -> dict[int, Picture]:
    """Every frame that is given, with its picture."""
    return {
        condition.frame + offset: picture
        for condition in conditions
        for offset, picture in enumerate(
            condition.frames if isinstance(condition, Clip) else [condition.image]
        )
    }


def map_pictures(condition: Keyframe | Clip, fit: Callable[[Picture], Picture]) -> Keyframe | Clip:
    """The condition with each of its pictures as ``fit`` makes it."""
    if isinstance(condition, Keyframe):
        return Keyframe(image=fit(condition.image), frame=condition.frame)
    return Clip(frames=[fit(picture) for picture in condition.frames], frame=condition.frame)


def mark(mask_ML: Tensor, slot: int, frame: int) -> None:
    """All four channels of latent 0 mean frame 0; elsewhere one channel is one frame, as in
    Wan's image-to-video checkpoints.
    """
    if frame == 0:
        mask_ML[:, slot] = 1
    else:
        mask_ML[offset_in_latent(frame), slot] = 1
