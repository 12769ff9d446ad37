"""The gate's measures, and the one pass over a film that serves those that look at its frames."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from dreamontage.scorer.cuts import CutWatcher
from dreamontage.scorer.dissolve import DissolveWatcher
from dreamontage.scorer.drift import DriftPart
from dreamontage.scorer.fidelity import FidelityWatcher
from dreamontage.scorer.film import Film, Measure, Pixels, Score, Watcher, working
from dreamontage.scorer.flicker import FlickerWatcher
from dreamontage.scorer.freeze import FreezeWatcher
from dreamontage.scorer.motion import MotionPart
from dreamontage.scorer.seam import SeamWatcher
from dreamontage.scorer.severity import SeverityWatcher
from dreamontage.scorer.steps import StepWatcher


@dataclass(frozen=True)
class OnePass:
    """A measure made of watchers that share one reading of the film.

    Memory does not grow with the film's length, but for some numbers a frame.
    """

    watchers: tuple[Callable[[Film], Watcher], ...]
    name: str = "pixels"

    def __call__(self, film: Film) -> list[Score]:
        """The watchers' scores, in their order.

        Raises ValueError when the film has no frames, or a mark or join does not fit it.
        """
        return self.watch(film, film.frames())

    def watch(self, film: Film, frames: Iterable[Pixels]) -> list[Score]:
        """The same for frames that are at hand; the film's file is not read."""
        watchers = [watcher(film) for watcher in self.watchers]
        index = -1
        for index, frame_HWC in enumerate(frames):
            seen_HWC = working(frame_HWC)
            for watcher in watchers:
                watcher.see(index, seen_HWC)
        if index < 0:
            raise ValueError(f"{film.path} has no frames")
        return [score for watcher in watchers for score in watcher.scores()]


def movement(film: Film) -> StepWatcher:
    """The measures that ask what moved, on one flow."""
    return StepWatcher(film, (MotionPart, DriftPart))


PIXELS = OnePass(
    (
        FidelityWatcher,
        CutWatcher,
        SeverityWatcher,
        FreezeWatcher,
        DissolveWatcher,
        SeamWatcher,
        FlickerWatcher,
        movement,
    )
)

MEASURES: tuple[Measure, ...] = (PIXELS,)


def measure(film: Film, measures: Sequence[Measure] = MEASURES) -> list[Score]:
    """All scores of a film. A trained scorer is one more entry: `(*MEASURES, preference)`."""
    scores = [score for each in measures for score in each(film)]
    names = [score.name for score in scores]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"measures: two of them answer with {', '.join(twice)}")
    return scores
