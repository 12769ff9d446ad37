"""How stock Wan image-to-video checkpoints were trained to see conditions, which is not the paper's
way: in a grey film that is encoded whole, and (Wan 2.1) once more as a CLIP encoder sees them.

Shape legend: B batch, C latent channels, M = 4 mask channels, T pixel frames, L latent frames, H W
height and width. Pixels are floats in [-1, 1].
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from PIL import Image
from torch import Tensor

from dreamontage.conditioning import (
    MASK_CHANNELS,
    Clip,
    Encode,
    Keyframe,
    Placement,
    mark,
    pictures_of,
    with_tail,
)
from dreamontage.pictures import Picture, as_image, pixels
from dreamontage.timeline import TEMPORAL_STRIDE, frames_of, latent_of


class NativeTrack:
    """The conditions stand in an otherwise mid-grey film that is encoded whole.

    With a first frame, or first and last, this is what diffusers' image-to-video pipeline feeds its
    model, to the bit. A later window is a film of its own that begins with the last frame of its
    first latent. Where a loop ends, its first frame stands in the grey film as a picture, and the
    latents after it are given whole, as those that a segment hands over are **[ours]**.
    """

    def __init__(
        self, conditions: Iterable[Keyframe | Clip], encode: Encode, height: int, width: int
    ) -> None:
        self.pictures = pictures_of(conditions)
        self.encode, self.height, self.width = encode, height, width
        self.head: Placement | None = None

    def closed(self, head: Placement, picture: Picture) -> NativeTrack:
        """As :meth:`dreamontage.conditioning.Track.closed`."""
        track = self.bare()
        track.pictures = self.pictures | {head.start * TEMPORAL_STRIDE: picture}
        track.head = head
        return track

    def bare(self) -> NativeTrack:
        """As :meth:`dreamontage.conditioning.Track.bare`."""
        return NativeTrack([], self.encode, self.height, self.width)

    @property
    def empty(self) -> bool:
        return not self.pictures

    def window(
        self, start: int, stop: int, tail_BCLHW: Tensor | None, like_BCLHW: Tensor
    ) -> Tensor:
        """As :meth:`dreamontage.conditioning.Track.window`."""
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
            assert self.head.stop == stop, "only the closing window is told of the head"
            whole_BCLHW = self.head.latents_BCLHW[:, :, 1:]
            behind = slice(length - whole_BCLHW.shape[2], length)
            window_BCLHW[:, :MASK_CHANNELS, behind] = 1
            window_BCLHW[:, MASK_CHANNELS:, behind] = whole_BCLHW.to(like_BCLHW)
        return with_tail(window_BCLHW, tail_BCLHW)


class Sight:
    """The pictures that a window shows to Wan 2.1's CLIP encoder.

    Image-to-video weights know the first frame, first-last-frame weights the first and the last.
    Where a window has none there, the nearest that it has **[ours]**: it opens with its tail's
    first frame, else its earliest given picture, else mid-grey, and ends with its latest given
    picture, else with what it opens with. A loop's closing window ends with the loop's first frame.
    """

    def __init__(self, conditions: Iterable[Keyframe | Clip]) -> None:
        self.pictures = {
            frame: as_image(picture) for frame, picture in pictures_of(conditions).items()
        }

    def closed(self, frame: int, picture: Picture) -> Sight:
        """The same pictures, and a loop's first where it is met again."""
        sight = Sight([])
        sight.pictures = self.pictures | {frame: as_image(picture)}
        return sight

    def window(
        self, start: int, stop: int, *, opening: Image.Image | None, both_ends: bool
    ) -> list[Image.Image]:
        """One picture, or two for ``both_ends``, of what is given on the latents [start, stop).

        Args:
            opening: the first frame of the tail, whose latents come before ``start``.
        """
        span = range(frames_of(start).start, frames_of(stop - 1).stop)
        given = [picture for frame, picture in sorted(self.pictures.items()) if frame in span]
        grey = Image.new("RGB", (16, 16), (128, 128, 128))
        first = opening or (given[0] if given else grey)
        return [first, given[-1] if given else first] if both_ends else [first]
