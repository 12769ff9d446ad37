"""What a DiT is told of a shot's conditions, window by window: beside the noise, or in its stead.

Shape legend: B batch, C channels, M = 4 mask channels, L latent frames, H W height and width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Literal

from torch import Tensor

from dreamontage.conditioning import (
    MASK_CHANNELS,
    Clip,
    Encode,
    IntermTrack,
    Keyframe,
    Track,
    head_again,
    with_pictures,
)
from dreamontage.native import NativeTrack, Sight
from dreamontage.pictures import Picture, as_image
from dreamontage.plan import Segment
from dreamontage.sampling import Given
from dreamontage.timeline import TEMPORAL_STRIDE

Conditioning = Literal["native", "interm"]


class Feed(StrEnum):
    """How a DiT takes what is given."""

    CHANNELS = "channels"  # mask and condition latents beside the noise: every image-to-video DiT
    CLEAN = "clean"  # condition latents in the noise's stead, at time 0: Wan 2.2 TI2V-5B
    NOTHING = "nothing"  # text alone

    @classmethod
    def of(cls, *, in_channels: int, z_dim: int, expand_timesteps: bool) -> Feed:
        if expand_timesteps:
            return cls.CLEAN
        return cls.CHANNELS if in_channels == z_dim + MASK_CHANNELS + z_dim else cls.NOTHING


@dataclass(frozen=True, kw_only=True)
class ShotConditions:
    """A shot's conditions as one model takes them."""

    feed: Feed
    track: Track
    sight: Sight | None  # for Wan 2.1's CLIP encoder

    def check(self, *, hands_over: bool) -> None:
        """Raises:
        ValueError: if the model can take nothing, and there is a condition or a tail to take.
        """
        if self.feed is Feed.NOTHING and (hands_over or not self.track.empty):
            raise ValueError(
                "this model is text-to-video: it takes no conditions, and no shot longer than its "
                "window; use image-to-video weights, or tune these, grown by grow_input()"
            )

    def closed(self, segment: Segment, head_BCLHW: Tensor, picture: Picture) -> ShotConditions:
        """What a loop's closing segment is told: the conditions, and the film's head once more.

        Args:
            head_BCLHW: the film's first ``segment.head`` latents.
            picture: its first frame.
        """
        head = head_again(segment.stop - segment.head, head_BCLHW)
        return replace(
            self,
            track=self.track.closed(head, picture),
            sight=self.sight and self.sight.closed(head.start * TEMPORAL_STRIDE, picture),
        )

    def bare(self) -> ShotConditions:
        """What the model is told without the conditions; a CLIP encoder sees them still."""
        return replace(self, track=self.track.bare())

    def inputs(
        self, segment: Segment, tail_BCLHW: Tensor | None, like_BCLHW: Tensor
    ) -> tuple[Tensor | None, Given | None]:
        """A window's condition channels, or its clean latents: a model has at most one of them."""
        self.check(hands_over=tail_BCLHW is not None)
        if self.feed is Feed.NOTHING:
            return None, None
        window_BCLHW = self.track.window(segment.start, segment.stop, tail_BCLHW, like_BCLHW)
        if self.feed is Feed.CHANNELS:
            return window_BCLHW, None
        # The mask is the same all over a frame.
        slots_L = window_BCLHW[0, :MASK_CHANNELS, :, 0, 0].bool().any(dim=0)
        return None, Given(latents_BCLHW=window_BCLHW[:, MASK_CHANNELS:], slots_L=slots_L)


def shot_conditions(
    conditions: Sequence[Keyframe | Clip],
    *,
    feed: Feed,
    conditioning: Conditioning,
    sighted: bool,
    encode: Encode,
    processor: Any,
    height: int,
    width: int,
) -> ShotConditions:
    """Put a shot's conditions onto its latent timeline, encoded as the model was trained to see
    them.

    Args:
        sighted: whether the model sees them by CLIP, too; that in their original sizes.
        processor: diffusers' video processor, which resizes pictures of other sizes.
    """

    def fit(picture: Picture) -> Tensor:
        return fitted_picture(picture, processor, height, width)

    sized = [with_pictures(condition, fit) for condition in conditions]
    track: Track
    if feed is Feed.CLEAN:
        # "native" and "interm" are one here: stock TI2V weights know a still encoded alone, too.
        track = IntermTrack(each.place(encode, height, width).whole() for each in sized)
    elif conditioning == "native":
        track = NativeTrack(sized, encode, height, width)
    else:
        track = IntermTrack(each.place(encode, height, width) for each in sized)
    return ShotConditions(feed=feed, track=track, sight=Sight(conditions) if sighted else None)


def fitted_picture(picture: Picture, processor: Any, height: int, width: int) -> Tensor:
    """The picture as (3, H, W), resized as diffusers does it; a tensor stays as it is."""
    if isinstance(picture, Tensor):
        return picture
    pixels_BCHW: Tensor = processor.preprocess(as_image(picture), height=height, width=width)
    return pixels_BCHW[0]
