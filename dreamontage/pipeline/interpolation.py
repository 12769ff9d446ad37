"""Draft films: by frame interpolation between pictures, or an animatic.

Between two pictures each is warped towards the other along DIS optical flow, and the two fade into
each other. So what changes place moves, instead of dissolving; what flow cannot follow dissolves.

Shapes: T frames, H height, W width, C colour (RGB, uint8).
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from dreamontage.pipeline.request import placed
from dreamontage.planning.draft_window import Occurrence, draft_conditions, window
from dreamontage.planning.segments import Segment, ShotPlan
from dreamontage.sampling.conditioning.conditions import (
    Clip,
    Keyframe,
    map_pictures,
    pictures_by_frame,
)
from dreamontage.sampling.conditioning.pictures import Picture, as_image
from dreamontage.storyboard import AUTO

Pixels = NDArray[np.uint8]


class FrameInterpolation:
    """Frames interpolated between pictures at some frames; before the first and after the last one
    the film does not move.
    """

    def __init__(self, pictures: Mapping[int, Picture]) -> None:
        assert pictures
        self._pictures = {frame: _pixels(picture) for frame, picture in sorted(pictures.items())}
        self._frames = list(self._pictures)
        self._flow: tuple[tuple[int, int], NDArray[np.float32], NDArray[np.float32]] | None = None

    @classmethod
    def from_conditions(
        cls, conditions: Mapping[int, Keyframe | Clip], occurrences: Iterable[Occurrence]
    ) -> FrameInterpolation:
        """The draft of conditions, by their indices, at the places where they occur."""
        pictures: dict[int, Picture] = {}
        for each in occurrences:
            condition = conditions[each.index]
            for frame, picture in pictures_by_frame([condition]).items():
                pictures[frame - condition.frame + each.frame] = picture
        return cls(pictures)

    def __call__(self, frames: range) -> list[Pixels]:
        return [self._frame(frame) for frame in frames]

    def _frame(self, frame: int) -> Pixels:
        if frame in self._pictures:
            return self._pictures[frame]
        place = bisect.bisect(self._frames, frame)
        if place in (0, len(self._frames)):
            return self._pictures[self._frames[min(place, len(self._frames) - 1)]]
        before, after = self._frames[place - 1], self._frames[place]
        there_HW2, back_HW2 = self._flows(before, after)
        way = (frame - before) / (after - before)
        one_HWC = _warped(self._pictures[before], there_HW2, way)
        other_HWC = _warped(self._pictures[after], back_HW2, 1 - way)
        mixed_HWC = (1 - way) * one_HWC + way * other_HWC
        return np.rint(mixed_HWC).astype(np.uint8)

    def _flows(self, before: int, after: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Optical flow from one given picture to the next, and back; the last call's is cached."""
        # Here, for the pipeline imports us where no draft is ever made, and cv2 is slow to load.
        from dreamontage.media.optical_flow import DenseFlow, gray

        if self._flow is None or self._flow[0] != (before, after):
            one_HW, other_HW = (gray(self._pictures[frame]) for frame in (before, after))
            flow = DenseFlow("medium")
            self._flow = (before, after), flow(one_HW, other_HW), flow(other_HW, one_HW)
        return self._flow[1:]


class Animatic:
    """A draft from a film of its own; past the shot's end it begins again, or its last frame stays.

    Args:
        read: the film's frames from one on, so many.
        length: how many frames it has.
        turn: the frame at which a loop begins again.
    """

    def __init__(
        self,
        read: Callable[[int, int], Iterable[Picture]],
        *,
        length: int,
        turn: int | None = None,
    ) -> None:
        self._read, self._length, self._turn = read, length, turn

    def __call__(self, frames: range) -> list[Picture]:
        rounds = frames if self._turn is None else (frame % self._turn for frame in frames)
        places = [min(place, self._length - 1) for place in rounds]
        restart = next((i for i in range(1, len(places)) if places[i] < places[i - 1]), len(places))
        found: list[Picture] = []
        for run in filter(None, (places[:restart], places[restart:])):
            pictures = list(self._read(run[0], run[-1] + 1 - run[0]))
            found += [pictures[place - run[0]] for place in run]
        return found


def drafts_of(
    draft: Literal["auto"] | Sequence[Picture] | None,
    *,
    conditions: Sequence[Keyframe | Clip],
    plan: ShotPlan,
    fit: Callable[[Picture], Picture],
) -> Callable[[Segment], Sequence[Picture] | None]:
    """Each segment's draft, its pictures fitted to the shot.

    Raises:
        ValueError: for a draft that has nothing to be made of, or too few pictures.
    """
    if draft is None:
        return lambda segment: None
    if isinstance(draft, str):
        if draft != AUTO:
            raise ValueError(f"draft = {draft!r} must be {AUTO!r}, or a picture for every frame")
        if not conditions:
            raise ValueError(f"draft = {AUTO!r} needs a condition to make one of")
        where = placed(conditions)
        pictures = {index: map_pictures(each, fit) for index, each in enumerate(conditions)}
        return lambda segment: FrameInterpolation.from_conditions(
            pictures, draft_conditions(segment, plan, where)
        )(window(segment))
    if len(draft) < plan.frames:
        raise ValueError(f"draft has {len(draft)} pictures, and the shot {plan.frames} frames")
    animatic = Animatic(
        lambda first, count: [fit(picture) for picture in draft[first : first + count]],
        length=plan.frames,
        turn=plan.frames if plan.loop else None,
    )
    return lambda segment: animatic(window(segment))


def _pixels(picture: Picture) -> Pixels:
    return np.asarray(as_image(picture))


def _warped(picture_HWC: Pixels, flow_HW2: NDArray[np.float32], way: float) -> NDArray[np.float32]:
    """A picture part of the way along its flow, by sampling it where the flow comes from."""
    from dreamontage.media.optical_flow import warp

    return warp(picture_HWC.astype(np.float32), -np.float32(way) * flow_HW2)
