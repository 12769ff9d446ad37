"""Draft films: pictures in time, and what comes between them by optical flow; or an animatic.

Between two pictures each is carried towards the other along DIS optical flow, and the two fade into
each other. What changes place moves so, instead of dissolving; what flow cannot follow dissolves.

Shapes: T frames, H height, W width, C colour (RGB, uint8).
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from dreamontage.conditioning import Clip, Keyframe, pictures_of, with_pictures
from dreamontage.draft import Occurrence, drawn_from, window
from dreamontage.pictures import Picture, as_image
from dreamontage.plan import Segment, ShotPlan
from dreamontage.request import placed
from dreamontage.storyboard import AUTO

Pixels = NDArray[np.uint8]


class Inbetween:
    """A draft from pictures at some frames; ahead of the first and behind the last it is still."""

    def __init__(self, pictures: Mapping[int, Picture]) -> None:
        assert pictures
        self._given = {frame: _pixels(picture) for frame, picture in sorted(pictures.items())}
        self._frames = list(self._given)
        self._flow: tuple[tuple[int, int], NDArray[np.float32], NDArray[np.float32]] | None = None

    @classmethod
    def of(
        cls, conditions: Mapping[int, Keyframe | Clip], occurrences: Iterable[Occurrence]
    ) -> Inbetween:
        """The draft of conditions, by their indices, at the places where they occur."""
        pictures: dict[int, Picture] = {}
        for each in occurrences:
            condition = conditions[each.index]
            for frame, picture in pictures_of([condition]).items():
                pictures[frame - condition.frame + each.frame] = picture
        return cls(pictures)

    def __call__(self, frames: range) -> list[Pixels]:
        return [self._frame(frame) for frame in frames]

    def _frame(self, frame: int) -> Pixels:
        if frame in self._given:
            return self._given[frame]
        place = bisect.bisect(self._frames, frame)
        if place in (0, len(self._frames)):
            return self._given[self._frames[min(place, len(self._frames) - 1)]]
        before, after = self._frames[place - 1], self._frames[place]
        there_HW2, back_HW2 = self._flows(before, after)
        way = (frame - before) / (after - before)
        one_HWC = _carried(self._given[before], there_HW2, way)
        other_HWC = _carried(self._given[after], back_HW2, 1 - way)
        mixed_HWC = (1 - way) * one_HWC + way * other_HWC
        return np.rint(mixed_HWC).astype(np.uint8)

    def _flows(self, before: int, after: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Optical flow from one given picture to the next, and back; those last asked are kept."""
        import cv2  # here, for the pipeline imports us where no draft is ever made

        if self._flow is None or self._flow[0] != (before, after):
            one_HW, other_HW = (
                cv2.cvtColor(self._given[frame], cv2.COLOR_RGB2GRAY) for frame in (before, after)
            )
            flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
            there_HW2 = np.asarray(flow.calc(one_HW, other_HW, None), np.float32)
            back_HW2 = np.asarray(flow.calc(other_HW, one_HW, None), np.float32)
            self._flow = (before, after), there_HW2, back_HW2
        return self._flow[1:]


class Animatic:
    """A draft from a film of its own; past the shot's end it begins again, or stands still.

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
        again = next((i for i in range(1, len(places)) if places[i] < places[i - 1]), len(places))
        found: list[Picture] = []
        for run in filter(None, (places[:again], places[again:])):
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
        pictures = {index: with_pictures(each, fit) for index, each in enumerate(conditions)}
        return lambda segment: Inbetween.of(pictures, drawn_from(segment, plan, where))(
            window(segment)
        )
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


def _carried(picture_HWC: Pixels, flow_HW2: NDArray[np.float32], way: float) -> NDArray[np.float32]:
    """A picture part of the way along its flow, by sampling it where the flow comes from."""
    import cv2

    rows_HW, columns_HW = np.indices(flow_HW2.shape[:2], np.float32)
    carried_HWC = cv2.remap(
        picture_HWC.astype(np.float32),
        columns_HW - np.float32(way) * flow_HW2[..., 0],
        rows_HW - np.float32(way) * flow_HW2[..., 1],
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return np.asarray(carried_HWC, np.float32)
