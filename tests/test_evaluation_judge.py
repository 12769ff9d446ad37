"""The judge's arithmetic, its intervals, and what it must not know."""

from __future__ import annotations

import math

import grimp
import numpy as np
import pytest

from dreamontage.evaluation.judge import Aspect, compare, verdict
from dreamontage.evaluation.statistics import bootstrap
from tests.support.evaluation import PERFECT


@pytest.mark.parametrize(
    ("aspect", "fault"),
    [
        (Aspect.VISUAL, {"texture": 0.1}),
        (Aspect.VISUAL, {"flicker": 2.0}),
        (Aspect.VISUAL, {"blocks": 2.0}),
        (Aspect.VISUAL, {"fidelity": 0.5}),
        (Aspect.MOTION, {"motion_error": 1.0}),
        (Aspect.PROMPT, {"camera": 0.0}),
        (Aspect.CUTS, {"cuts": 1.0, "cut_strength": 20.0}),
        (Aspect.CONDITIONS, {"colour_near": 4.0}),
        (Aspect.CONDITIONS, {"flicker_near": 2.0}),
    ],
)
def test_each_defect_loses_in_its_own_aspect_and_in_no_other(
    aspect: Aspect, fault: dict[str, float]
) -> None:
    faulty = PERFECT | fault
    for each in set(Aspect) - {Aspect.OVERALL}:
        lost = -1 if each is aspect else 0
        assert verdict(faulty, PERFECT, each) == lost
        assert verdict(PERFECT, faulty, each) == -lost
    part_of_the_whole = aspect in (Aspect.VISUAL, Aspect.MOTION, Aspect.PROMPT)
    assert verdict(faulty, PERFECT, Aspect.OVERALL) == (-1 if part_of_the_whole else 0)


def test_less_flicker_than_the_true_film_is_no_defect() -> None:
    assert verdict(PERFECT | {"flicker": 0.2}, PERFECT, Aspect.VISUAL) == 0


def test_within_the_margins_two_films_tie() -> None:
    near = PERFECT | {"texture": 0.005, "motion_error": 0.02, "camera": 0.9}
    for aspect in (Aspect.VISUAL, Aspect.MOTION, Aspect.PROMPT, Aspect.OVERALL):
        assert verdict(near, PERFECT, aspect) == 0
    # Three small differences may add up to one that counts.
    below = PERFECT | {"texture": 0.008, "motion_error": 0.04, "camera": 0.85}
    assert verdict(below, PERFECT, Aspect.VISUAL) == 0
    assert verdict(below, PERFECT, Aspect.OVERALL) == -1


def test_gsb_is_wins_less_losses_over_all() -> None:
    still = PERFECT | {"motion_error": 1.0}
    mine = [PERFECT, PERFECT, PERFECT, still, PERFECT]
    theirs = [still, still, still, PERFECT, PERFECT]
    found = compare(mine, theirs, Aspect.MOTION)
    assert (found.wins, found.losses, found.ties) == (3, 1, 1)
    assert found.gsb.value == pytest.approx((3 - 1) / (3 + 1 + 1))
    assert found.gsb.low < found.gsb.value < found.gsb.high
    other_way = compare(theirs, mine, Aspect.MOTION)
    assert other_way.gsb.value == -found.gsb.value


def test_an_interval_covers_the_mean_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    hits = [
        found.low <= 0.3 <= found.high
        for found in (bootstrap(list(rng.normal(0.3, 1.0, 40)), seed=n) for n in range(200))
    ]
    assert 0.88 <= np.mean(hits) <= 0.99


def test_an_interval_is_repeatable_narrows_with_clips_and_knows_ratios() -> None:
    few, many = [0.0, 1.0] * 4, [0.0, 1.0] * 64
    assert bootstrap(few) == bootstrap(few)
    narrow, wide = bootstrap(many), bootstrap(few)
    assert narrow.high - narrow.low < (wide.high - wide.low) / 2
    assert bootstrap([0.5, 2.0], ratio=True).value == pytest.approx(1.0)
    assert math.isnan(bootstrap([]).value)


def test_the_judge_knows_nothing_of_what_preferences_were_trained_on() -> None:
    """No chain of imports leads from the evaluation to the discriminator, and of the scorer it
    uses only what measures films by rules."""
    graph = grimp.build_graph("dreamontage")
    ours = {"dreamontage.evaluation"} | graph.find_descendants("dreamontage.evaluation")
    trained = "dreamontage.scorer.discriminator"
    direct = {other for module in ours for other in graph.find_modules_directly_imported_by(module)}
    used = {module for module in direct if module.startswith("dreamontage.scorer")}
    rules = ("cuts", "fidelity", "film", "reference")
    assert used == {f"dreamontage.scorer.{name}" for name in rules}
    if trained in graph.modules:
        for module in ours:
            assert graph.find_shortest_chain(module, trained) is None, module
