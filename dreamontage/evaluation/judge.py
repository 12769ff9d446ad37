"""Which of two films is better: GSB = (wins - losses) / (wins + losses + ties), over clips.

The paper's judges are people; ours is arithmetic on `measures`, and all of it is **[ours]**:

- *visual*: the fault is `texture` (so a blur does not win), plus what the picture does that the
  true one does not: light that flickers, blocks, frames off the conditions.
- *motion*: the fault is `motion_error`, the flow's end-point error over that of a film that stands
  still. A freeze and a good cross-fade are near 1, a cut above.
- *prompt*: the fault is one minus the agreement of the camera's way with the true film's, which
  does what the prompt says.
- *overall*: the sum of the three differences in units of their margins, none more than three.

Two films closer than a margin are a tie. Nothing here knows the discriminator that preferences are
trained on (`dreamontage.scorer.discriminator`): a judge that a model was tuned to please is none.
A test follows the imports.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from dreamontage.evaluation.statistics import Estimate, bootstrap

Scores = Mapping[str, float]

OVERALL_MARGIN = 1.5
"""Of the summed differences, in margins: half a margin in each of three is no win."""

MOST = 3.0
"""Margins by which one aspect may count: however wrong the motion is, the picture has its say."""


class Aspect(StrEnum):
    VISUAL = "visual"
    MOTION = "motion"
    PROMPT = "prompt"
    OVERALL = "overall"
    CUTS = "cuts"
    CONDITIONS = "near conditions"


def _excess(ratio: float) -> float:
    """How many times over 1 a ratio is, in doublings; 0 below."""
    return max(0.0, math.log2(max(ratio, 1e-6)))


def _visual(scores: Scores) -> float:
    return (
        scores["texture"]
        + 0.03 * _excess(scores["flicker"])
        + 0.03 * _excess(scores["blocks"])
        + 0.1 * (1 - scores["fidelity"])
    )


def _motion(scores: Scores) -> float:
    return min(scores["motion_error"], 2.0)


def _prompt(scores: Scores) -> float:
    return 1 - scores["camera"]


def _cuts(scores: Scores) -> float:
    """Strength (grey levels of content change) of the worst cut, and a tenth more for each."""
    return scores["cut_strength"] * (1 + 0.1 * max(0.0, scores["cuts"] - 1))


def _conditions(scores: Scores) -> float:
    """Colour shift in grey levels, and flicker in doublings over the true film's."""
    return scores["colour_near"] + 2 * _excess(scores["flicker_near"])


ERRORS = {
    Aspect.VISUAL: (_visual, 0.01),
    Aspect.MOTION: (_motion, 0.05),
    Aspect.PROMPT: (_prompt, 0.2),
    Aspect.CUTS: (_cuts, 2.0),
    Aspect.CONDITIONS: (_conditions, 0.5),
}
"""What is wrong with a film in each aspect, and the margin below which two films are alike: about
what two takes of one model differ by."""


def lead(mine: Scores, theirs: Scores, aspect: Aspect) -> float:
    """How much less is wrong with the first film, in margins."""
    if aspect is Aspect.OVERALL:
        return sum(max(-MOST, min(MOST, lead(mine, theirs, part))) for part in _PARTS)
    error, margin = ERRORS[aspect]
    return (error(theirs) - error(mine)) / margin


def verdict(mine: Scores, theirs: Scores, aspect: Aspect) -> int:
    """1 if the first film is better, -1 if the second is, 0 for a tie."""
    margin = OVERALL_MARGIN if aspect is Aspect.OVERALL else 1.0
    by = lead(mine, theirs, aspect)
    return 0 if abs(by) < margin else int(math.copysign(1, by))


_PARTS = (Aspect.VISUAL, Aspect.MOTION, Aspect.PROMPT)


@dataclass(frozen=True, kw_only=True)
class Preference:
    """What a series of comparisons came to. `gsb` is in -1..1; the paper prints it in per cent."""

    wins: int
    losses: int
    ties: int
    gsb: Estimate


def compare(mine: Sequence[Scores], theirs: Sequence[Scores], aspect: Aspect) -> Preference:
    """Compare two methods' films, clip by clip; both in the same order."""
    found = [verdict(a, b, aspect) for a, b in zip(mine, theirs, strict=True)]
    return Preference(
        wins=found.count(1), losses=found.count(-1), ties=found.count(0), gsb=bootstrap(found)
    )
