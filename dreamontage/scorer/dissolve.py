"""Does one picture dissolve into another where something should move?

Score `dissolve`: the longest stretch, in seconds, that shows two pictures superimposed; lower is
better.

Around each frame a picture before and one after it are taken. In a film that moves, either one,
carried along by optical flow (DIS), explains the frame, and their mixture does not, or no better.
In a dissolve neither explains it, whatever its gain in each channel, and the mixture does. Two
things change like a dissolve and are none: light, which one picture with a gain explains, and a
change of style in place, whose first and last picture have their edges in the same places. So a
stretch only counts if its two ends differ in structure.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from fractions import Fraction

import cv2
import numpy as np
from numpy.typing import NDArray

from dreamontage.media.optical_flow import DenseFlow, gray, warp
from dreamontage.scorer.film import Better, Film, Pixels, Score

Picture = NDArray[np.float32]

SIDE = 96
"""Pixels of the longer side at which films are looked at here."""

REACHES = (Fraction(1, 4), Fraction(1))
"""Seconds from a frame to the pictures on either side: quick dissolves, and slow ones."""

SOFTNESS = 1.0
"""Standard deviation, in those pixels, of the low-pass."""

LEAST = 3.0
"""Change over twice the reach, in grey levels, below which nothing happens (in a tile)."""

UNEXPLAINED = 0.5
"""Share of the change from one picture to the frame that flow has to leave unexplained."""

MIXED = 0.12
"""The most that the mixture may be off, noise taken out, over how far either picture is."""

NOISY = 0.3
"""The same for the noise: where it is stronger, nothing can be said."""

SPREAD = 0.75
"""Share of the picture, in tiles, that has to change: a dissolve is everywhere."""

ALIKE = 0.3
"""Correlation of structure above which a stretch's two ends are one picture in another style. A
photo and its drawing are at 0.5, two photos at 0.1."""


@dataclass(kw_only=True)
class _Stretch:
    first: int
    last: int
    start_HWC: Picture
    end_HWC: Picture


class DissolveMetric:
    """Keeps the small pictures of two seconds, and two more."""

    name = "dissolve"

    def __init__(self, film: Film) -> None:
        self._film = film
        self._reaches = sorted({max(2, round(reach * film.fps)) for reach in REACHES})
        self._recent: deque[Picture] = deque(maxlen=2 * self._reaches[-1] + 1)
        self._flow = DenseFlow()
        self._open: dict[int, _Stretch] = {}
        self._longest = (0, 0)  # frames, first frame

    def update(self, index: int, frame_HWC: Pixels) -> None:
        height, width = frame_HWC.shape[:2]
        shrink = min(1.0, SIDE / max(height, width))
        size = (max(8, round(width * shrink)), max(8, round(height * shrink)))
        small_HWC = cv2.resize(frame_HWC, size, interpolation=cv2.INTER_AREA).astype(np.float32)
        self._recent.append(np.asarray(cv2.GaussianBlur(small_HWC, (0, 0), SOFTNESS), np.float32))
        for reach in self._reaches:
            if len(self._recent) > 2 * reach:
                self._judge(index - reach, reach)

    def _judge(self, frame: int, reach: int) -> None:
        old_HWC, new_HWC = self._recent[-1 - 2 * reach], self._recent[-1]
        stretch = self._open.get(reach)
        if self._superimposed(reach):
            if stretch is None:
                stretch = _Stretch(first=frame, last=frame, start_HWC=old_HWC, end_HWC=new_HWC)
                self._open[reach] = stretch
            stretch.last, stretch.end_HWC = frame, new_HWC
        # A frame or two that are missed do not end a stretch.
        elif stretch is not None and frame - stretch.last > max(1, reach // 2):
            self._close(self._open.pop(reach))

    def _close(self, stretch: _Stretch) -> None:
        length = stretch.last - stretch.first + 1
        if length > self._longest[0] and structure(stretch.start_HWC, stretch.end_HWC) < ALIKE:
            self._longest = (length, stretch.first)

    def _superimposed(self, reach: int) -> bool:
        here = len(self._recent) - 1 - reach
        old_HWC, here_HWC, new_HWC = (self._recent[here + way * reach] for way in (-1, 0, 1))
        if float((_tiles(new_HWC - old_HWC) >= LEAST).mean()) < SPREAD:
            return False
        mixed, share = _mixture(old_HWC, here_HWC, new_HWC)
        # What is off near by as well is noise and swimming blocks; off by movement grows with it.
        near = max(1, reach // 4)
        centres = range(here - 2, here + 3) if reach > 2 else (here,)
        noise = max(
            _mixture(*(self._recent[at + way * near] for way in (-1, 0, 1)))[0] for at in centres
        )
        mixed = float(np.sqrt(max(0.0, mixed**2 - noise**2)))
        sides = (old_HWC, new_HWC)
        whole = sum(_size(here_HWC - side_HWC) for side_HWC in sides) / 2
        if not 0.05 < share < 0.95 or mixed > MIXED * whole or noise > NOISY * whole:
            return False
        off = sum(_carried_off(self._flow, side_HWC, here_HWC) for side_HWC in sides) / 2
        return off >= UNEXPLAINED * whole

    def compute(self) -> list[Score]:
        for stretch in self._open.values():
            self._close(stretch)
        self._open = {}
        length, first = self._longest
        return [
            Score(
                name="dissolve",
                value=float(length / self._film.fps),
                unit="s",
                better=Better.LOWER,
                frame=first if length else None,
            )
        ]


def _mixture(old_HWC: Picture, here_HWC: Picture, new_HWC: Picture) -> tuple[float, float]:
    """How far the frame is off the nearest mixture of the two, and the second one's share in it."""
    way_HWC = new_HWC - old_HWC
    share = float(
        np.vdot(here_HWC - old_HWC, way_HWC) / max(float(np.vdot(way_HWC, way_HWC)), 1e-6)
    )
    return _size(here_HWC - old_HWC - share * way_HWC), share


