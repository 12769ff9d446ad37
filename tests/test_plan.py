"""A shot is cut into windows that lose nothing, and every window holds what is in it."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from dreamontage import storyboard, timeline
from dreamontage.planning.geometry import Geometry
from dreamontage.planning.segments import ShotPlan, placed
from dreamontage.storyboard.placement import Placed
from tests.support.plans import NINE, clip, plan, spans, still


def windows(planned: ShotPlan) -> list[tuple[int, int]]:
    return [(segment.start, segment.stop) for segment in planned.segments]


@st.composite
def shots(draw: st.DrawFn) -> tuple[int, list[Placed], Geometry]:
    frames = draw(st.integers(1, 2000))
    tail = draw(st.integers(1, 8))
    geometry = Geometry(tail_latents=tail, window_latents=tail + draw(st.integers(1, 40)))
    conditions: list[Placed] = []
    for frame in draw(st.lists(st.integers(0, frames - 1), max_size=12)):
        length = draw(st.integers(0, frames - frame))
        index = len(conditions)
        conditions.append(clip(frame, length, index) if length else still(frame, index))
    return frames, conditions, geometry


@given(shots())
@settings(max_examples=200, deadline=None)
@example((2000, [clip(0, 2000)], NINE))
def test_windows_cover_the_timeline_exactly_once_after_fusion(
    shot: tuple[int, list[Placed], Geometry],
) -> None:
    frames, conditions, geometry = shot
    planned = plan(frames, *conditions, geometry=geometry)

    assert planned.frames == frames
    assert planned.padded_frames == timeline.padded(frames)
    added = [
        latent
        for segment in planned.segments
        for latent in range(segment.start + segment.tail, segment.stop)
    ]
    assert added == list(range(planned.latents))
    # No frame is lost, and what padding adds comes after the last.
    shown = [frame for latent in added for frame in timeline.frames_of(latent)]
    assert shown[:frames] == list(range(frames))
    assert len(shown) == planned.padded_frames < frames + 4

    for segment in planned.segments:
        assert segment.new >= 1
        assert segment.latents <= geometry.window_latents
    assert planned.segments[0].tail == 0
    for before, after in pairwise(planned.segments):
        assert after.tail == geometry.tail_latents == before.stop - after.start
        assert before.start < after.start, "each window must start after the one before"


@given(shots())
@settings(max_examples=200, deadline=None)
def test_every_condition_is_in_every_window_that_holds_its_latents(
    shot: tuple[int, list[Placed], Geometry],
) -> None:
    frames, conditions, geometry = shot
    planned = plan(frames, *conditions, geometry=geometry)
    for condition in conditions:
        own = set(condition.latents)
        assert own <= set(range(planned.latents))
        reached: set[int] = set()
        for segment in planned.segments:
            here = own & set(range(segment.start, segment.stop))
            assert (condition.index in segment.conditions) == bool(here)
            reached |= here
        assert reached == own, "no latent of a condition may fall between the windows"


@given(shots())
@settings(max_examples=200, deadline=None)
def test_a_window_ends_at_the_latest_boundary_in_reach_else_at_the_maximum(
    shot: tuple[int, list[Placed], Geometry],
) -> None:
    frames, conditions, geometry = shot
    planned = plan(frames, *conditions, geometry=geometry)
    boundaries = {each.latents.start + 1 for each in conditions}
    boundaries |= {each.latents[-1] + 1 for each in conditions}
    for segment in planned.segments[:-1]:
        furthest = segment.start + geometry.window_latents
        reach = range(segment.start + geometry.tail_latents + 1, furthest + 1)
        assert segment.stop == max(boundaries & set(reach), default=furthest)


@given(st.integers(1, 2000), st.integers(2, 30), st.integers(1, 5))
@settings(max_examples=100, deadline=None)
def test_a_shot_that_fits_is_one_window(frames: int, window: int, tail: int) -> None:
    assume(tail < window)
    geometry = Geometry(window_latents=window, tail_latents=tail)
    planned = plan(frames, still(frames // 2), geometry=geometry)
    assert (len(planned.segments) == 1) == (timeline.latent_count(frames) <= window)


def test_no_frame_is_lost_whatever_the_count() -> None:
    for frames in range(1, 2001):
        planned = plan(frames, still(frames - 1), clip(frames // 2, 1 + frames // 4, 1))
        assert sum(segment.new for segment in planned.segments) == planned.latents
        assert planned.segments[-1].stop == timeline.latent_of(frames - 1) + 1
        assert 0 in planned.segments[-1].conditions


def test_without_conditions_windows_are_as_long_as_they_may_be() -> None:
    assert windows(plan(97)) == [(0, 9), (7, 16), (14, 23), (21, 25)]


def test_a_keyframe_is_its_windows_last_latent_and_in_the_next_ones_tail() -> None:
    planned = plan(97, still(24))  # latent 6
    assert windows(planned)[:2] == [(0, 7), (5, 14)]
    assert [segment.conditions for segment in planned.segments[:3]] == [(0,), (0,), ()]


def test_a_keyframe_in_the_middle_of_a_latent_counts_as_that_latent() -> None:
    assert windows(plan(97, still(21))) == windows(plan(97, still(24)))


def test_a_clip_is_a_boundary_behind_its_first_latent_and_behind_its_last() -> None:
    # Latents 5 .. 14: the first window ends behind 5, the next may not reach 15, the third ends
    # there although it could go further.
    planned = plan(161, clip(20, 37))
    assert windows(planned) == [(0, 6), (4, 13), (11, 15), (13, 22), (20, 29), (27, 36), (34, 41)]
    assert [bool(segment.conditions) for segment in planned.segments] == [True] * 4 + [False] * 3


def test_a_clip_longer_than_a_window_is_in_all_the_windows_it_spans() -> None:
    planned = plan(161, clip(0, 161))
    assert len(planned.segments) > 3
    assert all(segment.conditions == (0,) for segment in planned.segments)


def test_a_boundary_that_leaves_less_than_a_tail_does_not_count() -> None:
    assert windows(plan(97, still(0), still(4, index=1)))[0] == (0, 9)
    assert windows(plan(97, still(0), still(8, index=1)))[0] == (0, 3)


def test_prompts_are_sliced_into_the_windows_own_seconds() -> None:
    planned = plan(97, prompts=spans((0, 2.5, "zoom in"), (2.5, 5, "he walks"), (5, None, "end")))
    # Windows start at frames 0, 25, 53 and 81.
    assert [segment.prompt for segment in planned.segments] == [
        "zoom in",
        "[0, 0.94] zoom in; [0.94, 2.25] he walks",
        "[0, 1.69] he walks; [1.69, 2.25] end",
        "end",
    ]


def test_a_gap_between_prompts_is_a_gap_in_the_windows_prompt() -> None:
    planned = plan(97, prompts=spans((0, 1, "zoom in"), (4.5, 5, "he walks")))
    assert [segment.prompt for segment in planned.segments] == [
        "[0, 1] zoom in",
        "",
        "[1.19, 1.69] he walks",
        "",
    ]


@given(shots(), st.lists(st.integers(0, 2000), min_size=1, max_size=6, unique=True))
@settings(max_examples=100, deadline=None)
def test_every_prompt_is_in_the_windows_it_overlaps_and_in_no_other(
    shot: tuple[int, list[Placed], Geometry], cuts: list[int]
) -> None:
    frames, conditions, geometry = shot
    edges = sorted({cut for cut in cuts if cut < frames} | {0, frames})
    ranges = list(pairwise(edges))
    prompts = spans(*((a / 16, b / 16, f"<{n}>") for n, (a, b) in enumerate(ranges)))
    planned = plan(frames, *conditions, prompts=prompts, geometry=geometry)
    for segment in planned.segments:
        here = range(
            timeline.frames_of(segment.start).start, timeline.frames_of(segment.stop - 1).stop
        )
        for number, (first, stop) in enumerate(ranges):
            overlaps = first < here.stop and stop > here.start
            assert (f"<{number}>" in segment.prompt) == overlaps


def test_a_plan_depends_on_its_input_alone() -> None:
    assert plan(333, still(100), seed=5) == plan(333, still(100), seed=5)


def test_seeds_differ_by_segment_and_take() -> None:
    first, second = plan(333, seed=5), plan(333, seed=6)
    found = [segment.seed for planned in (first, second) for segment in planned.segments]
    assert len(set(found)) == len(found)
    assert all(0 <= seed < 2**63 for seed in found)
    # Golden: a film rendered yesterday can be rendered again tomorrow.
    assert first.segments[0].seed == 6688977543656386498


def test_placing_a_shots_conditions_on_its_frames(tmp_path: Path) -> None:
    for name in ("a.png", "b.mp4"):
        (tmp_path / name).touch()
    board = storyboard.loads(
        {
            "title": "t",
            "fps": 16,
            "size": "64x64",
            "shots": [
                {
                    "duration": 5,
                    "keyframes": [{"image": "a.png", "at": 5}, {"image": "a.png", "frame": 3}],
                    "clips": [{"video": "b.mp4", "at": 4.5}, {"video": "b.mp4", "at": 1}],
                }
            ],
        },
        tmp_path,
    )
    assert placed(board.shots[0], board.fps, {0: 100, 1: 16}) == [
        still(79, 0),
        still(3, 1),
        clip(72, 8, 2),
        clip(16, 16, 3),
    ]


def test_geometry_is_read_from_a_models_folder(tmp_path: Path) -> None:
    for name, config in {
        "model_index.json": {"window_latents": 9, "tail_latents": 3},
        "transformer/config.json": {"patch_size": [1, 2, 2]},
        "vae/config.json": {"scale_factor_spatial": 16},
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(json.dumps(config))
    assert Geometry.from_folder(tmp_path) == Geometry(
        window_latents=9, tail_latents=3, spatial_multiple=32
    )
    (tmp_path / "model_index.json").write_text("{}")  # as in a stock Wan folder
    (tmp_path / "vae/config.json").write_text("{}")
    assert Geometry.from_folder(tmp_path) == Geometry(
        window_latents=21, tail_latents=2, spatial_multiple=16
    )
    (tmp_path / "transformer/config.json").write_text('{"patch_size": [1, 4, 2]}')
    assert Geometry.from_folder(tmp_path).spatial_multiple == 32
    (tmp_path / "vae/config.json").write_text("[]")
    with pytest.raises(ValueError, match=r"vae.config\.json is not a JSON object"):
        Geometry.from_folder(tmp_path)
    (tmp_path / "vae/config.json").unlink()
    with pytest.raises(ValueError, match=r"vae.config\.json: No such file"):
        Geometry.from_folder(tmp_path)


@pytest.mark.parametrize(("window", "tail"), [(2, 2), (1, 1), (9, 0)])
def test_a_geometry_that_could_not_go_forward_is_refused(window: int, tail: int) -> None:
    with pytest.raises(ValueError, match=f"tail_latents = {tail} must be at least 1 and less than"):
        Geometry(window_latents=window, tail_latents=tail)
