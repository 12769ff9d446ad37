"""The gate tells a film that waits and then jumps from one that moves, or has no need to."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from dreamontage.scorer import Mark
from dreamontage.scorer.freeze import FreezeMetric, movement_due
from tests.support.scorer_films import (
    Pixels,
    barely_trained,
    blurred,
    camera,
    dissolve,
    ends,
    held,
    noisy,
    pan,
    still,
    through_codec,
    watched,
    world,
)

LOOKS = {"colourful": {}, "pale": {"colour": 0.3}, "fog": {"contrast": 0.3, "colour": 0.3}}
STILL_CENTRE = (0.5, 0.5, 1.0)


def freeze(frames_THWC: Pixels, *marks: Mark) -> tuple[float, float]:
    """Share, and longest standstill in seconds."""
    scores = watched(FreezeMetric, frames_THWC, marks=marks)
    return scores["freeze"].value, scores["freeze_longest"].value


@pytest.mark.parametrize(("seed", "look"), [(0, "colourful"), (3, "pale"), (1, "fog")])
def test_films_that_move_are_not_frozen(seed: int, look: str) -> None:
    scene = world(seed, **LOOKS[look])
    shot = camera(scene, 81)
    zoom = camera(scene, 81, start=STILL_CENTRE, stop=(0.5, 0.5, 1.3))
    for film in (shot, zoom):
        marks = ends(film)
        for seen in (
            film,
            blurred(film, 3.0),
            noisy(film, 3.0),
            through_codec(film),
            barely_trained(film),
        ):
            assert freeze(seen, *marks) == (0.0, 0.0)
    slow = camera(scene, 161, start=STILL_CENTRE, stop=(0.5, 0.5, 1.15))
    assert freeze(slow, *ends(slow))[0] < 0.05
    eased = camera(scene, 81, eased=True, start=STILL_CENTRE, stop=(0.5, 0.5, 1.3))
    assert freeze(eased, *ends(eased))[0] < 0.15


def test_a_small_subject_that_moves_is_movement() -> None:
    film = held(pan(0, 1)[0], 65).copy()
    for frame in range(65):
        cv2.circle(film[frame], (40 + frame * 2 // 3, 40), 9, (200, 60, 40), -1)
    assert freeze(film, *ends(film)) == (0.0, 0.0)


@pytest.mark.parametrize(("seed", "look"), [(0, "colourful"), (3, "pale"), (1, "fog")])
def test_a_powerpoint_is_frozen(seed: int, look: str) -> None:
    shot, other = (pan(each, 33, **LOOKS[look]) for each in (seed, seed + 50))
    slides = np.concatenate([held(shot[0], 40), held(other[0], 41)])
    marks = ends(slides)
    for seen in (slides, blurred(slides, 3.0), noisy(slides, 3.0), through_codec(slides)):
        share, longest = freeze(seen, *marks)
        assert share > 0.9
        assert longest > 2.0
    late = np.concatenate([held(shot[0], 80), other[:1]])
    assert freeze(late, *ends(late)) == pytest.approx((1.0, 79 / 16))
    half = np.concatenate([held(shot[0], 33), shot[:32]])
    share, longest = freeze(half, *ends(half))
    assert share == pytest.approx(0.5, abs=0.05)
    assert longest == pytest.approx(2.0, abs=0.1)


def test_the_standstill_is_located() -> None:
    shot = pan(0, 33)
    film = np.concatenate([shot, held(shot[32], 30), pan(0, 33)[::-1]])
    scores = watched(FreezeMetric, film, marks=(*ends(film)[:1], still(shot[16], len(film) - 17)))
    assert scores["freeze"].frame == 32
    assert scores["freeze_longest"].value == pytest.approx(32 / 16, abs=0.01)


def test_alike_conditions_ask_for_no_movement() -> None:
    picture = pan(0, 1)[0]
    film = held(picture, 49)
    same = [still(picture, frame) for frame in (0, 24, 48)]
    assert freeze(film, *same) == (0.0, 0.0)
    assert freeze(noisy(film, 3.0), *same) == (0.0, 0.0)
    assert freeze(film, *same[:2], still(blurred(film, 1.0)[0], 48)) == (0.0, 0.0)
    # The control: the same film, but somewhere else to go.
    assert freeze(film, *same[:2], still(pan(50, 1)[0], 48))[0] == 1.0


def test_a_single_still_asks_for_no_movement_but_a_clip_does() -> None:
    shot = pan(0, 17)
    film = np.concatenate([shot, held(shot[-1], 32)])
    assert freeze(film, still(shot[-1], 48)) == (0.0, 0.0)
    clip = Mark(frame=0, frames=17, picture=shot)
    assert freeze(film, clip) == (1.0, 2.0)
    assert freeze(film[::-1], Mark(frame=32, frames=17, picture=shot[::-1])) == (1.0, 2.0)
    assert freeze(film, Mark(frame=0, frames=17, picture=held(shot[0], 17))) == (0.0, 0.0)


def test_where_movement_is_due() -> None:
    shot, other = pan(0, 17), pan(50, 1)[0]
    marks = [
        still(other, 60),
        Mark(frame=10, frames=17, picture=shot),
        still(shot[5], 15),  # inside the clip
        still(other, 40),
    ]
    due = [(stretch.first, stretch.stop) for stretch in movement_due(marks, 81)]
    assert due == [(0, 10), (27, 40)]
    assert movement_due([], 81) == []


def test_a_dissolve_moves() -> None:
    """Known: its pixels change all the time. `dissolve` sees it."""
    film = dissolve(pan(0, 1)[0], pan(50, 1)[0], 49)
    assert freeze(film, *ends(film)) == (0.0, 0.0)
