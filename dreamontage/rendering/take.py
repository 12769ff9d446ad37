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
from dreamontage.models import autoencoder
from dreamontage.pipeline.interpolation import Animatic
from dreamontage.pipeline.interpolation import FrameInterpolation as FrameInterpolation
from dreamontage.pipeline.sar import fuse
from dreamontage.planning.draft_window import draft_conditions, window
from dreamontage.planning.segments import Segment, ShotPlan
from dreamontage.sampling.conditioning.conditions import Clip, Keyframe
from dreamontage.sampling.conditioning.pictures import Picture
from dreamontage.storyboard.placement import Placed


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
    shown: Sequence[int] | None = None,
) -> Sequence[Picture]:
    """A segment's draft: of the video at ``animatic``, or without one of the conditions.

    Args:
        load: a condition by its index; asked for those that the draft is made of.
        animatic: a rendition, as a clip's.
        shown: the video's frames that ``plan``'s frames stand for, if not its own; for a coarse
            level.
    """
    if animatic is None:
        occurrences = draft_conditions(segment, plan, placed)
        conditions = {index: load(index) for index in {each.index for each in occurrences}}
        return FrameInterpolation.from_conditions(conditions, occurrences)(window(segment))
    length = media.frame_count(animatic)

    def read(first: int, count: int) -> Iterable[Picture]:
        if shown is None:
            return media.read_frames(animatic, first, count)
        chosen = [min(frame, length - 1) for frame in shown[first : first + count]]
        pictures = media.read_frames(animatic, chosen[0], chosen[-1] + 1 - chosen[0])
        return (picture for frame, picture in enumerate(pictures, chosen[0]) if frame in chosen)

    film = Animatic(
        read,
        length=length if shown is None else len(shown),
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
    """Fuse, decode and write a take, ``frames`` long, losslessly; nothing grows with its length.

    Of pictures that come larger than ``width`` x ``height``, the top left is the film's: an SR
    model's grid may be coarser than the film.
    """
    with media.Encoder(
        out, width=width, height=height, fps=fps, profile=media.Profile.MEZZANINE
    ) as encoder:
        for video_BCTHW in autoencoder.decode(vae, fuse(windows)):
            # The padding that completes the last latent, and the grid, is cut away here and nowhere
            # else.
            shown_BCTHW = video_BCTHW[:, :, : frames - encoder.frames, :height, :width]
            encoder.write(autoencoder.to_uint8(shown_BCTHW))
    assert encoder.frames == frames
    return out
