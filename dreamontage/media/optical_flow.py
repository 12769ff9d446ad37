"""Dense optical flow between two pictures, and pictures sampled along it.

Shapes: H height, W width, C colour (RGB). A flow_HW2 holds, for every pixel of one picture, how far
(x, y) its place in another picture is away, in pixels.
"""

from __future__ import annotations

from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Pixels = NDArray[np.uint8]

_PRESETS = {
    # The finest level of the pyramid that flow is searched at: a quarter of the size, or half.
    "fast": (cv2.DISOPTICAL_FLOW_PRESET_FAST, 2),
    "medium": (cv2.DISOPTICAL_FLOW_PRESET_MEDIUM, 1),
}
_PATCH = 8  # pixels: the side of the patches that are matched, in either preset


class DenseFlow:
    """Dense inverse search (Kroeger et al., 2016), by OpenCV.

    One for each thread, since it keeps buffers. For small pictures, such as 80 x 64, OpenCV chooses
    another pyramid in the first call and keeps to it: later calls give other flows than the first.
    """

    def __init__(self, preset: Literal["fast", "medium"] = "fast") -> None:
        chosen, self._finest = _PRESETS[preset]
        self._search = cv2.DISOpticalFlow.create(chosen)

    def __call__(self, from_HW: Pixels, to_HW: Pixels) -> Floats:
        """The flow_HW2 from one grey picture to another of its size."""
        height, width = from_HW.shape
        missing = self._least_height(height, width) - height
        if missing > 0:
            from_HW, to_HW = (
                np.pad(grey_HW, ((0, missing), (0, 0)), mode="edge") for grey_HW in (from_HW, to_HW)
            )
        return np.asarray(self._search.calc(from_HW, to_HW, None)[:height], np.float32)

    def _least_height(self, height: int, width: int) -> int:
        """Rows below which OpenCV reads beyond its pyramid, and crashes.

        For a side that is too short for the preset it chooses another pyramid, by the width alone.
        """
        if min(height, width) >= _PATCH << self._finest:
            return 0
        return _PATCH << max(0, int(np.log2(2 * width / (5 * _PATCH))))


def gray(picture_HWC: Pixels) -> Pixels:
    return np.asarray(cv2.cvtColor(picture_HWC, cv2.COLOR_RGB2GRAY), np.uint8)


def grid(height: int, width: int) -> Floats:
    """Every pixel's own place, grid_HW2 (x, y)."""
    x_HW, y_HW = np.meshgrid(
        np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)
    )
    return np.stack((x_HW, y_HW), -1)


def places(flow_HW2: NDArray[Any]) -> Floats:
    """Where the flow leads, places_HW2 (x, y)."""
    return np.asarray(grid(*flow_HW2.shape[:2]) + flow_HW2, np.float32)


def inside(places_HW2: Floats) -> NDArray[np.bool_]:
    """Which places lie within a picture of as many pixels as there are places."""
    height, width = places_HW2.shape[:2]
    x_HW, y_HW = places_HW2[..., 0], places_HW2[..., 1]
    return np.asarray((x_HW >= 0) & (x_HW <= width - 1) & (y_HW >= 0) & (y_HW <= height - 1))


def sample(
    values_HWC: NDArray[Any], places_HW2: Floats, *, border: int = cv2.BORDER_REPLICATE
) -> NDArray[Any]:
    """Values at the places, by bilinear interpolation; beyond the border, those on it."""
    return np.asarray(
        cv2.remap(values_HWC, places_HW2, None, cv2.INTER_LINEAR, borderMode=border),
    )


def warp(values_HWC: NDArray[Any], flow_HW2: NDArray[Any]) -> Floats:
    """Values fetched from where the flow leads: `values[p + flow[p]]` for every pixel p."""
    return np.asarray(sample(values_HWC, places(flow_HW2)), np.float32)
