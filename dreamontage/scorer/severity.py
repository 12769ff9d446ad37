"""How bad is the film's worst cut? The paper's discriminator, run over a film as it comes.

Score `cut_severity`: the expected level, 0 (none) to 4, of the worst step; lower is better. Where
`cuts` counts what stands out of its neighbourhood, this one is trained: on cuts smeared by a codec,
jumps within the same world, flashes, and short dissolves.

The film is rated in windows that overlap by the discriminator's reach, so the numbers are those of
the film rated whole, and memory does not grow with its length.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from dreamontage.scorer.discriminator import REACH, SHORTEST, CutDiscriminator, load, shrunk
from dreamontage.scorer.film import Better, Film, Pixels, Score

WINDOW = 4 * REACH

NOTABLE = 1.0
"""Expected level from which a step is listed."""


@cache
def _discriminator() -> CutDiscriminator:
    return load()


class SeverityMetric:
    """Keeps the thumbnails of one window."""

    name = "severity"

    def __init__(self, film: Film) -> None:
        self._film = film
        self._window: list[Tensor] = []
        self._first = 0  # the film's frame that the window begins with
        self._rated = 0  # frames of the film that have been rated
        self._worst = (0.0, 0)
        self._notable: dict[int, float] = {}

    def update(self, index: int, frame_HWC: Pixels) -> None:
        image_1CHW = torch.from_numpy(frame_HWC).movedim(-1, 0)[None].float() / 127.5 - 1
        self._window.append(shrunk(image_1CHW))
        if len(self._window) == WINDOW:
            self._rate(until=index + 1 - REACH)
            spent = self._rated - REACH - self._first
            del self._window[:spent]
            self._first += spent

    def _rate(self, until: int) -> None:
        rating = _discriminator().rate(torch.stack(self._window, 2))
        # The step into the film's first frame is none.
        for frame in range(max(1, self._rated), until):
            level = float(rating.severity_BT[0, frame - self._first])
            if level > self._worst[0]:
                self._worst = level, frame
            if level >= NOTABLE:
                self._notable[frame] = level
        self._rated = until

    def compute(self) -> list[Score]:
        short = self._first + len(self._window) < SHORTEST
        if not short:
            self._rate(until=self._first + len(self._window))
        level, frame = self._worst
        listed = (
            f"{self._film.seconds(at)}: {self._notable[at]:.1f}" for at in _peaks(self._notable)
        )
        return [
            Score(
                name="cut_severity",
                value=level,
                unit="level, 0..4",
                better=Better.LOWER,
                frame=frame if frame else None,
                detail=f"fewer than {SHORTEST} frames" if short else "; ".join(listed),
            )
        ]


def _peaks(levels: dict[int, float]) -> list[int]:
    """Of the frames that follow each other, the worst one."""
    runs: list[list[int]] = []
    for frame in sorted(levels):
        if runs and frame - runs[-1][-1] <= 2:
            runs[-1].append(frame)
        else:
            runs.append([frame])
    return [max(run, key=lambda frame: levels[frame]) for run in runs]
