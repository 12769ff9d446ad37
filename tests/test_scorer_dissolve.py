"""The gate tells a dissolve from movement, from light, and from a change of style in place."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from dreamontage.scorer import DEFAULT_THRESHOLDS, Score
from dreamontage.scorer.dissolve import DissolveMetric
from tests.support.scorer_films import (
    HEIGHT,
    WIDTH,
    Pixels,
    barely_trained,
    camera,
    dissolve,
    held,
    noisy,
    pan,
    through_codec,
    watched,
    world,
)

ASSETS = Path(__file__).parents[1] / "examples" / "assets"
LOOKS = {"colourful": {}, "pale": {"colour": 0.3}, "fog": {"contrast": 0.3, "colour": 0.3}}


def dissolved(frames_THWC: Pixels) -> Score:
    return watched(DissolveMetric, frames_THWC)["dissolve"]


def limit() -> float:
    (threshold,) = (each for each in DEFAULT_THRESHOLDS if each.name == "dissolve")
    assert threshold.retake_above is not None
    return threshold.retake_above


def photo(name: str) -> Pixels:
    with Image.open(ASSETS / name) as picture:
        return np.asarray(ImageOps.fit(picture.convert("RGB"), (WIDTH, HEIGHT)))


@pytest.mark.parametrize(("seed", "look"), [(0, "colourful"), (3, "pale"), (1, "fog")])
@pytest.mark.parametrize("frames", [33, 65, 97])
def test_a_long_dissolve_is_found(seed: int, look: str, frames: int) -> None:
    first, last = (pan(each, 1, **LOOKS[look])[0] for each in (seed, seed + 50))
    film = np.concatenate([held(first, 16), dissolve(first, last, frames), held(last, 16)])
    for seen in (film, through_codec(film), noisy(film, 3.0)):
        found = dissolved(seen)
        # Half a second is lost at either end, where one picture is all but gone.
        assert found.value > limit()
        assert found.value <= frames / 16
        assert found.frame is not None
        assert 16 <= found.frame < 16 + frames // 2
    if frames == 97 and look == "colourful":  # elsewhere swimming blocks drown it
        assert dissolved(barely_trained(film)).value > limit()


@pytest.mark.parametrize(("seed", "look"), [(0, "colourful"), (3, "pale"), (1, "fog")])
def test_movement_is_no_dissolve(seed: int, look: str) -> None:
    scene = world(seed, **LOOKS[look])
    shot = camera(scene, 81)
    for film in (
        shot,
        camera(scene, 81, eased=True),
        camera(scene, 81, start=(0.5, 0.5, 0.8), stop=(0.4, 0.5, 3.0)),
        camera(scene, 161, start=(0.5, 0.5, 1.0), stop=(0.5, 0.5, 1.15)),
        camera(scene, 33, start=(0.2, 0.4, 1.0), stop=(0.8, 0.6, 1.0)),
        held(shot[0], 49),
        noisy(held(shot[0], 49), 8.0),
        shot[:2],
    ):
        for seen in (film, through_codec(film), barely_trained(film)):
            assert dissolved(seen).value < 0.1


def test_a_subject_that_grows_is_no_dissolve() -> None:
    film = held(pan(0, 1)[0], 65).copy()
    for frame in range(65):
        cv2.circle(film[frame], (64, 40), 4 + frame // 2, (200, 60, 40), -1)
    assert dissolved(film).value == 0


def test_light_that_changes_is_no_dissolve() -> None:
    for shot in (held(pan(0, 1)[0], 65), pan(0, 65)):
        gain = np.linspace(1, 0.3, 65)[:, None, None, None]
        assert dissolved((shot * gain).astype(np.uint8)).value == 0
        warm = np.linspace((1, 1, 1), (1, 0.8, 0.5), 65)[:, None, None, :]
        assert dissolved((shot * warm).astype(np.uint8)).value == 0


def test_a_change_of_style_in_place_is_no_dissolve_but_one_of_picture_is() -> None:
    coffee, drawing, cat = (photo(name) for name in ("coffee.jpg", "coffee-drawing.png", "cat.jpg"))
    assert dissolved(dissolve(coffee, drawing, 65)).value == 0
    assert dissolved(dissolve(coffee, cat, 65)).value > 2.5
    assert dissolved(dissolve(coffee, 255 - coffee[..., ::-1], 65)).value == 0


def test_a_dissolve_between_moving_pictures_is_missed() -> None:
    """Known: it is no mixture of any two of its frames."""
    way = np.linspace(0, 1, 65)[:, None, None, None]
    film = pan(0, 65) * (1 - way) + camera(world(50), 65, stop=(0.5, 0.5, 1.5)) * way
    assert dissolved(np.rint(film).astype(np.uint8)).value < limit()
