"""What a draft shows between the conditions: moved pictures, or a film of its own."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dreamontage.pipeline.interpolation import Animatic, FrameInterpolation
from tests.support.scorer_films import camera, world


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
    """A film whose grey levels are the frames' numbers."""

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
