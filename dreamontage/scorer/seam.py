"""Do segments join without a jolt?

Score `seam`: the jolt at a segment's join over the usual jolt around it; 1 is a join that nobody
sees, lower is better; the worst join. That of a loop is from its last frame to its first.

A jolt is what a frame has that the movement before it does not explain: the frame before is
carried on by its own optical flow (DIS), and compared with what came. So a fast pan is no jolt,
but a change of colour, of sharpness, of place or of speed is one. A plain difference would hide
such a step in a pan, and a flow *across* the join would explain a sudden change of place away.

Joins lie between latents, and codecs tend to pulse there; so the usual jolt is that of the frames
that are first in their latents, too, not of all frames. A loop's end is such a place: its first
frame is a latent of its own.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

import cv2
import numpy as np

from dreamontage.media.optical_flow import DenseFlow, gray, inside, places, sample
from dreamontage.scorer.film import Better, Film, Pixels, Score, lowpassed
from dreamontage.timeline import TEMPORAL_STRIDE

SOFTNESS = 1.0
"""Standard deviation, in working pixels, of the low-pass before pictures are compared."""

AROUND = 5
"""Latents on either side whose jolts are the usual ones."""

UNSEEN = 0.5
"""Jolt, in grey levels, that nobody sees; a usual jolt counts as no less."""


class SeamMetric:
    """Keeps four frames, and one number for each frame that it needs."""

    name = "seam"

    def __init__(self, film: Film) -> None:
        self._film = film
        self._flow = DenseFlow()
        self._first: Pixels | None = None
        self._recent: deque[Pixels] = deque(maxlen=3)
        self._jolts: dict[int, float] = {}
        self._frames = 0
        self._wanted = {
            frame for join in film.joins for frame in (join, *_like(join)) if frame >= 2
        }

    def update(self, index: int, frame_HWC: Pixels) -> None:
        if self._film.loop and index == 0:
            self._first = frame_HWC
        self._recent.append(frame_HWC)
        self._frames = index + 1
        # How long the film is, and so which frames are near a loop's end, is not known yet.
        may_be_near = self._film.loop and index >= 2 and index % TEMPORAL_STRIDE == 1
        if index in self._wanted or may_be_near:
            self._jolts[index] = self._jolt(*self._recent)

    def _jolt(self, older_HWC: Pixels, old_HWC: Pixels, new_HWC: Pixels) -> float:
        places_HW2 = places(self._flow(gray(old_HWC), gray(older_HWC)))
        warped_HWC = sample(old_HWC, places_HW2, border=cv2.BORDER_CONSTANT)
        # What moves into the picture was in no frame before, and is no jolt.
        known_HW = inside(places_HW2)
        if not known_HW.any():
            known_HW = np.ones_like(known_HW)  # nothing of the picture before is left: all is new
        difference_HWC = lowpassed(warped_HWC, SOFTNESS) - lowpassed(new_HWC, SOFTNESS)
        return float(np.mean(np.abs(difference_HWC)[known_HW]))

    def compute(self) -> list[Score]:
        for join in self._film.joins:
            if not 2 <= join < self._frames:
                raise ValueError(f"joins: {join} must lie in 2 .. {self._frames - 1}")
        ratios = {join: self._ratio(self._jolts[join], _like(join)) for join in self._film.joins}
        labels = {join: self._film.seconds(join) for join in ratios}
        if self._first is not None and self._frames > 2:
            # Counted on into the next round; the first in their latents come after whole ones.
            around = [frame % self._frames for frame in _like(self._frames + 1)]
            _, older_HWC, old_HWC = self._recent
            jolt = self._jolt(older_HWC, old_HWC, self._first)
            ratios[0], labels[0] = self._ratio(jolt, around), "the loop's end"
        worst = max(ratios, key=lambda join: ratios[join], default=None)
        return [
            Score(
                name="seam",
                value=1.0 if worst is None else ratios[worst],
                unit="times the usual jolt",
                better=Better.LOWER,
                frame=worst,
                detail="; ".join(f"{labels[join]}: {ratio:.2f}" for join, ratio in ratios.items())
                or "no joins",
            )
        ]

    def _ratio(self, jolt: float, like: Iterable[int]) -> float:
        around = [frame for frame in like if frame not in self._film.joins]
        usual = [self._jolts[frame] for frame in around if frame in self._jolts]
        return jolt / max([UNSEEN, *([float(np.median(usual))] if usual else [])])


def _like(join: int) -> list[int]:
    """The frames around a join that stand where it does in their latents."""
    return [join + step * TEMPORAL_STRIDE for step in range(-AROUND, AROUND + 1) if step]
