"""The evaluation's findings, worked out from scores alone: tables, and whether it may be shipped.

Everything here is arithmetic on what `suite.run` returns, so a table can be checked by hand from
`evaluation.json`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from dreamontage.evaluation import camera, names
from dreamontage.evaluation.judge import Aspect, Preference, compare
from dreamontage.evaluation.measures import Scores
from dreamontage.evaluation.statistics import Estimate, bootstrap
from dreamontage.evaluation.suite import Results
from dreamontage.evaluation.tasks import Kind

RATIOS = frozenset(
    {
        *("motion_amount", "flicker", "sharpness", "blocks", "pulse"),
        *("seam", "seam_any", "saturation", "flicker_near"),
    }
)
"""Scores that are 1 for the true film; their means are geometric."""

FEWEST = 8
"""Clips below which nothing is proven."""

MAIN = (Aspect.VISUAL, Aspect.MOTION, Aspect.PROMPT, Aspect.OVERALL)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One comparison: who against whom, on what."""

    table: str
    mine: str
    theirs: str
    kind: Kind
    aspects: dict[Aspect, Preference]


@dataclass(frozen=True, kw_only=True)
class PromptRow:
    """Does the camera do what the prompt says?

    accuracy: films of the first prompts (the opposite ones are the final model's alone) whose
    camera made the move asked for; by_chance: the same with the prompts dealt out anew. turned:
    pairs of films, same picture and same noise, of which the one goes farther in the direction
    asked of it than the one that was asked for the opposite; turned_by_chance: the same for
    directions dealt out anew.
    """

    method: str
    accuracy: Estimate
    by_chance: float
    turned: Estimate
    turned_by_chance: float


class Holds(StrEnum):
    """Only `YES` counts: few clips, or an interval that reaches over the bound, prove nothing."""

    YES = "yes"
    UNPROVEN = "unproven"
    NO = "no"


@dataclass(frozen=True, kw_only=True)
class Criterion:
    """One of the five that weights must meet to be shown. `least`: the bound is a lower one."""

    name: str
    figure: Estimate
    bound: float
    least: bool
    detail: str = ""

    @property
    def holds(self) -> Holds:
        if math.isnan(self.figure.value):
            return Holds.NO
        sign = 1 if self.least else -1
        worst = self.figure.low if self.least else self.figure.high
        if sign * (worst - self.bound) > 0 and self.figure.clips >= FEWEST:
            return Holds.YES
        met = sign * (self.figure.value - self.bound) > 0
        return Holds.UNPROVEN if met else Holds.NO


@dataclass(kw_only=True)
class Report:
    """What `show` prints and `evaluation.json` holds. `apart`: four keyframes, over worlds and over
    photos."""

    scores: dict[Kind, dict[str, dict[str, Estimate]]] = field(default_factory=dict)
    apart: dict[str, dict[str, dict[str, Estimate]]] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)
    prompts: list[PromptRow] = field(default_factory=list)
    criteria: list[Criterion] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    @property
    def shippable(self) -> bool:
        return all(each.holds is Holds.YES for each in self.criteria)


def report(results: Results) -> Report:
    """Work out every table that there are films for, and name those that there are none for."""
    made = Report()
    for kind, methods in results.scores.items():
        made.scores[kind] = {
            name: _means(list(scores.values())) for name, scores in methods.items()
        }
    for label, photo in (("worlds", False), ("photos", True)):
        some = {task.index for task in results.tasks[Kind.FOUR] if task.truth.photo is photo}
        if some:
            made.apart[label] = {
                name: _means([scores[index] for index in sorted(scores.keys() & some)])
                for name, scores in results.scores[Kind.FOUR].items()
                if scores.keys() & some
            }
    _comparisons(results, made)
    made.prompts = [_prompt_row(results, name) for name in results.scores.get(Kind.PROMPT, {})]
    made.criteria = criteria(results, made.prompts)
    return made


def _means(scores: Sequence[Scores]) -> dict[str, Estimate]:
    names = [name for name in scores[0] if not name.startswith("seam ")]
    return {
        name: bootstrap([each[name] for each in scores], ratio=name in RATIOS) for name in names
    }


