"""Which videos are accepted: the paper's filters in the paper's order, on the measurements.

The paper (section 3.2) gives the order and no limit; every number here is ours. The first filter
that a video fails is the reason, and later ones are not evaluated.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from dreamontage.training.curation.measure import Measurement
from dreamontage.training.curation.target import Target


class Rule(StrEnum):
    """The rules that can drop a video, in their order. The values are stored in reports."""

    READABLE = "cannot be used"
    NEW = "seen before"
    LARGE = "too small a picture"
    LONG = "too short"
    SMOOTH = "too few frames a second"
    ONE_SHOT = "more than one shot"
    GOES_SOMEWHERE = "ends as it begins"
    GOOD = "low quality"
    STEADY = "shaky"
    MOVES = "hardly moves"
    CLEAR = "pose not clear"
    CAPTIONED = "its captions cannot be used"


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The limits of the rules **[ours]**.

    least_pixels: as a share of the training's; of a smaller picture, most would be interpolated.
    shortest: seconds. fewest_fps: as a share of the training's rate; slower films would stutter.
    most_alike: None for the embedder's own limit.
    """

    least_pixels: float = 0.5
    shortest: float = 1.5
    fewest_fps: float = 0.75
    most_alike: float | None = None
    least_quality: float = 0.35
    most_shake: float = 0.004
    least_motion: float = 0.015
    least_pose: float = 0.5


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """`rule`: None for an accepted video, else the rule that it fails. `reason`: for people."""

    rule: Rule | None
    reason: str

    @property
    def accepted(self) -> bool:
        return self.rule is None


def judge(
    found: Measurement, limits: Limits, *, target: Target, alike: float, seen: Mapping[str, str]
) -> Verdict:
    """The verdict on one video.

    Args:
        target: size and rate of the training.
        alike: the embedder's own limit, used if `limits` has none.
        seen: digests of the videos before this one, and their names.
    """
    if found.fault is not None:
        return Verdict(rule=Rule.READABLE, reason=found.fault)
    if found.digest in seen:
        return Verdict(rule=Rule.NEW, reason=f"the same file as {seen[found.digest]}")
    alike = alike if limits.most_alike is None else limits.most_alike
    scores = found.scores
    cuts, quality = round(scores["cuts"]), found.details.get("quality", "")
    shots = f"{cuts + 1} shots: {found.details.get('cuts', '')}"
    fewest_fps = limits.fewest_fps * float(target.fps)
    least_pixels = limits.least_pixels * target.pixels
    asked: tuple[tuple[Rule, bool, Callable[[], str]], ...] = (
        (
            Rule.LARGE,
            found.width * found.height >= least_pixels,
            lambda: f"{found.width}x{found.height}, at least {least_pixels:.0f} pixels",
        ),
        (
            Rule.LONG,
            found.seconds >= limits.shortest,
            lambda: f"{found.seconds:.2f} s, at least {limits.shortest:g} s",
        ),
        (
            Rule.SMOOTH,
            found.fps >= fewest_fps,
            lambda: f"{found.fps:.3g} frames a second, at least {fewest_fps:.3g}",
        ),
        (Rule.ONE_SHOT, not cuts, lambda: shots),
        (
            Rule.GOES_SOMEWHERE,
            scores["likeness"] < alike,
            lambda: f"likeness {scores['likeness']:.3f}, must be below {alike:g}",
        ),
        (
            Rule.GOOD,
            scores["quality"] >= limits.least_quality,
            lambda: f"{scores['quality']:.2f}, at least {limits.least_quality:g}: {quality}",
        ),
        (
            Rule.STEADY,
            scores["shake"] <= limits.most_shake,
            lambda: f"{100 * scores['shake']:.2f} % a frame, at most {100 * limits.most_shake:g} %",
        ),
        (
            Rule.MOVES,
            scores["motion"] >= limits.least_motion,
            lambda: (
                f"{100 * scores['motion']:.2f} % of the picture a second, "
                f"at least {100 * limits.least_motion:g} %"
            ),
        ),
        (
            Rule.CLEAR,
            scores.get("pose", 1.0) >= limits.least_pose,
            lambda: f"{scores['pose']:.2f}, at least {limits.least_pose:g}",
        ),
    )
    for rule, passed, why in asked:
        if not passed:
            return Verdict(rule=rule, reason=why())
    return Verdict(rule=None, reason="")