def _carried_off(flow: DenseFlow, picture_HWC: Picture, here_HWC: Picture) -> float:
    """How far the picture, carried to the frame and given its light, is off it."""
    picture_HW, here_HW = (
        gray(np.clip(p, 0, 255).astype(np.uint8)) for p in (picture_HWC, here_HWC)
    )
    warped_HWC = warp(picture_HWC, flow(here_HW, picture_HW))
    off_C = []
    for channel in range(3):
        a, b = warped_HWC[..., channel].ravel(), here_HWC[..., channel].ravel()
        a, b = a - a.mean(), b - b.mean()
        gain = float(np.vdot(a, b) / max(float(np.vdot(a, a)), 1e-6))
        off_C.append(float(np.mean(np.square(b - max(0.0, gain) * a))))
    return float(np.sqrt(np.mean(off_C)))


def structure(a_HWC: Picture, b_HWC: Picture) -> float:
    """Correlation, 0..1, of where two pictures have their edges, whatever their colours."""
    edges = []
    for picture_HWC in (a_HWC, b_HWC):
        dx_HWC = cv2.Sobel(picture_HWC, cv2.CV_32F, 1, 0)
        dy_HWC = cv2.Sobel(picture_HWC, cv2.CV_32F, 0, 1)
        strength_HW = np.sqrt(np.square(dx_HWC) + np.square(dy_HWC)).max(2)
        around_HW = cv2.GaussianBlur(strength_HW, (0, 0), 6.0)
        edges.append(strength_HW / (around_HW + 1.0))
    a, b = (edge - edge.mean() for edge in edges)
    return max(0.0, float(np.vdot(a, b) / np.sqrt(np.vdot(a, a) * np.vdot(b, b) + 1e-12)))


def _tiles(difference_HWC: Picture) -> NDArray[np.float32]:
    """Root mean square in each of 4 x 4 tiles."""
    tiled = cv2.resize(np.square(difference_HWC), (4, 4), interpolation=cv2.INTER_AREA)
    return np.asarray(np.sqrt(tiled.mean(axis=2)), np.float32)


def _size(difference_HWC: NDArray[np.float32]) -> float:
    return float(np.sqrt(np.mean(np.square(difference_HWC))))
