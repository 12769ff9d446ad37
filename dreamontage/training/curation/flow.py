"""Optical flow at a small size, and how much of a picture is found again along the flow.

Shapes: T frames, H height, W width, C colour (RGB, uint8). A flow_HW2 holds, for every pixel of one
picture, its displacement (x, y) in another picture, in small pixels.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from dreamontage.media.optical_flow import gray, inside, places, warp

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]

SIDE = 128
"""Pixels of the longer side at which flow is measured. It is enough for a camera's moves, and DIS
takes two milliseconds."""

_LEAST = 32  # pixels of the shorter side: with fewer, DIS reads beyond its pyramid, and crashes
_WINDOW = 9  # pixels of the neighbourhood in which two pictures are compared
_ROUNDING = 4.0  # variance, in grey levels, of an even wall after 8 bits and a codec


def small(frame_HWC: Pixels) -> Pixels:
    """The frame in grey, its longer side SIDE pixels: grey_HW. A narrow picture is stretched."""
    height, width = frame_HWC.shape[:2]
    scale = SIDE / max(height, width)
    size = (max(_LEAST, round(width * scale)), max(_LEAST, round(height * scale)))
    return np.asarray(cv2.resize(gray(frame_HWC), size, interpolation=cv2.INTER_AREA), np.uint8)


def joined(first_HW2: Floats, then_HW2: Floats) -> Floats:
    """The flow from a to c, of those from a to b and from b to c."""
    return first_HW2 + warp(then_HW2, first_HW2)


def soft(grey_HW: Pixels) -> Floats:
    """The picture without its finest grain, which differs between two encodings of one picture."""
    return np.asarray(cv2.GaussianBlur(grey_HW.astype(np.float32), (0, 0), 1.0), np.float32)


def persistence(a_HW: Floats, b_HW: Floats, flow_HW2: Floats) -> float:
    """How much of picture a is found in b along the flow: 1 all of it, 0 nothing.

    The mean correlation of small neighbourhoods, weighted by their contrast. A change of light does
    not change it. Pixels that the flow moves out of the picture do not count. For two pictures
    without contrast it is 1.
    """
    inside_HW = inside(places(flow_HW2))
    there_HW = warp(b_HW, flow_HW2)
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
