"""The gate: measures a take on its pixels, and answers pass, retake or review.

film = Film(path=..., fps=..., marks=(...), joins=(...))
scores = measure(film)
judgement = judge(scores, takes_left=2, fps=film.fps)
"""

from dreamontage.scorer.film import Better, Film, Mark, Measure, Score, Watcher
from dreamontage.scorer.gate import DEFAULT_THRESHOLDS, Judgement, Threshold, Verdict, judge
from dreamontage.scorer.measures import MEASURES, PIXELS, OnePass, measure

__all__ = [
    "DEFAULT_THRESHOLDS",
    "MEASURES",
    "PIXELS",
    "Better",
    "Film",
    "Judgement",
    "Mark",
    "Measure",
    "OnePass",
    "Score",
    "Threshold",
    "Verdict",
    "Watcher",
    "judge",
    "measure",
]
