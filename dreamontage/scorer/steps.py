"""What moved from one frame to the next, by optical flow, for the measures that ask for it.

Shapes: H height, W width, C colour.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from dreamontage.media.optical_flow import DenseFlow, gray, inside, places, warp
from dreamontage.scorer.film import Film, Pixels, Score

Floats = NDArray[np.float32]

SIDE = 128
"""Pixels of the longer side at which flow is looked for; smaller films are enlarged to it."""

SOFTNESS = 1.0
"""Standard deviation, in those pixels, of the low-pass before."""

DOUBT = 1.0
"""Pixels that the ways forth and back may differ by, beside a tenth of their length."""


@dataclass(frozen=True, kw_only=True)
class FlowStep:
    """A step between two pictures, both RGB in 0..255, low-passed. back_HW2 leads from each pixel
    of the new one to its place in the old one, forth_HW2 the other way; inside_HW are
    the new pixels that come from within the old picture; known_HW those of them, and kept_HW those
    of the old one, that the two ways agree about."""

    old_HWC: Floats
    new_HWC: Floats
    back_HW2: Floats
    forth_HW2: Floats
    inside_HW: NDArray[np.bool_]
    known_HW: NDArray[np.bool_]
    known_old_HW: NDArray[np.bool_]


class FlowMetric(Protocol):
    """One measure's part in a common pass over a film's steps."""

    def update(self, index: int, step: FlowStep) -> None:
        """Take the step into frame number `index`, from 1 on."""

    def compute(self, frames: int) -> list[Score]:
        """The scores of a film of `frames` frames, once all steps have been seen."""


class FlowMetrics:
    """Finds each step's flow once for all parts. Keeps one picture."""

    def __init__(self, film: Film, metrics: tuple[Callable[[Film], FlowMetric], ...]) -> None:
        self._metrics = [metric(film) for metric in metrics]
        self._flow = DenseFlow()
        self._last: tuple[Floats, Pixels] | None = None
        self._frames = 0

    def update(self, index: int, frame_HWC: Pixels) -> None:
        self._frames = index + 1
        small_HWC = _small(frame_HWC)
        grey_HW = gray(small_HWC)
        new_HWC = small_HWC.astype(np.float32)
        if self._last is not None:
            old_HWC, old_HW = self._last
            back_HW2 = self._flow(grey_HW, old_HW)
            forth_HW2 = self._flow(old_HW, grey_HW)
            step = FlowStep(
                old_HWC=old_HWC,
                new_HWC=new_HWC,
                back_HW2=back_HW2,
                forth_HW2=forth_HW2,
                inside_HW=inside(places(back_HW2)),
                known_HW=inside(places(back_HW2)) & _agree(back_HW2, forth_HW2),
                known_old_HW=inside(places(forth_HW2)) & _agree(forth_HW2, back_HW2),
            )
            for metric in self._metrics:
                metric.update(index, step)
        self._last = new_HWC, grey_HW

    def compute(self) -> list[Score]:
        return [score for metric in self._metrics for score in metric.compute(self._frames)]


def lengths(way_HW2: Floats) -> Floats:
    return np.hypot(way_HW2[..., 0], way_HW2[..., 1])


def _small(frame_HWC: Pixels) -> Pixels:
    height, width = frame_HWC.shape[:2]
    scale = SIDE / max(height, width)
    size = (max(16, round(width * scale)), max(16, round(height * scale)))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return np.asarray(
        cv2.GaussianBlur(cv2.resize(frame_HWC, size, interpolation=how), (0, 0), SOFTNESS), np.uint8
    )


def _agree(way_HW2: Floats, other_HW2: Floats) -> NDArray[np.bool_]:
    off_HW = lengths(way_HW2 + warp(other_HW2, way_HW2))
    return np.asarray(off_HW < DOUBT + 0.1 * lengths(way_HW2))
