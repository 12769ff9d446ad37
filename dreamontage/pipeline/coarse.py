"""A coarse film at the shot's full rate: where the fine level of a shot starts from.

See `dreamontage.planning.coarse` for the coarse level itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from dreamontage.pipeline.interpolation import FrameInterpolation, Pixels
from dreamontage.planning.coarse import CoarseCondition, CoarseLevel, can_refine
from dreamontage.planning.draft_window import window
from dreamontage.planning.segments import Segment
from dreamontage.sampling.conditioning.conditions import Clip, Keyframe
from dreamontage.sampling.conditioning.pictures import Picture


def coarse_condition(given: CoarseCondition, condition: Keyframe | Clip) -> Keyframe | Clip:
    """A condition of the shot as the coarse level gives it."""
    if isinstance(condition, Keyframe):
        pictures = [condition.image]
    else:
        pictures = [condition.frames[offset] for offset in given.offsets]
    if given.placed.kind == "keyframe":
        return Keyframe(image=pictures[0], frame=given.placed.frame)
    return Clip(frames=pictures, frame=given.placed.frame)


def at_full_rate(
    level: CoarseLevel, frames: range, pictures: Callable[[range], Sequence[Picture]]
) -> list[Pixels]:
    """The shot's `frames`, interpolated by optical flow between those of the coarse film.

    Args:
        pictures: the coarse film's frames, by a range of them; it is called for no more than the
            shot's `frames` need.
    """
    around, count = level.around(frames), len(level.shown)
    found: dict[int, Picture] = {}
    for index in around:
        turn, place = divmod(index, count)
        frame = level.shown[place] + turn * count * level.stride
        found[frame] = pictures(range(place, place + 1))[0]
    return FrameInterpolation(found)(frames)


def refinable(scheduler: Any, steps: int) -> bool:
    """As `planning.coarse.can_refine`, for a loaded scheduler."""
    schedule = scheduler.config
    return can_refine(steps, schedule.get("flow_shift", schedule.get("shift", 1.0)))


def coarse_draft(
    draft: Literal["auto"] | Sequence[Picture] | None, level: CoarseLevel, *, frames: int
) -> Literal["auto"] | Sequence[Picture] | None:
    """A shot's draft as the coarse level starts from it: the pictures that its frames show.

    Args:
        frames: the shot's.

    Raises:
        ValueError: for a draft of too few pictures.
    """
    if draft is None or isinstance(draft, str):
        return draft
    if len(draft) < frames:
        raise ValueError(f"draft has {len(draft)} pictures, and the shot {frames} frames")
    return [draft[min(frame, len(draft) - 1)] for frame in level.shown]


def fine_drafts(
    level: CoarseLevel, film_THWC: NDArray[np.uint8]
) -> Callable[[Segment], Sequence[Picture]]:
    """Each segment's draft, from a coarse film that is in memory; its padding is not looked at."""

    def pictures(frames: range) -> Sequence[Picture]:
        return list(film_THWC[frames.start : frames.stop])

    return lambda segment: at_full_rate(level, window(segment), pictures)
