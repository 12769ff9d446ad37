"""How strongly a film and its camera move, from optical flow.

Scores: `motion`, the flow of the quarter of the picture with the most motion, over a quarter of a
second, as a share of the picture's longer side per second (the paper drops videos with weak flow);
`shake`, the distance of the camera from its smooth path from frame to frame, as a share of the
longer side.

The camera's move between two frames is the similarity (pan, tilt, zoom, roll) that fits most of the
flow; RANSAC excludes what moves by itself. A dolly looks like a zoom to it, and an orbit like a
pan.

Shapes as in `flow`; T frames, 4 parts of a camera's speed.
"""

from __future__ import annotations

from collections import deque
from fractions import Fraction

import cv2
import numpy as np
from numpy.typing import NDArray

from dreamontage.media import optical_flow
from dreamontage.training.curation.flow import Floats, Pixels

REACH = Fraction(1, 4)
"""Seconds between the two pictures of a flow. Motion adds up over time, and noise does not."""

_LIVELY = 75  # percentile of the flow's length above which a place counts
_SPACING = 4  # pixels between the places that the camera's move is fitted to
_TEXTURE = 12.0  # gradient in grey levels below which there is nothing to track
_FEWEST = 12  # places needed for a fit
_ERROR = 0.75  # pixels, of an inlier
_PATH = 9  # frames over which the camera's path is smoothed
_UNEVEN = 0.4  # share of a steady move's step by which steps may differ
_RADIUS = (
    0.3  # distance from the middle for a zoom's and a roll's speed, as a share of the longer side
)

Track = NDArray[np.float64]
"""The camera's speed from each frame to the next, track_T4: pan, tilt, zoom and roll, each as the
share of the longer side that it moves the picture by in a second (zoom and roll: at a typical
distance from the middle). The camera pans to the right and tilts downward, and zooms in and rolls
clockwise, where it is positive."""


class CameraMotionEstimator:
    """Holds the pictures of a quarter of a second, and a few numbers per frame."""

    def __init__(self, fps: Fraction) -> None:
        self._fps = float(fps)
        self._reach = max(1, round(REACH * fps))
        self._recent: deque[Pixels] = deque(maxlen=self._reach + 1)
        self._flow = optical_flow.DenseFlow()
        self._strengths: list[float] = []
        self._moves: list[tuple[float, float, float, float]] = []

    def update(self, index: int, grey_HW: Pixels, flow_HW2: Floats | None) -> None:
        """Take a frame. flow_HW2: the flow from the frame before, None for the first frame."""
        if flow_HW2 is not None:
            self._moves.append(camera_move(self._recent[-1], flow_HW2))
        self._recent.append(grey_HW)
        if len(self._recent) > self._reach and index % self._reach == 0:
            far_HW2 = self._flow(self._recent[0], grey_HW)
            length_HW = np.hypot(far_HW2[..., 0], far_HW2[..., 1])
            lively = length_HW[length_HW >= np.percentile(length_HW, _LIVELY)]
            seconds = self._reach / self._fps
            self._strengths.append(float(lively.mean()) / max(grey_HW.shape) / seconds)

    def strength(self) -> float:
        return float(np.mean(self._strengths)) if self._strengths else 0.0

    def track(self) -> Track:
        """The camera's speed between all frames so far."""
        return np.array(self._moves, np.float64).reshape(-1, 4) * self._fps

    def shake(self) -> float:
        """The median distance of a frame from the middle between its neighbours.

        The distance of a steady move is subtracted: where frames were dropped to change the rate,
        its steps are uneven. From 25 frames a second to 16, every other step is twice as long.
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
    places_HW2 = optical_flow.grid(height, width)[::_SPACING, ::_SPACING]
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
    # The picture moves against the camera's move, except for a zoom.
    return (
        -float(found[0, 2]) / longer,
        -float(found[1, 2]) / longer,
        float(np.log(scale)) * _RADIUS,
        -float(angle) * _RADIUS,
    )
