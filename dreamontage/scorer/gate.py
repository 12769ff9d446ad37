"""From scores to a verdict, by limits that are data.

The rule. A score beyond its *retake* limit is a fault that another seed may well not have, and
costs a take while takes are left; once they are used up, a person looks. A score beyond its
*review* limit, which is the stricter one, is a doubt that a new seed would not settle, and goes to
a person, unless another score asks for a retake anyway. What cannot be judged is never passed: a
score that is not a number, or one that has limits and was not measured, goes to a person.

    retake limit broken   takes left   none left        (otherwise)   doubt     no doubt
                          RETAKE       REVIEW                         REVIEW    PASS
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction

from dreamontage.scorer.film import Score


class Verdict(StrEnum):
    PASS = "pass"
    """The take is the shot."""
    RETAKE = "retake"
    """Render the shot again with another seed."""
    REVIEW = "review"
    """A person decides."""


@dataclass(frozen=True, kw_only=True)
class Threshold:
    """The limits of one score, in its own unit; a limit itself is still allowed.

    Raises ValueError where no limit is set, where a score has limits on both sides (every score
    has one good direction), or where review is not at least as strict as retake.
    """

    name: str
    retake_below: float | None = None
    retake_above: float | None = None
    review_below: float | None = None
    review_above: float | None = None

    def __post_init__(self) -> None:
        below = self.retake_below is not None or self.review_below is not None
        above = self.retake_above is not None or self.review_above is not None
        if below == above:
            raise ValueError(f"threshold {self.name}: needs limits below or above, and not both")
        for review, retake in (
            (self.review_below, self.retake_below),
            (self.retake_above, self.review_above),
        ):
            if review is not None and retake is not None and review < retake:
                raise ValueError(f"threshold {self.name}: review must be as strict as retake")


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """A verdict, and one sentence for every limit that was broken."""

    verdict: Verdict
    reasons: tuple[str, ...]


DEFAULT_THRESHOLDS: tuple[Threshold, ...] = (
    # 0.97 and more through a codec of 33 dB, 0.83 after blur, noise and swimming blocks; half a
    # dissolve away at most 0.78, a right picture 8 frames too early at most 0.7, another 0.5.
    Threshold(name="keyframe_fidelity", retake_below=0.7, review_below=0.8),
    Threshold(name="cuts", retake_above=0),
    Threshold(name="cut_severity", retake_above=2.5, review_above=1.75),
    # An eased camera stands for a moment at either end; a film that waits and then moves does more.
    Threshold(name="freeze", retake_above=0.4, review_above=0.25),
    Threshold(name="freeze_longest", retake_above=2.0, review_above=1.25),
    # Good films have none at all, and lose half a second at either end of one.
    Threshold(name="dissolve", retake_above=0.75, review_above=0.4),
    # Good joins stay below 1.45, mostly below 1.1; a step of six grey levels through a codec is 2.
    Threshold(name="seam", retake_above=2.0, review_above=1.6),
    # Camera moves stay below 1.6.
    Threshold(name="flicker", retake_above=12.0, review_above=6.0),
    # A subject may set off at once, and a prompt may ask for a slow dusk: a person sees that.
    Threshold(name="motion_jolt", review_above=8.0),
    Threshold(name="colour_drift", review_above=8.0),
)
"""Calibrated on procedural worlds, clean and as codecs and barely trained models leave them."""


def judge(
    scores: Sequence[Score],
    thresholds: Sequence[Threshold] = DEFAULT_THRESHOLDS,
    *,
    takes_left: int,
    fps: Fraction,
) -> Judgement:
    """The verdict on a take. `fps` is the film's, for the times in the reasons.

    Scores without limits inform, and are not judged.
    """
    if takes_left < 0:
        raise ValueError(f"takes_left = {takes_left} must be 0 or more")
    failed, uncertain = [], []
    by_name = {score.name: score for score in scores}
    for threshold in thresholds:
        score = by_name.get(threshold.name)
        if score is None:
            uncertain.append(f"{threshold.name} was not measured")
        elif not math.isfinite(score.value):
            uncertain.append(f"{threshold.name} = {score.value} is no measure")
        elif limit := _broken(score.value, threshold.retake_below, threshold.retake_above):
            failed.append(_sentence(score, limit, fps))
        elif limit := _broken(score.value, threshold.review_below, threshold.review_above):
            uncertain.append(_sentence(score, limit, fps))
    if failed and takes_left:
        verdict = Verdict.RETAKE
    else:
        verdict = Verdict.REVIEW if failed or uncertain else Verdict.PASS
    return Judgement(verdict=verdict, reasons=(*failed, *uncertain))


def _broken(value: float, below: float | None, above: float | None) -> str:
    """The limit that the value breaks, in words; empty where it keeps them."""
    if below is not None and value < below:
        return f"at least {below:g}"
    if above is not None and value > above:
        return f"at most {above:g}"
    return ""


def _sentence(score: Score, limit: str, fps: Fraction) -> str:
    # Enough digits to tell the value from its limit.
    place = "" if score.frame is None else f" at {float(score.frame / fps):.2f} s"
    return f"{score.name} = {score.value:.4g}{place}; {limit}"
