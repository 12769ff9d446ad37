"""Does what moves move as things do? Subjects that slide, jump or change their form do not.

Score `motion_jolt`: how many times the usual a part of the picture is jolted at the worst place;
near 1 where all goes on as it did, lower is better.

A part is jolted when two things come together, each over what is usual around that time:
its pixels change their velocity (the acceleration of optical flow along its own way, less the
camera's), and flow leaves more of the picture unexplained. The lesser of the two counts. Flow alone
errs where there is nothing to hold on to, and the unexplained alone is what comes into sight.
"""

from __future__ import annotations

from collections import deque

import cv2
import numpy as np
from numpy.typing import NDArray

from dreamontage.media.optical_flow import warp
from dreamontage.scorer.film import Better, Film, Score
from dreamontage.scorer.steps import Floats, FlowStep, lengths
from dreamontage.timeline import TEMPORAL_STRIDE

TILES = 8
"""Parts of the picture, each way."""

AROUND = 8
"""Frames on either side whose values are the usual ones."""

UNFELT = 0.3
"""Acceleration, in pixels of 1/128 of the picture's longer side, that is added to both sides of
the ratio: less is flow's own unrest."""

UNSEEN = 2.0
"""The same for what is unexplained, in grey levels."""


class MotionMetric:
    """Keeps the last flow, and two numbers for each part of the picture over 17 frames."""

    def __init__(self, film: Film) -> None:
        self._back_HW2: Floats | None = None
        self._recent: deque[tuple[int, Floats]] = deque(maxlen=2 * AROUND + 1)
        self._worst: tuple[float, int | None] = (1.0, None)

    def update(self, index: int, step: FlowStep) -> None:
        if self._back_HW2 is not None:
            turn_HW2 = step.back_HW2 - warp(self._back_HW2, step.back_HW2)
            turn_HW2 -= np.median(turn_HW2.reshape(-1, 2), axis=0)
            felt_HW = lengths(turn_HW2) * step.known_HW
            off_HWC = np.abs(warp(step.old_HWC, step.back_HW2) - step.new_HWC)
            seen_HW = off_HWC.mean(axis=2) * step.inside_HW
            both_2hw = np.stack([_tiles(felt_HW) / UNFELT, _tiles(seen_HW) / UNSEEN]) + 1
            self._recent.append((index, both_2hw))
            self._judge(index - AROUND)
        self._back_HW2 = step.back_HW2

    def _judge(self, frame: int) -> None:
        """Hold a frame against those around it, as far as they are there."""
        around = {index: both for index, both in self._recent if abs(index - frame) <= AROUND}
        here_2hw = around.pop(frame, None)
        if here_2hw is None or not around:
            return
        usual_2hw = np.median(list(around.values()), axis=0)
        # A codec that pulses once a latent is ugly, and no jolt: its pulses are alike.
        pulses = [
            around[at] for at in (frame - TEMPORAL_STRIDE, frame + TEMPORAL_STRIDE) if at in around
        ]
        if len(pulses) == 2:
            usual_2hw = np.maximum(usual_2hw, np.minimum(*pulses))
        jolt = float((here_2hw / usual_2hw).min(axis=0).max())
        if jolt > self._worst[0]:
            self._worst = jolt, frame

    def compute(self, frames: int) -> list[Score]:
        for frame in range(max(0, frames - AROUND), frames):
            self._judge(frame)
        value, frame_or_none = self._worst
        return [
            Score(
                name="motion_jolt",
                value=value,
                unit="times the usual",
                better=Better.LOWER,
                frame=frame_or_none,
            )
        ]


def _tiles(values_HW: NDArray[np.float32]) -> Floats:
    tiled = cv2.resize(values_HW.astype(np.float32), (TILES, TILES), interpolation=cv2.INTER_AREA)
    return np.asarray(tiled, np.float32)
