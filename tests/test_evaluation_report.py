"""Tables worked out from scores alone: prompts obeyed and ignored, the five criteria, what is
left out."""

from __future__ import annotations

import io
import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from dreamontage.evaluation import camera, names, show
from dreamontage.evaluation.measures import Scores
from dreamontage.evaluation.report import FEWEST, Criterion, Holds, PromptRow, report
from dreamontage.evaluation.statistics import bootstrap
from dreamontage.evaluation.suite import Results
from dreamontage.evaluation.tasks import Kind, Plan
from tests.support.evaluation import PERFECT

FINE = PERFECT | {
    "psnr": 40.0,
    "motion": 0.9,
    "motion_amount": 1.0,
    "sharpness": 1.0,
    "ssim": 0.9,
}
MOVES = (
    "pan_left",
    "tilt_up",
    "zoom_in",
    "zoom_out",
    "roll_left",
    "tilt_down",
    "roll_right",
    "dolly_in",
)
SEAMS = {f"seam {number}": 0.93 + 0.02 * number for number in range(FEWEST)}
STILL = FINE | {"motion": 0.1, "motion_error": 1.0, "camera": 0.0, "texture": 0.1}


def moved(name: str, pixels: float) -> Scores:
    way = [0.0] * 4
    axis, sign = camera.SIGNS[name]
    way[axis] = sign * pixels
    return FINE | dict(zip(("right", "down", "larger", "turn"), way, strict=True))


@pytest.fixture
def results(mini_plan: Plan) -> Results:
    """Eight films each. Ours obeys and beats its controls; the untrained model always pans left."""
    found = Results()
    mini_plan = replace(mini_plan, clips=FEWEST, moves=MOVES)
    for tasks in (mini_plan.first_last(), mini_plan.four()):
        kind = tasks[0].kind
        found.tasks[kind] = tasks
        found.scores[kind] = {
            name: {task.index: FINE if name == names.OURS else STILL for task in tasks}
            for name in (names.OURS, names.FADE, names.SOFT_FADE, names.FLOW, names.FLOW_CODEC)
        }
    for tasks in mini_plan.prompts():
        kind = tasks[0].kind
        found.tasks[kind] = tasks
        found.scores[kind] = {
            names.OURS: {task.index: moved(task.shows, 20) for task in tasks},
            names.UNTRAINED: {task.index: moved("pan_left", 20) for task in tasks},
            names.FADE: {task.index: moved("pan_left", 0) for task in tasks},
        }
    (free,) = mini_plan.long_free()
    found.tasks[Kind.LONG_FREE] = [free]
    found.scores[Kind.LONG_FREE] = {
        name: {
            0: FINE
            | {
                "seam": 1.0,
            }
            | SEAMS
        }
        for name in (names.OURS, names.CODEC)
    }
    return found


def prompt_row(results: Results, name: str) -> PromptRow:
    (row,) = (row for row in report(results).prompts if row.method == name)
    return row


def test_who_obeys_turns_with_the_prompt_and_who_ignores_it_does_not(results: Results) -> None:
    ours, ignorant, still = (
        prompt_row(results, name) for name in (names.OURS, names.UNTRAINED, names.FADE)
    )
    assert ours.accuracy.value == ours.turned.value == 1
    # Of eight prompts one asked for a pan to the left.
    assert ignorant.accuracy.value == ignorant.by_chance == 1 / 8
    assert still.accuracy.value == 0
    assert ignorant.turned.value == still.turned.value == 0
    assert ours.by_chance < 0.5


def test_a_stage_is_asked_no_more_of_than_the_final_model(results: Results) -> None:
    """A stage films the first prompts alone: what the final model does with the others is not to
    make its figure another."""
    asked = results.scores[Kind.PROMPT]
    asked[names.EXPRESSION] = dict(asked[names.OURS])
    changed = results.scores[Kind.CHANGED][names.OURS]
    changed.update({index: moved("pan_left", 20) for index in changed})
    ours, stage = (prompt_row(results, name) for name in (names.OURS, names.EXPRESSION))
    assert stage.accuracy == ours.accuracy
    assert stage.by_chance == ours.by_chance


def test_good_weights_are_shippable_and_any_single_defect_prevents_it(
    results: Results,
) -> None:
    assert report(results).shippable
    faults = {
        "1.": (Kind.FOUR, {"texture": 0.5, "motion_error": 1.0, "camera": -1.0}),
        "2.": (Kind.FOUR, {"motion": 0.05}),
        "3.": (Kind.FOUR, {"flicker": 1.5}),
        "4.": (Kind.LONG_FREE, dict.fromkeys(SEAMS, 1.5)),
        "5.": (Kind.CHANGED, {}),  # the film is that of the prompt before
    }
    for number, (kind, fault) in faults.items():
        ours = results.scores[kind][names.OURS]
        kept = dict(ours)
        asked = results.scores[Kind.PROMPT][names.OURS] if kind is Kind.CHANGED else kept
        ours.update({index: {**scores, **fault} for index, scores in asked.items()})
        found = report(results)
        failed = {each.name[:2] for each in found.criteria if each.holds is not Holds.YES}
        assert failed == {number}
        assert not found.shippable
        ours.update(kept)


def test_a_figure_whose_interval_reaches_over_the_bound_has_proven_nothing() -> None:
    sure = Criterion(name="", figure=bootstrap([0.9, 1.0, 1.1] * 3), bound=0.5, least=True)
    assert sure.holds is Holds.YES
    assert replace(sure, bound=0.95).holds is Holds.UNPROVEN
    assert replace(sure, bound=1.5).holds is Holds.NO
    assert replace(sure, bound=1.5, least=False).holds is Holds.YES
    assert replace(sure, bound=1.02, least=False).holds is Holds.UNPROVEN
    assert replace(sure, figure=bootstrap([])).holds is Holds.NO
    assert replace(sure, figure=bootstrap([1.0] * (FEWEST - 1))).holds is Holds.UNPROVEN


def test_what_no_folder_was_given_for_is_named_as_left_out(results: Results) -> None:
    found = report(results)
    tables = {row.table for row in found.rows}
    assert {"multi-keyframe", "first-last"} <= tables
    assert not {"SFT", "DPO", "Shared-RoPE", "adaptive tuning"} & tables
    left = "; ".join(found.left_out)
    for name in ("SFT", "DPO", "Shared-RoPE", "adaptive tuning"):
        assert name in left


def test_tables_and_json_say_the_same(results: Results, tmp_path: Path) -> None:
    found = report(results)
    out = io.StringIO()
    show.show(found, Console(file=out, width=220))
    text = out.getvalue()
    assert "Shippable: yes" in text
    assert "+100.0 [+100, +100]" in text
    assert "paper" in text
    show.write_json(tmp_path / "e.json", found, {"clips": 2, "nothing": math.nan})
    written = json.loads((tmp_path / "e.json").read_text())
    assert written["facts"] == {"clips": 2, "nothing": None}
    assert written["shippable"]["verdict"] is True
    assert len(written["shippable"]["criteria"]) == 7
    (row,) = (
        each
        for each in written["preferences"]
        if each["table"] == "multi-keyframe" and each["theirs"] == names.FLOW_CODEC
    )
    assert row["aspects"]["overall"]["gsb"]["value"] == 1.0
    assert written["scores"][Kind.FOUR][names.FADE]["motion"]["value"] == pytest.approx(0.1)
