"""From a shot's conditions to the model, and from its latents to a lossless film: one take.

Shape legend: B batch, C channels, T pixel frames, H W height and width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

from torch import Tensor

from dreamontage import media
from dreamontage.conditioning import Clip, Keyframe
from dreamontage.draft import drawn_from, window
from dreamontage.inbetween import Animatic, Inbetween
from dreamontage.models import autoencoder
from dreamontage.pictures import Picture
from dreamontage.plan import Placed, Segment, ShotPlan
from dreamontage.sar import fuse


def load_condition(placed: Placed, rendition: Path) -> Keyframe | Clip:
    """A rendition as the pipeline takes it."""
    if placed.kind == "keyframe":
        return Keyframe(image=media.read_image(rendition), frame=placed.frame)
    return Clip(frames=list(media.read_frames(rendition, 0, placed.frames)), frame=placed.frame)


def load_draft(
    segment: Segment,
    plan: ShotPlan,
    placed: Sequence[Placed],
    *,
    load: Callable[[int], Keyframe | Clip],
    animatic: Path | None,
) -> Sequence[Picture]:
    """A segment's draft: of the video at ``animatic``, or without one of the conditions.

    Args:
        load: a condition by its index; asked for those that the draft is made of.
        animatic: a rendition, as a clip's.
    """
    if animatic is None:
        occurrences = drawn_from(segment, plan, placed)
        conditions = {index: load(index) for index in {each.index for each in occurrences}}
        return Inbetween.of(conditions, occurrences)(window(segment))
    film = Animatic(
        lambda first, count: media.read_frames(animatic, first, count),
        length=media.frame_count(animatic),
        turn=plan.frames if plan.loop else None,
    )
    return film(window(segment))


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
