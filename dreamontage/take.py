"""From a shot's conditions to the model, and from its latents to a lossless film: one take.

Shape legend: B batch, C channels, T pixel frames, H W height and width.
"""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

from torch import Tensor

from dreamontage import media
from dreamontage.conditioning import Clip, Keyframe
from dreamontage.models import autoencoder
from dreamontage.plan import Placed, Segment
from dreamontage.sar import fuse


def load_condition(placed: Placed, rendition: Path) -> Keyframe | Clip:
    """A rendition as the pipeline takes it."""
    if placed.kind == "keyframe":
        return Keyframe(image=media.read_image(rendition), frame=placed.frame)
    return Clip(frames=list(media.read_frames(rendition, 0, placed.frames)), frame=placed.frame)


def write_take(
    vae: Any,
    windows: Iterable[tuple[Segment, Tensor]],
    out: Path,
    *,
    frames: int,
    width: int,
    height: int,
    fps: Fraction,
) -> Path:
    """Fuse, decode and write a take, ``frames`` long, losslessly; nothing grows with its length."""
    with media.Encoder(
        out, width=width, height=height, fps=fps, profile=media.Profile.MEZZANINE
    ) as encoder:
        for video_BCTHW in autoencoder.decode(vae, fuse(windows)):
            # The padding that completes the last latent is cut away here and nowhere else.
            encoder.write(autoencoder.to_uint8(video_BCTHW)[: frames - encoder.frames])
    assert encoder.frames == frames
    return out
