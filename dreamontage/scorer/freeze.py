"""Does the film move where it has to? The "powerpoint" fault: it holds a picture, then cuts.

Scores, lower is better: `freeze`, the share (0..1) of the time *in which movement is due* that the
picture stands still, and `freeze_longest`, the longest such standstill, in seconds.

Movement is due between two conditions whose facing pictures differ, and before and after a clip
that itself moves. It is not due between alike pictures, nor on the far side of a single still,
where nothing says that anything should happen: a shot of a still life is no fault.

Pictures a quarter of a second apart are compared, not consecutive ones: a slow zoom moves a tenth
of a pixel a frame, less than noise does, but noise does not add up over time as movement does. How
little is standing still depends on the way to go: two pictures of a fog differ by little, and a
minute of slow travel moves little in a quarter of a second.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import cv2
import numpy as np
from numpy.typing import NDArray

from dreamontage.scorer.film import Better, Film, Mark, Pixels, Score, lowpassed, working

REACH = Fraction(1, 4)
"""Seconds between the pictures that are compared."""

SOFTNESS = 2.0
"""Standard deviation, in working pixels, of the low-pass."""

DIFFERENT = 6.0
"""Change above which two pictures are not the same; this one and the next two in grey levels,
see `change`."""

RESTLESS = 3.0
"""Change from frame to frame that is movement, however little it adds up to. Noise with a standard
deviation of 8 is at 2."""

STILL = (0.05, 1.5)
"""Bounds on the change over REACH below which a picture stands still. The lower one is rounding."""

SLOWNESS = 0.25
"""Between those bounds: the share of the pace that would cover the way evenly."""


def change(a_HWC: NDArray[np.float32], b_HWC: NDArray[np.float32]) -> float:
    """How far two low-passed pictures differ where they differ most, in grey levels.

    The root mean square over the liveliest of 4 x 4 tiles: a subject may walk before a still
    background.
    """
    tiles_HWC = cv2.resize(np.square(a_HWC - b_HWC), (4, 4), interpolation=cv2.INTER_AREA)
    return float(np.sqrt(tiles_HWC.mean(axis=2).max()))


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """Frames [first, stop) in which movement is due, and its even pace, in change a frame."""

    first: int
    stop: int
    pace: float


class FreezeMetric:
    """Keeps the pictures of a quarter of a second, and two numbers a frame."""

    name = "freeze"

    def __init__(self, film: Film) -> None:
        self._film = film
        self._reach = max(2, round(REACH * film.fps))
        self._recent: deque[NDArray[np.float32]] = deque(maxlen=self._reach + 1)
        self._step_T: list[float] = []  # change to the next frame
        self._travel_T: list[float] = []  # change over REACH from here, noise taken out
        self._restless_T: list[bool] = []
        self._frames = 0

    def update(self, index: int, frame_HWC: Pixels) -> None:
        self._frames = index + 1
        self._recent.append(lowpassed(frame_HWC, SOFTNESS))
        if len(self._recent) > 1:
            self._step_T.append(change(self._recent[-2], self._recent[-1]))
        if len(self._recent) > self._reach:
            # Noise changes a picture as much in one frame as in many.
            noise = min(self._step_T[-self._reach :])
            whole = change(self._recent[0], self._recent[-1])
            self._travel_T.append(float(np.sqrt(max(0.0, whole**2 - noise**2))))
            self._restless_T.append(noise >= RESTLESS)

    def compute(self) -> list[Score]:
        frozen_T = np.zeros(self._frames, bool)
        due = 0
        for stretch in movement_due(self._film.marks, self._frames):
            due += stretch.stop - stretch.first
            least, most = STILL
            still = min(most, max(least, SLOWNESS * stretch.pace * self._reach))
            # The frames that the stretch lies between count as ends of a standstill too.
            for frame in range(max(0, stretch.first - 1), stretch.stop):
                if frame + self._reach > min(stretch.stop, self._frames - 1):
                    break
                if self._travel_T[frame] < still and not self._restless_T[frame]:
                    frozen_T[max(frame, stretch.first) : frame + self._reach + 1] = True
            frozen_T[stretch.stop :] = False

        length, where = _longest(frozen_T)
        detail = f"movement is due in {due} of {self._frames} frames"
        return [
            Score(
                name="freeze",
                value=float(frozen_T.sum() / due) if due else 0.0,
                unit="share of the time in which movement is due, 0..1",
                better=Better.LOWER,
                frame=where,
                detail=detail,
            ),
            Score(
                name="freeze_longest",
                value=float(length / self._film.fps),
                unit="s",
                better=Better.LOWER,
                frame=where,
                detail=detail,
            ),
        ]


def movement_due(marks: Sequence[Mark], frames: int) -> list[Stretch]:
    """The stretches of a film of `frames` frames in which movement is due, in their order."""
    due: list[Stretch] = []
    before: Mark | None = None
    end = 0
    for mark in sorted(marks, key=lambda mark: (mark.frame, mark.stop)):
        if mark.frame > end:
            due += _stretch(before, mark, end, mark.frame)
        if before is None or mark.stop >= end:
            before, end = mark, mark.stop
    if end < frames:
        due += _stretch(before, None, end, frames)
    return due


def _stretch(before: Mark | None, after: Mark | None, first: int, stop: int) -> list[Stretch]:
    """The stretch between two conditions, if movement is due there."""
    paces = [_range(mark) / mark.frames for mark in (before, after) if mark is not None]
    if before is not None and after is not None:
        facing = change(_seen(before, before.frames - 1), _seen(after, 0))
        if facing >= DIFFERENT:
            paces.append(facing / (stop - first))
    pace = max(paces, default=0.0)
    return [Stretch(first=first, stop=stop, pace=pace)] if pace else []


def _range(mark: Mark) -> float:
    """How far a clip moves from its first picture; 0 for a still, or for a clip of one."""
    if mark.frames == 1:
        return 0.0
    first_HWC = _seen(mark, 0)
    farthest = max(
        change(first_HWC, lowpassed(working(picture_HWC), SOFTNESS))
        for picture_HWC in mark.pictures(1)
    )
    return farthest if farthest >= DIFFERENT else 0.0


def _seen(mark: Mark, frame: int) -> NDArray[np.float32]:
    return lowpassed(working(next(mark.pictures(frame))), SOFTNESS)


def _longest(flags_T: NDArray[np.bool_]) -> tuple[int, int | None]:
    """Length and first frame of the longest run of True; (0, None) where there is none."""
    best, where, run = 0, None, 0
    for frame, flag in enumerate(flags_T):
        run = run + 1 if flag else 0
        if run > best:
            best, where = run, frame - run + 1
    return best, where
