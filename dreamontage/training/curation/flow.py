"""Optical flow at a small size, and whether a picture is still there where the flow has taken it.

Shapes: T frames, H height, W width, C colour (RGB, uint8). A flow_HW2 holds, for every pixel of one
picture, how far (x, y) it lies away in another, in small pixels.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]

SIDE = 128
"""Pixels of the longer side at which flow is measured. A camera's move is larger than that, and DIS
costs two milliseconds there."""

_LEAST = 32  # pixels of the shorter side: with less DIS reads beyond its pyramid, and crashes
_WINDOW = 9  # pixels of the neighbourhood in which two pictures are compared
_ROUNDING = 4.0  # variance, in grey levels, that 8 bits and a codec leave in an even wall


def small(frame_HWC: Pixels) -> Pixels:
    """The frame in grey, its longer side SIDE pixels: grey_HW. A ribbon is stretched."""
    height, width = frame_HWC.shape[:2]
    scale = SIDE / max(height, width)
    size = (max(_LEAST, round(width * scale)), max(_LEAST, round(height * scale)))
    grey_HW = cv2.cvtColor(frame_HWC, cv2.COLOR_RGB2GRAY)
    return np.asarray(cv2.resize(grey_HW, size, interpolation=cv2.INTER_AREA), np.uint8)


def estimator() -> Any:
    """Dense inverse search (Kroeger et al., 2016); it keeps buffers, so each thread has its own."""
    return cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)


def grid(height: int, width: int) -> Floats:
    """Every pixel's own place, grid_HW2 (x, y)."""
    x_HW, y_HW = np.meshgrid(
        np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)
    )
    return np.stack((x_HW, y_HW), -1)


def fetch(picture: Floats, places_HW2: Floats) -> Floats:
    """What stands at the places, by bilinear interpolation; beyond the border, what is on it."""
    return np.asarray(
        cv2.remap(picture, places_HW2, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE),
        np.float32,
    )


def joined(first_HW2: Floats, then_HW2: Floats) -> Floats:
    """The flow from a to c, of those from a to b and from b to c."""
    places_HW2 = grid(*first_HW2.shape[:2]) + first_HW2
    return first_HW2 + fetch(then_HW2, places_HW2)


def soft(grey_HW: Pixels) -> Floats:
    """Without the finest grain, which two encodings of one picture do not share."""
    return np.asarray(cv2.GaussianBlur(grey_HW.astype(np.float32), (0, 0), 1.0), np.float32)


def persistence(a_HW: Floats, b_HW: Floats, flow_HW2: Floats) -> float:
    """How much of what a shows is in b where the flow says: 1 all of it, 0 nothing.

    The mean correlation of small neighbourhoods, which a change of light leaves as it is, weighted
    by how much there is to see in them. What the flow takes out of the picture does not count; two
    pictures with nothing to see in either agree.
    """
    height, width = a_HW.shape
    places_HW2 = grid(height, width) + flow_HW2
    x_HW, y_HW = places_HW2[..., 0], places_HW2[..., 1]
    inside_HW = (x_HW >= 0) & (x_HW <= width - 1) & (y_HW >= 0) & (y_HW <= height - 1)
    there_HW = fetch(b_HW, places_HW2)
    mean_a_HW, mean_b_HW = _near(a_HW), _near(there_HW)
    spread_a_HW = np.maximum(_near(a_HW * a_HW) - mean_a_HW * mean_a_HW, 0)
    spread_b_HW = np.maximum(_near(there_HW * there_HW) - mean_b_HW * mean_b_HW, 0)
    shared_HW = _near(a_HW * there_HW) - mean_a_HW * mean_b_HW
    alike_HW = shared_HW / np.sqrt((spread_a_HW + _ROUNDING) * (spread_b_HW + _ROUNDING))
    weight_HW = np.sqrt(np.maximum(spread_a_HW, spread_b_HW)) * inside_HW
    total = float(weight_HW.sum())
    return float((weight_HW * alike_HW).sum()) / total if total > a_HW.size * 0.5 else 1.0


def _near(values_HW: Floats) -> Floats:
    return np.asarray(cv2.blur(values_HW, (_WINDOW, _WINDOW)), np.float32)
