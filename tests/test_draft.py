"""A draft start: what the draft shows, where denoising begins, and that the film says so."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from dreamontage import Clip, DreaMontagePipeline, Keyframe, storyboard
from dreamontage.delivery.film import shot_notes
from dreamontage.models import autoencoder
from dreamontage.pipeline.acceleration import Mag, SpeedOptions, apply
from dreamontage.pipeline.interpolation import Animatic, FrameInterpolation
from dreamontage.pipeline.sar import fuse
from dreamontage.planning import draft_window
from dreamontage.planning.geometry import Geometry
from dreamontage.planning.segments import ShotPlan, plan_shot
from dreamontage.rendering import local
from dreamontage.sampling.conditioning.pictures import pixels
from dreamontage.sampling.start import start_step
from dreamontage.sampling.state import state_from_bytes, state_to_bytes
from dreamontage.storyboard import Shot
from dreamontage.storyboard.errors import StoryboardError
from dreamontage.storyboard.placement import Placed, clashes, on_loop_end
from tests.support.boards import WriteBoard
from tests.support.media import numbers, video_of
from tests.support.scorer_films import camera, world
from tests.test_plan import clip, still

# --- what lies between ---------------------------------------------------------------------------


def test_what_moves_is_moved_and_not_dissolved() -> None:
    """A pan of 24 pixels: beside the true frames, a cross-fade is five times as far off."""
    film = camera(world(0), 17, start=(0.42, 0.5, 1.0), stop=(0.48, 0.5, 1.0))
    made = FrameInterpolation({0: film[0], 16: film[16]})(range(17))
    assert np.array_equal(made[0], film[0])
    assert np.array_equal(made[16], film[16])
    inner = np.s_[8:-8, 28:-28]
    for frame in (4, 8, 12):
        faded = film[0] + (film[16].astype(float) - film[0]) * frame / 16
        error, control = (
            np.abs(each[inner] - film[frame][inner].astype(float)).mean()
            for each in (made[frame], faded)
        )
        assert error < control / 4


def test_before_the_first_and_after_the_last_picture_the_draft_is_still() -> None:
    one, two = camera(world(0), 2)
    made = FrameInterpolation({3: one, 5: two})(range(9))
    assert all(np.array_equal(each, one) for each in made[:4])
    assert all(np.array_equal(each, two) for each in made[5:])
    assert not np.array_equal(made[4], one)


def test_a_draft_is_the_same_each_time_it_is_made() -> None:
    film = camera(world(1), 9)
    one, two = (np.stack(FrameInterpolation({0: film[0], 8: film[8]})(range(9))) for _ in range(2))
    assert np.array_equal(one, two)


def numbered(read: list[tuple[int, int]], length: int, turn: int | None = None) -> Animatic:
    """A film whose frames tell their number."""

    def frames(first: int, count: int) -> list[np.ndarray]:
        read.append((first, count))
        return [np.full((2, 2, 3), first + n, np.uint8) for n in range(count)]

    return Animatic(frames, length=length, turn=turn)


@given(st.integers(0, 30), st.integers(1, 20), st.integers(1, 40), st.booleans())
def test_an_animatic_restarts_in_a_loop_and_else_holds_its_last_frame(
    first: int, count: int, length: int, loop: bool
) -> None:
    if loop:
        length = max(length, count)  # a window is never longer than the loop
    film = numbered([], length, turn=length if loop else None)
    shown = [int(np.asarray(each)[0, 0, 0]) for each in film(range(first, first + count))]
    frames = range(first, first + count)
    assert shown == [frame % length if loop else min(frame, length - 1) for frame in frames]


def test_of_an_animatic_no_more_is_read_than_the_window_shows() -> None:
    read: list[tuple[int, int]] = []
    numbered(read, 64)(range(20, 33))
    assert read == [(20, 13)]


# --- what a window's draft depends on ------------------------------------------------------------


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
        refused = list(clashes([*placed, one])) or (loop and list(on_loop_end([one], frames)))
        if not refused:
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


FIVE = Geometry(window_latents=5, tail_latents=1)


def planned(frames: int = 33, *conditions: Placed, loop: bool = False) -> ShotPlan:
    return plan_shot(
        frames=frames,
        fps=Fraction(16),
        prompts=[],
        conditions=conditions,
        seed=0,
        geometry=FIVE,
        loop=loop,
    )


def shot(**fields: Any) -> Shot:
    return Shot.model_validate({"duration": "33f", "draft": "auto", **fields})


def test_a_draft_is_in_the_key_with_all_that_it_is_made_of() -> None:
    conditions = [still(0, 0), still(12, 1), still(30, 2)]
    plan = planned(33, *conditions)
    first = plan.segments[0]
    assert (first.start, first.stop) == (0, 4)
    digests = ["a", "b", "c"]

    def key(of: Shot, **changes: Any) -> Any:
        given = {"placed": conditions, "digests": digests, "animatic": None} | changes
        return draft_window.draft_key(first, plan, of, **given)

    auto = key(shot())
    assert auto == {
        "kind": "auto",
        "strength": 0.6,
        "conditions": [
            {"digest": "a", "frame": 0, "frames": 1},
            {"digest": "b", "frame": 12, "frames": 1},
        ],
    }, "its last frame is given: what comes behind is nothing to it"
    assert key(shot(draft=None, strength=None)) is None
    assert key(shot(strength=0.5)) != auto
    assert key(shot(), digests=["a", "x", "c"]) != auto
    assert key(shot(), digests=["a", "b", "x"]) == auto
    moved = [still(0, 0), still(11, 1), still(30, 2)]
    assert [each["digest"] for each in key(shot(), placed=moved)["conditions"]] == ["a", "b", "c"]
    video = key(shot(draft="v.mp4"), animatic="d")
    assert video == {"kind": "video", "strength": 0.6, "digest": "d", "frame": 0}
    last = draft_window.draft_key(
        plan.segments[-1], plan, shot(draft="v.mp4"), placed=[], digests=[], animatic="d"
    )
    assert last is not None
    assert "end" not in last, "33 frames are whole latents: nothing is held"


def test_a_loops_draft_continues_after_its_end() -> None:
    plan = planned(32, still(4), loop=True)
    closing = plan.segments[-1]
    assert draft_window.window(closing).stop == 32 + 4 + 1
    (before, behind) = draft_window.draft_conditions(closing, plan, [still(4)])
    assert (before.frame, behind.frame) == (4, 36)
    key = draft_window.draft_key(
        closing, plan, shot(draft="v.mp4", loop=True), placed=[], digests=[], animatic="d"
    )
    assert key is not None
    assert (key["end"], key["loop"]) == (32 - draft_window.window(closing).start, True)


# --- the model -----------------------------------------------------------------------------------

HEIGHT, WIDTH, FRAMES, STEPS = 32, 48, 21, 6
PICTURES = [
    np.asarray(each)[:HEIGHT, :WIDTH] for each in camera(world(2), FRAMES, size=(WIDTH, HEIGHT))
]
CONDITIONS: list[Keyframe | Clip] = [
    Keyframe(image=PICTURES[0], frame=0),
    Keyframe(image=PICTURES[20], frame=20),
]
CALL: dict[str, Any] = {
    "conditions": CONDITIONS,
    "height": HEIGHT,
    "width": WIDTH,
    "num_frames": FRAMES,
    "num_inference_steps": STEPS,
    "guidance_scale": 1.0,
    "output_type": "latent",
}


def film_of(pipe: DreaMontagePipeline, **overrides: Any) -> Tensor:
    return pipe("", **CALL | overrides).frames


def off(one: Tensor, other: Tensor) -> float:
    return float((one - other).norm() / other.norm())


def test_the_lower_the_strength_the_more_of_the_draft_stays(tiny_ours: Path) -> None:
    pipe = DreaMontagePipeline.from_pretrained(tiny_ours)
    whole = autoencoder.encode(pipe.vae, pixels(PICTURES, HEIGHT, WIDTH))
    kept = [
        off(film_of(pipe, draft=PICTURES, strength=strength), whole)
        for strength in (0.55, 0.8, 1.0)
    ]
    assert kept == sorted(kept)
    without = film_of(pipe)
    assert kept[0] < off(without, whole) / 2
    assert not torch.equal(film_of(pipe, draft="auto", strength=0.6), without)
    assert torch.equal(film_of(pipe, draft=None, strength=0.6), without), "never the default"


@torch.no_grad()
def test_each_window_starts_from_its_own_part_of_the_draft(tiny_ours: Path) -> None:
    """Written out: the draft encoded from the window's first frame on, the tail in its place."""
    pipe = DreaMontagePipeline.from_pretrained(tiny_ours)
    segments = plan_shot(
        frames=FRAMES,
        fps=Fraction(16),
        prompts=[],
        conditions=[still(0), still(20, 1)],
        seed=0,
        geometry=pipe.geometry,
    ).segments
    assert [(each.start, each.stop) for each in segments] == [(0, 4), (3, 6)]
    step, level = start_step(pipe.scheduler, STEPS, 0.8)
    assert 0 < step < STEPS
    track = pipe.track(CONDITIONS, HEIGHT, WIDTH)
    made: list[Tensor] = []
    text, _ = pipe.encode_prompt("", "", False, max_sequence_length=32)
    for segment in segments:
        pictures = PICTURES[4 * segment.start : 4 * segment.start + 4 * segment.latents - 3]
        drafted = autoencoder.encode(pipe.vae, pixels(pictures, HEIGHT, WIDTH))
        tail = made[-1][:, :, -1:] if made else None
        if tail is not None:
            drafted[:, :, :1] = tail
        generator = torch.Generator().manual_seed(segment.seed)
        latents = torch.lerp(drafted, torch.randn(drafted.shape, generator=generator), level)
        condition = track.channels(segment, tail, latents)
        scheduler = type(pipe.scheduler).from_config(pipe.scheduler.config)
        scheduler.set_timesteps(STEPS)
        for t in scheduler.timesteps[step:]:
            velocity = pipe.transformer(torch.cat([latents, condition], 1), t[None], text).sample
            latents = scheduler.step(velocity, t, latents).prev_sample
        made.append(latents)
    expected = torch.cat(list(fuse(zip(segments, made, strict=True))), dim=2)
    assert torch.equal(film_of(pipe, draft=PICTURES, strength=0.8), expected)


