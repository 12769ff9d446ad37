"""The gate's cut severity: a film rated window by window is the film rated whole."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from dreamontage.scorer import DEFAULT_THRESHOLDS, Score
from dreamontage.scorer.discriminator import load
from dreamontage.scorer.severity import WINDOW, SeverityMetric
from tests.support.scorer_films import (
    Pixels,
    barely_trained,
    camera,
    held,
    pan,
    through_codec,
    watched,
    world,
)


def severity(frames_THWC: Pixels) -> Score:
    return watched(SeverityMetric, frames_THWC)["cut_severity"]


def limits() -> tuple[float, float]:
    (threshold,) = (each for each in DEFAULT_THRESHOLDS if each.name == "cut_severity")
    assert threshold.review_above is not None
    assert threshold.retake_above is not None
    return threshold.review_above, threshold.retake_above


def cut(seed: int, at: int, frames: int = 49, **look: float) -> Pixels:
    film = pan(seed, frames, **look).copy()
    film[at:] = pan(seed + 50, frames, **look)[at:]
    return film


@pytest.mark.parametrize("frames", [9, WINDOW - 1, WINDOW, WINDOW + 1, 3 * WINDOW + 7])
def test_windowed_rating_equals_that_of_the_complete_film(frames: int) -> None:
    shot = camera(world(0), 49)
    film = np.concatenate([shot, shot[::-1]] * 3)[:frames].copy()
    at = frames - 5
    film[at:] = pan(50, 5)
    whole = load().rate(torch.from_numpy(film).movedim(-1, 0)[None].float() / 127.5 - 1)
    found = severity(film)
    assert found.value == pytest.approx(float(whole.severity_B), abs=1e-3)
    assert found.frame == int(whole.frame_B)
    assert found.frame == at


@pytest.mark.parametrize("look", [{}, {"colour": 0.3}, {"contrast": 0.3, "colour": 0.3}])
def test_a_cut_is_beyond_the_limit_and_one_shots_are_not(look: dict[str, Any]) -> None:
    review, retake = limits()
    film = cut(1, 25, **look)
    for seen in (film, through_codec(film)):
        found = severity(seen)
        assert found.value > retake
        assert found.frame is not None
        assert abs(found.frame - 25) <= 3
        assert found.detail.startswith("1.5")
    scene = world(1, **look)
    for shot in (
        camera(scene, 81),
        camera(scene, 81, eased=True),
        camera(scene, 33, start=(0.2, 0.4, 1.0), stop=(0.8, 0.6, 1.0)),
        held(pan(1, 1, **look)[0], 33),
    ):
        for seen in (shot, through_codec(shot), barely_trained(shot)):
            assert severity(seen).value < review


def test_a_film_too_short_to_be_rated_says_so() -> None:
    found = severity(cut(0, 4, 8))
    assert (found.value, found.frame, found.detail) == (0, None, "fewer than 9 frames")
