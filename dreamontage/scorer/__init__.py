"""The gate: measures a take on its pixels, and answers pass, retake or review.

film = Film(path=..., fps=..., marks=(...), joins=(...))
scores = measure(film)
judgement = judge(scores, takes_left=2, fps=film.fps)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dreamontage.scorer.film import Better, Film, FrameMetric, Mark, Measure, Score
    from dreamontage.scorer.gate import DEFAULT_THRESHOLDS, Judgement, Threshold, Verdict, judge
    from dreamontage.scorer.measures import MEASURES, PIXELS, OnePass, measure

__all__ = [
    "DEFAULT_THRESHOLDS",
    "MEASURES",
    "PIXELS",
    "Better",
    "Film",
    "FrameMetric",
    "Judgement",
    "Mark",
    "Measure",
    "OnePass",
    "Score",
    "Threshold",
    "Verdict",
    "judge",
    "measure",
]

_HOMES = {
    "film": {"Better", "Film", "Mark", "Measure", "Score", "FrameMetric"},
    "gate": {"DEFAULT_THRESHOLDS", "Judgement", "Threshold", "Verdict", "judge"},
    "measures": {"MEASURES", "PIXELS", "OnePass", "measure"},
}


def __getattr__(name: str) -> Any:
    # Training needs the discriminator alone, on machines without ffmpeg or PySceneDetect.
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{home}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
