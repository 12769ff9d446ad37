"""How strongly a film moves, and how its camera does, from optical flow.

Scores: `motion`, the flow of the liveliest quarter of the picture over a quarter of a second, as a
share of the picture's longer side a second (the paper drops weak motion by the strength of the
flow); `shake`, how far the camera jumps about its smooth path from frame to frame, as a share of
the longer side.

The camera's move between two frames is the similarity (pan, tilt, zoom, roll) that most of the
flow agrees on; what moves on its own is left out by RANSAC. A dolly cannot be told from a zoom by
it, nor an orbit from a pan.

Shapes as in `flow`; T frames, 4 parts of a camera's speed.
"""

from __future__ import annotations

from collections import deque
from fractions import Fraction

import cv2
import numpy as np
from numpy.typing import NDArray

from dreamontage.training.curation import flow
from dreamontage.training.curation.flow import Floats, Pixels

REACH = Fraction(1, 4)
"""Seconds between the pictures whose flow is the motion: noise does not add up over time, as
movement does."""

_LIVELY = 75  # percentile of the flow's length above which a place is lively
_SPACING = 4  # pixels between the places whose flow the camera's move is fitted to
_TEXTURE = 12.0  # grey levels of slope below which there is nothing to follow
_FEWEST = 12  # places
_ERROR = 0.75  # pixels
_PATH = 9  # frames over which the camera's path is smoothed
_UNEVEN = 0.4  # of a steady move's step, by which steps may differ
_RADIUS = 0.3  # where a zoom's and a roll's speed is told, as a share of the longer side

Track = NDArray[np.float64]
"""The camera's speed from each frame to the next, track_T4: pan, tilt, zoom and roll, each as the
share of the longer side that it moves the picture by in a second (zoom and roll: at a typical
distance from the middle). The camera pans to the right and tilts downward, and zooms in and rolls
clockwise, where it is positive."""


class MotionWatcher:
    """Keeps the pictures of a quarter of a second, and a few numbers a frame."""

    def __init__(self, fps: Fraction) -> None:
        self._fps = float(fps)
        self._reach = max(1, round(REACH * fps))
        self._recent: deque[Pixels] = deque(maxlen=self._reach + 1)
        self._flow = flow.estimator()
        self._strengths: list[float] = []
        self._moves: list[tuple[float, float, float, float]] = []

    def see(self, index: int, grey_HW: Pixels, flow_HW2: Floats | None) -> None:
        """Take a frame; flow_HW2 leads to it from the frame before, None at first."""
        if flow_HW2 is not None:
            self._moves.append(camera_move(self._recent[-1], flow_HW2))
        self._recent.append(grey_HW)
        if len(self._recent) > self._reach and index % self._reach == 0:
            far_HW2 = self._flow.calc(self._recent[0], grey_HW, None)
            length_HW = np.hypot(far_HW2[..., 0], far_HW2[..., 1])
            lively = length_HW[length_HW >= np.percentile(length_HW, _LIVELY)]
            seconds = self._reach / self._fps
            self._strengths.append(float(lively.mean()) / max(grey_HW.shape) / seconds)

    def strength(self) -> float:
        return float(np.mean(self._strengths)) if self._strengths else 0.0

    def track(self) -> Track:
        """The camera's speed, of one frame fewer than have been seen."""
        return np.array(self._moves, np.float64).reshape(-1, 4) * self._fps

    def shake(self) -> float:
        """How far, in the median, a frame lies from the middle between its neighbours.

        Beyond what a steady move gives where frames were dropped to change the rate: from 25 a
        second to 16, every other step is twice as long.
        """
        moves_T4 = np.array(self._moves, np.float64).reshape(-1, 4)
        if len(moves_T4) < _PATH:
            return 0.0
        jumps_T = np.linalg.norm(np.diff(moves_T4, axis=0), axis=1) / 2
        path_T4 = np.stack(
            [np.convolve(part_T, np.ones(_PATH) / _PATH) for part_T in moves_T4.T], 1
        )
        steady_T = np.linalg.norm(path_T4[_PATH // 2 :][1 : len(moves_T4)], axis=1)
        return float(np.median(np.maximum(jumps_T - _UNEVEN * steady_T, 0)))


def camera_move(grey_HW: Pixels, flow_HW2: Floats) -> tuple[float, float, float, float]:
    """Pan, tilt, zoom and roll from one frame to the next, in shares of the longer side."""
    height, width = grey_HW.shape
    slope_HW = np.hypot(
        cv2.Sobel(grey_HW, cv2.CV_32F, 1, 0, ksize=3), cv2.Sobel(grey_HW, cv2.CV_32F, 0, 1, ksize=3)
    )
    places_HW2 = flow.grid(height, width)[::_SPACING, ::_SPACING]
    here_HW2 = flow_HW2[::_SPACING, ::_SPACING]
    seen_HW = cv2.blur(slope_HW, (5, 5))[::_SPACING, ::_SPACING] > _TEXTURE
    if seen_HW.sum() < _FEWEST:
        return 0.0, 0.0, 0.0, 0.0
    middle = np.array([(width - 1) / 2, (height - 1) / 2], np.float32)
    source_N2 = places_HW2[seen_HW] - middle
    target_N2 = source_N2 + here_HW2[seen_HW]
    found, _ = cv2.estimateAffinePartial2D(
        source_N2, target_N2, method=cv2.RANSAC, ransacReprojThreshold=_ERROR
    )
    if found is None:
        return 0.0, 0.0, 0.0, 0.0
    longer = max(height, width)
    scale, angle = np.hypot(found[0, 0], found[1, 0]), np.arctan2(found[1, 0], found[0, 0])
    # What a camera films goes the other way than the camera does, but for a zoom.
    return (
        -float(found[0, 2]) / longer,
        -float(found[1, 2]) / longer,
        float(np.log(scale)) * _RADIUS,
        -float(angle) * _RADIUS,
    )
