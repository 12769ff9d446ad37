"""Seconds, frames and latents agree with each other, exactly."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamontage import timeline

FPS = st.sampled_from([Fraction(16), Fraction(24000, 1001), Fraction(25), Fraction(120)])


def test_latents_of_frames_are_wans() -> None:
    assert [timeline.latent_of(frame) for frame in range(10)] == [0, 1, 1, 1, 1, 2, 2, 2, 2, 3]
    assert list(timeline.frames_of(0)) == [0]
    assert list(timeline.frames_of(1)) == [1, 2, 3, 4]
    assert list(timeline.frames_of(20)) == [77, 78, 79, 80]


@given(st.integers(0, 100_000))
def test_every_frame_lies_in_its_latent_at_its_offset(frame: int) -> None:
    span = timeline.frames_of(timeline.latent_of(frame))
    assert span[timeline.offset_in_latent(frame)] == frame


@pytest.mark.parametrize(
    ("frames", "padded", "latents"),
    [(1, 1, 1), (2, 5, 2), (5, 5, 2), (6, 9, 3), (80, 81, 21), (81, 81, 21), (82, 85, 22)],
)
def test_padding_goes_up_to_one_more_than_a_multiple_of_four(
    frames: int, padded: int, latents: int
) -> None:
    assert timeline.padded(frames) == padded
    assert timeline.latent_count(frames) == latents


@given(st.integers(1, 100_000))
def test_padded_frames_fill_whole_latents(frames: int) -> None:
    latents = timeline.latent_count(frames)
    assert frames <= timeline.padded(frames) < frames + 4
    assert sum(len(timeline.frames_of(latent)) for latent in (0, latents - 1)) in (2, 5)
    assert timeline.frames_of(latents - 1).stop == timeline.padded(frames)


@given(st.integers(0, 1_000_000), FPS)
def test_a_frames_own_time_leads_back_to_it(frame: int, fps: Fraction) -> None:
    assert timeline.frame_at(timeline.seconds_at(frame, fps), fps) == frame


def test_a_float_is_the_decimal_it_is_written_as() -> None:
    # In binary, 0.35 is a little less than 7/20 and would give 3 here.
    assert Fraction(0.35) < Fraction(7, 20)
    assert timeline.exact(0.35) == Fraction(7, 20)
    assert timeline.frame_at(0.35, Fraction(10)) == 4
    assert timeline.frame_at(Decimal("0.35"), Fraction(10)) == 4
    assert timeline.frame_at(0.34, Fraction(10)) == 3


def test_a_time_between_two_frames_takes_the_nearest_and_midway_the_later() -> None:
    fps = Fraction(16)
    assert timeline.frame_at(Fraction(37, 16), fps) == 37
    assert timeline.frame_at(Fraction(75, 32), fps) == 38
    assert timeline.frame_at(Fraction(75, 32) - Fraction(1, 10**30), fps) == 37


@pytest.mark.parametrize(
    ("frame", "frames", "start", "latents"),
    [
        (0, 1, 0, [0]),
        (0, 33, 0, range(9)),
        (40, 24, 40, range(10, 17)),  # 40 is the last frame of latent 10
        (37, 4, 40, [10]),
        (37, 5, 40, [10, 11]),  # the last latent is covered in part
        (37, 3, None, [10]),  # too short to hold the frame that aligns
        (41, 2, None, [11]),
    ],
)
def test_a_clip_starts_where_its_frames_fill_whole_latents(
    frame: int, frames: int, start: int | None, latents: range | list[int]
) -> None:
    assert timeline.clip_start(frame, frames) == start
    assert list(timeline.clip_latents(frame, frames)) == list(latents)


@given(st.integers(0, 5000), st.integers(1, 500))
def test_a_clips_latents_hold_only_its_own_frames_but_for_the_ends(frame: int, frames: int) -> None:
    start = timeline.clip_start(frame, frames)
    latents = timeline.clip_latents(frame, frames)
    if start is None:
        assert frames <= 3
        assert list(latents) == [timeline.latent_of(frame)]
        return
    assert frame <= start < frame + 4
    assert timeline.frames_of(latents[0])[-1] == start
    inner = [f for latent in latents[1:-1] for f in timeline.frames_of(latent)]
    assert set(inner) <= set(range(frame, frame + frames))
    assert latents[-1] == timeline.latent_of(frame + frames - 1)
