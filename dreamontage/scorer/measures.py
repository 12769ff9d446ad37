"""The gate's measures, and the one pass over a film that serves those that look at its frames."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from dreamontage.scorer.cuts import CutMetric
from dreamontage.scorer.dissolve import DissolveMetric
from dreamontage.scorer.drift import DriftMetric
from dreamontage.scorer.fidelity import FidelityMetric
from dreamontage.scorer.film import Film, FrameMetric, Measure, Pixels, Score, working
from dreamontage.scorer.flicker import FlickerMetric
from dreamontage.scorer.freeze import FreezeMetric
from dreamontage.scorer.motion import MotionMetric
from dreamontage.scorer.seam import SeamMetric
from dreamontage.scorer.severity import SeverityMetric
from dreamontage.scorer.steps import FlowMetrics


@dataclass(frozen=True)
class OnePass:
    """A measure made of watchers that share one reading of the film.

    Memory does not grow with the film's length, but for some numbers a frame.
    """

    metrics: tuple[Callable[[Film], FrameMetric], ...]
    name: str = "pixels"

    def __call__(self, film: Film) -> list[Score]:
        """The watchers' scores, in their order.

        Raises ValueError when the film has no frames, or a mark or join does not fit it.
        """
        return self.measure_frames(film, film.frames())

    def measure_frames(self, film: Film, frames: Iterable[Pixels]) -> list[Score]:
        """The same for frames that are at hand; the film's file is not read."""
        metrics = [metric(film) for metric in self.metrics]
        index = -1
        for index, frame_HWC in enumerate(frames):
            seen_HWC = working(frame_HWC)
            for metric in metrics:
                metric.update(index, seen_HWC)
        if index < 0:
            raise ValueError(f"{film.path} has no frames")
        return [score for metric in metrics for score in metric.compute()]


def flow_metrics(film: Film) -> FlowMetrics:
    """The measures that ask what moved, on one flow."""
    return FlowMetrics(film, (MotionMetric, DriftMetric))


PIXELS = OnePass(
    (
        FidelityMetric,
        CutMetric,
        SeverityMetric,
        FreezeMetric,
        DissolveMetric,
        SeamMetric,
        FlickerMetric,
        flow_metrics,
    )
)

MEASURES: tuple[Measure, ...] = (PIXELS,)


def measure(film: Film, measures: Sequence[Measure] = MEASURES) -> list[Score]:
    """All scores of a film. A trained scorer is one more entry: `(*MEASURES, preference)`."""
    scores = [score for each in measures for score in each(film)]
    names = [score.name for score in scores]
    duplicates = sorted({name for name in names if names.count(name) > 1})
    if duplicates:
        raise ValueError(f"measures: two of them answer with {', '.join(duplicates)}")
    return scores