def test_an_automatic_draft_is_one_of_the_pictures_between_the_conditions(tiny_ours: Path) -> None:
    pipe = DreaMontagePipeline.from_pretrained(tiny_ours)
    drawn = FrameInterpolation({0: PICTURES[0], 20: PICTURES[20]})(range(FRAMES))
    auto = film_of(pipe, draft="auto", strength=0.7)
    assert torch.equal(auto, film_of(pipe, draft=drawn, strength=0.7))


def test_an_automatic_draft_of_a_loop_is_cyclic(tiny_ours: Path) -> None:
    pipe = DreaMontagePipeline.from_pretrained(tiny_ours)
    loop = {"conditions": CONDITIONS[:1], "num_frames": 20, "loop": True, "strength": 0.7}
    auto = film_of(pipe, draft="auto", **loop)
    assert torch.equal(auto, film_of(pipe, draft=[PICTURES[0]] * 20, **loop))


def test_a_drafted_segment_is_resumed_as_any_other(tiny_ours: Path) -> None:
    pipe = DreaMontagePipeline.from_pretrained(tiny_ours)
    segment = planned(17).segments[0]

    def states(state: Any = None) -> Any:
        return pipe.denoise_segment(
            segment,
            track=pipe.track([], HEIGHT, WIDTH),
            previous_BCLHW=None,
            draft=PICTURES[:17],
            strength=0.8,
            height=HEIGHT,
            width=WIDTH,
            sampler=pipe.sampler(STEPS, 1.0),
            state=state,
        )

    whole = list(states())
    assert whole[0].step > 1, "the steps above the strength are left out"
    stored = state_from_bytes(state_to_bytes(whole[0]))
    assert torch.equal(list(states(stored))[-1].latents_BCLHW, whole[-1].latents_BCLHW)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"draft": "auto", "conditions": []}, "draft = 'auto' needs a condition to make one of"),
        ({"draft": "best"}, "draft = 'best' must be 'auto', or a picture for every frame"),
        ({"draft": PICTURES[:20]}, "draft has 20 pictures, and the shot 21 frames"),
        ({"draft": "auto", "strength": 0.0}, r"strength = 0.0 must lie above 0 and be at most 1"),
        ({"draft": "auto", "strength": 0.01}, "strength = 0.01 is below the last noise level of 6"),
    ],
)
def test_a_wrong_draft_names_its_rule(
    tiny_ours: Path, overrides: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        film_of(DreaMontagePipeline.from_pretrained(tiny_ours), **overrides)


def test_a_cache_that_counts_steps_takes_no_draft(tiny_ours: Path) -> None:
    pipe = DreaMontagePipeline.from_pretrained(tiny_ours)
    apply(pipe, SpeedOptions(step_cache=Mag(ratios=(1.0,) * STEPS)))
    with pytest.raises(ValueError, match="a draft start has fewer"):
        film_of(pipe, draft="auto", strength=0.8)


# --- the storyboard ------------------------------------------------------------------------------


def errors(shot: dict[str, Any], base: Path | None = None) -> list[str]:
    data = {"title": "t", "fps": 16, "size": "80x64", "shots": [{"duration": 2, **shot}]}
    try:
        storyboard.loads(data, base)
    except StoryboardError as error:
        return [str(field_error) for field_error in error.errors]
    return []


def test_what_a_draft_may_be(tmp_path: Path) -> None:
    frame = {"keyframes": [{"image": "a.png", "at": 0}]}
    assert errors({"draft": "auto", "strength": 0.5, **frame}) == []
    assert errors({"draft": "auto"}) == [
        "shots[0].draft = 'auto' needs a keyframe or a clip to make a draft of"
    ]
    assert errors({"strength": 0.5}) == [
        "shots[0].strength = 0.5 is for a draft; give one, as in `draft: auto`"
    ]
    assert errors({"draft": "auto", "strength": 1.5, **frame}) == [
        "shots[0].strength = 1.5 must be at most 1.0"
    ]
    assert errors({"draft": "auto", "strength": 0, **frame}) == [
        "shots[0].strength = 0 must be more than 0.0"
    ]
    assert errors({"draft": "no.mp4"}, tmp_path) == [
        "shots[0].draft = 'no.mp4': there is no such file"
    ]
    assert errors({"draft": "/no.mp4"}) == [
        "shots[0].draft = '/no.mp4' must be relative to the storyboard's file"
    ]


def test_a_sheet_says_what_a_shot_was_drafted_from() -> None:
    assert shot_notes(shot(draft=None)) == ()
    assert shot_notes(shot(strength=0.5)) == ("drafted: auto, strength 0.5",)
    assert shot_notes(shot(draft="cut/v2.mp4", loop=True)) == (
        "loops",
        "drafted: v2.mp4, strength 0.6",
    )


def drafted(write_board: WriteBoard, name: str, seconds: float = 2.1, **fields: Any) -> Path:
    """A storyboard of 33 frames between two stills, beside it an animatic."""
    stills = [{"image": "still0.png", "frame": 0}, {"image": "still1.png", "frame": 32}]
    one = {"name": "walk", "duration": {"frames": 33}, "keyframes": stills, **fields}
    path = write_board(name, shots=[one])
    levels_T = np.arange(round(seconds * 24)) * 5
    frames_THWC = np.broadcast_to(levels_T[:, None, None, None], (len(levels_T), 64, 80, 3))
    video_of(frames_THWC.astype(np.uint8), path.parent / "animatic.mp4", "-crf", "5", fps="24")
    return path


def render(path: Path, weights: Path, out: Path) -> dict[str, Any]:
    pipe = DreaMontagePipeline.from_pretrained(weights)
    made, _ = local.render(storyboard.load(path), path.parent, out, pipe, name=path.stem)
    record: dict[str, Any] = json.loads(made.record.read_text())
    return record


def test_a_film_records_its_draft_and_has_keys_of_its_own(
    write_board: WriteBoard, tiny_ours: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shots = {}
    for name, fields in {
        "plain": {},
        "auto": {"draft": "auto", "strength": 0.8},
        "other": {"draft": "auto", "strength": 0.9},
        "video": {"draft": "animatic.mp4", "strength": 0.8},
    }.items():
        (shots[name],) = render(drafted(write_board, name, **fields), tiny_ours, out)["shots"]
    assert shots["plain"]["draft"] is None
    unset = {"asset": None, "rendition": None, "made_by": None}
    assert shots["auto"]["draft"] == {"kind": "auto", "strength": 0.8} | unset
    record = shots["video"]["draft"]
    assert (record["kind"], record["strength"]) == ("video", 0.8)
    assert record["made_by"] == {
        "fit": "crop",
        "width": 80,
        "height": 64,
        "fps": "16",
        "in": 0.0,
        "out": 33 / 16,
    }
    keys = [{each["key"] for each in one["segments"]} for one in shots.values()]
    assert len(set.union(*keys)) == sum(map(len, keys)), "no two share a segment"


def test_a_draft_shorter_than_its_shot_is_an_error(
    write_board: WriteBoard, tiny_ours: Path, tmp_path: Path
) -> None:
    path = drafted(write_board, "short", seconds=1.5, draft="animatic.mp4")
    with pytest.raises(StoryboardError) as error:
        render(path, tiny_ours, tmp_path)
    assert str(error.value) == (
        "shots[0].draft = 'animatic.mp4' lasts 1.5 s, and the shot 2.0625 s"
    )
    path = drafted(write_board, "still", draft="still0.png")
    with pytest.raises(StoryboardError, match=r"'still0.png' is of kind image"):
        render(path, tiny_ours, tmp_path)


def test_an_animatic_is_shown_at_the_films_rate(write_board: WriteBoard, tmp_path: Path) -> None:
    from dreamontage import media
    from dreamontage.rendering.ingest import ingest_drafts

    path = drafted(write_board, "rate", draft="animatic.mp4")
    (made,) = ingest_drafts(storyboard.load(path), path.parent, tmp_path).values()
    frames = np.stack(list(media.read_frames(made.path)))
    assert len(frames) == 33
    # What is on screen at n / 16 s, of 24 frames a second that tell 5 times their number.
    expected = [n * 24 // 16 * 5 for n in range(33)]
    levels = frames.mean(axis=(1, 2, 3))
    assert np.abs(levels - expected).max() < 5, numbers(frames)
