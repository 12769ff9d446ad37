"""A shot's conditions as inputs of one model, window by window: beside the noise, or in its place.

Shape legend: B batch, C channels, M = 4 mask channels, L latent frames, H W height and width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from dreamontage.planning.segments import Segment
from dreamontage.sampling.conditioning.clip_vision import ClipVisionInputs
from dreamontage.sampling.conditioning.conditions import (
    MASK_CHANNELS,
    Clip,
    Encode,
    Keyframe,
    loop_head_placement,
    map_pictures,
)
from dreamontage.sampling.conditioning.interm import IntermTrack
from dreamontage.sampling.conditioning.modes import ConditioningMode
from dreamontage.sampling.conditioning.native import NativeTrack
from dreamontage.sampling.conditioning.pictures import Picture, as_image
from dreamontage.sampling.conditioning.track import Track
from dreamontage.timeline import TEMPORAL_STRIDE

Conditioning = Literal["native", "interm"]


@dataclass(frozen=True, kw_only=True)
class CleanLatents:
    """Latents without noise among the noisy ones, at time 0 of their own (Wan 2.2 TI2V-5B)."""

    latents_BCLHW: Tensor
    slots_L: Tensor  # bool

    def replace_in(self, latents_BCLHW: Tensor) -> Tensor:
        """The latents, with the clean ones in their slots."""
        return torch.where(self.slots_L[:, None, None], self.latents_BCLHW, latents_BCLHW)


@dataclass(frozen=True, kw_only=True)
class ShotConditions:
    """A shot's conditions as one model takes them.

    ``clip_inputs``: for a model with an image encoder, Wan 2.1's; None for any other.
    """

    mode: ConditioningMode
    track: Track
    clip_inputs: ClipVisionInputs | None

    def check(self, *, has_tail: bool) -> None:
        """Refuse what the model cannot take.

        Args:
            has_tail: whether a segment of the shot begins with a tail.

        Raises:
            ValueError: for a condition or a tail, if the model takes text alone.
        """
        if self.mode is ConditioningMode.TEXT_ONLY and (has_tail or not self.track.empty):
            raise ValueError(
                "this model is text-to-video: it takes no conditions, and no shot longer than its "
                "window; use image-to-video weights, or tune these, grown by grow_input()"
            )

    def with_loop_head(
        self, segment: Segment, head_BCLHW: Tensor, picture: Picture
    ) -> ShotConditions:
        """The conditions of a loop's closing segment: these, and the film's head once more.

        Args:
            head_BCLHW: the film's first ``segment.head`` latents.
            picture: its first frame.
        """
        head = loop_head_placement(segment.stop - segment.head, head_BCLHW)
        frame = head.start * TEMPORAL_STRIDE
        return replace(
            self,
            track=self.track.with_loop_head(head, picture),
            clip_inputs=self.clip_inputs and self.clip_inputs.with_loop_head(frame, picture),
        )

    def unconditional(self) -> ShotConditions:
        """The inputs of the image-unconditional branch: without the shot's conditions, except that
        a CLIP encoder still sees them.
        """
        return replace(self, track=self.track.unconditional())

    def channels(self, segment: Segment, tail_BCLHW: Tensor | None, like_BCLHW: Tensor) -> Tensor:
        """A window's mask and condition latents, (B, M + C, L, H, W), beside the noise.

        Args:
            tail_BCLHW: the latents handed over by the segment before.
            like_BCLHW: a tensor of the window's latent shape, dtype and device.
        """
        return self.track.window(segment.start, segment.stop, tail_BCLHW, like_BCLHW)

    def clean_latents(
        self, segment: Segment, tail_BCLHW: Tensor | None, like_BCLHW: Tensor
    ) -> CleanLatents:
        """A window's clean latents, for the same arguments as :meth:`channels`."""
        window_BCLHW = self.channels(segment, tail_BCLHW, like_BCLHW)
        # The mask is the same all over a frame.
        slots_L = window_BCLHW[0, :MASK_CHANNELS, :, 0, 0].bool().any(dim=0)
        return CleanLatents(latents_BCLHW=window_BCLHW[:, MASK_CHANNELS:], slots_L=slots_L)


def shot_conditions(
    conditions: Sequence[Keyframe | Clip],
    *,
    mode: ConditioningMode,
    conditioning: Conditioning,
    has_image_encoder: bool,
    encode: Encode,
    processor: Any,
    height: int,
    width: int,
) -> ShotConditions:
    """Put a shot's conditions onto its latent timeline, encoded as the model was trained to see
    them.

    Args:
        has_image_encoder: whether the model sees them through CLIP, too; those in their original
            sizes.
        processor: diffusers' video processor, which resizes pictures of other sizes.
    """

    def fit(picture: Picture) -> Tensor:
        return fitted_picture(picture, processor, height, width)

    sized = [map_pictures(condition, fit) for condition in conditions]
    track: Track
    if mode is ConditioningMode.CLEAN_LATENTS:
        # "native" and "interm" are one here: stock TI2V weights know a still encoded alone, too.
        placements = (each.place(encode, height, width) for each in sized)
        track = IntermTrack(each.without_partial_slot() for each in placements)
    elif conditioning == "native":
        track = NativeTrack(sized, encode, height, width)
    else:
        track = IntermTrack(each.place(encode, height, width) for each in sized)
    return ShotConditions(
        mode=mode,
        track=track,
        clip_inputs=ClipVisionInputs(conditions) if has_image_encoder else None,
    )


def fitted_picture(picture: Picture, processor: Any, height: int, width: int) -> Tensor:
    """The picture as (3, H, W), resized as diffusers does it; a tensor stays as it is."""
    if isinstance(picture, Tensor):
        return picture
    pixels_BCHW: Tensor = processor.preprocess(as_image(picture), height=height, width=width)
    return pixels_BCHW[0]
