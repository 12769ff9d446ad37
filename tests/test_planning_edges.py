"""Edges of the planner, where one frame or latent more would go unnoticed elsewhere."""

from __future__ import annotations

from fractions import Fraction

from dreamontage.planning import loops
from dreamontage.planning.draft_window import Occurrence, draft_conditions
from dreamontage.planning.geometry import Geometry
from dreamontage.planning.segments import ShotPlan, model_errors, plan_shot
from dreamontage.storyboard import PromptSpan, loads
from dreamontage.storyboard.placement import Placed

FPS = Fraction(16)
GEOMETRY = Geometry(window_latents=5, tail_latents=1)


def plan(
    frames: int,
    *conditions: Placed,
    prompts: list[PromptSpan] | None = None,
    loop: bool = False,
    geometry: Geometry = GEOMETRY,
) -> ShotPlan:
    return plan_shot(
        frames=frames,
        fps=FPS,
        prompts=prompts or [],
        conditions=conditions,
        seed=0,
        geometry=geometry,
        loop=loop,
    )


def stills(*frames: int) -> list[Placed]:
    return [
        Placed(index=index, kind="keyframe", frame=frame, frames=1)
        for index, frame in enumerate(frames)
    ]


# --- prompts -------------------------------------------------------------------------------------


def test_frames_that_padding_adds_belong_to_no_prompt() -> None:
    """Ten frames are padded to 13; the last prompt ends with the tenth."""
    spans = [
        PromptSpan(text="pan left", end=Fraction(1, 4)),
        PromptSpan(text="zoom in", start=Fraction(1, 4)),
    ]
    (window,) = plan(10, prompts=spans).segments
    assert window.prompt == "[0, 0.25] pan left; [0.25, 0.62] zoom in"


def test_a_prompt_that_ends_where_a_window_begins_is_not_in_it() -> None:
    """The second window begins with frame 13, at 0.8125 s."""
    spans = [
        PromptSpan(text="pan left", end=Fraction(13, 16)),
        PromptSpan(text="zoom in", start=Fraction(13, 16)),
    ]
    first, second = plan(29, prompts=spans).segments
    assert (first.start, first.stop, second.start) == (0, 5, 4)
    assert second.prompt == "zoom in"


# --- conditions ----------------------------------------------------------------------------------


def test_a_condition_on_the_latent_behind_a_window_does_not_guide_it() -> None:
    """Frame 17 is the first of latent 5, with which the first window's five latents end."""
    first, second = plan(33, *stills(20)).segments[:2]
    assert (first.start, first.stop) == (0, 5)
    assert not first.has_image_condition
    assert second.has_image_condition


# --- drafts --------------------------------------------------------------------------------------


def occurrences(frames: int, *places: int, window: int, loop: bool = False) -> list[Occurrence]:
    placed = stills(*places)
    shot = plan(frames, *placed, loop=loop)
    return draft_conditions(shot.segments[window], shot, placed)


def places(found: list[Occurrence]) -> list[int]:
    return [each.frame for each in found]


def test_a_still_on_a_windows_first_frame_needs_none_before_it() -> None:
    """The second window's draft begins with frame 16."""
    shot = plan(33)
    assert shot.segments[1].start == 4
    assert places(occurrences(33, 0, 16, 32, window=1)) == [16, 32]
    assert places(occurrences(33, 0, 17, 32, window=1)) == [0, 17, 32]


def test_one_condition_behind_the_window_is_enough() -> None:
    """The first window's draft is of frames 0 to 16."""
    assert places(occurrences(65, 0, 30, 50, window=0)) == [0, 30]
    assert places(occurrences(65, 0, 17, 50, window=0)) == [0, 17]
    assert places(occurrences(65, 0, 16, 50, window=0)) == [0, 16]


def test_a_clip_that_ends_just_before_the_window_counts_as_before() -> None:
    clip = Placed(index=0, kind="clip", frame=6, frames=10)
    shot = plan(49, clip)
    window = next(each for each in shot.segments if each.start == 4)
    (found,) = draft_conditions(window, shot, [clip])
    assert (found.frame, found.frames) == (6, 10)


def test_a_loops_conditions_come_before_and_behind_it_too() -> None:
    found = occurrences(32, 20, window=0, loop=True)
    assert places(found) == [-12, 20], "20 - 32, and 20"


# --- loops ---------------------------------------------------------------------------------------


def test_the_shortest_loop_is_planned_and_a_shorter_one_is_not() -> None:
    """One latent given again, the closing slot and a tail: three latents, 12 frames."""
    assert loops.shortest_loop(GEOMETRY) == 12
    assert loops.loop_error(12, GEOMETRY) == ""
    assert "at least 12 frames" in loops.loop_error(8, GEOMETRY)
    assert plan(12, loop=True).segments[-1].head == 2


# --- what a model cannot render ------------------------------------------------------------------


def test_what_a_model_cannot_render_names_its_field() -> None:
    board = loads(
        {
            "title": "A",
            "fps": 16,
            "size": "80x112",
            "shots": [
                {"duration": {"frames": 16}},
                {"duration": {"frames": 8}, "loop": True},
                {"duration": {"frames": 12}, "loop": True},
            ],
        },
        None,
    )
    wide = Geometry(window_latents=5, tail_latents=1, spatial_multiple=32)
    assert [f"{each.field} {each.message}" for each in model_errors(board, wide)] == [
        "size.width = 80 must be a multiple of 32, which this model works in",
        "size.height = 112 must be a multiple of 32, which this model works in",
        "shots[1].duration = 8 frames: too short for a loop with this model, which needs at least "
        "12 frames",
    ]
    assert [each.field for each in model_errors(board, GEOMETRY)] == ["shots[1].duration"]