def _comparisons(results: Results, made: Report) -> None:
    def add(
        table: str, mine: str, theirs: str, kind: Kind, aspects: Sequence[Aspect] = MAIN
    ) -> None:
        a, b = results.pairs(kind, mine, theirs)
        if not a:
            made.left_out.append(f"{table}: {mine} against {theirs}, {kind}")
            return
        found = {aspect: compare(a, b, aspect) for aspect in aspects}
        made.rows.append(Row(table=table, mine=mine, theirs=theirs, kind=kind, aspects=found))

    controls = (names.FADE, names.SOFT_FADE, names.FLOW, names.FLOW_CODEC, names.UNTRAINED)
    for theirs in (names.PIECES, *controls, names.AGAIN):
        add("multi-keyframe", names.OURS, theirs, Kind.FOUR)
    for theirs in controls:
        add("first-last", names.OURS, theirs, Kind.FIRST_LAST)
    add("SFT", names.EXPRESSION, names.ADAPTIVE, Kind.FOUR)
    add("SFT", names.EXPRESSION, names.ADAPTIVE, Kind.PROMPT)
    for kind in (Kind.FOUR, Kind.PROMPT):
        add("DPO", names.OURS, names.EXPRESSION, kind, (Aspect.CUTS, *MAIN))
    near = (Aspect.CONDITIONS, *MAIN)
    add("Shared-RoPE", names.SHARED, names.ALONE, Kind.LARGE, near)
    add("Shared-RoPE", names.SHARED, names.BICUBIC, Kind.LARGE, near)
    add("Shared-RoPE", names.ALONE, names.BICUBIC, Kind.LARGE, near)
    for kind in (Kind.FOUR, Kind.CLIPS, Kind.EXTENSION):
        add("adaptive tuning", names.ADAPTIVE, names.UNTUNED, kind)
    for kind in (Kind.CLIPS, Kind.EXTENSION):
        for theirs in (names.FADE, names.FLOW_CODEC):
            add("clip conditions", names.OURS, theirs, kind)
    add("SAR", names.OURS, names.PIXELS, Kind.LONG_FREE)


def _way(scores: Scores) -> tuple[float, float, float, float]:
    return scores["right"], scores["down"], scores["larger"], scores["turn"]


def _prompt_row(results: Results, method: str) -> PromptRow:
    moves = {task.index: task.shows for task in results.tasks.get(Kind.PROMPT, [])}
    asked = results.of(Kind.PROMPT, method)
    changed = results.of(Kind.CHANGED, method)
    outcomes = {
        index: camera.dominant_motion(camera.way(*_way(each))) for index, each in asked.items()
    }
    right = [outcome == camera.SIGNS[moves[index]] for index, outcome in outcomes.items()]
    dealt = [outcomes[i] == camera.SIGNS[moves[j]] for i in outcomes for j in outcomes]
    both = sorted(asked.keys() & changed.keys())
    turns = {
        index: camera.way(*_way(asked[index])) - camera.way(*_way(changed[index])) for index in both
    }
    turned = [camera.motion_along(turns[index], moves[index]) >= camera.STILL for index in both]
    anew = [camera.motion_along(turns[i], moves[j]) >= camera.STILL for i in both for j in both]
    return PromptRow(
        method=method,
        accuracy=bootstrap(right),
        by_chance=sum(dealt) / len(dealt),
        turned=bootstrap(turned),
        turned_by_chance=sum(anew) / len(anew) if anew else math.nan,
    )


def criteria(results: Results, prompts: Sequence[PromptRow]) -> list[Criterion]:
    """The five that weights must meet before their films may be shown **[ours]**."""
    found = []
    for control in (names.FADE, names.FLOW_CODEC):
        mine, theirs = results.pairs(Kind.FOUR, names.OURS, control)
        preference = compare(mine, theirs, Aspect.OVERALL)
        found.append(
            Criterion(
                name=f"1. beats {control} at four keyframes (overall GSB)",
                figure=preference.gsb,
                bound=0.0,
                least=True,
                detail=f"{preference.wins} wins, {preference.losses} losses, "
                f"{preference.ties} ties",
            )
        )
    for control in (names.FADE, names.SOFT_FADE):
        mine, theirs = results.pairs(Kind.FOUR, names.OURS, control)
        lead = [a["motion"] - b["motion"] for a, b in zip(mine, theirs, strict=True)]
        means = [bootstrap([each["motion"] for each in some]).value for some in (mine, theirs)]
        found.append(
            Criterion(
                name=f"2. motion correlation above the {control}'s",
                figure=bootstrap(lead),
                bound=0.0,
                least=True,
                detail=f"{means[0]:.2f} against {means[1]:.2f}",
            )
        )
    flickers = [each["flicker"] for each in results.of(Kind.FOUR, names.OURS).values()]
    found.append(
        Criterion(
            name="3. flicker over the true film's",
            figure=bootstrap(flickers, ratio=True),
            bound=1.3,
            least=False,
        )
    )
    seams = {
        name: [
            value
            for kind in (Kind.LONG_FREE, Kind.LONG_KEYED)
            for scores in results.of(kind, name).values()
            for key, value in scores.items()
            if key.startswith("seam ")
        ]
        for name in (names.OURS, names.CODEC)
    }
    found.append(
        Criterion(
            name="4. step at segments' joins over the usual one",
            figure=bootstrap(seams[names.OURS]),
            bound=1.2,
            least=False,
            detail=f"over joins; codec alone {bootstrap(seams[names.CODEC])}",
        )
    )
    ours = [row for row in prompts if row.method == names.OURS]
    found.append(
        Criterion(
            name="5. films whose camera turns with the prompt",
            figure=ours[0].turned if ours else bootstrap([]),
            bound=0.5,
            least=True,
            detail=f"by chance {ours[0].turned_by_chance:.2f}" if ours else "",
        )
    )
    return found
