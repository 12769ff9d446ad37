"""Does the light jump? A flash, or a segment in another exposure.

Score `flicker`: how far a frame's mean colour lies from the mean of its neighbours' at worst, in
grey levels of its most deviant channel; lower is better. A steady change, however quick, is none.
"""

from __future__ import annotations

import numpy as np

from dreamontage.scorer.film import Better, Film, Pixels, Score


class FlickerMetric:
    """Keeps three colours."""

    name = "flicker"

    def __init__(self, film: Film) -> None:
        self._film = film
        self._colours = np.zeros((0, 3))
        self._worst: tuple[float, int | None] = (0.0, None)

    def update(self, index: int, frame_HWC: Pixels) -> None:
        self._colours = np.vstack([self._colours, frame_HWC.mean(axis=(0, 1))])[-3:]
        if len(self._colours) == 3:
            before_C, here_C, after_C = self._colours
            jump = float(np.abs(here_C - (before_C + after_C) / 2).max())
            if jump > self._worst[0]:
                self._worst = jump, index - 1

    def compute(self) -> list[Score]:
        value, frame = self._worst
        return [
            Score(name="flicker", value=value, unit="grey levels", better=Better.LOWER, frame=frame)
        ]
