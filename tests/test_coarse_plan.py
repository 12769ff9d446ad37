"""The coarse level of a shot: which stride, which frames, which conditions."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dreamontage.planning.coarse import (
    STRIDES,
    CoarseLevel,
    can_refine,
    coarse_level,
    stride_error,
    stride_for,
)
from dreamontage.planning.geometry import Geometry
from dreamontage.storyboard import PromptSpan
from dreamontage.storyboard.placement import Placed, clashes

FPS = Fraction(16)
NANO = Geometry(window_latents=13, tail_latents=2)


def stills(*frames: int) -> list[Placed]:
    return [
        Placed(index=index, kind="keyframe", frame=frame, frames=1)
        for index, frame in enumerate(frames)
    ]


def level(stride: int, frames: int, conditions: list[Placed], loop: bool = False) -> CoarseLevel:
    return coarse_level(
        stride,
        frames=frames,
        fps=FPS,
        prompts=[],
        conditions=conditions,
        seed=3,
        geometry=NANO,
        loop=loop,
    )


@st.composite
def shots(draw: st.DrawFn) -> tuple[int, list[Placed], int]:
    """A length, conditions that no storyboard would be refused for, and a stride."""
    frames = draw(st.integers(1, 400))
    found: list[Placed] = []
    for _ in range(draw(st.integers(0, 6))):
        frame = draw(st.integers(0, frames - 1))
        kind, length = "keyframe", 1
        if draw(st.booleans()):
            kind, length = "clip", draw(st.integers(1, frames - frame))
        each = Placed(
            index=len(found),
            kind="clip" if kind == "clip" else "keyframe",
            frame=frame,
            frames=length,
        )
        if not list(clashes([*found, each])):
            found.append(each)
    return frames, found, draw(st.sampled_from(STRIDES))


@given(shots())
@settings(max_examples=300, deadline=None)
def test_a_coarse_film_covers_the_shot_in_steps_of_its_stride(
    shot: tuple[int, list[Placed], int],
) -> None:
    frames, conditions, stride = shot
    coarse = level(stride, frames, conditions)
    assert coarse.plan.frames == len(coarse.shown)
    assert list(coarse.shown) == sorted(set(coarse.shown))
    assert coarse.shown[-1] >= frames - 1 - stride // 2, "behind it the film stands still"
    for index, frame in enumerate(coarse.shown):
        assert abs(frame - stride * index) <= stride / 2
    assert not list(clashes(coarse.placed))


@given(shots())
@settings(max_examples=300, deadline=None)
def test_a_coarse_condition_shows_frames_of_its_own(shot: tuple[int, list[Placed], int]) -> None:
    frames, conditions, stride = shot
    coarse = level(stride, frames, conditions)
    for each in coarse.conditions:
        source = conditions[each.source]
        assert len(each.offsets) == each.placed.frames
        for number, offset in enumerate(each.offsets):
            assert 0 <= offset < source.frames
            assert coarse.shown[each.placed.frame + number] == source.frame + offset
    missing = set(range(len(conditions))) - {each.source for each in coarse.conditions}
    for index in missing:
        assert any(
            abs(conditions[index].frame - conditions[each.source].stop) <= 5 * stride
            or abs(conditions[each.source].frame - conditions[index].stop) <= 5 * stride
            for each in coarse.conditions
        ), "only a neighbour takes a condition's place"


@given(shots(), st.data())
@settings(max_examples=300, deadline=None)
def test_a_frame_lies_between_the_coarse_frames_around_it(
    shot: tuple[int, list[Placed], int], data: st.DataObject
) -> None:
    frames, conditions, stride = shot
    coarse = level(stride, frames, conditions)
    start = data.draw(st.integers(0, frames - 1))
    stop = data.draw(st.integers(start + 1, frames))
    around = coarse.around(range(start, stop))
    assert coarse.shown[around[0]] <= max(start, coarse.shown[0])
    assert coarse.shown[around[-1]] >= min(stop - 1, coarse.shown[-1])
    assert around[-1] < len(coarse.shown)
    assert len(around) <= (stop - start) / stride + 4, "no more than are needed"


def test_the_nearer_of_two_conditions_has_the_place() -> None:
    """Frames 61 to 64 are one latent at stride 1; at stride 4 frames 49 to 64 are."""
    coarse = level(4, 129, stills(0, 50, 63, 128))
    assert [(each.source, each.placed.frame) for each in coarse.conditions] == [
        (0, 0),
        (2, 16),
        (3, 32),
    ]
    assert coarse.shown[16] == 63
    assert coarse.shown[15] == 60


def test_a_clip_gives_the_frames_on_the_coarse_timeline() -> None:
    clip = Placed(index=0, kind="clip", frame=10, frames=20)
    (given_,) = level(4, 129, [clip]).conditions
    assert (given_.placed.kind, given_.placed.frame, given_.placed.frames) == ("clip", 3, 5)
    assert given_.offsets == (2, 6, 10, 14, 18)
    short = Placed(index=0, kind="clip", frame=10, frames=5)
    (still,) = level(8, 129, [short]).conditions
    assert (still.placed.kind, still.placed.frame, still.offsets) == ("keyframe", 1, (0,))


def test_prompts_are_in_the_coarse_films_own_seconds() -> None:
    coarse = coarse_level(
        4,
        frames=129,
        fps=FPS,
        prompts=[
            PromptSpan(text="rise", end=Fraction(4)),
            PromptSpan(text="fall", start=Fraction(4)),
        ],
        conditions=stills(0),
        seed=3,
        geometry=NANO,
    )
    (window,) = coarse.plan.segments
    assert window.prompt == "[0, 1] rise; [1, 2.06] fall"


@pytest.mark.parametrize(
    ("frames", "conditions", "stride"),
    [
        (129, (0, 64, 128), 4),  # 4 s apart: 16 latents
        (257, (0, 128, 256), 8),
        (49, (0, 48), 1),  # first and last frame of one window
        (49, (0, 16, 32, 48), 1),  # one second apart
        (65, (64,), 2),  # only the last: one coarse window of 9 latents
        (97, (0,), 2),
        (45, (44,), 1),
        (321, (0,), 8),  # twenty seconds: 81 latents are 11 at stride 8
        (33, (0,), 1),
        (200, (), 1),
    ],
)
def test_the_stride_follows_the_gaps(frames: int, conditions: tuple[int, ...], stride: int) -> None:
    placed = stills(*conditions)
    assert stride_for(frames=frames, conditions=placed, geometry=NANO) == stride


def test_a_stretch_behind_a_clip_alone_is_not_rendered_coarse() -> None:
    clip = Placed(index=0, kind="clip", frame=0, frames=40)
    assert stride_for(frames=321, conditions=[clip], geometry=NANO) == 1
    still = Placed(index=1, kind="keyframe", frame=320, frames=1)
    assert stride_for(frames=321, conditions=[clip, still], geometry=NANO) == 8


def test_a_loop_has_a_coarse_loop_or_none() -> None:
    assert stride_for(frames=128, conditions=stills(0, 64), geometry=NANO, loop=True) == 4
    coarse = level(4, 128, stills(0, 64), loop=True)
    assert coarse.plan.loop
    assert coarse.plan.frames == 32
    assert coarse.around(range(120, 133)) == range(30, 34)
    assert stride_for(frames=124, conditions=stills(0, 64), geometry=NANO, loop=True) == 1
    problem = stride_error(4, 124, NANO, loop=True, refinable=True)
    assert problem.startswith("a loop of 124 frames has no coarse film at this stride; its frames")


def test_a_schedule_without_a_low_step_has_no_coarse_levels() -> None:
    assert not can_refine(1, shift=3.0)
    assert can_refine(6, shift=3.0)
    assert "no denoise step begins" in stride_error(2, 129, NANO, loop=False, refinable=False)
    assert stride_error("auto", 129, NANO, loop=False, refinable=False) == ""
