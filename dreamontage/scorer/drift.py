"""Do the colours creep away? The fault of long films: they drift and saturate window by window.

Score `colour_drift`: how far the colours of what is in the picture go from where the conditions
have them, in CIELAB's unit (CIE76): 2.3 is just noticeable, 10 is another colour at a glance; lower
is better.

What comes into the picture may have any colour, so frames are not compared with conditions as
wholes. Instead what stays in the picture from one frame to the next is followed by optical flow,
and its changes of colour are added up, from each condition on. Between two conditions the sum may
go where it stands at the second one (the light may change on the way from noon to dusk); how far
it strays from the straight way there is the drift. Behind the last condition, and before the
first, every change that takes its time is drift. One that does not is a change of light or style
that a prompt has asked for, or else a fault that others see; a dusk that a prompt wants to take
ten seconds looks like drift, so a person decides.

Chroma is added up beside lightness and hue: where all colours grow stronger, their mean stays.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from dreamontage.media.optical_flow import warp
from dreamontage.scorer.film import Better, Film, Mark, Score
from dreamontage.scorer.steps import Floats, FlowStep

QUICK = 5.0
"""Difference over one second from which a change is no drift."""

LEAST_KNOWN = 0.25
"""Share of the picture that has to be followed for a step's change to count."""


class DriftMetric:
    """Keeps four numbers a frame."""

    def __init__(self, film: Film) -> None:
        self._marks = film.marks
        self._second = max(1, round(film.fps))
        self._changes_T4: list[Floats] = [np.zeros(4, np.float32)]

    def update(self, index: int, step: FlowStep) -> None:
        old_HWC, new_HWC = _colours(step.old_HWC), _colours(step.new_HWC)
        if min(step.known_HW.mean(), step.known_old_HW.mean()) < LEAST_KNOWN:
            self._changes_T4.append(np.zeros(4, np.float32))
            return
        # Seen from both sides: what is carried gets softer, and softer colours are paler. Medians,
        # since where something passes before something else flow errs, and always alike.
        forward_N4 = (new_HWC - warp(old_HWC, step.back_HW2))[step.known_HW]
        backward_N4 = (warp(new_HWC, step.forth_HW2) - old_HWC)[step.known_old_HW]
        self._changes_T4.append((np.median(forward_N4, 0) + np.median(backward_N4, 0)) / 2)

    def compute(self, frames: int) -> list[Score]:
        sums_T4 = np.cumsum(self._changes_T4, axis=0, dtype=np.float64)
        strays_T = strays(sums_T4, self._marks, second=self._second)
        worst = int(strays_T.argmax())
        return [
            Score(
                name="colour_drift",
                value=float(strays_T[worst]),
                unit="CIELAB difference (2.3 is just noticeable)",
                better=Better.LOWER,
                frame=worst if strays_T[worst] > 0 else None,
            )
        ]


def strays(
    sums_T4: NDArray[np.float64], marks: Sequence[Mark], *, second: int
) -> NDArray[np.float64]:
    """How far each frame's colours are off the way that the conditions allow, (T,).

    sums_T4: lightness, a, b and chroma of what is in the picture, added up from frame 0 on; second:
    frames in one.
    """
    frames = len(sums_T4)
    slow_T4 = _slow(sums_T4, second)
    given = sorted({(min(mark.frame, frames - 1), min(mark.stop, frames) - 1) for mark in marks})
    if not given:
        return _off(slow_T4, slow_T4[0], slow_T4[0])
    out_T = np.zeros(frames)
    first, end = given[0]
    out_T[:first] = _off(slow_T4[:first], slow_T4[first], slow_T4[first])
    for start, last in given[1:]:
        if start > end:
            out_T[end:start] = _off(sums_T4[end:start], sums_T4[end], sums_T4[start])
        end = max(end, last)
    out_T[end:] = _off(slow_T4[end:], slow_T4[end], slow_T4[end])
    return out_T


def _slow(sums_T4: NDArray[np.float64], second: int) -> NDArray[np.float64]:
    """The sums without what changes quickly."""
    frames = len(sums_T4)
    before = np.maximum(np.arange(frames) - second // 2, 0)
    after = np.minimum(before + second, frames - 1)
    quick_T = np.abs(sums_T4[after] - sums_T4[before]).max(axis=1) > QUICK
    changes_T4 = np.diff(sums_T4, axis=0, prepend=sums_T4[:1])
    return np.cumsum(changes_T4 * ~quick_T[:, None], axis=0)


def _off(
    sums_T4: NDArray[np.float64], from_4: NDArray[np.float64], to_4: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Distance from the straight way between two places; the greater of colour's and chroma's."""
    out = np.zeros(len(sums_T4))
    for part in (slice(0, 3), slice(3, 4)):
        way = to_4[part] - from_4[part]
        gone_TN = sums_T4[:, part] - from_4[part]
        share_T = np.clip(gone_TN @ way / max(float(way @ way), 1e-9), 0, 1)
        off_T = np.linalg.norm(gone_TN - share_T[:, None] * way, axis=1)
        out = np.maximum(out, off_T)
    return out


def _colours(image_HWC: Floats) -> Floats:
    """Lightness, a, b and chroma, (H, W, 4)."""
    lab_HWC = cv2.cvtColor(image_HWC / 255, cv2.COLOR_RGB2Lab)
    chroma_HW = np.hypot(lab_HWC[..., 1], lab_HWC[..., 2])
    return np.dstack([lab_HWC, chroma_HW])
