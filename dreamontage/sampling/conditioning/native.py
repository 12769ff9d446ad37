"""How stock Wan image-to-video checkpoints were trained to see conditions, which is not the paper's
way: in a grey film that is encoded whole, and (Wan 2.1) once more through a CLIP encoder
(``clip_vision``).

Shape legend: B batch, C latent channels, M = 4 mask channels, T pixel frames, L latent frames, H W
height and width. Pixels are floats in [-1, 1].
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from dreamontage.sampling.conditioning.conditions import (
    MASK_CHANNELS,
    Clip,
    Encode,
    Keyframe,
    Placement,
    mark,
    pictures_by_frame,
)
from dreamontage.sampling.conditioning.pictures import Picture, pixels
from dreamontage.sampling.conditioning.track import with_tail
from dreamontage.timeline import TEMPORAL_STRIDE, latent_of


class NativeTrack:
    """The conditions are pictures of an otherwise mid-grey film that is encoded whole.

    With a first frame, or first and last, this is what diffusers' image-to-video pipeline feeds its
    model, to the bit. A later window is a film of its own that begins with the last frame of its
    first latent. Where a loop ends, its first frame is a picture in the grey film, and the
    latents after it are given whole, as those that a segment hands over are **[ours]**.
    """

    def __init__(
        self, conditions: Iterable[Keyframe | Clip], encode: Encode, height: int, width: int
    ) -> None:
        self.pictures = pictures_by_frame(conditions)
        self.encode, self.height, self.width = encode, height, width
        self.head: Placement | None = None

    def with_loop_head(self, head: Placement, picture: Picture) -> NativeTrack:
        """As :meth:`dreamontage.sampling.conditioning.track.Track.with_loop_head`."""
        track = self.unconditional()
        track.pictures = self.pictures | {head.start * TEMPORAL_STRIDE: picture}
        track.head = head
        return track

    def unconditional(self) -> NativeTrack:
        """As :meth:`dreamontage.sampling.conditioning.track.Track.unconditional`."""
        return NativeTrack([], self.encode, self.height, self.width)

    @property
    def empty(self) -> bool:
        return not self.pictures

    def window(
        self, start: int, stop: int, tail_BCLHW: Tensor | None, like_BCLHW: Tensor
    ) -> Tensor:
        """As :meth:`dreamontage.sampling.conditioning.track.Track.window`."""
        length = stop - start
        frames = 1 + TEMPORAL_STRIDE * (length - 1)
        video_BCTHW = torch.zeros(1, 3, frames, self.height, self.width)
        mask_ML = torch.zeros(MASK_CHANNELS, length)
        first = start * TEMPORAL_STRIDE
        for frame, picture in self.pictures.items():
            if first <= frame < first + frames:
                picture_BC1HW = pixels([picture], self.height, self.width)
                video_BCTHW[:, :, frame - first] = picture_BC1HW[:, :, 0]
                mark(mask_ML, latent_of(frame - first), frame - first)
        latents_BCLHW = self.encode(video_BCTHW).to(like_BCLHW)
        mask_BMLHW = mask_ML.to(like_BCLHW)[None, :, :, None, None].expand(
            1, -1, -1, *like_BCLHW.shape[3:]
        )
        window_BCLHW = torch.cat([mask_BMLHW, latents_BCLHW], dim=1).repeat(
            like_BCLHW.shape[0], 1, 1, 1, 1
        )
        if self.head is not None:
            assert self.head.stop == stop, "only the closing window has the loop's head"
            head_tail_BCLHW = self.head.latents_BCLHW[:, :, 1:]
            behind = slice(length - head_tail_BCLHW.shape[2], length)
            window_BCLHW[:, :MASK_CHANNELS, behind] = 1
            window_BCLHW[:, MASK_CHANNELS:, behind] = head_tail_BCLHW.to(like_BCLHW)
        return with_tail(window_BCLHW, tail_BCLHW)
