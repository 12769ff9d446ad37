"""The camera's way through a film, by a robust fit of a similarity to DIS optical flow.

A similarity has four numbers: right, down, larger, and a turn. Each is given as the pixels that it
moves the picture by on average, so that they can be compared: a camera that pans left makes the
picture go right. The fit follows most of the picture, so a subject that crosses it does not count;
where an orbit moves the near one way and the far another, the far has it **[ours]**.

Shapes: T frames, P pairs of frames, N points, H W height and width, C = 3 colours (uint8).
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dreamontage.evaluation.material import Pixels
from dreamontage.media.optical_flow import DenseFlow, gray

PACE = 2
"""Frames from one picture of a pair to the other."""

RIGHT, DOWN, LARGER, TURN = range(4)

# What each of the worlds' moves does to the picture: which number, and its sign. Zoom and dolly
# look alike to a similarity; so do a pan and the orbit whose far side goes the same way.
SIGNS: dict[str, tuple[int, int]] = {
    "pan_left": (RIGHT, 1),
    "pan_right": (RIGHT, -1),
    "tilt_up": (DOWN, 1),
    "tilt_down": (DOWN, -1),
    "zoom_in": (LARGER, 1),
    "zoom_out": (LARGER, -1),
    "dolly_in": (LARGER, 1),
    "dolly_out": (LARGER, -1),
    "roll_left": (TURN, 1),
    "roll_right": (TURN, -1),
    "orbit_left": (RIGHT, -1),
    "orbit_right": (RIGHT, 1),
}

STILL = 2.0
"""Pixels over a whole film: less is no move."""

_EVERY = 4  # pixels from one point of the fit to the next
_BORDER = 4
_ROUNDS = 8
_OUTLIER = 0.5  # pixels a pair: the fit's error at which a point's weight has halved, at least


CameraMotion = NDArray[np.float64]
"""Right, down, larger, turn, in mean pixels."""


def way(right: float, down: float, larger: float, turn: float) -> CameraMotion:
    return np.array([right, down, larger, turn])


def path(frames_THWC: Pixels) -> NDArray[np.float64]:
    """(P, 4): for each PACE frames right, down, larger, turn, in mean pixels."""
    flow = DenseFlow("medium")
    grey = [gray(frame_HWC) for frame_HWC in frames_THWC[::PACE]]
    return np.array([_fit(flow(a_HW, b_HW)) for a_HW, b_HW in pairwise(grey)])


def total_motion(frames_THWC: Pixels) -> CameraMotion:
    """The whole film's way."""
    return path(frames_THWC).sum(0)


def dominant_motion(motion: CameraMotion) -> tuple[int, int] | None:
    """Which number leads, and its sign; None for a camera that holds still."""
    leads = int(np.abs(motion).argmax())
    return None if abs(motion[leads]) < STILL else (leads, int(np.sign(motion[leads])))


def motion_along(motion: CameraMotion, move: str) -> float:
    """How far the picture went in the way that a move sends it, in mean pixels."""
    leads, sign = SIGNS[move]
    return float(sign * motion[leads])


def agreement(made_P4: NDArray[np.float64], true_P4: NDArray[np.float64], pairs: int) -> float:
    """Cosine of two cameras' ways, summed over stretches of so many pairs, -1..1.

    Where the true camera holds still, the made one should: 1 if it does, less the more it moves.
    """
    starts = range(0, len(true_P4), pairs)
    made = np.concatenate([made_P4[start : start + pairs].sum(0) for start in starts])
    true = np.concatenate([true_P4[start : start + pairs].sum(0) for start in starts])
    length, due = float(np.linalg.norm(made)), float(np.linalg.norm(true))
    if due < STILL:
        return min(1.0, STILL / max(length, STILL))
    return float(made @ true) / (max(length, STILL) * due)


def _fit(flow_HW2: NDArray[np.float32]) -> NDArray[np.float64]:
    """A similarity by least squares, whose outliers weigh less in each round (Cauchy's weights)."""
    height, width = flow_HW2.shape[:2]
    rows, columns = np.mgrid[
        _BORDER : height - _BORDER : _EVERY, _BORDER : width - _BORDER : _EVERY
    ]
    x, y = (columns - (width - 1) / 2).ravel(), (rows - (height - 1) / 2).ravel()
    moved_N2 = flow_HW2[rows, columns].reshape(-1, 2).astype(np.float64)
    ones, zeros = np.ones(len(x)), np.zeros(len(x))
    design: NDArray[Any] = np.stack(
        [np.stack([ones, zeros, x, -y], 1), np.stack([zeros, ones, y, x], 1)], 1
    )
    weights = ones
    found = np.zeros(4)
    for _ in range(_ROUNDS):
        weighted = design * weights[:, None, None]
        normal = np.einsum("nki,nkj->ij", weighted, design) + 1e-6 * np.eye(4)
        found = np.linalg.solve(normal, np.einsum("nki,nk->i", weighted, moved_N2))
        off = np.linalg.norm(np.einsum("nki,i->nk", design, found) - moved_N2, axis=1)
        scale = max(_OUTLIER, 1.5 * float(np.median(off)))
        weights = 1 / (1 + (off / scale) ** 2)
    radius = math.sqrt((height**2 + width**2) / 12)  # a picture's root mean square radius
    return np.asarray(found * [1, 1, radius, radius])
