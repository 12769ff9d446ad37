"""Does the film pass through its conditions?

Score `keyframe_fidelity`: structural similarity of the film's frame and the picture asked for
there, from -1 to 1, higher is better; the worst frame of the worst condition.

Both pictures are low-passed first, so that softness costs next to nothing: a codec of 33 dB, or
a blur as strong, stays near 1, while another picture, or this one out of place or in other
colours, does not. It is taken per colour channel, since a right drawing in wrong colours is wrong.

It is the similarity of Wang et al. (2004) but for its constants. Theirs are fixed in grey levels,
and two different pictures of a fog, or of the night, come out alike (0.86); ours go with the
contrast of the picture that was asked for.
"""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

from dreamontage.scorer.film import Better, Film, Mark, Pixels, Score, lowpassed, working

SOFTNESS = 1.5
"""Standard deviation, in working pixels, of the blur before the comparison."""

WINDOW = 3.0
"""Standard deviation, in working pixels, of the window over which similarity is local."""

QUIET = 0.05
"""Variance, as a share of the whole picture's, below which a region's form hardly counts."""

NOISE = 20.0
"""Variance, in squared grey levels, that is noise in any picture: a title card has no contrast."""


def similarity(film_HWC: Pixels, wanted_HWC: Pixels) -> float:
    """Mean structural similarity of two pictures of one size, both low-passed; -1..1."""
    film, wanted = lowpassed(film_HWC, SOFTNESS), lowpassed(wanted_HWC, SOFTNESS)

    def around(values_HWC: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.asarray(cv2.GaussianBlur(values_HWC, (0, 0), WINDOW), np.float32)

    contrast = float(np.mean(np.var(wanted, axis=(0, 1))))
    quiet = max(QUIET * contrast, NOISE)
    mean_f, mean_w = around(film), around(wanted)
    var_f, var_w = around(film * film) - mean_f**2, around(wanted * wanted) - mean_w**2
    covariance = around(film * wanted) - mean_f * mean_w
    light = 1 / (1 + (mean_f - mean_w) ** 2 / (contrast + NOISE))
    form = (2 * covariance + quiet) / (var_f + var_w + quiet)
    return float(np.mean(light * form))


class FidelityMetric:
    name = "fidelity"

    def __init__(self, film: Film) -> None:
        self._waiting = sorted(film.marks, key=lambda mark: mark.frame)
        self._open: list[tuple[Mark, Iterator[Pixels]]] = []
        self._worst: dict[int, tuple[float, int, Mark]] = {}
        self._frames = 0

    def update(self, index: int, frame_HWC: Pixels) -> None:
        self._frames = index + 1
        while self._waiting and self._waiting[0].frame <= index:
            mark = self._waiting.pop(0)
            self._open.append((mark, mark.pictures()))
        for mark, pictures in self._open:
            wanted_HWC = working(next(pictures))
            if wanted_HWC.shape != frame_HWC.shape:
                raise ValueError(
                    f"{mark.name} has the shape {wanted_HWC.shape}, its film {frame_HWC.shape}: "
                    "a mark's picture must have the film's size"
                )
            found = (similarity(frame_HWC, wanted_HWC), index, mark)
            so_far = self._worst.get(id(mark), found)
            self._worst[id(mark)] = min(so_far, found, key=lambda item: item[0])
        self._open = [(mark, rest) for mark, rest in self._open if mark.stop > index + 1]

    def compute(self) -> list[Score]:
        unmet = [*self._waiting, *(mark for mark, _ in self._open)]
        if unmet:
            raise ValueError(
                f"{unmet[0].name} ends at frame {unmet[0].stop - 1}, past the film's end: "
                f"it has {self._frames} frames"
            )
        rows = list(self._worst.values())
        if not rows:
            return [_score(1.0, None, "no conditions")]
        value, frame, _ = min(rows, key=lambda item: item[0])
        return [_score(value, frame, "; ".join(f"{mark.name}: {v:.3f}" for v, _, mark in rows))]


def _score(value: float, frame: int | None, detail: str) -> Score:
    return Score(
        name="keyframe_fidelity",
        value=value,
        unit="similarity, -1..1",
        better=Better.HIGHER,
        frame=frame,
        detail=detail,
    )
