"""A loop's windows: the closing one leads back to the first frame, and all others are as usual."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from dreamontage import timeline
from dreamontage.planning import keys, loops
from dreamontage.planning.geometry import Geometry
from dreamontage.planning.segments import ShotPlan
from dreamontage.storyboard.placement import Placed, clashes, on_loop_end
from tests.support.plans import clip, loop_plan, plan, spans, still


@st.composite
def loop_shots(draw: st.DrawFn) -> tuple[int, list[Placed], Geometry]:
    tail = draw(st.integers(1, 8))
    geometry = Geometry(tail_latents=tail, window_latents=tail + 2 + draw(st.integers(0, 40)))
    least = loops.shortest_loop(geometry)
    frames = 4 * draw(st.integers(least // 4, 500))
    conditions: list[Placed] = []
    # No condition begins on the last latent, where it would be refused.
    for frame in draw(st.lists(st.integers(0, frames - 4), max_size=12)):
        length = draw(st.integers(0, frames - frame))
        index = len(conditions)
        conditions.append(clip(frame, length, index) if length else still(frame, index))
    return frames, conditions, geometry


@given(loop_shots())
@settings(max_examples=300, deadline=None)
def test_a_loops_windows_cover_it_once_and_the_closing_one_holds_its_head(
    shot: tuple[int, list[Placed], Geometry],
) -> None:
    frames, conditions, geometry = shot
    planned = loop_plan(frames, *conditions, geometry=geometry)
    *before, closing = planned.segments
    assert before, "the closing window comes after the one whose head it is given"
    assert planned.frames == frames
    assert planned.padded_frames == frames + 1, "frame N is rendered, and is the first again"
    added = [
        latent
        for segment in planned.segments
        for latent in range(
            segment.start + segment.tail, segment.start + segment.tail + segment.new
        )
    ]
    assert added == list(range(frames // 4 + 1)) == list(range(planned.latents))
    for segment in planned.segments:
        assert segment.new >= 1
        assert segment.latents <= geometry.window_latents
        assert segment.tail == (geometry.tail_latents if segment.index else 0)
    for one, other in pairwise(planned.segments):
        assert other.tail == one.stop - other.start
        assert one.start < other.start

    assert [segment.head for segment in before] == [0] * len(before)
    assert closing.head >= 2, "a still's latent, and movement"
    assert timeline.frames_of(closing.stop - closing.head)[-1] == frames
    assert closing.start + closing.tail <= frames // 4, "it makes the film's last latent itself"
    # The first window alone made the head: no fusion with the second one changed it.
    assert planned.segments[1].start >= closing.head
    # It begins as early as it can, so that there is room for the way back, but behind a boundary.
    earliest = max(closing.stop - geometry.window_latents, closing.head) + closing.tail
    latest = min(before[-1].start + geometry.window_latents, frames // 4)
    boundaries = {at for each in conditions for at in (each.latents[0] + 1, each.latents[-1] + 1)}
    inside = boundaries & set(range(earliest, latest + 1))
    assert before[-1].stop == min(inside, default=earliest)
    for segment in before[:-1]:
        shortest = (
            segment.start + geometry.tail_latents + 1
            if segment.index
            else closing.head + closing.tail
        )
        reach = range(shortest, segment.start + geometry.window_latents + 1)
        assert segment.stop == max(boundaries & set(reach), default=reach[-1])


@given(loop_shots())
@settings(max_examples=200, deadline=None)
def test_every_condition_of_a_loop_is_in_every_window_that_holds_its_latents(
    shot: tuple[int, list[Placed], Geometry],
) -> None:
    frames, conditions, geometry = shot
    planned = loop_plan(frames, *conditions, geometry=geometry)
    for condition in conditions:
        own, reached = set(condition.latents), set[int]()
        for segment in planned.segments:
            here = own & set(range(segment.start, segment.stop))
            assert (condition.index in segment.conditions) == bool(here)
            reached |= here
        assert reached == own


def test_a_loops_first_windows_are_those_of_the_same_shot_without_loop() -> None:
    """The two shots share these segments."""
    looping, straight = (
        loop_plan(160, still(40), prompts=spans((0, 5, "in"), (5, 10, "out"))),
        plan(160, still(40), prompts=spans((0, 5, "in"), (5, 10, "out"))),
    )
    assert looping.segments[:3] == straight.segments[:3]
    assert [each.start for each in looping.segments] == [0, 7, 9, 16, 23, 30, 34]


def test_the_closing_window_shows_the_first_prompt_again() -> None:
    prompts = spans((0, 2, "zoom in"), (2, 4, "zoom out"))
    closing = loop_plan(64, prompts=prompts).segments[-1]
    # Latents 10 to 18: frames 37 to 63, then 64 to 72, which are 0 to 8.
    assert (closing.start, closing.stop) == (10, 19)
    assert closing.prompt == "[0, 1.69] zoom out; [1.69, 2.25] zoom in"
    assert [each.prompt for each in loop_plan(64, prompts=spans((0, None, "a"))).segments] == [
        "a"
    ] * 3
    turned = loop_plan(64, prompts=spans((0, 1, "a"), (1, 3, "b"), (3, None, "a")))
    assert turned.segments[-1].prompt == "[0, 0.69] b; [0.69, 2.25] a"


def test_a_prompt_to_the_end_holds_to_the_end_of_a_rounded_loop() -> None:
    # 5.08 s at 25 frames a second are 127 frames; the loop has 128.
    planned = loop_plan(128, prompts=spans((0, 5.08, "a")), fps=Fraction(25))
    assert {segment.prompt for segment in planned.segments} == {"a"}


@given(st.integers(2, 60), st.integers(1, 20), st.integers(1, 300))
@settings(max_examples=200, deadline=None)
def test_a_loop_is_planned_or_refused_with_its_shortest_length(
    window: int, tail: int, quarter: int
) -> None:
    assume(tail < window)
    geometry = Geometry(window_latents=window, tail_latents=tail)
    problem = loops.loop_error(4 * quarter, geometry)
    if window < tail + 2:
        assert "makes no loops" in problem
    elif problem:
        assert f"needs at least {loops.shortest_loop(geometry)} frames" in problem
        assert 4 * quarter < loops.shortest_loop(geometry)
    if problem:
        with pytest.raises(ValueError, match=r"loops?"):
            loop_plan(4 * quarter, geometry=geometry)
    else:
        loop_plan(4 * quarter, geometry=geometry)


@given(st.integers(1, 4000), st.integers(1, 3000))
def test_a_loops_length_is_the_nearest_multiple_of_four(numerator: int, denominator: int) -> None:
    asked = Fraction(numerator, denominator)
    frames = timeline.loop_frames(asked)
    assert frames % 4 == 0
    assert abs(frames - asked) <= 2
    assert timeline.loop_frames(frames) == frames
    assert timeline.loop_frames(6) == 8


@given(loop_shots(), st.integers(0, 2**32))
@settings(max_examples=100, deadline=None)
def test_conditions_of_a_loop_are_either_placed_or_refused(
    shot: tuple[int, list[Placed], Geometry], seed: int
) -> None:
    """All that is not refused can be planned. Each condition on the last latent is refused."""
    frames, conditions, geometry = shot
    rng = np.random.default_rng(seed)
    more = [*conditions, still(int(rng.integers(frames)), len(conditions))]
    refused = {each.index for each in on_loop_end(more, frames)}
    assert refused == {each.index for each in more if each.frame > frames - 4}
    if not refused and not list(clashes(more)):
        loop_plan(frames, *more, geometry=geometry)


def keys_of(planned: ShotPlan, seed: int = 0) -> list[str]:
    found: list[str] = []
    for segment in planned.segments:
        found.append(
            keys.segment_key(
                model_revision="m",
                machine="cpu float32",
                segment=replace(segment, seed=segment.seed + seed * (segment.index == 0)),
                conditions=[],
                width=64,
                height=64,
                negative_prompt="",
                sampler={"steps": 2},
                previous=found[-1] if found else None,
                head=found[0] if segment.head else None,
            )
        )
    return found


def test_only_the_closing_segments_key_knows_of_the_loop() -> None:
    looping, straight = keys_of(loop_plan(160)), keys_of(plan(160))
    assert looping[:3] == straight[:3]
    closing = loop_plan(160).segments[-1]
    common: dict[str, Any] = {
        "model_revision": "m",
        "machine": "cpu float32",
        "conditions": [],
        "width": 64,
        "height": 64,
        "negative_prompt": "",
        "sampler": {"steps": 2},
        "previous": "p" * 64,
    }
    found = {
        keys.segment_key(segment=closing, head="a" * 64, **common),
        keys.segment_key(segment=closing, head="b" * 64, **common),
        keys.segment_key(segment=replace(closing, head=2), head="a" * 64, **common),
        keys.segment_key(segment=replace(closing, head=0), **common),
    }
    assert len(found) == 4
