"""What a window's draft depends on, and that its key names all of it and nothing else."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from dreamontage import Clip, Keyframe
from dreamontage.pipeline.interpolation import FrameInterpolation
from dreamontage.planning import draft_window
from dreamontage.planning.geometry import Geometry
from dreamontage.planning.segments import ShotPlan, plan_shot
from dreamontage.storyboard import Shot
from dreamontage.storyboard.placement import Placed, clashes, on_loop_end
from tests.support.drafts import drafted_shot
from tests.support.plans import FIVE, clip, plan, still


@st.composite
def shots(draw: st.DrawFn) -> tuple[ShotPlan, list[Placed]]:
    loop = draw(st.booleans())
    geometry = Geometry(
        window_latents=draw(st.integers(5, 9)), tail_latents=draw(st.integers(1, 2))
    )
    frames = 4 * draw(st.integers(7, 40)) + (0 if loop else draw(st.integers(0, 3)))
    placed: list[Placed] = []
    for frame in draw(st.lists(st.integers(0, frames - 1), min_size=1, max_size=6)):
        length = draw(st.integers(0, min(9, frames - frame)))
        index = len(placed)
        one = clip(frame, length, index) if length else still(frame, index)
        clash = list(clashes([*placed, one]))
        on_end = list(on_loop_end([one], frames)) if loop else []
        if not clash and not on_end:
            placed.append(one)
    planned = plan_shot(
        frames=frames,
        fps=Fraction(16),
        prompts=[],
        conditions=placed,
        seed=0,
        geometry=geometry,
        loop=loop,
    )
    return planned, placed


@given(shots())
@settings(max_examples=60, deadline=None)
def test_a_windows_draft_depends_on_no_condition_but_those_its_key_names(
    shot: tuple[ShotPlan, list[Placed]],
) -> None:
    planned, placed = shot
    if not placed:
        return
    rng = np.random.default_rng(len(placed))
    pictures = rng.integers(0, 255, (len(placed), 16, 24, 3), dtype=np.uint8)
    conditions: list[Keyframe | Clip] = [
        Clip(frames=[pictures[n]] * each.frames, frame=each.frame)
        if each.kind == "clip"
        else Keyframe(image=pictures[n], frame=each.frame)
        for n, each in enumerate(placed)
    ]
    rounds = (-planned.frames, 0, planned.frames) if planned.loop else (0,)
    everywhere = FrameInterpolation.from_conditions(
        dict(enumerate(conditions)),
        [
            draft_window.Occurrence(index=each.index, frame=each.frame + turn, frames=each.frames)
            for each in placed
            for turn in rounds
        ],
    )
    for segment in planned.segments:
        named = draft_window.draft_conditions(segment, planned, placed)
        span = draft_window.window(segment)
        assert len(span) == 1 + 4 * (segment.latents - 1)
        own = FrameInterpolation.from_conditions(
            {each.index: conditions[each.index] for each in named}, named
        )
        assert np.array_equal(np.stack(own(span)), np.stack(everywhere(span)))


def test_a_draft_is_in_the_key_with_all_that_it_is_made_of() -> None:
    conditions = [still(0, 0), still(12, 1), still(30, 2)]
    shot_plan = plan(33, *conditions, geometry=FIVE, seed=0)
    first = shot_plan.segments[0]
    assert (first.start, first.stop) == (0, 4)
    digests = ["a", "b", "c"]

    def key(of: Shot, **changes: Any) -> Any:
        given: dict[str, Any] = {
            "placed": conditions,
            "digests": digests,
            "animatic": None,
        } | changes
        return draft_window.draft_key(first, shot_plan, of, **given)

    auto = key(drafted_shot())
    assert auto == {
        "kind": "auto",
        "strength": 0.6,
        "conditions": [
            {"digest": "a", "frame": 0, "frames": 1},
            {"digest": "b", "frame": 12, "frames": 1},
        ],
    }, "a condition is on its last frame, so later ones do not count"
    assert key(drafted_shot(draft=None, strength=None)) is None
    assert key(drafted_shot(strength=0.5)) != auto
    assert key(drafted_shot(), digests=["a", "x", "c"]) != auto
    assert key(drafted_shot(), digests=["a", "b", "x"]) == auto
    moved = [still(0, 0), still(11, 1), still(30, 2)]
    assert [each["digest"] for each in key(drafted_shot(), placed=moved)["conditions"]] == [
        "a",
        "b",
        "c",
    ]
    video = key(drafted_shot(draft="v.mp4"), animatic="d")
    assert video == {"kind": "video", "strength": 0.6, "digest": "d", "frame": 0}
    last = draft_window.draft_key(
        shot_plan.segments[-1],
        shot_plan,
        drafted_shot(draft="v.mp4"),
        placed=[],
        digests=[],
        animatic="d",
    )
    assert last is not None
    assert "end" not in last, "33 frames are whole latents: nothing is held"


def test_a_loops_draft_continues_after_its_end() -> None:
    shot_plan = plan(32, still(4), loop=True, geometry=FIVE, seed=0)
    closing = shot_plan.segments[-1]
    assert draft_window.window(closing).stop == 32 + 4 + 1
    (before, behind) = draft_window.draft_conditions(closing, shot_plan, [still(4)])
    assert (before.frame, behind.frame) == (4, 36)
    key = draft_window.draft_key(
        closing,
        shot_plan,
        drafted_shot(draft="v.mp4", loop=True),
        placed=[],
        digests=[],
        animatic="d",
    )
    assert key is not None
    assert (key["end"], key["loop"]) == (32 - draft_window.window(closing).start, True)
