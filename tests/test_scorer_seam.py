"""The gate feels a jolt where segments join, and only there; and sees the light jump."""

from __future__ import annotations

import numpy as np
import pytest

from dreamontage.scorer import Score
from dreamontage.scorer.flicker import FlickerMetric
from dreamontage.scorer.seam import SeamMetric
from tests.support.scorer_films import (
    Pixels,
    barely_trained,
    blurred,
    brightened,
    camera,
    held,
    noisy,
    pan,
    through_codec,
    watched,
    world,
)

JOIN = 41
LOOKS = {"colourful": {}, "pale": {"colour": 0.3}, "fog": {"contrast": 0.3, "colour": 0.3}}


def seam(frames_THWC: Pixels, *joins: int, loop: bool = False) -> Score:
    return watched(SeamMetric, frames_THWC, joins=joins, loop=loop)["seam"]


def joined(before_THWC: Pixels, after_THWC: Pixels) -> Pixels:
    return np.concatenate([before_THWC[:JOIN], after_THWC[JOIN:]])


@pytest.mark.parametrize(("seed", "look"), [(0, "colourful"), (3, "pale"), (1, "fog")])
def test_a_film_that_runs_on_has_no_seam(seed: int, look: str) -> None:
    scene = world(seed, **LOOKS[look])
    shot = camera(scene, 81)
    whip = camera(scene, 81, start=(0.1, 0.3, 1.0), stop=(0.9, 0.7, 1.0))
    for film in (
        shot,
        whip,
        camera(scene, 81, eased=True),
        camera(scene, 81, start=(0.5, 0.5, 0.8), stop=(0.4, 0.5, 3.0)),
        held(shot[0], 81),
        noisy(shot, 3.0),
        blurred(shot, 2.0),
        through_codec(shot),  # pulses at every latent, the joins' among them
        through_codec(whip),
        barely_trained(shot),
    ):
        assert seam(film, JOIN).value < 1.5


@pytest.mark.parametrize(("seed", "look"), [(0, "colourful"), (3, "pale"), (1, "fog")])
def test_a_step_in_light_or_place_is_a_seam(seed: int, look: str) -> None:
    scene = world(seed, **LOOKS[look])
    shot = camera(scene, 81)
    brighter = joined(shot, brightened(shot, 6))
    ahead = 0.3 * 8 / 80  # as if eight frames were left out
    jumped = joined(
        shot, camera(scene, 81, start=(0.35 + ahead, 0.5, 1), stop=(0.65 + ahead, 0.5, 1))
    )
    lower = joined(shot, camera(scene, 81, start=(0.35, 0.516, 1.0), stop=(0.65, 0.516, 1.0)))
    back = np.concatenate([shot[:JOIN], shot[JOIN - 2 :: -1]])
    for film in (brighter, jumped, lower, back):
        score = seam(film, JOIN)
        assert score.value > 2.5
        assert score.frame == JOIN
    assert seam(through_codec(brighter), JOIN).value > 1.9
    assert seam(through_codec(jumped), JOIN).value > 2.5


def test_a_step_elsewhere_is_not_the_seams() -> None:
    shot = pan(0, 81)
    film = joined(shot, brightened(shot, 12))
    assert seam(film, 21, 61).value < 1.5
    score = seam(film, 21, JOIN, 61)
    assert score.value > 2.5
    assert score.frame == JOIN
    assert score.detail.count(";") == 2


def test_joins_are_not_measured_by_each_other() -> None:
    shot = pan(0, 81)
    film = shot.copy()
    joins = range(5, 78, 8)
    for count, join in enumerate(joins):
        film[join:] = brightened(shot[join:], 10 * ((count + 1) % 2))
    assert seam(film, *joins).value > 2.5


def test_a_film_of_one_segment_says_so() -> None:
    score = seam(pan(0, 9))
    assert (score.value, score.frame, score.detail) == (1.0, None, "no joins")
    with pytest.raises(ValueError, match=r"joins: 9 must lie in 2 .. 8"):
        seam(pan(0, 9), 9)


def there_and_back(scene: Pixels, speed_up: int = 20) -> Pixels:
    """A loop of 80 frames that is in full motion where it begins."""
    there_THWC = camera(scene, 41, eased=True)
    return np.roll(np.concatenate([there_THWC, there_THWC[-2:0:-1]]), speed_up, axis=0)


@pytest.mark.parametrize(("seed", "look"), [(0, "colourful"), (3, "pale"), (1, "fog")])
def test_a_loops_end_is_a_join_like_any_other(seed: int, look: str) -> None:
    scene = world(seed, **LOOKS[look])
    film = there_and_back(scene)
    for closed in (film, through_codec(film), noisy(film, 3.0), held(film[0], 80)):
        assert seam(closed, loop=True).value < 1.5
    assert seam(film).detail == "no joins", "it is asked for, not assumed"

    ramp_T = np.minimum(np.arange(80) // 8, 6)
    darker = np.concatenate([brightened(film[n : n + 1], int(ramp_T[n])) for n in range(80)])
    stopped = camera(scene, 80)  # goes on to another place, and jumps back
    for broken in (darker, np.roll(film, 3, axis=0)[:-4], stopped):
        score = seam(broken, loop=True)
        assert score.value > 2.0
        assert score.frame == 0
        assert score.detail.startswith("the loop's end: ")


def test_a_loops_end_is_measured_beside_its_joins() -> None:
    film = there_and_back(world(0))
    film[JOIN:] = brightened(film[JOIN:], 12)
    score = seam(film, JOIN, loop=True)
    assert score.value > 2.5
    assert score.detail.count(";") == 1


def flicker(frames_THWC: Pixels) -> Score:
    return watched(FlickerMetric, frames_THWC)["flicker"]


@pytest.mark.parametrize("look", LOOKS)
def test_the_light_jumps_in_a_flash_and_not_in_a_move(look: str) -> None:
    scene = world(0, **LOOKS[look])
    shot = camera(scene, 49)
    whip = camera(scene, 49, start=(0.1, 0.3, 1.0), stop=(0.9, 0.7, 1.0))
    sunrise = np.concatenate([brightened(shot[n : n + 1], n) for n in range(49)])
    for film in (shot, whip, through_codec(whip), barely_trained(shot), sunrise):
        assert flicker(film).value < 3.0
    shot[30] = brightened(shot[30:31], 15)[0]
    assert flicker(shot).value > 12.0
    assert flicker(shot).frame == 30
